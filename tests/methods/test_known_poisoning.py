"""Poisoning where the conflicting samples are known."""

from __future__ import annotations

import torch
from factories.methods import build, close, make_batch, mean, number, scalar_ce


def test_known_poisoning_relabels_exactly_the_conflicting_samples_as_predicted() -> None:
    targets, bias = [0, 1, 2] * 4, [0, 1, 2, 1, 1, 0, 0, 0, 2, 2, 1, 2]
    method = build("known_poisoning", targets, bias, num_biases=3)
    store = list(targets)
    for seed in range(3):
        batch = make_batch(method, range(2, 11), bias, seed)
        with torch.no_grad():
            logits = method.target(batch.images)
        for place, i in enumerate(range(2, 11)):
            if bias[i] != targets[i]:
                store[i] = int(logits[place].argmax())
        loss = method.loss(batch)
        assert number(loss) == close(mean(scalar_ce(logits, torch.tensor(store[2:11]))))
        assert method.labels.tolist() == store
    assert method.all_targets.tolist() == targets
    assert method.summary()["labels_poisoned"] == sum(a != b for a, b in zip(store, targets, strict=True))
