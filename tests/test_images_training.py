"""Training on images: networks, loader, augmentation, presets, and a folder of one's own through the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch
from factories.images import write_learnable_folder
from torch import nn

from benchmark import loader, metrics, networks, plan, recipes, records, run, tables
from benchmark.errors import UserError
from benchmark.loader import Augmentation, DeviceSplit
from benchmark.records import Store
from benchmark.training import Training
from datasets import BiasedDataset, Split


@pytest.fixture(autouse=True)
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHMARK_PREPARED", str(tmp_path / "prepared"))


def noise(n: int, size: int = 32) -> Split:
    """Random images of 2 × 2 groups in turn; class 1 is brighter, so that something can be learnt."""
    rng = np.random.default_rng(n)
    targets, bias = np.arange(n) % 2, np.arange(n) // 2 % 2
    images = rng.integers(0, 200, (n, 3, size, size), dtype=np.uint8)
    images += (50 * targets).astype(np.uint8)[:, None, None, None]
    return Split(images, targets, bias)


def dataset() -> BiasedDataset:
    return BiasedDataset(
        name="noise",
        class_names=("dark", "bright"),
        bias_names=("a", "b"),
        aligned_bias=np.array([0, 1]),
        train=noise(40),
        validation=noise(8),
        test=noise(16),
    )


def settings(method: str = "vanilla", **changes: Any) -> recipes.Settings:
    base = recipes.resolve("dogs_cats", method, (), "reduced")
    return {**base, "epochs": 2, "batch_size": 16, **changes}


# ------------------------------------------------------------------------------------------------ networks


def test_a_split_resnet_computes_what_torchvision_computes() -> None:
    from torchvision.models import resnet18

    ours = networks.build("resnet18", (3, 64, 64), 1000, pretrained=False, stem="standard").eval()
    theirs = resnet18().eval()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(ours(images), theirs(images))
    assert ours.features(images).shape == (2, 512)


def test_the_small_stem_keeps_resolution_and_resnet34_is_deeper() -> None:
    small = networks.build("resnet18", (3, 64, 64), 2, pretrained=False, stem="small")
    maps = small.features[:4](torch.zeros(1, 3, 64, 64))
    assert maps.shape == (1, 64, 32, 32)
    deeper = networks.build("resnet34", (3, 64, 64), 2, pretrained=False, stem="standard")
    assert sum(each.numel() for each in deeper.parameters()) > 21_000_000
    with pytest.raises(UserError, match="did you mean 'small'"):
        networks.build("resnet18", (3, 64, 64), 2, pretrained=False, stem="smal")
    with pytest.raises(UserError, match="standard stem"):
        networks.build("resnet18", (3, 64, 64), 2, pretrained=True, stem="small")


def test_pretrained_weights_are_taken_or_their_absence_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import models

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", _unreachable)
    networks.imagenet_weights.cache_clear()
    with pytest.raises(UserError, match=r"weights of resnet18 cannot be had .*--set pretrained=false"):
        networks.build("resnet18", (3, 224, 224), 2, pretrained=True, stem="standard")
    weights = models.resnet18().state_dict()
    monkeypatch.setattr(networks, "imagenet_weights", lambda architecture: weights)
    network = networks.build("resnet18", (3, 224, 224), 2, pretrained=True, stem="standard")
    assert torch.equal(network.features[0].weight, weights["conv1.weight"])
    assert network.classifier.out_features == 2


def _unreachable(*_: object, **__: object) -> None:
    raise URLError("no route")


# ------------------------------------------------------------------------------------- augmentation, loader


def test_augmentation_is_flip_and_crop_of_the_padded_image() -> None:
    augmentation = Augmentation({"flip": True, "crop_padding": 3})
    images = torch.from_numpy(noise(64, 32).images)
    draws = augmentation.draw(2, 64, torch.Generator().manual_seed(0))[1]
    changed = augmentation.apply(images, draws)
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (3, 3), (3, 3)))
    for image, (flip, top, left), got in zip(padded, draws.tolist(), changed.numpy(), strict=True):
        crop = image[:, top : top + 32, left : left + 32]
        assert np.array_equal(got, crop[:, :, ::-1] if flip else crop)
    assert set(draws[:, 0].tolist()) == {0, 1}
    assert set(draws[:, 1:].flatten().tolist()) == set(range(7))


def test_without_augmentation_nothing_is_drawn() -> None:
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    augmentation = Augmentation({})
    images = torch.from_numpy(noise(4).images)
    assert augmentation.apply(images, augmentation.draw(1, 4, generator)[0]) is images
    assert torch.equal(generator.get_state(), before)


def test_streamed_batches_are_the_resident_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = noise(50)
    np.save(tmp_path / "images.npy", split.images)
    mapped = replace(split, images=np.load(tmp_path / "images.npy", mmap_mode="r"))
    resident = DeviceSplit(split, 2, settings(), torch.device("cpu"))
    monkeypatch.setattr(loader, "free_memory", lambda device: 1000)
    monkeypatch.setattr(loader, "EVALUATION_BATCH", 16)
    streamed = DeviceSplit(mapped, 2, settings(), torch.device("cpu"))
    assert resident.resident
    assert not streamed.resident
    order = torch.randperm(50)[:48].view(6, 8)
    pairs = zip(resident.batches(order), streamed.batches(order), order, strict=True)
    for (indices, images), (same_indices, same_images), row in pairs:
        assert torch.equal(indices, row)
        assert torch.equal(same_indices, row)
        assert torch.equal(images, same_images)
    assert list(streamed.batches(order[:0])) == []
    network = networks.build("resnet18", (3, 32, 32), 2, pretrained=False, stem="standard")
    assert torch.equal(resident.logits(network), streamed.logits(network))


def test_a_streamed_run_ends_like_a_resident_one(monkeypatch: pytest.MonkeyPatch) -> None:
    resident = Training(dataset(), settings("debian", epochs=1), seed=0)
    resident.run()
    monkeypatch.setattr(loader, "free_memory", lambda device: 1000)
    streamed = Training(dataset(), settings("debian", epochs=1), seed=0)
    assert not streamed.train.resident
    streamed.run()
    assert streamed.history == resident.history
    assert streamed.last == resident.last


def test_a_reader_that_fails_in_its_thread_fails_the_run() -> None:
    images = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    with pytest.raises((IndexError, RuntimeError)):
        list(loader._stream(images, torch.tensor([[0, 9]]), torch.device("cpu")))


# ------------------------------------------------------------------------------------------- the common loop


class Killed(Exception):
    pass


@pytest.mark.parametrize(("method", "epochs"), [("vanilla", 3), ("poisoner", 1)])
def test_a_killed_run_with_augmentation_resumes_bit_by_bit(tmp_path: Path, method: str, epochs: int) -> None:
    chosen = settings(method, epochs=epochs)
    assert chosen["flip"]
    assert chosen["crop_padding"] == 4
    whole = Training(dataset(), chosen, seed=3)
    whole.run()

    def kill(_: object) -> None:
        raise Killed

    checkpoint = tmp_path / "run.ckpt"
    for _ in range(min(epochs, 2)):
        training = Training(dataset(), chosen, 3, "cpu", checkpoint, checkpoint_seconds=0, report=kill)
        with pytest.raises(Killed):
            training.run()
    resumed = Training(dataset(), chosen, 3, "cpu", checkpoint)
    resumed.run()
    assert resumed.history == whole.history
    for name, value in whole.method.state_dict().items():
        assert torch.equal(resumed.method.state_dict()[name], value), name


def test_augmentation_and_seed_change_the_numbers() -> None:
    losses = set()
    for changes, seed in (({}, 0), ({}, 1), ({"flip": False, "crop_padding": 0}, 0)):
        training = Training(dataset(), settings(epochs=1, **changes), seed)
        training.run()
        losses.add(training.history[0]["loss"])
    assert len(losses) == 3


def test_convolutional_methods_are_channels_last_and_in_full_precision_on_the_cpu() -> None:
    training = Training(dataset(), settings(), seed=0)
    weight = next(each for each in training.method.modules() if isinstance(each, nn.Conv2d)).weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    images = torch.from_numpy(noise(4).images)
    batch = training.batch(torch.arange(4), images, torch.zeros(4, 3, dtype=torch.int64))
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    with loader.autocast(training.layout, torch.device("cpu")):
        assert training.method.target(batch.images).dtype == torch.float32


def test_unknown_bias_is_left_out_of_group_counts() -> None:
    data = dataset()
    unknown = replace(data, train=replace(data.train, bias=np.where(np.arange(40) < 30, -1, data.train.bias)))
    assert unknown.group_sizes(unknown.train).sum() == 10
    training = Training(unknown, settings(epochs=1), seed=0)
    training.run()
    assert np.sum(training.train_counts["target"]) <= 10
    assert training.history[0]["target"]["bias_acc"] is not None
    whole = Training(data, settings(epochs=1), seed=0)
    whole.run()
    assert whole.last == training.last


def test_only_scored_groups_count_for_average_and_worst() -> None:
    correct, total = np.array([[45, 20], [10, 40]]), np.full((2, 2), 50)
    scored = np.array([[False, True], [True, False]])
    found = metrics.fairness(correct, total, scored)
    assert found["avg_acc"] == pytest.approx(30)
    assert found["worst_acc"] == pytest.approx(20)
    assert found["model_bias"] == pytest.approx(55)
    record = {
        "test": {"last": {"correct": correct.tolist()}},
        "groups": {"test": total.tolist(), "scored": scored.tolist()},
    }
    assert records.fairness(record) == found


# ------------------------------------------------------------------------------------------------- presets


def test_the_paper_preset_is_the_plain_table_and_others_are_named() -> None:
    paper = recipes.resolve("celeba_blond", "poisoner")
    assert "preset" not in paper
    assert paper["data"] == {"target": "Blond_Hair", "size": 224, "subset": False}
    assert paper["options"]["percentile"] == 10.0
    assert paper["options"]["target_sampler"] == "class_balanced"
    reduced = recipes.resolve("celeba_blond", "poisoner", (), "reduced")
    assert reduced["preset"] == "reduced"
    assert reduced["data"] == {"target": "Blond_Hair", "size": 64, "subset": True}
    assert plan.Run(paper, 0).preset == "paper"
    assert plan.Run(paper, 0).digest != plan.Run(reduced, 0).digest
    with pytest.raises(UserError, match="Task 'cmnist_99' has no preset 'reduced'"):
        recipes.resolve("cmnist_99", "vanilla", (), "reduced")


def test_only_waterbirds_starts_from_imagenet_by_default() -> None:
    pretrained = {
        task for task in recipes.tables()[0] if recipes.loop_settings(task).get("pretrained") and "layout" not in task
    }
    assert pretrained == {"waterbirds"}


def test_settings_of_images_leave_the_digits_alone() -> None:
    override = recipes.parse_override("pretrained=false")
    assert recipes.resolve("cmnist_99", "vanilla", (override,)) == recipes.resolve("cmnist_99", "vanilla")
    assert recipes.resolve("waterbirds", "vanilla", (override,))["pretrained"] is False
    assert not {"flip", "crop_padding", "stem", "preset"} & set(recipes.resolve("cmnist_99", "vanilla"))


def test_a_reduced_table_says_so_and_has_no_columns_without_the_preset() -> None:
    table = replace(plan.TABLES["2"], preset="reduced")
    assert table.available_tasks == ("waterbirds", "dogs_cats", "imagenet_b")
    assert table.stem == "table2-reduced"
    assert {each.preset for each in table.runs([0], table.tasks, ["vanilla"])} == {"reduced"}
    found = {(row.key, task): [] for row in table.rows for task in table.tasks}
    lines = tables.tidy(table, found)
    assert set(lines.preset) == {"reduced"}
    notes = tables.footer(table, found, [])
    assert tables.markdown(table, lines, notes).startswith("# Table 2: Debiasing on further tasks (reduced preset)")
    assert "reduced preset" in tables.latex(table, lines, notes)
    assert any("reduced preset" in note for note in notes)


def test_unknown_presets_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--results", str(tmp_path), "--status"]
    assert run.main(["--table", "1", "--preset", "reducd", *where]) == 2
    assert "did you mean 'reduced'" in capsys.readouterr().err
    assert run.main(["--tasks", "cmnist_99", "--preset", "reduced", *where]) == 2
    assert "No preset 'reduced' exists for cmnist_99" in capsys.readouterr().err
    assert run.main(["--table", "1", "--preset", "reduced", "--methods", "jtt", *where]) == 0
    assert capsys.readouterr().out.count("missing") == 5


# ----------------------------------------------------------------------------- a folder of one's own, by CLI


QUICKLY = [
    "--set",
    "epochs=1",
    "batch_size=20",
    "data.size=32",
    "be.auxiliary_updates=1",
    "be.models=3",
    "--device",
    "cpu",
]


def test_all_methods_train_on_an_own_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, results = write_learnable_folder(tmp_path), tmp_path / "results"
    command = ["--dataset", str(folder), *QUICKLY, "--results", str(results), "--preset", "reduced"]
    assert run.main(command) == 0
    found = [json.loads(path.read_text()) for path in (results / "runs").rglob("*.json")]
    assert {record["method"] for record in found} == {row.method for row in plan.COMPARED}
    for record in found:
        assert records.faults(record) == []
        assert record["preset"] == "reduced"
        assert record["groups"]["test"] == [[4, 4], [4, 4]]
        assert str(tmp_path) not in json.dumps(record)
    assert list((results / "tables").glob("selection-my_birds-reduced-*.md"))
    capsys.readouterr()
    assert run.main([*command, "--dry-run"]) == 0
    assert capsys.readouterr().out.strip() == "Nothing to train."
    store = Store(results)
    task = recipes.add_folder(folder)
    paper = replace(plan.selection([task], ["vanilla"]), overrides=())
    assert tables.collect(paper, store) == {("vanilla", task): []}


def test_an_own_folder_without_training_bias(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, results = write_learnable_folder(tmp_path, with_bias=False), tmp_path / "results"
    command = ["--dataset", str(folder), *QUICKLY, "--results", str(results)]
    assert run.main([*command, "--methods", "vanilla", "groupdro"]) == 2
    assert "GroupDRO needs the bias of every training image, which 40 of my_birds lack" in capsys.readouterr().err
    assert not list((results / "runs").rglob("*.json"))
    assert run.main([*command, "--methods", "vanilla"]) == 0
    (path,) = (results / "runs").rglob("*.json")
    assert json.loads(path.read_text())["curves"][0]["target"]["bias_acc"] is None


def test_bad_own_folders_exit_with_2_and_write_no_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, results = write_learnable_folder(tmp_path), tmp_path / "results"
    command = [*QUICKLY, "--results", str(results), "--methods", "vanilla"]
    assert run.main(["--dataset", str(tmp_path / "nowhere"), *command]) == 2
    assert "labels.csv cannot be read" in capsys.readouterr().err
    assert run.main(["--dataset", str(folder), "--tasks", "cmnist_99", *command]) == 2
    assert "leave out --table, --all, --quick, --task and --tasks" in capsys.readouterr().err
    (folder / "train_5.png").write_bytes(b"no image")
    assert run.main(["--dataset", str(folder), *command]) == 2
    assert "train_5.png cannot be read" in capsys.readouterr().err
    assert not list((results / "runs").rglob("*.json"))


def test_weights_that_cannot_be_had_stop_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", _unreachable)
    networks.imagenet_weights.cache_clear()
    command = ["--dataset", str(write_learnable_folder(tmp_path)), *QUICKLY, "pretrained=true", "--methods", "vanilla"]
    command.insert(command.index("--device"), command.pop(command.index("pretrained=true")))
    assert run.main([*command, "--results", str(tmp_path / "results")]) == 2
    assert "--set pretrained=false" in capsys.readouterr().err
