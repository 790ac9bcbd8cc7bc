"""Kept models: files that say what they are, and networks that say what they said."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from factories import digits
from factories.digits import tiny_settings
from factories.images import QUICKLY, quickly, write_learnable_folder
from factories.records import make_record as invented_record
from factories.records import make_run
from msgspec.structs import replace
from PIL import Image
from safetensors import safe_open

import benchmark
import datasets
from benchmark import merge, pack
from benchmark.errors import UserError
from benchmark.models import building, keeping, loading
from benchmark.plan.run import Run
from benchmark.rules import LAST, RULES
from benchmark.run import main
from benchmark.store.store import Store, end_aside
from benchmark.training.loop import train
from benchmark.training.recording import make_record
from benchmark.training.training import Training
from datasets.base import Fingerprint
from methods import METHODS

DIGITS = ("--tasks", "colored_digits", "--methods", "vanilla", "--device", "cpu")
KEPT = ("--keep", "--select", "validation_worst")
# What another process says of the test images: whether its probabilities are the stored ones, bit for bit.
ELSEWHERE = """
import sys
from pathlib import Path
import numpy as np
import benchmark, datasets
assert "torch" not in sys.modules, "importing the package takes seconds"
for select in ("last", "validation_worst"):
    model = benchmark.load(sys.argv[1], select, results=sys.argv[2])
    settings = model.record.settings
    data = datasets.load(settings["dataset"], Path(sys.argv[3]), 0.0, **settings["data"])
    stored = model.kept_predictions()
    for name in ("test", "validation"):
        split = getattr(data, name)
        found = model.probabilities(split.images)
        assert found.dtype == stored[f"{name}_probabilities"].dtype == np.float32
        assert found.tobytes() == stored[f"{name}_probabilities"].tobytes(), f"{select}, {name}"
        assert np.array_equal(stored[f"{name}_targets"], split.targets)
        assert np.array_equal(stored[f"{name}_bias"], split.bias)
        assert list(stored[f"{name}_files"]) == list(split.files)
        right = found.argmax(1) == split.targets
        if name == "test":
            counts = np.zeros_like(model.record.correct(model.rule))
            np.add.at(counts, (split.targets[right], split.bias[right]), 1)
            assert np.array_equal(counts, model.record.correct(model.rule)), select
    print(select, model.epoch)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("trained")
    assert main([*DIGITS, *KEPT, "--set", "epochs=8", "--seeds", "2", "--results", str(results)]) == 0
    return results


@pytest.fixture
def results(trained: Path, tmp_path: Path) -> Path:
    for name in ("runs", "models"):
        shutil.copytree(trained / name, tmp_path / "results" / name)
    return tmp_path / "results"


@pytest.fixture
def run(results: Path) -> Run:
    return Store(results).read(Store(results).ids("s0")[0]).run  # type: ignore[union-attr]


def elsewhere(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *map(str, arguments)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_another_process_predicts_what_was_stored_bit_for_bit(trained: Path, tmp_path: Path) -> None:
    printed = [elsewhere(f"-s{seed}", trained, tmp_path) for seed in (0, 1)]
    assert all("last 8" in each for each in printed)
    record = Store(trained).read(Store(trained).ids("s1")[0])
    assert f"validation_worst {record.epoch(RULES['validation_worst'])}" in printed[1]  # type: ignore[union-attr]


def test_so_does_a_resnet_on_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHMARK_PREPARED", str(tmp_path / "prepared"))
    folder, results = write_learnable_folder(tmp_path, validation=12), tmp_path / "results"
    command = ["--dataset", str(folder), *quickly("epochs=2"), "--methods", "jtt", *KEPT, "--results", str(results)]
    assert main(command) == 0
    assert "last 2" in elsewhere("my_birds", results, tmp_path)
    model = benchmark.load("jtt", results=results)
    assert model.classes == ("gull", "tern")
    with Image.open(folder / "test_3.png") as image:  # of 40 × 36 pixels
        assert model.transform(image).shape == (3, 32, 32)
        alone = model.network(model.transform(image)[None]).softmax(1).numpy()
        stored = model.kept_predictions()
        place = stored["test_files"].tolist().index("test_3.png")
        np.testing.assert_allclose(alone[0], stored["test_probabilities"][place], atol=1e-5)
        np.testing.assert_allclose(model.predict([image]), alone, atol=1e-6)
    assert model.predict([]).shape == (0, 2)


def test_a_model_computes_in_the_precision_that_it_was_trained_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bf16 where the processor does, also where it would be trained in float32, and in float32 where it does not."""
    monkeypatch.setenv("BENCHMARK_PREPARED", str(tmp_path / "prepared"))
    folder, results = write_learnable_folder(tmp_path, validation=12), tmp_path / "results"
    command = ["--dataset", str(folder), *QUICKLY, "epochs=1", "precision=bf16", "--methods", "vanilla", "--keep"]
    with monkeypatch.context() as able:
        able.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
        assert main([*command, "--results", str(results)]) == 0
        model = benchmark.load("vanilla", results=results)
    other = benchmark.load("vanilla", results=results)
    settings, stored = model.record.settings, model.kept_predictions()["test_probabilities"]
    images = datasets.load(settings["dataset"], tmp_path, 0.0, **settings["data"]).test.images
    assert model.probabilities(images).tobytes() == stored.tobytes()
    found = other.probabilities(images)
    assert found.tobytes() != stored.tobytes()
    np.testing.assert_allclose(found, stored, atol=0.1)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_the_networks_of_every_method_are_built_again(method: str, tmp_path: Path) -> None:
    """Also where a method has changed the network that it was given."""
    dataset = digits.tiny()
    run = Run(tiny_settings(method, epochs=1), 0)
    training = Training(dataset, run.settings, run.seed, keep=(LAST,))
    train([training])
    record = make_record(run, training, Fingerprint("data", "validation"))
    store = Store(tmp_path)
    assert store.save(record, training.predictions(), keeping.keep(record, training, (LAST,)))
    model = benchmark.load(run.id, results=tmp_path)
    expected = training.splits.test.logits(training.method.target)
    assert torch.equal(torch.from_numpy(model.probabilities(dataset.test.images)), expected.softmax(1))
    biased = training.method.biased
    assert (model.biased is None) is (biased is None or biased is training.method.target)
    if model.biased is not None and biased is not None:
        assert torch.equal(training.splits.test.logits(model.biased), training.splits.test.logits(biased))
    stored = store.load(run)
    assert stored
    assert [path.suffix for path in store.files(stored)] == [".json", ".npz", ".safetensors", ".npz"]


def test_seeds_that_were_trained_as_one_network_are_kept_each_by_itself(trained: Path, tmp_path: Path) -> None:
    command = [*DIGITS, *KEPT, "--set", "epochs=8", "--seeds", "2", "--seeds-at-once", "2", "--results", str(tmp_path)]
    assert main(command) == 0
    assert all(record.provenance.seeds_at_once == 2 for record in Store(tmp_path).everything())
    alone, together = (
        [benchmark.load(f"-s{seed}", results=folder).kept_predictions()["test_probabilities"] for seed in (0, 1)]
        for folder in (trained, tmp_path)
    )
    np.testing.assert_allclose(together, alone, atol=1e-3)
    assert not np.allclose(alone[0], alone[1], atol=0.01), "seeds differ"


def test_what_imagenets_weights_change_beside_weights_is_built_again() -> None:
    """torchvision scales the inputs of two architectures where they start from these."""
    for pretrained in (True, False):
        run = make_run("dogs_cats", "vanilla", "network=googlenet", f"pretrained={str(pretrained).lower()}")
        network = building._method(invented_record(run), (3, 32, 32)).target
        (layer,) = (each for each in network.modules() if hasattr(each, "transform_input"))
        assert layer.transform_input is pretrained


# What a file says


def test_a_file_tells_what_it_takes_to_predict_elsewhere(results: Path, run: Run) -> None:
    store = Store(results)
    record = store.load(run)
    assert record
    with safe_open(store.models_of(run)["validation_worst"], "np") as file:
        told = file.metadata()
    assert told["run"] == run.id
    assert told["rule"] == "validation_worst"
    assert told["epoch"] == str(record.epoch(RULES["validation_worst"]))
    assert told["record"] == store.digest(run)
    assert json.loads(told["classes"]) == list("0123456789")
    assert json.loads(told["mean"]) == list(run.settings["mean"])
    assert json.loads(told["image_shape"]) == [3, 8, 8]
    assert (told["network"], told["fit"]) == ("mlp", "stretch")


def refused(results: Path, run: Run, message: str) -> None:
    with pytest.raises(UserError, match=message):
        benchmark.load(run.id, results=results)


@pytest.mark.parametrize("where", ["weights", "metadata", "end", "empty"])
def test_a_damaged_file_is_refused(results: Path, run: Run, where: str) -> None:
    path = Store(results).models_of(run)["last"]
    content = bytearray(path.read_bytes())
    if where == "weights":
        content[-5] ^= 1
    elif where == "metadata":
        place = content.index(b'"fit"') + len(b'"fit":"')
        content[place : place + 7] = b"squeeze"
    path.write_bytes({"end": content[:-100], "empty": b""}.get(where, content))
    refused(results, run, rf"{path.name} cannot be used .*: it was kept at commit .*--keep --again")
    assert benchmark.load(run.id, "validation_worst", results=results), "the other one is as it was"
    stored = benchmark.load(run.id, "validation_worst", results=results)
    stored.path.with_suffix(".npz").write_bytes(b"")
    with pytest.raises(UserError, match="is damaged"):
        stored.kept_predictions()


def test_a_file_of_another_run_under_its_name_is_refused(results: Path, run: Run) -> None:
    store = Store(results)
    other = Run(run.settings, 1)
    shutil.copy(store.models_of(other)["last"], store.models_of(run)["last"])
    refused(results, run, "its run is not that of the record")


def test_a_record_that_has_changed_has_no_model(results: Path, run: Run) -> None:
    path = Store(results).record_path(run)
    path.write_text(path.read_text().replace('"threads": 1', '"threads": 2'))
    refused(results, run, "has no kept model of the rule last")


def test_code_that_builds_another_network_of_the_same_weights_is_refused(
    results: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("networks.mlp.nn.ReLU", torch.nn.Tanh)
    refused(results, run, "does not say what it said when it was kept")


def test_a_model_of_older_code_says_so(results: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert benchmark.load(run.id, results=results).notes == ()
    monkeypatch.setattr("benchmark.plan.code.of_method", lambda name: "99")
    (note,) = benchmark.load(run.id, results=results).notes
    assert "stale" in note
    assert "which is now 99" in note


def test_a_model_of_no_use_says_so(results: Path, run: Run) -> None:
    record = Store(results).load(run)
    assert record
    one_answer = np.zeros_like(record.answers.test)
    one_answer[:, :10] = np.ravel(record.groups.test)[:10]
    warned = replace(record, answers=replace(record.answers, test=one_answer), warnings=["Beware."])
    assert [note.split(":")[0] for note in loading._notes(warned, LAST)] == [
        "The model collapsed",
        "Its training warned",
    ]


def test_what_answers_otherwise_than_was_counted_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The record is stored all the same."""
    original = building.assembled

    def of_another_function(*more: object) -> object:
        found = original(*more)  # type: ignore[arg-type]
        found["target"].classifier.weight.neg_()
        return found

    monkeypatch.setattr(keeping, "assembled", of_another_function)
    assert main([*DIGITS, "--keep", "--set", "epochs=4", "--results", str(tmp_path)]) == 0
    assert "no model of the last epoch is kept: built of its weights it answers otherwise" in capsys.readouterr().out
    (record,) = Store(tmp_path).everything()
    assert not Store(tmp_path).models_of(record.run)


# Beside their records


def test_a_run_without_a_model_is_trained_anew_only_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*DIGITS, "--set", "epochs=1", "--results", str(tmp_path)]
    store = Store(tmp_path)
    assert main(command) == 0
    (before,) = store.everything()
    assert not store.models_of(before.run)
    capsys.readouterr()
    assert main([*command, "--keep"]) == 0
    assert f"1 of these runs, such as {before.run.id}, has a record but no kept model" in capsys.readouterr().out
    refused(tmp_path, before.run, "has no kept model of the rule last .*--again")
    assert main([*command, "--keep", "--again", "--dry-run"]) == 0
    assert before.run.id in capsys.readouterr().out
    assert main([*command, "--keep", "--again"]) == 0
    (after,) = store.everything()
    assert after.answers.test.tolist() == before.answers.test.tolist()
    assert set(store.models_of(after.run)) == {"last", "validation_average"}
    assert len(list(tmp_path.glob("runs/*/*/*.json.replaced-*"))) == 1, "nothing stored is ever lost"
    kept = [path.read_bytes() for path in store.files(after)]
    assert main([*command, "--keep", "--again"]) == 0
    assert [path.read_bytes() for path in store.files(after)] == kept, "nothing was missing"


def test_models_travel_with_their_record(results: Path, run: Run, tmp_path: Path) -> None:
    archive, elsewhere = tmp_path / "mine.zip", tmp_path / "elsewhere"
    assert pack.main(["--results", str(results), "--output", str(archive)]) == 0
    assert merge.main([str(archive), "--results", str(elsewhere)]) == 0
    there, here = (benchmark.load(run.id, results=folder) for folder in (elsewhere, results))
    images = np.zeros((3, 3, 8, 8), np.uint8)
    assert np.array_equal(there.probabilities(images), here.probabilities(images))
    for path in elsewhere.rglob("*.safetensors"):
        path.unlink()
    assert merge.main([str(archive), "--results", str(elsewhere)]) == 0
    assert benchmark.load(run.id, results=elsewhere)


def test_models_are_set_aside_with_their_record(results: Path, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(results)
    record = store.load(run)
    assert record
    files = store.files(record)
    contents = sorted(path.read_bytes() for path in files)
    assert len(files) == 6
    store.set_aside(run.id, end_aside("stale"))
    assert store.files(record) == []
    assert main([*DIGITS, *KEPT, "--set", "epochs=8", "--results", str(results)]) == 0
    aside = [path for path in results.rglob("*.stale-*") if path.is_file()]
    assert len(aside) == 6, "the record, two models, and the predictions of each"
    assert sorted(path.read_bytes() for path in aside) == contents
    assert len(store.models_of(run)) == 2
    damaged = store.record_path(run)
    damaged.write_text("{}")
    assert store.load(run) is None
    assert len([path for path in results.rglob("*.corrupt-*") if path.is_file()]) == 6


def test_whoever_comes_second_leaves_no_model(tmp_path: Path, results: Path, run: Run) -> None:
    store = Store(results)
    record = store.load(run)
    assert record
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    late = replace(record, provenance=replace(record.provenance, seconds=1e6))
    assert store.save(late, None, lambda digest: {"last.safetensors": b"late", "last.npz": b"late"}) is False
    assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file()} == before


def test_points_of_a_search_keep_nothing(tmp_path: Path) -> None:
    command = [*DIGITS, *KEPT, "--search", "2", "--set", "epochs=1", "--results", str(tmp_path)]
    assert main(command) == 0
    store = Store(tmp_path)
    kept = {record.seed: set(store.models_of(record.run)) for record in store.everything()}
    assert kept == {10_000: set(), 0: {"last", "validation_worst"}}
