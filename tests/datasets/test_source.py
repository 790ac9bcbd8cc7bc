"""Finding an image set under the data root, and saying what is lacking."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from datasets.download import Download
from datasets.source import NotFound, Source

PETS = Source(
    "Pets", ("pets", "animals"), ("list.txt",), "put pets.zip there.", (Download("pets.zip", unpacks_to="pets"),)
)


def test_the_first_folder_that_has_everything_is_the_set(tmp_path: Path) -> None:
    for name in ("pets", "animals"):
        (tmp_path / name).mkdir()
    (tmp_path / "animals/list.txt").touch()
    assert PETS.find(tmp_path) == tmp_path / "animals"
    (tmp_path / "pets/list.txt").touch()
    assert PETS.find(tmp_path) == tmp_path / "pets"
    (tmp_path / "animals/dogs").touch()
    assert PETS.find(tmp_path, ["dogs"]) == tmp_path / "animals"


def test_what_is_lacking_is_named_with_the_advice_and_the_source_that_helps(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=f"^Pets was not found under {re.escape(str(tmp_path))}: put pets.zip there"):
        PETS.find(tmp_path)
    (tmp_path / "pets").mkdir()
    with pytest.raises(NotFound, match=r"\(.*pets lacks list\.txt, dogs\): put pets\.zip there") as caught:
        PETS.find(tmp_path, ["dogs"])
    assert caught.value.source is PETS
