"""The two ways things go wrong that a person has to hear about."""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable, Iterable


class UserError(Exception):
    """Bad input: the message is one sentence saying what is wrong, where, and what to do. Exit code 2."""


class TrainingError(Exception):
    """A run that cannot go on, such as a loss that is no longer a number; recorded as failed. Exit code 1."""


def exit_code(command: Callable[[], int], interrupted: str = "Interrupted.") -> int:
    """What a command line exits with: its own code, 2 for bad input, 130 after Ctrl-C; both with one line.

    Where nobody reads its output any longer, as behind ``| head``, it ends silently with 141, as a shell reports it.
    """
    try:
        code = command()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered has nowhere to go
        return 141
    except OSError as error:  # a full disk, say
        what = f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")
        print(f"error: {what}: put that right and give the same command again.", file=sys.stderr)
        return 2
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130


def say(message: str) -> None:
    """Print a sentence, which may name a file whose name is no text."""
    print(message.encode(errors="backslashreplace").decode(), flush=True)


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that does not exist: the nearest existing one, and the whole list."""
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean '{near[0]}'?" if near else ";"
    return UserError(f"Unknown {kind} '{name}'{hint} Known: {', '.join(known)}.")
