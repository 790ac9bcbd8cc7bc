from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from slurm import array_task


def test_tasks_of_a_hand_made_array_share_one_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--quick", "--methods", "vanilla", "gce", "--set", "epochs=1", "--keep", "--results", str(tmp_path)]
    for name, value in {"ARRAY_JOB_ID": "5", "JOB_ID": "6", "ARRAY_TASK_MAX": "2"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    # Task 1 comes last: by then run 0 is done, and the first that is missing is its own.
    for task in ("2", "0", "1"):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", task)
        assert array_task.main(arguments) == 0
    assert len(list((tmp_path / "runs").rglob("*-s0.json"))) == 2
    assert len(list((tmp_path / "models").rglob("*.last.safetensors"))) == 2
    assert array_task.main([*arguments, "--dry-run"]) == 2
    assert array_task.main([*arguments, "--search", "4"]) == 2
    assert "give --search to benchmark.run" in capsys.readouterr().err
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID")
    assert array_task.main(arguments) == 2


def test_tasks_share_a_list_where_a_file_system_has_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    for name, value in {"ARRAY_JOB_ID": "5", "JOB_ID": "6", "ARRAY_TASK_MAX": "0", "ARRAY_TASK_ID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    arguments = ["--quick", "--methods", "vanilla", "--set", "epochs=1", "--results", str(tmp_path)]
    assert array_task.main(arguments) == 0
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == ["slurm-5.json"]


@pytest.mark.parametrize(("code", "requeued"), [(0, ""), (1, ""), (array_task.AGAIN, "requeue 7_3\n")])
def test_the_script_starts_any_command_and_requeues_what_was_suspended(
    tmp_path: Path, code: int, requeued: str
) -> None:
    """With a scontrol that the host has, and a container, here srun itself, has not."""
    said = tmp_path / "said"
    said.touch()
    for name, body in {"srun": f'printf "%s|" "$@"; exit {code}', "scontrol": f'echo "$@" >> {said}'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "PYTHON": "apptainer exec --nv debiasing.sif python",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_ARRAY_JOB_ID": "7",
        "SLURM_ARRAY_TASK_ID": "3",
    }
    script = Path(array_task.__file__).with_name("array.sbatch")
    ended = subprocess.run(
        ["bash", script, "--table", "1", "--results", "a b"], env=environment, capture_output=True, text=True
    )
    assert ended.returncode == code
    assert ended.stdout.split("|")[:5] == ["apptainer", "exec", "--nv", "debiasing.sif", "python"]
    assert ended.stdout.split("|")[5:] == ["-u", "-m", "slurm.array_task", "--table", "1", "--results", "a b", ""]
    assert said.read_text() == requeued
