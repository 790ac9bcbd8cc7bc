"""The embedded digits: their groups, and settings that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import datasets
from benchmark.errors import UserError


@pytest.mark.parametrize(
    ("data", "message"), [({"ratio": 1.5, "severity": 4}, "ratio"), ({"ratio": 0.9, "severity": 7}, "severity")]
)
def test_settings_out_of_range_are_refused(data: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        datasets.load("colored_digits", Path("unused"), **data)


def test_colored_digits_meets_every_colour_in_every_class() -> None:
    dataset = datasets.load("colored_digits", Path("unused"), ratio=0.9, severity=4)
    assert len(dataset.train) + len(dataset.validation) + len(dataset.test) / 10 == 1797
    assert dataset.group_sizes(dataset.train).min() >= 1
    aligned = dataset.train.bias == dataset.aligned_bias[dataset.train.targets]
    assert aligned.mean() == pytest.approx(0.9, abs=0.01)
    assert (dataset.group_sizes(dataset.test) == dataset.group_sizes(dataset.test)[:, :1]).all()
