"""What a list of predictions found conflicting, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.inspect.identified import Identified
from datasets import BiasedDataset, Split


def hand_made(bias: list[int], files: tuple[str, ...] = ()) -> BiasedDataset:
    """Cats are dark (0), dogs are bright (1)."""
    targets = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    split = Split(np.zeros((8, 3, 4, 4), np.uint8), targets, np.array(bias), files)
    names = ("cat", "dog"), ("dark", "bright")
    return BiasedDataset("pets", *names, np.array([0, 1]), train=split, validation=split, test=split)


PREDICTED = np.array([0, 1, 1, 1, 0, 1, 1, 0])
SCORE = np.array([0.9, 0.3, 0.1, 0.3, 0.2, 0.6, 0.7, 1e-6])
BIAS = [0, 1, 0, 1, 0, 0, 1, 0]
# Found are 1, 2, 3 of the cats and 4, 7 of the dogs; conflicting are 1, 3 and 4, 5, 7.


def test_precision_and_recall_of_a_list_counted_by_hand() -> None:
    identified = Identified(hand_made(BIAS), PREDICTED, SCORE)
    assert identified.precision_recall(0) == (pytest.approx(100 * 2 / 3), 100)
    assert identified.precision_recall(1) == (100, pytest.approx(100 * 2 / 3))
    assert identified.precision_recall() == (80, 80)
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in identified.report().splitlines() if "|" in line
    ]
    assert rows[0] == ["Class", "Images", "Found", "Conflicting", "Precision", "Recall"]
    assert rows[2] == ["cat", "4", "3", "2", "66.7 %", "100.0 %"]
    assert rows[-1] == ["all", "8", "5", "5", "80.0 %", "80.0 %"]
    assert "Precision 80.0 %: 4 of 5 found" in identified.report()
    assert "Recall 80.0 %: 4 of 5 conflicting" in identified.report()


def test_the_list_begins_with_the_most_conflicting_and_keeps_the_order_of_equals() -> None:
    table = Identified(hand_made(BIAS, tuple(f"{number}.jpg" for number in range(8))), PREDICTED, SCORE).table()
    assert table.columns.tolist() == ["file", "target", "predicted", "score", "bias"]
    assert table.to_numpy().tolist() == [
        ["7.jpg", "dog", "cat", 1e-6, "dark"],
        ["2.jpg", "cat", "dog", 0.1, "dark"],
        ["4.jpg", "dog", "cat", 0.2, "dark"],
        ["1.jpg", "cat", "dog", 0.3, "bright"],
        ["3.jpg", "cat", "dog", 0.3, "bright"],
    ]
    unnamed = Identified(hand_made(BIAS), PREDICTED, SCORE).table()
    assert unnamed.file.tolist() == [f"train/{number:05}" for number in (7, 2, 4, 1, 3)]


def test_images_of_unknown_bias_are_listed_but_not_judged() -> None:
    identified = Identified(hand_made([-1, 1, -1, 1, 0, -1, 1, 0]), PREDICTED, SCORE)
    assert identified.precision_recall() == (100, 100)
    assert identified.table().bias.tolist() == ["dark", "", "dark", "bright", "bright"]
    assert "3 images of unknown bias are left out" in identified.report()
    blind = Identified(hand_made([-1] * 8), PREDICTED, SCORE)
    assert "Bias labels unknown" in blind.report()
    assert "Precision" not in blind.report()
    assert "bias" not in blind.table().columns


def test_a_network_that_fits_everything_has_found_nothing() -> None:
    identified = Identified(hand_made(BIAS), np.array([0] * 4 + [1] * 4), SCORE)
    assert identified.precision_recall() == (None, 0)
    assert "Nothing was found" in identified.report()
    assert len(identified.table()) == 0
