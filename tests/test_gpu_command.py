"""``make gpu``: its stages stop at the limit, and go on where they stood."""

from __future__ import annotations

import signal
import time
import zipfile
from pathlib import Path

from tests.tools.gpu import GRACE, Stage, pack, run_all

QUICK = Stage("quick", ("calendar", "2024"))
ENDLESS = Stage("endless", ("timeit", "-n1", "-r1", "import time; time.sleep(300)"))
BROKEN = Stage("broken", ("no_such_module",))


def outcomes(lines: list[str]) -> list[str]:
    return [line.partition(": ")[2].partition(",")[0] for line in lines]


def test_a_stage_is_stopped_at_the_limit_and_finished_ones_are_not_repeated(tmp_path: Path) -> None:
    planned = [BROKEN, QUICK, ENDLESS, Stage("after it", QUICK.arguments)]
    assert outcomes(run_all(planned, tmp_path, 4)) == ["exit code 1", "done", "stopped", "not begun"]
    assert "No module named no_such_module" in (tmp_path / "logs" / "broken.txt").read_text()
    assert outcomes(run_all([QUICK, Stage("after it", QUICK.arguments)], tmp_path, 60)) == ["done before", "done"]


def test_a_stage_may_take_its_share_only(tmp_path: Path) -> None:
    short = Stage("endless", ENDLESS.arguments, share=0.05)
    assert outcomes(run_all([short, QUICK], tmp_path, 40)) == ["stopped", "done"]


def test_a_stage_is_interrupted_in_the_background_too(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    started = time.monotonic()
    try:
        assert outcomes(run_all([ENDLESS], tmp_path, 2)) == ["stopped"]
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - started < GRACE, "it was not killed in the end"


def test_the_archive_holds_what_was_measured_and_what_became_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "gpu"
    (folder / "runs").mkdir(parents=True)
    for name in ("a.json", "a.npz", "b.ckpt", "b.lease"):
        (folder / "runs" / name).touch()
    pack(folder, ["tests: done, 3 s"], tmp_path / "gpu.zip")
    with zipfile.ZipFile(tmp_path / "gpu.zip") as packed:
        assert packed.namelist() == ["runs/a.json", "runs/a.npz", "summary.txt"]
    assert "tests: done, 3 s" in (folder / "summary.txt").read_text()
