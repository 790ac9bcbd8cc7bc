from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from factories.images import no_download, write_mnist
from factories.records import make_record, make_run

from benchmark.compare.cells import COLUMNS
from benchmark.errors import exit_code
from benchmark.rules import RULES
from benchmark.run import main
from benchmark.store.store import Store
from benchmark.training.training import Training
from benchmark.workers.worker import Worker
from methods import METHODS
from methods.vanilla import Vanilla

SHORT = ("--set", "epochs=2", "be.auxiliary_updates=9", "--device", "cpu")
STEM = "quick-epochs=2-be.auxiliary_updates=9"
NINE = ("Vanilla", "Focal", "LfF", "JTT", "DebiAN", "Echoes", "BE", "Poisoner", "GroupDRO*")


def quick(results: Path, *more: str) -> int:
    return main(["--quick", "--results", str(results), *SHORT, *more])


def test_the_quick_tour_prints_nine_methods_and_draws_their_curves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quick(tmp_path) == 0
    printed = capsys.readouterr().out
    assert all(f"| {title} " in printed for title in NINE)
    assert "modified: paper, epochs=2" in printed
    assert (tmp_path / "tables" / f"{STEM}.tex").exists()
    figure = tmp_path / "figures" / f"{STEM}-colored_digits.png"
    assert figure.read_bytes().startswith(b"\x89PNG")
    lines = pd.read_csv(tmp_path / "tables" / f"{STEM}.csv")
    assert list(lines.columns) == COLUMNS
    assert lines["mean"].notna().all()
    assert len(lines) == 9 * 3 * len(RULES)  # methods, metrics, selection rules


def test_the_same_command_again_trains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert quick(tmp_path, "--methods", "vanilla", "--seeds", "2") == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.suffix != ".png"}
    monkeypatch.setattr(Worker, "execute", lambda *arguments: pytest.fail("it trained"))
    assert quick(tmp_path, "--methods", "vanilla", "--seeds", "2") == 0
    assert {path: path.read_bytes() for path in before} == before


def test_a_run_that_fails_is_told_and_the_others_finish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: Vanilla, *arguments: object) -> None:
        raise RuntimeError("out of luck")

    with monkeypatch.context() as broken:
        broken.setattr(METHODS["focal"], "sample_loss", fail)
        assert quick(tmp_path, "--methods", "vanilla", "focal", "gce") == 1
    printed = capsys.readouterr().out
    assert "Failed: colored_digits/focal seed 0: RuntimeError: out of luck" in printed
    table = printed[printed.index("# Quick") :]
    cells = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in table.splitlines() if "|" in line}
    assert cells["Focal"] == "–"
    assert float(cells["GCE"].strip("*<ins>/°§")) >= 0
    note = json.loads(next(tmp_path.rglob("*.failed.json")).read_text())
    assert "in fail" in note["trace"]

    assert quick(tmp_path, "--methods", "focal", "--status") == 0
    assert "out of luck" in capsys.readouterr().out
    assert quick(tmp_path, "--methods", "vanilla", "focal", "gce") == 0, "the next attempt succeeds"
    assert not list(tmp_path.rglob("*.failed.json"))


def test_an_interrupted_command_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--methods", "vanilla", "--checkpoint-seconds", "0")
    assert quick(tmp_path / "whole", *arguments) == 0
    original = Training._measure

    def interrupt(self: Training, *more: object) -> object:
        if self.progress.epoch == 2:
            raise KeyboardInterrupt
        return original(self, *more)  # type: ignore[arg-type]

    with monkeypatch.context() as broken:
        broken.setattr(Training, "_measure", interrupt)
        assert quick(tmp_path / "parts", *arguments) == 130
    assert list((tmp_path / "parts").rglob("*.ckpt"))
    assert quick(tmp_path / "parts", *arguments) == 0
    whole, parts = (
        json.loads(next((tmp_path / name / "runs").rglob("*-s0.json")).read_text()) for name in ("whole", "parts")
    )
    assert whole["phases"] == parts["phases"]
    assert not list((tmp_path / "parts").rglob("*.ckpt"))


def test_a_damaged_record_is_reported_set_aside_and_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert quick(tmp_path, "--methods", "vanilla") == 0
    path = next((tmp_path / "runs").rglob("*-s0.json"))
    good = json.loads(path.read_text())
    path.write_text(path.read_text()[:100])
    capsys.readouterr()
    assert quick(tmp_path, "--methods", "vanilla") == 0
    assert "damaged" in capsys.readouterr().out
    assert json.loads(path.read_text())["phases"] == good["phases"]
    assert len(list(path.parent.glob("*.corrupt-*"))) == 2, "with its predictions"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Nothing to do"),
        (["--table", "9"], "no table 9"),
        (["--table", "1"], "CelebA was not found"),
        (["--table", "2", "--tasks", "cmnist"], "did you mean 'cmnist_9"),
        (["--table", "3", "--tasks", "cmnist_98"], "No column cmnist_98 in Table 3"),
        (["--quick", "--methods", "poisnoer"], "did you mean 'poisoner'"),
        (["--quick", "--set", "epoch=3"], "did you mean 'epochs'"),
        (["--quick", "--set", "poisoner.gama=1"], "did you mean 'poisoner.gamma'"),
        (["--quick", "--set", "data.ratio=3"], "data.ratio is 3.0: it must be at least 0.0 and at most 1.0"),
        (["--quick", "--set", "learning_rate=nan"], "learning_rate is nan: it must be at least 0"),
        (["--quick", "--set", "std=[0.5, 0, 0.5]"], "std is [0.5, 0.0, 0.5]: it must be at least"),
        (["--quick", "--set", "mean=[0.5]"], "mean takes a value such as"),
        (["--quick", "--set", "jtt.identification_epochs=-2"], "it must be at least 1"),
        (["--quick", "--set", "poisoner.strata=labels"], "must be one of clean, poisoned"),
        (["--quick", "--set", "dataset=celeba"], "Unknown setting 'dataset'"),
        (["--quick", "--set", "crop_padding=2"], "crop_padding=2 changes none of the runs"),
        (["--quick", "--seeds", "0"], "at least 1"),
        (["--quick", "--device", "tpu"], "'tpu' cannot be used"),
        (["--quick", "--device", "cuda:77"], "'cuda:77' cannot be used"),
    ],
)
def test_bad_input_is_one_sentence_and_code_2(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--results", str(tmp_path / "results"), "--data-root", str(tmp_path / "data")]
    assert main([*arguments, *folders]) == 2
    complaint = capsys.readouterr().err
    assert message in complaint
    assert complaint.startswith("error: ")
    assert complaint.count("\n") == 1
    assert not list(tmp_path.rglob("*.json"))


def test_a_setting_of_a_method_that_is_not_asked_for_is_no_modification(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--quick", "--methods", "vanilla", "--render-only", "--results", str(tmp_path)]
    assert main([*arguments, "--set", "poisoner.gamma=0.5"]) == 0
    assert "--set poisoner.gamma=0.5 changes nothing: no run of poisoner is asked for." in capsys.readouterr().out
    assert (tmp_path / "tables" / "quick.md").read_text().startswith("# Quick: All methods on the embedded digits\n")


def test_a_task_is_called_by_the_correlation_that_its_data_have(tmp_path: Path) -> None:
    """The heading of --set data.ratio=0.5 is not that of the recipe."""
    command = ["--tasks", "colored_digits", "--methods", "vanilla", "--set", "data.ratio=0.5", "epochs=1"]
    assert main([*command, "--results", str(tmp_path)]) == 0
    written = [path.read_text() for path in tmp_path.glob("tables/*.*") if path.suffix in (".md", ".tex")]
    assert len(written) == 4
    assert all(("(ρ = 0.5)" in text or r"($\rho$ = 0.5)" in text) and "= 0.9)" not in text for text in written)


def test_a_setting_that_some_rows_name_and_others_do_not_may_be_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twice the same is once; over p the figure's points keep theirs, over λ they take it over."""
    change = "poisoner.percentile=3"
    command = ["--figure", "7", "--task", "cmnist_99", "--render-only", "--results", str(tmp_path)]
    assert main([*command, "--set", change, change]) == 0
    assert "modified: paper, poisoner.percentile=3.0;" in capsys.readouterr().out


def test_missing_data_is_found_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_download(monkeypatch)
    folders = ["--data-root", str(tmp_path / "data"), "--results", str(tmp_path / "results")]
    assert main(["--tasks", "colored_digits", "cmnist_99", "--methods", "vanilla", *folders, *SHORT]) == 2
    assert "train-images-idx3-ubyte.gz" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.json"))


def test_a_truncated_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_mnist(tmp_path / "mnist")
    path = tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:5000])
    arguments = ["--table", "2", "--tasks", "cmnist_99", "--data-root", str(tmp_path), "--results", str(tmp_path)]
    assert main(arguments) == 2
    assert str(path) in capsys.readouterr().err


def test_a_results_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "occupied").write_text("a file")
    assert quick(tmp_path / "occupied") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_numbers_of_the_small_network_do_not_depend_on_the_number_of_cores(tmp_path: Path) -> None:
    records = []
    for threads in ("1", "2"):
        results = tmp_path / threads
        command = [sys.executable, "-m", "benchmark.run", "--quick", "--methods", "lff", *SHORT]
        environment = {**os.environ, "OMP_NUM_THREADS": threads}
        subprocess.run([*command, "--results", str(results)], env=environment, check=True, capture_output=True)
        records.append(json.loads(next((results / "runs").rglob("*-s0.json")).read_text()))
    assert [record["provenance"].pop("threads") for record in records] == [1, 1]
    assert records[0]["phases"] == records[1]["phases"]


def test_looking_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--list", "--status"):
        assert quick(tmp_path / "results", flag) == 0
    assert not (tmp_path / "results").exists()
    printed = capsys.readouterr().out
    assert "poisoner.gamma=1.0" in printed
    assert "9 missing" in printed
    assert quick(tmp_path / "results", "--dry-run") == 0
    assert capsys.readouterr().out.count("colored_digits/") == 9
    assert not list((tmp_path / "results").rglob("*.json"))


def test_rendering_needs_neither_data_nor_pytorch(tmp_path: Path) -> None:
    """In a process of its own, in which importing PyTorch is an error."""
    (tmp_path / "torch.py").write_text("raise ImportError('rendering imports PyTorch')")
    arguments = ["--table", "2", "3", "4", "--render-only", "--results", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmark.run", *arguments],
        env={**os.environ, "BENCHMARK_DATA_ROOT": "/nowhere", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "tables").iterdir()} == {
        f"table{number}.{suffix}" for number in "234" for suffix in ("csv", "md", "tex")
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--list"],
        ["--show", "cmnist_99", "poisoner"],
        ["--table", "2", "--status"],
        ["--quick", "--dry-run"],
    ],
    ids=lambda arguments: arguments[-1] if arguments[0] != "--show" else arguments[0],
)
def test_looking_loads_neither_pytorch_nor_what_renders(tmp_path: Path, arguments: list[str]) -> None:
    """In a process of its own; a record is there for --status to look at. (--dry-run compares the data of its runs.)"""
    heavy = ("torch", "torchvision", "pandas", "scipy", "matplotlib", "PIL", "sklearn", "submitit", "methods")
    script = (
        "import atexit, sys\nfrom benchmark.run import main\n"
        f"atexit.register(lambda: print('loaded', sorted(set({heavy}) & set(sys.modules)), file=sys.stderr))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    Store(tmp_path).save(make_record(make_run("cmnist_99")))
    command = [sys.executable, "-c", script, *arguments, "--results", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "loaded []\n")
    assert len(done.stdout) > 100


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("poisoner.percentile=101", "poisoner.percentile is 101.0: it must be at least 0.0 and at most 100.0"),
        ("jtt.identification_epochs=-2", "jtt.identification_epochs is -2: it must be at least 1"),
        ("poisoner.strata=labels", "poisoner.strata is labels: it must be one of clean, poisoned"),
        ("learning_rate=-1", "learning_rate is -1.0: it must be at least 0"),
    ],
)
def test_a_dry_run_refuses_settings_beyond_their_limits_and_loads_no_data(
    tmp_path: Path, change: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("datasets.load", lambda *arguments, **more: pytest.fail("it loaded the data"))
    assert main(["--quick", "--dry-run", "--set", change, "--results", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"error: {message}")
    assert not said.out
    assert main(["--quick", "--dry-run", "--set", "poisoner.percentile=7", "--results", str(tmp_path)]) == 0


def test_help_shows_examples() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmark.run", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "--table 2 --tasks cmnist_99" in done.stdout


def test_a_reader_that_has_seen_enough_ends_it_silently() -> None:
    command = [sys.executable, "-m", "benchmark.run", "--list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()  # type: ignore[union-attr]
        assert process.stderr.read() == ""  # type: ignore[union-attr]
    assert process.returncode == 141


def test_what_the_system_refuses_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def full() -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "table.csv"))

    assert exit_code(full) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith(f"error: No space left on device ({tmp_path / 'table.csv'})")
    assert complaint.count("\n") == 1
