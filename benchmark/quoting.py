"""Names and texts of people as they may stand in what is read by something else: Markdown, LaTeX and CSV.

HTML is quoted by the page's templates, and what is meant for a shell by ``shlex``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

MARKDOWN = str.maketrans({"\\": r"\\", "|": r"\|", "<": "&lt;", "\n": " ", "\r": " "})
LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "_": r"\_",
        "%": r"\%",
        "&": r"\&",
        "#": r"\#",
        "$": r"\$",
        "^": r"\^{}",
        "~": r"\~{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        '"': r"\textquotedbl{}",
        "[": "{[}",  # an optional argument of the \\ before it
        "]": "{]}",
        "\n": " ",
        "\r": " ",
        "ρ": r"$\rho$",
        "γ": r"$\gamma$",
        "λ": r"$\lambda$",
        "κ": r"$\kappa$",
        "≤": r"$\leq$",
        "¹": r"\textsuperscript{1}",
        "²": r"\textsuperscript{2}",
        "*": r"$^*$",
        "†": r"$^\dagger$",
        "‡": r"$^\ddagger$",
    }
)
FORMULA = re.compile(r"[=+\-@\t\r]")
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")


def markdown(text: str) -> str:
    """The text without cells of tables and tags of HTML in it."""
    return text.translate(MARKDOWN)


def latex(text: str) -> str:
    """The text without anything that LaTeX would carry out; Greek letters and powers as it sets them."""
    return text.translate(LATEX)


def csv(lines: pd.DataFrame, digits: str = "%.4f") -> str:
    """The lines as CSV, of which no name is a formula to a spreadsheet: an apostrophe comes first there."""
    return lines.map(_guarded).to_csv(index=False, float_format=digits)


def _guarded(value: object) -> object:
    """The value, a text that begins as a formula behind an apostrophe; a number below zero is none."""
    if isinstance(value, str) and FORMULA.match(value) and not NUMBER.fullmatch(value):
        return f"'{value}"
    return value
