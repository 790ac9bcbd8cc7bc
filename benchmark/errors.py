"""The two ways things go wrong that a person has to hear about."""

from __future__ import annotations

import difflib
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

# More than any name, path or message of our own has; what is longer is somebody's input.
LONGEST_WORD, LONGEST_SENTENCE = 250, 2500
ROOT = Path(__file__).parents[1]
MANY = 30  # names are too many to be listed beside the one that was meant
OWN = ("methods", "networks")  # folders of files that anybody adds
SHARED = ("__init__.py", "base.py", "losses.py")  # there, which an error of any other file may pass


class UserError(Exception):
    """Bad input: the message is one sentence saying what is wrong, where, and what to do. Exit code 2.

    What it repeats of the input is made fit to be read: on one line, and no longer than it takes to recognise it.
    """

    def __init__(self, message: str) -> None:
        super().__init__(readable(message))


class TrainingError(Exception):
    """A run that cannot go on, such as a loss that is no longer a number; recorded as failed. Exit code 1."""


def readable(text: str) -> str:
    """The text on one line, what cannot be printed escaped, and the middle of what is far too long left out."""
    line = re.sub(r"\s*[\r\n]\s*", " ", text.strip())
    words = "".join(each if each.isprintable() else _escaped(each) for each in line).split(" ")
    return _shortened(" ".join(_shortened(word, LONGEST_WORD) for word in words), LONGEST_SENTENCE)


def described(error: Exception) -> str:
    """What kind of exception it is, what it says, and the last place in a file of a method or network that it passed,
    as in "NameError: name 'x' is not defined (methods/gce.py, line 30)"."""
    files = ((Path(each.filename), each.lineno) for each in reversed(traceback.extract_tb(error.__traceback__)))
    places = (
        f" ({path.parent.name}/{path.name}, line {line})"
        for path, line in files
        if path.parent in [ROOT / each for each in OWN] and path.name not in SHARED
    )
    return f"{type(error).__name__}: {error}".strip() + next(places, "")


def _escaped(character: str) -> str:
    """As Python writes it; a byte that is not UTF-8, which Python keeps as a surrogate, as that byte."""
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else character.encode("unicode_escape").decode()


def _shortened(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    return f"{text[: longest * 2 // 3]}…{text[-longest // 4 :]}"


def exit_code(command: Callable[[], int], interrupted: str = "Interrupted.") -> int:
    """What a command line exits with: its own code, 2 for bad input, 130 when interrupted; both with one line.

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
        what = readable(f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else ""))
        print(f"error: {what}: put that right and give the same command again.", file=sys.stderr)
        return 2
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130


@contextmanager
def handling(
    number: signal.Signals, handler: Callable[[int, FrameType | None], object] | signal.Handlers
) -> Iterator[None]:
    """Meanwhile a signal is handled so."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@contextmanager
def deferring(number: signal.Signals) -> Iterator[None]:
    """A signal that comes meanwhile comes at the end."""
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True

    try:
        with handling(number, note):
            yield
    finally:
        if came:
            signal.raise_signal(number)


def say(message: str) -> None:
    """Print a sentence, which may name a file whose name is no text."""
    print(message.encode(errors="backslashreplace").decode(), flush=True)


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that does not exist: the nearest ones, and the list unless it would hide them."""
    known = sorted(known)
    near = [each for each in known if name in (each.rpartition(".")[2], _initials(each))]
    near = near or difflib.get_close_matches(name[:LONGEST_WORD], known, n=1)
    meant = " or ".join(f"'{each}'" for each in near)
    hint = f"; did you mean {meant}?" if near else ";"
    listed = "" if near and len(known) > MANY else f" Known: {', '.join(known)}."
    return UserError(f"Unknown {kind} '{name}'{hint}{listed}")


def _initials(name: str) -> str:
    """Of a name of several words, such as "lr" of learning_rate; a name of one word as it is."""
    words = name.split("_")
    return "".join(word[:1] for word in words) if len(words) > 1 else name
