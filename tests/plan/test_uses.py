"""What of their data methods use, as recipes, listing and tables say it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.errors import UserError
from benchmark.plan.recipes import load
from benchmark.plan.uses import MARKS, Labels, told
from benchmark.terminal import overview


def test_who_uses_the_bias_of_validation_images_is_told_once() -> None:
    assert told({"uses_validation", "uses_validation_bias"}) == ["uses_validation_bias"]
    assert told({"uses_validation", "uses_bias_labels"}) == ["uses_bias_labels", "uses_validation"]
    assert len(set(MARKS.values())) == len(MARKS)


def test_recipes_and_listing_say_what_methods_use(capsys: pytest.CaptureFixture[str]) -> None:
    recipes = load()
    assert recipes.uses("dfr") == {"uses_validation", "uses_validation_bias"}
    assert recipes.uses("afr") == frozenset()
    assert not MARKS.keys() & recipes.options("dfr").keys()
    overview.print_listing(recipes)
    listing = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "dfr  DFR (uses bias labels of validation images)" in listing
    assert "groupdro  GroupDRO (uses bias labels)" in listing


@pytest.mark.parametrize(
    ("uses", "train", "validation", "why"),
    [
        ((), [-1], [], ""),
        (("uses_bias_labels",), [0, -1], [], "1 training images of birds lack their bias"),
        (("uses_validation",), [-1], [-1, -1], ""),
        (("uses_validation",), [0], [0], "birds has no validation images of which it could get half"),
        (("uses_validation", "uses_validation_bias"), [-1], [0, -1, -1], "2 validation images of birds lack their"),
        (("uses_validation", "uses_validation_bias"), [-1], [0, 1], ""),
    ],
)
def test_what_data_lack(uses: tuple[str, ...], train: list[int], validation: list[int], why: str) -> None:
    labels = Labels("birds", np.array(train), np.array(validation, dtype=np.int64))
    assert labels.lacking(uses).startswith(why)
    assert bool(labels.lacking(uses)) == bool(why)
    if why:
        with pytest.raises(UserError, match=f"The method dfr cannot be trained, since {why}"):
            labels.check("dfr", uses)
    else:
        labels.check("dfr", uses)
