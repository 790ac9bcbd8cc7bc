"""A few of the kills that ``python tests/tools/kill_and_resume.py`` does in full."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools.kill_and_resume import torture


@pytest.mark.parametrize("method", ["vanilla", "be", "poisoner", "dfr"])
def test_a_killed_run_ends_with_the_numbers_of_an_uninterrupted_one(method: str, tmp_path: Path) -> None:
    killed_at = torture(method, kills=3, folder=tmp_path)
    assert set(killed_at) != {"start"}, "at least one kill must hit a run that had a checkpoint"
