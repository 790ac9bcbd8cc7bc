"""Names, counts and texts of people as they may stand in what is read by something else: Markdown, LaTeX and CSV.

HTML is quoted by the page's templates, and what is meant for a shell by ``shlex``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tabulate import tabulate

if TYPE_CHECKING:
    import pandas as pd

MARKDOWN = str.maketrans({"\\": r"\\", "|": r"\|", "<": "&lt;", "\n": " ", "\r": " "})
GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma",
    "τ": "tau", "υ": "upsilon", "φ": "varphi", "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta",
    "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
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
        '"': "''",  # straight ones are in no font that LaTeX takes unasked
        "[": "{[}",  # an optional argument of the \\ before it
        "]": "{]}",
        "\n": " ",
        "\r": " ",
        **{letter: rf"$\{name}$" for letter, name in GREEK.items()},
        "→": r"$\rightarrow$",
        "≤": r"$\leq$",
        "≥": r"$\geq$",
        "−": "$-$",
        "¹": r"\textsuperscript{1}",
        "²": r"\textsuperscript{2}",
        "±": r"$\pm$",
        "*": "{*}",  # a star after a \\ is part of it
        "†": r"\dag{}",
        "‡": r"\ddag{}",
        "§": r"\S{}",
        "°": r"\textdegree{}",
    }
)
LONGEST_NAME = 150  # bytes, of the 255 that file systems take: suffixes and temporary names need some of them
FORMULA = re.compile(r"[=+\-@\t\r]")
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?")


def file_name(name: str) -> str:
    """The name as a file's, without its suffix: cut, with a digest of all, where file systems could not take it."""
    whole = name.replace("/", "_").encode()
    if len(whole) <= LONGEST_NAME:
        return whole.decode()
    digest = hashlib.sha256(whole).hexdigest()[:12]
    return f"{whole[: LONGEST_NAME - 13].decode(errors='ignore')}-{digest}"


def counted(count: int, what: str) -> str:
    """Such as "1 run" and "1,200 runs"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def markdown(text: str) -> str:
    """The text without cells of tables and tags of HTML in it."""
    return text.translate(MARKDOWN)


def plain(text: str) -> str:
    """What ``markdown`` made of a text as it is read."""
    return re.sub(r"\\([\\|])", r"\1", text).replace("&lt;", "<")


def grid(body: Sequence[Sequence[object]], head: Sequence[str], words: int = 1) -> str:
    """A table in Markdown, of quoted cells: so many columns of words to the left, the others to the right."""
    align = ["left"] * words + ["right"] * (len(head) - words)
    return tabulate(body, head, tablefmt="pipe", disable_numparse=True, colalign=align)


def points(sentences: Iterable[str]) -> str:
    """A list in Markdown of sentences that are quoted here; nothing for none."""
    return "\n".join(f"- {markdown(each)}" for each in sentences)


def latex(text: str) -> str:
    """The text without anything that LaTeX would carry out; Greek letters and powers as it sets them."""
    return re.sub("-(?=-)", "-{}", text.translate(LATEX))  # two would become a dash


def csv(lines: pd.DataFrame, digits: str = "%.4f") -> str:
    """The lines as CSV, of which no name is a formula to a spreadsheet: an apostrophe comes first there."""
    return lines.map(_guarded).to_csv(index=False, float_format=digits)


def _guarded(value: object) -> object:
    """The value, a text that begins as a formula behind an apostrophe; a number below zero is none."""
    if isinstance(value, str) and FORMULA.match(value) and not NUMBER.fullmatch(value):
        return f"'{value}"
    return value
