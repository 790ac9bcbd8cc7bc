"""What benchmark.speed counts, measures and renders; the page docs/speed.md shows the committed measurements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from factories.digits import tiny_settings

from benchmark import floor, speed, speed_report
from benchmark.file_loop import write_images
from benchmark.training.loop import train
from benchmark.training.training import Training
from benchmark.worker import peak_memory
from datasets import BiasedDataset

ROOT = Path(__file__).resolve().parent.parent


def test_operations_of_an_mlp_are_those_of_its_matrix_products(tiny: BiasedDataset) -> None:
    """Each product is done once forward and twice backward, but the first layer has no gradient of its input."""
    m, first, others = 64, 24 * 100, 2 * 100 * 100 + 100 * 4
    forward, both = 2 * m * (first + others), 2 * m * (2 * first + 3 * others)

    def flops(method: str, index: int = 0) -> int:
        return floor.of_update(Training(tiny, tiny_settings(method), seed=0), index)[0]

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
    assert floor.of_update(Training(tiny, tiny_settings("vanilla"), seed=0), 0)[1] == expected


def test_a_measurement_is_stored_and_rendered_again_to_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--images", "300", "--repetitions", "2", "--workers", "0", "--device", "cpu", "--results"]
    assert speed.main([*arguments, str(tmp_path), "--methods", "jtt"]) == 0
    stored = json.loads((tmp_path / "speed" / "cpu-mlp-28.json").read_text())
    assert list(stored["subjects"]) == [
        "matrix product", "copy", "bare loop", "image files", "Vanilla", "JTT: identify", "JTT: train"
    ]  # fmt: skip
    for subject in stored["subjects"].values():
        assert len(subject["seconds"]) == 2
        assert min(subject["seconds"]) > 0
        assert "peak_device_memory" not in subject, "a CPU does not tell"
    assert stored["subjects"]["Vanilla"]["images"] == 512, "every batch is full"
    paths = [tmp_path / "tables" / "speed.md", *(tmp_path / "figures" / f"speed.{each}" for each in ("png", "pdf"))]
    before = [path.read_bytes() for path in paths]
    assert "| JTT: identify |" in capsys.readouterr().out
    assert speed.main(["--render-only", "--results", str(tmp_path)]) == 0
    assert [path.read_bytes() for path in paths] == before


def made_up() -> dict[str, Any]:
    """Two repetitions of which the second took twice as long throughout, as on a machine that something disturbs."""
    return {
        "subjects": {
            "matrix product": {"images": 0, "flops": 100, "bytes": 0, "seconds": [1, 2]},
            "copy": {"images": 0, "flops": 0, "bytes": 30, "seconds": [1, 2]},
            "image files": {"images": 10, "flops": 100, "bytes": 60, "seconds": [10, 20]},
            "Vanilla": {"images": 20, "flops": 200, "bytes": 120, "seconds": [5, 10]},
            "LfF": {"images": 20, "flops": 500, "bytes": 120, "seconds": [15, 30]},
        }
    }


def test_multiples_are_of_the_time_for_an_image_and_paired() -> None:
    measurement = made_up()
    assert speed_report.times(measurement, "LfF", "Vanilla") == 3
    assert speed_report.times(measurement, "image files", "Vanilla") == 4
    assert speed_report.implied(measurement, "LfF") == 2.5
    assert speed_report.rate(measurement, "Vanilla") == pytest.approx(20 / 7.5)


def test_the_floor_is_computing_or_moving_whichever_takes_longer() -> None:
    measurement = made_up()
    assert speed_report.floor_seconds(measurement, "LfF") == pytest.approx(500 / (100 / 1.5))
    assert speed_report.floor_seconds(measurement, "Vanilla") == pytest.approx(120 / (30 / 1.5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--network", "mlp", "--size", "64"], "mlp is measured at 28 pixels"),
        (["--network", "resnet18", "--size", "28"], "resnet18 is measured at 64 or 224 pixels"),
        (["--repetitions", "0"], "--repetitions 1"),
        (["--methods", "lf"], "did you mean 'lff'"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert speed.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_image_files_have_the_asked_size_and_differ(tmp_path: Path) -> None:
    from PIL import Image

    first, second = write_images(tmp_path, 2, 28)
    assert Image.open(first).size == (28, 28)
    assert first.read_bytes() != second.read_bytes()
    assert write_images(tmp_path, 1, 64)[0].suffix == ".jpg"


def test_the_peak_of_memory_is_not_made_up_on_a_cpu() -> None:
    assert peak_memory(torch.device("cpu")) == {}


def test_the_table_shows_the_committed_measurements() -> None:
    rendered = speed_report.markdown(speed_report.load(ROOT / "results" / "speed"))
    assert (ROOT / "results" / "tables" / "speed.md").read_text(encoding="utf-8") == rendered
