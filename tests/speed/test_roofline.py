"""What an update costs at least, as counted."""

from __future__ import annotations

import pytest
from factories.digits import tiny_settings

from benchmark.speed import roofline
from benchmark.training.training import Training
from datasets import BiasedDataset


def test_operations_of_an_mlp_are_those_of_its_matrix_products(tiny: BiasedDataset) -> None:
    """Each product is done once forward and twice backward, but the first layer has no gradient of its input."""
    m, first, others = 64, 24 * 100, 2 * 100 * 100 + 100 * 4
    forward, both = 2 * m * (first + others), 2 * m * (2 * first + 3 * others)

    def flops(method: str, index: int = 0) -> int:
        return roofline.of_update(Training(tiny, tiny_settings(method), seed=0), index)[0]

    assert flops("vanilla") == both
    assert flops("lff") == 2 * both
    # Each of its two networks also looks at the other's batch; the rest are the means of its soft groups.
    assert flops("debian") == pytest.approx(2 * both + 2 * forward, rel=1e-3)
    assert flops("poisoner") == both + 2 * m * m * 100, "and the similarity of all pairs"
    assert flops("poisoner", 1) == both


def test_bytes_of_an_mlp_follow_the_stated_rules(tiny: BiasedDataset) -> None:
    m = 64
    parameters = 4 * (24 * 100 + 100 + 2 * (100 * 100 + 100) + 100 * 4 + 4)
    outputs = 4 * m * (6 * 100 + 4)  # three layers and their ReLU, and the logits; flattening is a view
    expected = (3 + 7) * parameters + 5 * outputs + 9 * m * 24
    assert roofline.of_update(Training(tiny, tiny_settings("vanilla"), seed=0), 0)[1] == expected
