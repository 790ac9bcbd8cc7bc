"""A finished training of the tiny dataset, as a record."""

from __future__ import annotations

import pytest
from factories import digits
from factories.digits import tiny_settings

from benchmark.plan.run import Run
from benchmark.store.record import Record
from benchmark.training.loop import train
from benchmark.training.recording import make_record
from benchmark.training.training import Training
from datasets.base import Fingerprint


@pytest.fixture(scope="session")
def record() -> Record:
    """Of LfF, which has a biased network beside the target, and measures both after each of three epochs."""
    run = Run(tiny_settings("lff"), 0)
    training = Training(digits.tiny(), run.settings, run.seed)
    train([training])
    return make_record(run, training, Fingerprint("train and test", "validation"))


@pytest.fixture
def run(record: Record) -> Run:
    return record.run
