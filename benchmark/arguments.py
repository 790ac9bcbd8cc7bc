"""Arguments of command lines: a parser whose complaints are UserErrors, and the kinds of values that options take."""

from __future__ import annotations

import argparse
import math
import os
import re
import stat
import sys
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from benchmark.errors import UserError

# Whole numbers have bounds that no machine comes near, so that a slip of the keyboard ends at once.
SEEDS = 10_000
JOBS = 100_000
TILES = 10_000  # of a sheet: more make a picture that nothing can open
POINTS = 4096
PIXELS = 4096
A_WEEK = 7 * 24 * 3600.0
DEVICES = r"auto|(cpu|cuda|mps|xpu)(:[0-9]{1,3})?"


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UserError, in one sentence, where argparse would print its usage and leave."""

    def __init__(self, prog: str, description: str, epilog: str = "") -> None:
        super().__init__(prog, None, description, epilog, formatter_class=argparse.RawDescriptionHelpFormatter)

    def parse_args(self, arguments: Sequence[str] | None = None) -> argparse.Namespace:  # type: ignore[override]
        given = sys.argv[1:] if arguments is None else arguments
        for each in given:
            if not is_text(each) or "\0" in each:
                raise UserError(f"The argument '{each}' holds a byte that is not UTF-8, or a NUL: write it without.")
        return super().parse_args(given)

    def error(self, message: str) -> NoReturn:
        of_an_option = message.removeprefix("argument ")
        hint = "" if of_an_option != message else "; --help shows what there is"
        raise UserError(f"{of_an_option[0].upper()}{of_an_option[1:].rstrip('.')}{hint}.")


def is_text(value: str) -> bool:
    """Whether the string holds characters only; what is no UTF-8 comes from the system as half a character."""
    return not any("\ud800" <= each <= "\udfff" for each in value)


def has_controls(value: str) -> bool:
    """Whether the string holds a newline, a NUL, or another character that no line of text does."""
    return any(unicodedata.category(each) == "Cc" for each in value)


def whole(least: int, most: int) -> Callable[[str], int]:
    """The kind of a whole number within limits."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(
                f"'{text}' will not do: it must be at least {least} and at most {most:,}, a whole number"
            )
        return int(text)

    return parse


def seconds(text: str) -> float:
    """The kind of a span of time, at most a week."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= A_WEEK:
        raise argparse.ArgumentTypeError(
            f"'{text}' will not do: it must be at least 0 and at most {A_WEEK:,.0f}, a number of seconds"
        )
    return value


def device(text: str) -> str:
    """The kind of a device's name; whether this machine has it shows when it is used."""
    if not re.fullmatch(DEVICES, text):
        known = "auto, cpu, cuda, mps, xpu or, of several, one such as cuda:1"
        raise argparse.ArgumentTypeError(f"device '{text}' cannot be used: it must be {known}")
    return text


def folder(text: str) -> Path:
    """The kind of a folder's path, whether it is there or can be made; a file, say, is neither."""
    if not text or has_controls(text):
        raise argparse.ArgumentTypeError(f"'{text}' is no path of a folder: name another")
    try:
        if not stat.S_ISDIR(os.stat(text).st_mode):
            raise argparse.ArgumentTypeError(f"{text} cannot be written or read: it is no folder, so name another")
    except FileNotFoundError:
        pass
    except OSError as error:
        why = error.strerror
        raise argparse.ArgumentTypeError(f"{text} cannot be written ({why}) or read: name another folder") from None
    return Path(text)
