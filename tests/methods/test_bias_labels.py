"""Training on the bias instead of the class."""

from __future__ import annotations

import torch
from factories.methods import build, close, make_batch, mean, number, scalar_ce

from methods.bias_labels import bias_as_class


def test_bias_labels_train_on_the_class_that_goes_with_the_bias() -> None:
    targets, bias, aligned_bias = (torch.tensor(each) for each in ([0, 0, 1, 1, 2], [2, 0, 0, 3, 1], [1, 2, 0]))
    # Bias 1 goes with class 0, 2 with 1, 0 with 2; bias 3 with none.
    assert bias_as_class(targets, bias, aligned_bias).tolist() == [1, 2, 2, 1, 0]
    # Bias 0 goes with classes 0 and 2, whose samples keep their own; for others it is the first of them.
    shared = torch.tensor([0, 1, 0])
    targets, bias = torch.tensor([0, 2, 1, 1, 0]), torch.tensor([0, 0, 0, 1, 1])
    assert bias_as_class(targets, bias, shared).tolist() == [0, 2, 0, 1, 1]
    method = build("bias_labels", [0, 1, 0, 1], [0, 1, 1, 0])
    batch = make_batch(method, range(4), [0, 1, 1, 0])
    expected = scalar_ce(method.target(batch.images), torch.tensor([0, 1, 1, 0]))
    assert number(method.loss(batch)) == close(mean(expected))
