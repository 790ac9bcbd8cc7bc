"""What predictions stand on: images as the loop counts them, and their speed."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from factories.digits import tiny, tiny_settings
from factories.records import make_run

from benchmark.plan.run import Run
from benchmark.speed import calibrate
from benchmark.speed.calibrate import MEASURING, Shape, shape_of, work
from benchmark.training.loader import DeviceSplit
from benchmark.training.loop import train
from benchmark.training.measure import Measurement
from benchmark.training.training import Training
from slurm.prediction import IMAGES, Images

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize("method", ["vanilla", "lff", "jtt", "debian", "be", "poisoner", "afr"])
def test_a_run_trains_on_and_measures_as_many_images_as_was_counted(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: Counter[str] = Counter()
    sums = Measurement.sums

    def counting(self: Measurement, logits: torch.Tensor, split: DeviceSplit) -> torch.Tensor:
        measured["images"] += len(split)
        return sums(self, logits, split)

    monkeypatch.setattr(Measurement, "sums", counting)
    dataset, run = tiny(), Run(tiny_settings(method), 0)
    training = Training(dataset, run.settings, run.seed)
    train([training])
    works = work(run, Images(len(dataset.train), len(dataset.validation), len(dataset.test)))
    assert sum(each.trained for each in works.values()) == training.progress.samples_trained
    assert sum(each.measured for each in works.values()) == measured["images"]


def test_what_is_predicted_is_what_was_counted_at_the_speed_that_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "MOST", 300)
    runs = [make_run(method=method) for method in ("vanilla", "jtt")]
    found = calibrate.calibrate(runs, IMAGES, CPU, 60)
    (speed,) = found.speed.values()
    assert list(speed) == [MEASURING, "vanilla train", "jtt identify", "jtt train"]
    assert min(speed.values()) > 0
    identify, full = work(runs[1], IMAGES["colored_mnist"]).values()
    cost = found.runs[runs[1].series]
    expected = identify.trained / speed["jtt identify"] + full.trained / speed["jtt train"]
    assert cost.training == pytest.approx(expected, rel=1e-3)
    assert cost.measuring == pytest.approx((identify.measured + full.measured) / speed[MEASURING], rel=1e-3)
    assert found.device.startswith("CPU")


def test_what_there_was_no_time_for_is_not_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even from its first phase: a method is timed whole or not at all."""
    monkeypatch.setattr(calibrate, "MOST", 300)
    found = calibrate.calibrate([make_run(), make_run(method="jtt")], IMAGES, CPU, 0)
    assert found.runs == {}
    assert calibrate._cost("jtt", work(make_run(method="jtt"), IMAGES["colored_mnist"]), {MEASURING: 1.0}) is None


def test_seeds_are_trained_together_where_a_worker_does_so() -> None:
    digits, images = make_run(), make_run("imagenet_b")
    assert shape_of(digits, CPU) == Shape("mlp", 28, 1)
    assert shape_of(digits, GPU) == Shape("mlp", 28, 3)
    assert shape_of(images, GPU) == Shape("resnet34", 224, 1)


def test_seeds_at_once_are_timed_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second for a repetition is three times as many images where three seeds are in it."""
    monkeypatch.setattr(calibrate, "interleaved", lambda subjects, *_: ({name: [1.0] for name in subjects}, {}))
    kinds = {"vanilla": (make_run().settings, ["train"])}
    alone = dict(calibrate._speeds(Shape("mlp", 28, 1), kinds, CPU, 60, float("inf")))
    three = dict(calibrate._speeds(Shape("mlp", 28, 3), kinds, CPU, 60, float("inf")))
    assert three == {name: pytest.approx(3 * each) for name, each in alone.items()}
