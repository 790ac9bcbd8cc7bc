from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.errors import UserError
from slurm import profiles


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("gpus = 'two'", "gpus in .* is 'two': it takes a whole number"),
        ("setup = [1]", "a list of shell lines"),
        ("time = 5", "Unknown setting .* 'time'.*Known: account"),
        ("[mpl]\ngpus = 0", "tables are named after networks"),
        ("gpus = ", "is not valid TOML"),
    ],
)
def test_a_profile_that_makes_no_sense_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        profiles.load(str(path))


@pytest.mark.parametrize("name", sorted(path.stem for path in profiles.PROFILES.glob("*.toml")))
def test_shipped_profiles_are_valid_and_changes_win(name: str) -> None:
    profile = profiles.load(name, ["minutes=7", "setup=module load python=3"])
    assert profile.request("mlp")["minutes"] == profile.request("resnet18")["minutes"] == 7
    assert "gpus" not in profile.request("mlp")
    assert profile.request("resnet18")["gpus"] == 1
    assert profile.request("mlp")["setup"] == ["module load python=3"]
