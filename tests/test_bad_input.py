"""Bad command lines and settings: one sentence, exit code 2, nothing written, and at once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from factories.images import write_learnable_folder

from benchmark import curves, run
from benchmark.errors import LONGEST_SENTENCE
from benchmark.inspect import __main__ as inspect
from datasets import prepare

NINES = "9" * 5000
SURROGATE = os.fsdecode(b"\xff")
LONG_PATH = "a" * 5000
DEEP = "[" * 3000 + "]" * 3000
NO_PRESET = "No preset 'reduced' exists for cmnist_99"


def settings(*texts: str) -> list[str]:
    return ["--quick", "--set", *texts]


# Arguments, and what the sentence must say.
COMMANDS: list[tuple[list[str], str]] = [
    # Numbers of the loop
    (settings(f"epochs={NINES}"), "epochs takes a value such as"),
    (settings(f"epochs={2**70}"), "at most 100,000"),
    (settings("epochs=100001"), "at most 100,000"),
    (settings("epochs=0"), "at least 1"),
    (settings("epochs=-3"), "at least 1"),
    (settings("epochs=1e3"), "epochs is 1000.0: it must be a whole number"),
    (settings("epochs=inf"), "epochs is inf: it must be a whole number"),
    (settings("epochs=true"), "epochs takes a value such as"),
    (settings("epochs="), "--set takes key=value"),
    (settings("epochs"), "--set takes key=value"),
    (settings("=5"), "Unknown setting ''"),
    (settings("epochs=5\nseeds=3"), "--set takes key=value"),
    (settings("epochs=1", "epochs=2"), "--set epochs=1 and --set epochs=2 contradict each other"),
    (settings("erm.epochs=1", "--set", "vanilla.epochs=2"), "vanilla.epochs=1 and --set vanilla.epochs=2 contradict"),
    (["--show", "cmnist_99", "poisoner", "--set", "epochs=1", "epochs=2"], "contradict each other"),
    (settings("epochs=5\0"), "or a NUL"),
    (settings("epochs=1979-05-27"), "epochs takes a value such as"),
    (settings("epochs={a=1}"), "epochs takes a value such as"),
    (settings(f"batch_size={2**70}"), "batch_size is"),
    (settings("batch_size=1000001"), "at most 1,000,000"),
    (settings("batch_size=0"), "at least 1"),
    (settings(f"learning_rate={'9' * 400}"), "learning_rate takes a value such as"),
    (settings("learning_rate=1e999"), "learning_rate is inf"),
    (settings("learning_rate=inf"), "learning_rate is inf"),
    (settings("learning_rate=-inf"), "learning_rate is -inf"),
    (settings("learning_rate=nan"), "learning_rate is nan"),
    (settings("learning_rate=+nan"), "learning_rate is nan"),
    (settings("learning_rate=1001"), "at most 1,000"),
    (settings("learning_rate=-1e-9"), "at least 0"),
    (settings("learning_rate=fast"), "learning_rate takes a value such as"),
    (settings("learning_rate_decay=nan"), "learning_rate_decay is nan"),
    (settings("learning_rate_decay=1e9"), "at most 10"),
    (settings("weight_decay=inf"), "weight_decay is inf"),
    (settings("weight_decay=-1"), "at least 0"),
    (settings("balance=inf"), "balance is inf"),
    (settings("balance=-0.1"), "at least 0"),
    (settings("mean=[nan, 0, 0]"), "mean is [nan, 0.0, 0.0]: it must be a finite number"),
    (settings("mean=[0, inf, 0]"), "it must be a finite number"),
    (settings("mean=[0.5]"), "mean takes a value such as"),
    (settings("mean=0.5"), "mean takes a value such as"),
    (settings(f"mean={DEEP}"), "mean takes a value such as"),
    (settings("mean=[[0, 0, 0], 0, 0]"), "mean takes a value such as"),
    (settings("mean=[1e300, 0, 0]"), "it must be a finite number, at most"),
    (settings(f"mean=[{'9' * 400}, 0, 0]"), "mean takes a value such as"),
    (settings("mean=" + str([0.5] * 5000)), "mean takes a value such as"),
    (settings("std=[0, 1, 1]"), "at least 1e-06"),
    (settings("std=[nan, 1, 1]"), "std is [nan, 1.0, 1.0]"),
    (settings("std=[1e300, 1, 1]"), "at most 1,000,000"),
    (["--tasks", "dogs_cats", "--set", "crop_padding=-1"], "at least 0"),
    (["--tasks", "dogs_cats", "--set", "crop_padding=100000"], "at most 1,000"),
    (["--tasks", "dogs_cats", "--set", "flip=3"], "flip takes a value such as"),
    (["--tasks", "dogs_cats", "--set", "flip=True"], "flip takes a value such as"),
    # Names of settings
    (settings("epoch=3"), "Unknown setting 'epoch'; did you mean 'epochs'?\n"),
    (settings("lr=0.1"), "Unknown setting 'lr'; did you mean 'learning_rate'?\n"),
    (settings("q=0.5"), "Unknown setting 'q'; did you mean 'be.q' or 'dpr.q' or 'gce.q' or 'lff.q'?\n"),
    (settings("nothing_like_it=1"), "Unknown setting 'nothing_like_it'; Known: "),
    (settings("dataset=celeba"), "Unknown setting 'dataset'"),
    (settings("crop_padding=2"), "crop_padding=2 changes none of the runs"),
    (settings("a.b.c=1"), "Unknown method 'a.b'"),
    (settings(".epochs=1"), "Unknown setting"),
    (settings("poisoner.=1"), "Unknown setting 'poisoner.'"),
    (settings(f"{LONG_PATH}=1"), "Unknown setting 'aaa"),
    (settings(f"{SURROGATE}=1"), "a byte that is not UTF-8"),
    # Data
    (settings("data.ratio=3"), "at most 1"),
    (settings("data.ratio=nan"), "data.ratio is nan"),
    (settings("data.ratio=-0.1"), "at least 0"),
    (settings("data.severity=0"), "at least 1"),
    (settings("data.severity=6"), "at most 5"),
    (settings(f"data.severity={2**70}"), "at most 5"),
    (["--tasks", "cmnist_99", "--set", "data.validation=60000"], "at most 59,999"),
    (["--tasks", "cmnist_99", "--set", "data.validation=-1"], "at least 0"),
    (["--tasks", "dogs_cats", "--set", "data.size=31"], "at least 32"),
    (["--tasks", "dogs_cats", "--set", f"data.size={2**40}"], "at most 4,096"),
    (["--tasks", "dogs_cats", "--set", "data.size=64.0"], "data.size is 64.0: it must be a whole number"),
    (["--tasks", "celeba_blond", "--set", 'data.target="a\\u0000b"'], "of characters that can be printed"),
    (["--tasks", "celeba_blond", "--set", f"data.target={SURROGATE}"], "a byte that is not UTF-8"),
    # Optimisers, schedules and crops
    (settings("optimizer=rmsprop"), "it must be one of adam, adamw, sgd"),
    (settings("momentum=0.9"), "momentum is 0.9, and adam has its own"),
    (settings("momentum=0.9", "optimizer=adamw"), "momentum is 0.9, and adam"),
    (settings("momentum=1", "optimizer=sgd"), "at most 0.9999"),
    (settings("schedule=linear"), "it must be one of tenths, step, cosine, constant"),
    (settings("schedule=cosine", "learning_rate_decay=0.5"), "no effect with schedule=cosine"),
    (settings("schedule=constant", "vanilla.learning_rate_decay=0.5"), "no effect with schedule=constant"),
    (settings("warmup=1.1"), "at most 1"),
    (settings("crop_scale=0"), "at least 0.01"),
    (["--tasks", "dogs_cats", "--set", "crop_scale=0.5"], "Images are cropped in two ways"),
    # Networks
    (settings("network=resnet19"), "did you mean 'resnet18'"),
    (settings("network=vgg11"), "vgg11 needs images of at least 32 pixels, and those of colored_digits have 8"),
    (settings("network=timm/vit_tiny_patch16_24"), "timm"),
    (settings("network=resnet18", "batch_size=1"), "needs batches of at least 2 where images are of 8 pixels"),
    (settings("network=3"), "network takes a value such as"),
    (settings(f"network={SURROGATE}"), "a byte that is not UTF-8"),
    (["--tasks", "cmnist_99", "--set", "network=vit_b_16"], "needs images of a multiple of 16 pixels"),
    (["--tasks", "dogs_cats", "--set", "network=alexnet", "data.size=62"], "needs images of at least 63 pixels"),
    (["--tasks", "dogs_cats", "--set", "network=vgg11", "stem=small"], "vgg11 has one of its own"),
    (
        ["--tasks", "dogs_cats", "--set", "network=vit_h_14", "pretrained=true"],
        "no weights of ImageNet for the network",
    ),
    (["--tasks", "waterbirds", "--set", "network=mlp"], "no weights of ImageNet for the network mlp"),
    (["--tasks", "waterbirds", "--set", "stem=small"], "ImageNet's weights need the standard stem"),
    (["--tasks", "dogs_cats", "--set", "stem=tiny"], "it must be one of standard, small"),
    (["--tasks", "dogs_cats", "--set", "pretrained=1"], "pretrained takes a value such as"),
    (
        ["--tasks", "dogs_cats", "--preset", "reduced", "--set", "batch_size=1", "data.size=32"],
        "needs batches of at least 2",
    ),
    # Options of methods
    (settings("poisoner.gamma=inf"), "poisoner.gamma is inf"),
    (settings("poisoner.gamma=nan"), "poisoner.gamma is nan"),
    (settings("poisoner.gamma=1e12"), "at most 1,000,000,000"),
    (settings("poisoner.percentile=101"), "at most 100"),
    (settings("poisoner.strata=labels"), "must be one of clean, poisoned"),
    (settings("poisoner.differentiated=all"), "must be one of neither"),
    (settings("poisoner.warmup_epochs=-1"), "at least 0"),
    (settings(f"poisoner.warmup_epochs={2**70}"), "at most 100,000"),
    (settings("poisoner.gama=1"), "did you mean 'poisoner.gamma'"),
    (settings("jtt.upsampling=inf"), "jtt.upsampling is inf"),
    (settings("jtt.upsampling=-1"), "at least 0"),
    (settings("jtt.identification_epochs=0"), "at least 1"),
    (settings(f"jtt.identification_epochs={2**70}"), "at most 100,000"),
    (settings("be.models=1000000"), "at most 100"),
    (settings("be.models=0"), "at least 1"),
    (settings(f"be.auxiliary_updates={2**70}"), "at most 10,000,000"),
    (settings("be.confidence=1.1"), "at most 1"),
    (settings("be.votes=1000"), "at most 100"),
    (settings("be.votes=9"), "be.models=5 cast no more than that many votes"),
    (settings("gce.q=0"), "at least 1e-06"),
    (settings("lff.alpha=nan"), "lff.alpha is nan"),
    (settings("groupdro.step_size=inf"), "groupdro.step_size is inf"),
    (settings("echoes.target_factor=1e300"), "at most 1,000,000,000"),
    (settings("optimizer=sgd"), "echoes.target_factor is 1000, which Adam takes away again"),
    (settings("optimizer=sgd", "echoes.target_factor=1", "epochs=0"), "at least 1"),
    (settings("debian.balance=-1"), "at least 0"),
    (settings(f"poisoner.epochs={2**70}"), "poisoner.epochs is"),
    (settings("poisoner.learning_rate=nan"), "poisoner.learning_rate is nan"),
    (["--quick", "--methods", "vanilla", "--set", "be.models=1000000"], "at most 100"),
    (["--show", "cmnist_99", "poisoner", "--set", "poisoner.gamma=inf"], "poisoner.gamma is inf"),
    # Tasks, methods, tables, figures and presets
    ([], "Nothing to do"),
    (["--table", "9"], "no table 9"),
    (["--table", NINES], "no table 999"),
    (["--table"], "--table: expected at least one argument"),
    (["--figure", "3"], "no figure 3"),
    (["--tasks", "cmnist_97"], "did you mean 'cmnist_9"),
    (["--tasks", ""], "Unknown task ''"),
    (["--tasks", LONG_PATH], "Unknown task 'aaa"),
    (["--tasks", "../etc"], "Unknown task '../etc'"),
    (["--quick", "--methods", "poisnoer"], "did you mean 'poisoner'"),
    (["--table", "3", "--tasks", "cmnist_98"], "No column cmnist_98 in Table 3; tasks there: celeba_bignose"),
    (
        ["--table", "3", "--figure", "2", "--tasks", "cmnist_99", "cmnist_98"],
        "No column cmnist_98 in Table 3, Figure 2",
    ),
    (["--task", "cmnist_99"], "--task is for figures"),
    (["--figure", "4", "--methods", "vanilla"], "figure4 shows no run of vanilla; its methods: gce, poisoner"),
    (["--figure", "4", "--methods", "vanilla", "--set", "epochs=2"], "figure4 shows no run of vanilla"),
    (["--figure", "2", "--tasks", "celeba_blond"], "No column celeba_blond in Figure 2"),
    (["--figure", "6", "--status", "--set", "poisoner.gamma=0.5"], "each row that it is for sets gamma itself"),
    (["--figure", "5", "--status", "--set", "balance=0.1"], "each row that it is for sets balance itself"),
    (["--quick", "--preset", "fast"], "Unknown preset 'fast'"),
    (["--quick", "--preset", "reduced", "--set", "epochs=2"], "No preset 'reduced' exists for colored_digits"),
    (["--all", "--preset", "reduced", "--tasks", "cmnist_99", "--set", "epochs=2"], NO_PRESET),
    (["--all", "--preset", "reduced", "--tasks", "cmnist_98"], "No preset 'reduced' exists for cmnist_98"),
    (
        ["--figure", "4", "--task", "cmnist_99", "--preset", "reduced", "--set", "epochs=2"],
        "No preset 'reduced' exists",
    ),
    (["--figure", "5", "--task", "cmnist_99", "--preset", "reduced"], NO_PRESET),
    (["--show", "cmnist_99", "poisonr"], "did you mean 'poisoner'"),
    (["--show", "cmnist_99", "poisoner", "--preset", "reduced"], "has no preset 'reduced'"),
    (["--show", "cmnist_99"], "--show: expected 2 arguments"),
    # Numbers of options
    (["--quick", "--seeds", "0"], "at least 1"),
    (["--quick", "--seeds", "-1"], "at least 1"),
    (["--quick", "--seeds", "10000000", "--status"], "at most 10,000"),
    (["--quick", "--seeds", NINES], "at most 10,000"),
    (["--quick", "--seeds", "1.5"], "a whole number"),
    (["--quick", "--seeds", "three"], "a whole number"),
    (["--quick", "--seeds", "٣"], "a whole number"),
    (["--quick", "--seeds", ""], "a whole number"),
    (["--quick", "--seeds"], "--seeds: expected one argument"),
    (["--quick", "--seeds-at-once", "0"], "at least 1"),
    (["--quick", "--checkpoint-seconds", "nan"], "a number of seconds"),
    (["--quick", "--checkpoint-seconds", "inf"], "a number of seconds"),
    (["--quick", "--checkpoint-seconds", "-1"], "at least 0"),
    (["--quick", "--checkpoint-seconds", "soon"], "a number of seconds"),
    (["--quick", "--max-parallel", "-1"], "at least 1"),
    (["--quick", "--max-parallel", "0"], "at least 1"),
    (["--quick", "--max-parallel", NINES], "at most 100,000"),
    (["--quick", "--runs-per-job", "0"], "at least 1"),
    (["--quick", "--status", "--max-parallel", "0"], "at least 1"),
    (["--list", "--seeds", "0"], "at least 1"),
    # Choices and words
    (["--quick", "--launcher", "cloud"], "invalid choice: 'cloud'"),
    (["--quick", "--compare", "above"], "invalid choice: 'above'"),
    (["--quick", "--compare", NINES], "invalid choice"),
    (["--quick", "--unknown-option"], "Unrecognized arguments: --unknown-option"),
    (["--quick", SURROGATE], "a byte that is not UTF-8"),
    (["--quick", "surplus"], "Unrecognized arguments: surplus"),
    (["--quick", "--list", "--status"], "not allowed with argument"),
    # Devices
    (["--quick", "--device", "meta"], "'meta' cannot be used"),
    (["--quick", "--device", "privateuseone"], "'privateuseone' cannot be used"),
    (
        ["--quick", "--device", "tpu"],
        "'tpu' cannot be used: it must be auto, cpu, cuda, mps, xpu or, of several, one such",
    ),
    (["--quick", "--device", "cuda:77"], "'cuda:77' cannot be used"),
    (["--quick", "--device", "cuda:77", "--dry-run"], "'cuda:77' cannot be used"),
    (["--quick", "--device", "cuda:77", "--launcher", "local"], "'cuda:77' cannot be used"),
    (["--quick", "--device", "cuda:-1"], "cannot be used"),
    (["--quick", "--device", f"cuda:{NINES}"], "cannot be used"),
    (["--quick", "--device", ""], "cannot be used"),
    (["--quick", "--device", "cpu\n"], "cannot be used"),
    # Folders
    (["--quick", "--data-root", "{file}"], "cannot be written or read"),
    (["--quick", "--data-root", "{file}/inside"], "Not a directory"),
    (["--quick", "--data-root", "a\nb"], "is no path of a folder"),
    (["--quick", "--data-root", ""], "is no path of a folder"),
    (["--quick", "--data-root", LONG_PATH], "File name too long"),
    (["--quick", "--data-root", SURROGATE], "a byte that is not UTF-8"),
    (["--quick", "--data-root", "{pipe}"], "cannot be written or read"),
    (["--quick", "--results", "{file}"], "cannot be written or read"),
    (["--quick", "--results", "{file}", "--status"], "cannot be written or read"),
    (["--quick", "--results", "a\0b"], "or a NUL"),
    (["--quick", "--results", "/dev/null"], "cannot be written or read"),
    (["--dataset", "{file}"], "cannot be written or read"),
    (["--dataset", "{tmp}/nowhere"], "labels.csv cannot be read"),
    (["--dataset", "/"], "has the name ''"),
    (["--dataset", "{birds}", "--quick"], "--dataset is a task of its own"),
    (["--dataset", "{birds}", "--preset", "small"], "Unknown preset 'small'"),
    (["--dataset", "{birds}", "--set", "data.ratio=0.5"], "data.ratio=0.5 changes none of the runs"),
    (["--dataset", "{birds}", "--status", "--set", "batch_size=1", "data.size=32"], "needs batches of at least 2"),
    (["--dataset", "{birds}", "--render-only", "--set", "network=vgg"], "Unknown network 'vgg'"),
    (["--dataset", "{birds}", "--figure", "4", "--methods", "lff"], "figure4 shows no run of lff"),
    (
        ["--dataset", "{birds}", "--methods", "vanilla", "groupdro"],
        "groupdro cannot be trained, since 40",
    ),
    (
        ["--dataset", "{birds}", "--methods", "groupdro", "--dry-run"],
        "groupdro cannot be trained, since 40",
    ),
    (
        ["--dataset", "{birds}", "--methods", "vanilla", "--dry-run", "--set", "balance=0.1", "data.size=32"],
        "balance needs the bias",
    ),
    # Missing data, told before a job is submitted for it
    (["--table", "1", "--dry-run"], "CelebA was not found"),
    (["--table", "2", "--tasks", "cmnist_99", "--dry-run"], "fetch all with python -m datasets.prepare cmnist_99"),
    (["--tasks", "dogs_cats", "--dry-run"], "Dogs & Cats was not found"),
    (["--tasks", "colored_digits", "waterbirds", "--dry-run"], "Waterbirds was not found"),
    (["--quick", "--set", "balance=500", "--dry-run"], "balance is 500.0, which class '0' of Colored digits cannot"),
    # Jobs
    (["--quick", "--profile", "defualt"], "did you mean 'default'"),
    (["--quick", "--profile", "a\nb.toml"], "Unknown profile"),
    (["--quick", "--profile", LONG_PATH], "File name too long"),
    (["--quick", "--profile", "{file}"], "Unknown profile"),
    (["--quick", "--profile", "{tmp}"], "Unknown profile"),
    (["--quick", "--slurm", "minutes"], "--slurm takes key=value"),
    (["--quick", "--slurm", "minutes=many"], "it takes a whole number"),
    (["--quick", "--slurm", "minutes=-5"], "it takes a whole number"),
    (["--quick", "--slurm", f"minutes={NINES}"], "it takes a whole number"),
    (["--quick", "--slurm", "minutes=9999999"], "at most 1,000,000"),
    (["--quick", "--slurm", "gpus=²"], "it takes a whole number"),
    (["--quick", "--slurm", "gpus=100000"], "at most 1,000"),
    (["--quick", "--slurm", "partition=gpu\ntouch owned"], "a text on one line"),
    (["--quick", "--slurm", "setup=module load x\ntouch owned"], "a text on one line"),
    (["--quick", "--slurm", f"account={SURROGATE}"], "a byte that is not UTF-8"),
    (["--quick", "--slurm", "partitoin=x", "--status"], "did you mean 'partition'"),
]


def refused(command: Callable[[list[str]], int], arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What a command line says for which nothing but one sentence is to be had."""
    assert command(arguments) == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert said.err.endswith("\n")
    assert said.err.count("\n") == 1
    assert len(said.err) < LONGEST_SENTENCE + 100
    assert "9" * 300 not in said.err
    assert "a" * 300 not in said.err
    return said.err


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Where a command line may point to. The current folder is empty, so that whatever is written there shows."""
    (tmp_path / "file").write_text("a file")
    os.mkfifo(tmp_path / "pipe")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("BENCHMARK_PREPARED", str(tmp_path / "prepared"))
    birds = write_learnable_folder(tmp_path, with_bias=False)
    found = {name: str(tmp_path / name) for name in ("file", "pipe")}
    return {**found, "tmp": str(tmp_path), "birds": str(birds), "here": str(here)}


def filled(arguments: list[str], places: dict[str, str]) -> list[str]:
    """The arguments with the places that stand for themselves in braces."""
    for name, place in places.items():
        arguments = [each.replace(f"{{{name}}}", place) for each in arguments]
    return arguments


def named(value: object) -> str | None:
    return " ".join(value)[:60].encode("unicode_escape", "surrogatepass").decode() if isinstance(value, list) else ""


@pytest.mark.parametrize(("arguments", "message"), COMMANDS, ids=named)
def test_a_bad_command_line(
    arguments: list[str], message: str, places: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    defaults = ["--data-root", "absent"] if "--data-root" not in arguments else []
    assert message in refused(run.main, [*defaults, *filled(arguments, places)], capsys)
    written = [path for path in Path(places["here"]).rglob("*") if not path.is_dir()]
    assert not written


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (prepare.main, [], "Nothing to do"),
        (prepare.main, ["nowhere"], "Unknown task 'nowhere'"),
        (prepare.main, ["dogs_cats", "--size", "31"], "at least 32"),
        (prepare.main, ["dogs_cats", "--size", NINES], "at most 4,096"),
        (prepare.main, ["dogs_cats", "--size", "big"], "a whole number"),
        (prepare.main, ["dogs_cats", "--data-root", "{file}"], "cannot be written or read"),
        (prepare.main, ["dogs_cats", "--preset", "fast"], "Unknown preset 'fast'"),
        (prepare.main, ["cmnist_99", "--preset", "reduced"], "has no preset 'reduced'"),
        (prepare.main, [LONG_PATH], "File name too long"),
        (prepare.main, [f"a{SURROGATE}"], "a byte that is not UTF-8"),
        (prepare.main, ["a\0b"], "or a NUL"),
        (inspect.main, [], "The following arguments are required: RUN"),
        (inspect.main, ["x", "--limit", "0"], "at least 1"),
        (inspect.main, ["x", "--limit", "1000000"], "at most 10,000"),
        (inspect.main, ["x", "--results", "{file}"], "cannot be written or read"),
        (inspect.main, ["x", "--results", "{tmp}"], "holds no record"),
        (inspect.main, ["a\0b.json"], "or a NUL"),
        (inspect.main, ["absent.json"], "is no record"),
        (curves.main, ["--results", "{file}"], "cannot be written or read"),
        (curves.main, ["--results", "{tmp}"], "holds no record"),
        (curves.main, ["--tasks"], "expected at least one argument"),
        (curves.main, ["--output", "{pipe}"], "cannot be written or read"),
    ],
    ids=named,
)
def test_a_bad_line_of_another_command(
    command: Callable[[list[str]], int],
    arguments: list[str],
    message: str,
    places: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert message in refused(command, filled(arguments, places), capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([b"--quick", b"--set", b"network=\xff"], "'network=\\xff' holds a byte that is not UTF-8"),
        ([b"--quick", b"--results", b"a\xffb"], "'a\\xffb' holds a byte that is not UTF-8"),
        ([b"--quick", b"--set", b"epochs=" + b"9" * 5000], "epochs takes a value such as"),
        ([b"--quick", b"--set", b"mean=" + DEEP.encode()], "mean takes a value such as"),
        ([b"--quick", b"--device", b"privateuseone"], "'privateuseone' cannot be used"),
        ([b"--quick", b"--set", b"be.models=1000000"], "at most 100"),
    ],
    ids=["value", "path", "nines", "deep", "device", "models"],
)
def test_a_bad_line_in_a_process_of_its_own(tmp_path: Path, arguments: list[bytes], message: str) -> None:
    done = subprocess.run([sys.executable, "-m", "benchmark.run", *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert not done.stdout
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
