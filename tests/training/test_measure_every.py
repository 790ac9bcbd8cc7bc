"""Measuring less often: which epochs are measured, that training stays the same, and what a record makes of gaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from factories.digits import tiny_settings

from benchmark.plan.run import Run
from benchmark.rules import RULES
from benchmark.store.encoding import decode, encode
from benchmark.store.record import NETWORKS, Record
from benchmark.training.loop import train
from benchmark.training.recording import make_record
from benchmark.training.training import Training
from datasets import BiasedDataset
from datasets.base import Fingerprint

MEASURED = [1, 2, 3, 6, 8]  # of eight epochs, every third


def measured(tiny: BiasedDataset, method: str, checkpoint: Path | None = None, **changes: object) -> Record:
    run = Run(tiny_settings(method, epochs=8, **changes), 3)
    training = Training(tiny, run.settings, run.seed, checkpoint=checkpoint, checkpoint_seconds=0)
    train([training])
    record = make_record(run, training, Fingerprint("a", "b"))
    return decode(encode(record).encode())


@pytest.mark.parametrize("method", ["vanilla", "jtt", "poisoner", "be"])
def test_fewer_measurements_are_some_of_the_same(tiny: BiasedDataset, method: str) -> None:
    often, seldom = measured(tiny, method), measured(tiny, method, measure_every=3)
    assert seldom.run.digest != often.run.digest, "rules choose among other epochs"
    assert seldom.answers.epochs == MEASURED
    assert often.answers.validation is not None
    assert seldom.answers.validation is not None
    places = [often.answers.epochs.index(epoch) for epoch in MEASURED]
    assert np.array_equal(seldom.answers.test, often.answers.test[places])
    assert np.array_equal(seldom.answers.validation, often.answers.validation[places])
    assert seldom.train == often.train
    for network in NETWORKS:
        whole = often.curve(network)
        assert [entry for entry in whole if entry in seldom.curve(network)] == seldom.curve(network)
    assert len(seldom.curve("target")) < len(often.curve("target"))
    for few, many in zip(seldom.phases, often.phases, strict=True):
        assert np.array_equal(few.loss, many.loss), "every epoch of training has a loss"


def test_rules_choose_among_the_epochs_that_were_measured(tiny: BiasedDataset) -> None:
    seldom = measured(tiny, "vanilla", measure_every=3)
    assert seldom.answers.validation is not None
    chosen = {name: epoch for name, rule in RULES.items() if (epoch := seldom.epoch(rule))}
    assert {"last", "validation", "test_average"} <= chosen.keys()
    assert chosen["last"] == 8
    assert chosen["validation"] == MEASURED[int(seldom.answers.validation.sum(1).argmax())]
    assert set(chosen.values()) <= set(MEASURED)


def test_a_checkpoint_between_two_measurements_goes_on_to_the_same(tiny: BiasedDataset, tmp_path: Path) -> None:
    whole = measured(tiny, "jtt", measure_every=3)
    settings = tiny_settings("jtt", epochs=8, measure_every=3)
    stopped = Training(tiny, settings, 3, checkpoint=tmp_path / "c", checkpoint_seconds=0)

    def stop(entry: object) -> None:
        if stopped.progress.phase_index == 1 and stopped.progress.epoch == 4:
            assert "target" not in stopped.progress.history[-1]
            raise KeyboardInterrupt

    stopped.report = stop
    with pytest.raises(KeyboardInterrupt):
        train([stopped])
    resumed = measured(tiny, "jtt", tmp_path / "c", measure_every=3)
    assert np.array_equal(resumed.answers.test, whole.answers.test)
    assert resumed.train == whole.train
    assert resumed.warnings == [], "the checkpoint was taken"
