"""What a record takes from a finished training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from factories.digits import tiny_settings

from benchmark.plan.run import Run
from benchmark.store.provenance import commit
from benchmark.store.record import Commit, numbers
from benchmark.training.loop import train
from benchmark.training.recording import make_record, peak_memory
from benchmark.training.training import Training
from datasets import BiasedDataset
from datasets.base import Fingerprint

FINGERPRINT = Fingerprint("train and test", "validation")


@pytest.mark.parametrize("method", ["lff", "jtt", "debian"])
def test_a_record_holds_every_number_of_the_training(tiny: BiasedDataset, method: str) -> None:
    """JTT has two phases of one network each, LfF one of both, DebiAN none of a biased one."""
    run = Run(tiny_settings(method), 7)
    training = Training(tiny, run.settings, run.seed)
    train([training])
    progress, record = (
        training.progress,
        make_record(run, training, FINGERPRINT, 4, Commit(commit="a", modified=True)),
    )
    assert record.run == run
    assert [phase.name for phase in record.phases] == [phase.name for phase in training.phases]
    history = iter(progress.history)
    for phase in record.phases:
        for place, loss in enumerate(phase.loss):
            entry = next(history)
            assert loss == pytest.approx(entry["loss"], rel=5e-6)
            for network in ("target", "biased"):
                curves, expected = getattr(phase, network), entry.get(network)
                assert (curves is None) == (expected is None)
                if curves and isinstance(expected, dict):
                    found = {name: numbers(each)[place] for name, each in curves.measured.items()}
                    assert found == pytest.approx(expected, rel=5e-6)
    assert next(history, None) is None
    final = progress.history[-1]["target"]
    assert {name: pytest.approx(final[name], abs=1e-5) for name in record.fairness()} == record.fairness()
    assert record.train == progress.train_counts
    tested = [entry for entry in progress.history if "test" in entry]
    assert record.answers.test.tolist() == [entry["test"] for entry in tested]
    assert record.answers.validation is not None
    assert record.answers.validation.tolist() == [entry["validation"] for entry in tested]
    for correct, entry in zip(record.answers.validation, tested, strict=True):
        assert 100 * correct.sum() / len(tiny.validation) == pytest.approx(entry["target"]["validation_acc"])
    assert record.groups.validation == tiny.group_sizes(tiny.validation).tolist()
    assert np.sum(record.groups.train) == len(tiny.train)
    assert record.provenance.commit == commit().commit
    assert record.provenance.submitted == Commit(commit="a", modified=True)
    assert (record.provenance.data, record.provenance.seeds_at_once) == (FINGERPRINT.data, 4)
    assert record.provenance.validation_data == FINGERPRINT.validation
    assert record.provenance.seconds == pytest.approx(progress.seconds / 4, abs=0.01)
    assert record.provenance.peak_device_memory is None


def test_a_target_that_has_turned_the_bias_round_is_said_to(tiny: BiasedDataset) -> None:
    """Trained where the colour says the next class, tested where it says the class itself."""
    run = Run(tiny_settings("vanilla", epochs=30), 0)
    turned = replace(tiny, train=replace(tiny.train, targets=(tiny.train.bias + 1) % 4))
    warned = {}
    for name, dataset in (("fair", tiny), ("turned", turned)):
        training = Training(dataset, run.settings, 0)
        train([training])
        record = make_record(run, training, FINGERPRINT)
        warned[name] = [each for each in record.warnings if "turned round" in each]
        accuracy = np.array(record.answers.test[-1]).reshape(4, 4) / np.array(record.groups.test)
        gap = 100 * (accuracy[~np.eye(4, dtype=bool)].mean() - np.diag(accuracy).mean())
        assert len(warned[name]) == (gap > 20)
    assert not warned["fair"]
    assert len(warned["turned"]) == 1


def test_scored_groups_and_notes_of_the_data_are_recorded(tiny: BiasedDataset) -> None:
    scored = np.eye(4, dtype=bool)
    told = replace(tiny, scored=scored, notes=("a part is missing",))
    run = Run(tiny_settings("vanilla", epochs=1), 0)
    training = Training(told, run.settings, 0)
    train([training])
    record = make_record(run, training, FINGERPRINT)
    assert record.groups.scored == scored.tolist()
    assert record.provenance.data_notes == ["a part is missing"]


def test_the_peak_of_memory_is_not_made_up_on_a_cpu() -> None:
    assert peak_memory(torch.device("cpu")) is None
