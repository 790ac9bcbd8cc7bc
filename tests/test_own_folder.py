"""A folder of one's own through the command line."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shlex
from pathlib import Path

import pytest
import torch
from factories.images import QUICKLY, unreachable, write_labels, write_learnable_folder
from factories.records import make_record, put
from torchvision.models import ResNet18_Weights, resnet18

from benchmark import run
from benchmark.collect import collect, own_tables
from benchmark.inspect.__main__ import main as inspect
from benchmark.options import parser
from benchmark.plan.paper import COMPARED
from benchmark.plan.recipes import load
from benchmark.plan.run import Run
from benchmark.plan.table import method_rows
from benchmark.report import page_tables
from benchmark.selection import select
from benchmark.store.encoding import encode, faults
from benchmark.store.store import Store
from benchmark.training import networks


@pytest.fixture(autouse=True)
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCHMARK_PREPARED", str(tmp_path / "prepared"))


def test_all_methods_train_on_an_own_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, results = write_learnable_folder(tmp_path), tmp_path / "results"
    command = ["--dataset", str(folder), *QUICKLY, "--results", str(results), "--preset", "reduced"]
    assert run.main(command) == 0
    store = Store(results)
    found = list(store.everything())
    assert {record.method for record in found} == {row.method for row in COMPARED}
    for record in found:
        assert not list(faults(record))
        assert record.preset == "reduced"
        assert record.groups.test == [[4, 4], [4, 4]]
        assert str(tmp_path) not in encode(record)
    assert list((results / "tables").glob("selection-my_birds-reduced-*.md"))
    capsys.readouterr()
    assert run.main([*command, "--dry-run"]) == 0
    assert capsys.readouterr().out.strip() == "Nothing to train."
    read = collect(store, load())
    for series in read.series.values():
        assert not series.older
        assert {"epochs=1", "data.size=32"} < {str(change) for change in series.changes or ()}
    recipes = load().with_folder_of(found[0].settings)
    (vanilla,) = [series for series in read.series.values() if series.settings["method"] == "vanilla"]
    settings = [recipes.resolve("my_birds", "vanilla", changes, "reduced") for changes in ((), vanilla.changes or ())]
    assert [Run(each, 0).series in read.series for each in settings] == [False, True], "the plain recipe has none"


def test_an_own_folder_without_training_bias(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, results = write_learnable_folder(tmp_path, with_bias=False), tmp_path / "results"
    command = ["--dataset", str(folder), *QUICKLY, "--results", str(results)]
    assert run.main([*command, "--methods", "vanilla", "groupdro"]) == 2
    assert (
        "The method groupdro cannot be trained, since 40 training images of my_birds lack their bias: add"
        in capsys.readouterr().err
    )
    assert not list((results / "runs").rglob("*.json"))
    assert run.main([*command, "--methods", "vanilla"]) == 0
    (path,) = (results / "runs").rglob("*.json")
    assert json.loads(path.read_text())["phases"][0]["target"]["bias_acc"] == [None]


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
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    command = ["--dataset", str(write_learnable_folder(tmp_path)), *QUICKLY, "pretrained=true", "--methods", "vanilla"]
    assert run.main([*command, "--results", str(tmp_path / "results")]) == 2
    assert "--set pretrained=false" in capsys.readouterr().err


def test_training_from_imagenets_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By one setting, from the cache of torch.hub, where only the file of the very name's hash is taken for them."""
    torch.manual_seed(3)
    state = resnet18().state_dict()
    content = io.BytesIO()
    torch.save(state, content)
    digest = hashlib.sha256(content.getvalue()).hexdigest()
    name = f"resnet18-{digest[:8]}.pth"
    monkeypatch.setattr(ResNet18_Weights.IMAGENET1K_V1.value, "url", f"https://localhost/{name}")
    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    cached, results = tmp_path / "torch/hub/checkpoints" / name, tmp_path / "results"
    cached.parent.mkdir(parents=True)
    command = ["--dataset", str(write_learnable_folder(tmp_path)), *QUICKLY, "learning_rate=0", "--methods", "vanilla"]
    command += ["--set", "pretrained=true", "--results", str(results)]
    for damaged in (b"", content.getvalue()[:-100]):
        cached.write_bytes(damaged)
        for more in ([], ["--dry-run"]):
            assert run.main([*command, *more]) == 2
            assert f"{name} is not the file that torchvision has under this name" in capsys.readouterr().err
    assert not list(results.rglob("*.json"))
    started: list[dict[str, torch.Tensor]] = []
    place = networks.place

    def placed(module: torch.nn.Module, device: torch.device, wanted: str) -> torch.dtype:
        started.append({name: each.clone() for name, each in module.state_dict().items()})
        return place(module, device, wanted)

    monkeypatch.setattr("benchmark.training.training.place", placed)
    cached.write_bytes(content.getvalue())
    assert run.main(command) == 0
    (record,) = Store(results).everything()
    assert record.settings["pretrained"]
    features = [each for name, each in started[0].items() if name.startswith("target.features.")]
    expected = [each for name, each in state.items() if not name.startswith("fc.")]
    assert len(features) == len(expected)
    assert all(map(torch.equal, features, expected))


def test_two_choices_of_the_bias_share_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, results = write_learnable_folder(tmp_path), tmp_path / "results"
    rows = [line.split(",") for line in (folder / "labels.csv").read_text().splitlines()[1:]]
    labels = [(*row, ("day", "night")[number // 4 % 2]) for number, row in enumerate(rows)]
    write_labels(folder, labels, "file,target,colour,split,time")
    command = ["--dataset", str(folder), *QUICKLY, "--methods", "vanilla", "groupdro", "--results", str(results)]
    assert run.main(command) == 2
    assert "has no column 'bias': choose with --bias among colour, time" in capsys.readouterr().err
    assert run.main(["--quick", "--bias", "time"]) == 2
    assert "name the folder, too" in capsys.readouterr().err
    for bias in (["colour"], ["time"], ["time", "colour"]):
        assert run.main([*command, "--bias", *bias]) == 0
        said = capsys.readouterr().out
        assert f"## my_birds (bias: {' × '.join(sorted(bias))})" in said
    found = {record.task: record for record in Store(results).everything()}
    assert {task: each.groups.biases for task, each in found.items()} == {
        "my_birds@colour": ["blue", "green"],
        "my_birds@time": ["day", "night"],
        "my_birds@colour+time": [
            f"colour={colour} × time={time}" for colour in ("blue", "green") for time in ("day", "night")
        ],
    }
    assert len(list((results / "tables").glob("selection-my_birds@*.tex"))) == 3
    read = collect(Store(results), load())
    commands = {
        page_tables.command(each, each.tasks, ["lff"], read).partition(" --set")[0] for each in own_tables(read, load())
    }
    assert commands == {
        f"python -m benchmark.run --dataset my_birds --bias {bias} --methods lff"
        for bias in ("colour", "time", "colour time")
    }
    assert inspect(["my_birds@colour+time/vanilla", "--dataset", str(folder), "--results", str(results)]) == 0


@pytest.mark.parametrize("values", [(0.3,), (0.9, 0.3, 0.7, 0.5)])
def test_each_choice_of_a_methods_options_is_a_row(tmp_path: Path, values: tuple[float, ...]) -> None:
    """Of GCE's q, of which 0.7 is the recipe's; what is set of every method makes another table."""
    folder, results = write_learnable_folder(tmp_path), tmp_path / "results"

    def planned(*words: str) -> str:
        (only,) = select(parser().parse_args(["--dataset", str(folder), *words])).runs()
        put(results, make_record(only))
        return only.series

    series = {f"gce-gce.q={value}": planned("--methods", "gce", "--set", f"gce.q={value}") for value in sorted(values)}
    series = {key.replace("gce-gce.q=0.7", "gce"): each for key, each in series.items()}
    keys = sorted(series)  # the recipe first
    planned("--methods", "gce", "--set", "gce.q=0.3", "epochs=1")
    assert run.main(["--all", "--render-only", "--results", str(results)]) == 0
    lines = csv.DictReader(io.StringIO((results / "tables" / "selection-my_birds-last.csv").read_text()))
    assert list(dict.fromkeys(line["method"] for line in lines if line["n"] == "1")) == keys
    text = (results / "tables" / "selection-my_birds-last.md").read_text()
    titles = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| GCE")]
    assert titles == ["GCE" if key == "gce" else f"GCE ({key.removeprefix('gce-')})" for key in keys]
    text = (results / "tables" / "selection-my_birds-epochs=1-last.md").read_text()
    assert "| GCE (gce.q=0.3) |" in text
    read = collect(Store(results), load())
    table, _ = sorted(own_tables(read, load()), key=lambda each: each.stem)
    command = page_tables.command(table, table.tasks, [page_tables.METHOD], read)
    for row in table.rows:
        _, _, _, _, _, *words = shlex.split(command.replace(page_tables.METHOD, page_tables.asked(table, row)))
        assert planned(*words) == series[row.key]


def test_what_needs_bias_labels_is_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, results = write_learnable_folder(tmp_path, with_bias=False), tmp_path / "results"
    command = ["--dataset", str(folder), *QUICKLY, "--results", str(results)]
    assert run.main([*command, "--dry-run"]) == 0
    note, outlook, *planned = capsys.readouterr().out.splitlines()
    assert note == "Left out, since 40 training images of my_birds lack their bias: GroupDRO."
    assert "40 training, 0 validation and 16 test images" in outlook
    assert f"To train: {len(planned)} runs of 1 epoch, more for methods of several stages, with 2 updates" in outlook
    assert [each.split("/")[1] for each in planned] == [row.method for row in COMPARED if row.method != "groupdro"]
    assert run.main([*command, "--figure", "5", "--dry-run"]) == 0
    note, *of_be, _ = (lines := capsys.readouterr().out.splitlines())[:4]
    planned = lines[4:]
    assert [each.endswith("changes nothing: no run of be is asked for.") for each in of_be] == [True, True]
    assert note.startswith("Left out, since 40 training images of my_birds lack their bias: balance=0.0")
    assert not {"groupdro", "known_poisoning", "bias_labels"} & {each.split("/")[1] for each in planned}
    assert not list(results.rglob("*.json"))


def test_what_needs_validation_images_is_refused_or_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results"

    def run_on(folder: Path, *more: str) -> tuple[int, str]:
        code = run.main(["--dataset", str(folder), *more, *QUICKLY, "--results", str(results)])
        return code, "".join(capsys.readouterr())

    without, unlabelled, with_all = (
        write_learnable_folder(tmp_path / name, *options)
        for name, options in (("none", (True,)), ("unlabelled", (False, 8)), ("all", (True, 8)))
    )
    code, said = run_on(without, "--methods", "vanilla", "dfr", "--dry-run")
    assert code == 2
    assert (
        "The method dfr cannot be trained, since my_birds has no validation images of which it could get half" in said
    )
    code, said = run_on(unlabelled, "--methods", "dfr")
    assert code == 2
    assert "since 8 validation images of my_birds lack their bias" in said
    assert not list(results.rglob("*.json"))
    short = "afr.last_layer_updates=2", "dfr.last_layer_updates=2"
    assert run_on(with_all, "--methods", "vanilla", "dfr", "afr", "--set", *short)[0] == 0
    uses = {record.method: record.uses for record in Store(results).everything()}
    assert uses == {"vanilla": set(), "dfr": {"uses_validation", "uses_validation_bias"}, "afr": set()}
    monkeypatch.setattr("benchmark.plan.ours.COMPARED", method_rows("vanilla", "groupdro", "dfr"))
    monkeypatch.setattr("benchmark.selection.COMPARED", method_rows("vanilla", "groupdro", "dfr"))
    code, said = run_on(unlabelled, "--dry-run")
    assert code == 0
    assert "Left out, since 40 training images of my_birds lack their bias: GroupDRO.\n" in said
    assert "Left out, since 8 validation images of my_birds lack their bias: DFR.\n" in said
    assert "/vanilla/" in said
    assert "/dfr/" not in said


def test_a_figure_of_unlabelled_images_says_what_it_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, results = write_learnable_folder(tmp_path, with_bias=False), tmp_path / "results"
    command = ["--dataset", str(folder), *QUICKLY, "--results", str(results)]
    results.mkdir()
    said = []
    for arguments in (["4", "--render-only"], ["4"], ["7"]):
        assert run.main([*command, "--figure", *arguments]) == 0
        said.append(capsys.readouterr().out)
    before, errors, sweeps = said
    assert "Nothing is drawn: not measured." in before
    assert "Nothing is drawn: needs the bias of training images." in errors
    assert "Not drawn: Bias identification over p: needs the bias of training images." in sweeps
    assert [path.name.partition("-")[0] for path in (results / "figures").glob("*.png")] == ["figure7"]


def test_tasks_without_the_preset_are_left_out_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmark.workers.rehearsal.rehearse", lambda *arguments: None)
    tasks = ["--tasks", "cmnist_99", "dogs_cats", "--preset", "reduced", "--methods", "vanilla"]
    assert run.main([*tasks, "--dry-run", "--results", str(tmp_path)]) == 0
    note, *planned = capsys.readouterr().out.splitlines()
    assert note == "Left out, since there is no preset 'reduced' for it: cmnist_99."
    assert [each.split("/")[0] for each in planned] == ["dogs_cats"]


def test_of_several_tables_those_that_have_the_tasks_and_methods_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmark.workers.rehearsal.rehearse", lambda *arguments: None)
    command = ["--dry-run", "--results", str(tmp_path), "--table", "1", "2", "4", "--methods", "vanilla", "--tasks"]
    assert run.main([*command, "cmnist_98", "celeba_blond"]) == 0
    note, *planned = capsys.readouterr().out.splitlines()
    assert note == "Left out: table4 has no column cmnist_98 or celeba_blond."
    assert [each.split("/")[0] for each in planned] == ["celeba_blond", "cmnist_98"]
    assert run.main([*command, "cmnist_99"]) == 0
    note, *planned = capsys.readouterr().out.splitlines()
    assert note == "Left out: table1 has no column cmnist_99."
    assert [each.split("/")[0] for each in planned] == ["cmnist_99"]
    # ``--all`` goes on writing every table, and says of none that it has not what is asked for.
    assert run.main(["--dry-run", "--results", str(tmp_path), "--all", "--tasks", "cmnist_98"]) == 0
    assert "Left out" not in capsys.readouterr().out


def test_a_dry_run_decodes_and_downloads_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The small network takes the images, too; pretrained weights that are not here are told."""
    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    folder, results = write_learnable_folder(tmp_path), tmp_path / "results"
    command = ["--dataset", str(folder), *QUICKLY, "--results", str(results), "--dry-run"]
    assert run.main([*command, "--methods", "groupdro", "--set", "network=mlp", "balance=0.5"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("my_birds/groupdro/")
    assert run.main([*command, "--methods", "vanilla", "--set", "pretrained=true"]) == 2
    assert "The ImageNet weights of resnet18 are not in" in capsys.readouterr().err
    (folder / "train_5.png").unlink()
    assert run.main([*command, "--methods", "vanilla"]) == 2
    assert "1 of 56 listed images are missing" in capsys.readouterr().err
    assert not (tmp_path / "prepared").exists()
    assert not results.exists()


def test_the_small_network_trains_on_images(tmp_path: Path) -> None:
    folder, results = write_learnable_folder(tmp_path), tmp_path / "results"
    command = ["--dataset", str(folder), *QUICKLY, "network=mlp", "--methods", "vanilla", "--results", str(results)]
    assert run.main(command) == 0
    (record,) = Store(results).everything()
    assert record.settings["network"] == "mlp"


def test_a_rule_that_can_choose_nothing_is_refused_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--dataset", str(write_learnable_folder(tmp_path)), *QUICKLY, "--results", str(tmp_path / "results")]
    assert run.main([*command, "--select", "validation"]) == 2
    assert "--select validation chooses no epoch on my_birds" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))


def test_a_folder_without_validation_images_is_shown_by_everything_in_its_last_epoch(tmp_path: Path) -> None:
    """As by the command that trained it, in the same file."""
    folder, results = write_learnable_folder(tmp_path), tmp_path / "results"
    command = ["--dataset", str(folder), *QUICKLY, "--methods", "vanilla", "--results", str(results)]
    assert run.main(command) == 0
    tables = results / "tables"
    (trained,) = tables.glob("*-last.md")
    assert run.main(["--all", "--render-only", "--results", str(results)]) == 0
    (every,) = {*tables.glob("selection-*-last.md")} - {trained}
    lines = [
        [line for line in path.read_text().splitlines() if line.startswith("| Vanilla")] for path in (trained, every)
    ]
    assert lines[0] == lines[1] != []
