"""Reading label files, with one clear sentence for whatever is wrong in them."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmark.errors import UserError

if TYPE_CHECKING:
    import pandas as pd


def read_table(path: Path, **options: Any) -> pd.DataFrame:
    """``pandas.read_csv`` of strings. Raises UserError where the file cannot be read or is no table."""
    import pandas as pd  # half a second, which only reading labels should take

    require_file(path)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True, **options)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not in UTF-8 ({error}): save it as that (Excel: CSV UTF-8).") from error
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        if too_many := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error)):
            head, line, found = too_many.groups()
            raise UserError(
                f"{path} has {found} values in line {line}, where its head names {head}: correct it."
            ) from error
        raise UserError(f"{path} cannot be read ({str(error).strip()}): restore it.") from error
    if table.empty:
        raise UserError(f"{path} has no rows: restore it.")
    if not isinstance(table.index, pd.RangeIndex):
        raise UserError(f"{path} has rows of more columns than its head names: correct them.")
    return table


def require_file(path: Path) -> None:
    """Raises UserError for what is there and no file, such as a pipe, which reading would wait for without end."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path} cannot be read (it is no file): put the file itself there.")


def require_columns(table: pd.DataFrame, path: Path, columns: Collection[str]) -> None:
    for column in columns:
        if column not in table.columns:
            known = ", ".join(map(str, table.columns))
            raise UserError(
                f"{path} has no column '{column}' (it has {known}): add it, spelled so and with commas between columns."
            )


def require_unique(files: pd.Series, path: Path) -> None:
    """Raises UserError for a file that is listed twice."""
    repeated = files[files.duplicated()]
    if len(repeated):
        raise UserError(f"{path} lists '{repeated.iloc[0]}' more than once: keep one row for each file.")


def require_values(values: pd.Series, files: pd.Series, path: Path, allowed: Collection[str]) -> None:
    """Raises UserError naming the first file whose value is not allowed."""
    wrong = ~values.isin(list(allowed))
    if wrong.any():
        file, value = files[wrong].iloc[0], values[wrong].iloc[0]
        raise UserError(
            f"{path}: the {values.name} of '{file}' is '{value}', "
            f"but must be one of {', '.join(allowed)}: correct the row."
        )
