"""The embedded digits: their groups, and settings that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import datasets
from benchmark.errors import UserError


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"ratio": 1.5, "severity": 4, "validation_ratio": 0.1}, r"data\.ratio"),
        ({"ratio": 0.9, "severity": 7, "validation_ratio": 0.1}, "severity"),
        ({"ratio": 0.9, "severity": 4, "validation_ratio": -1}, r"data\.validation_ratio"),
    ],
)
def test_settings_out_of_range_are_refused(data: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        datasets.load("colored_digits", Path("unused"), **data)


def test_colored_digits_meets_every_colour_in_every_class() -> None:
    dataset = datasets.load("colored_digits", Path("unused"), ratio=0.9, severity=4, validation_ratio=0.1)
    assert len(dataset.train) + (len(dataset.validation) + len(dataset.test)) / 10 == 1797
    assert dataset.group_sizes(dataset.train).min() >= 1
    aligned = dataset.train.bias == dataset.aligned_bias[dataset.train.targets]
    assert aligned.mean() == pytest.approx(0.9, abs=0.01)
    for split in (dataset.validation, dataset.test):
        sizes = dataset.group_sizes(split)
        assert sizes.min() > 0
        assert (sizes == sizes[:, :1]).all(), "each digit in every colour"
