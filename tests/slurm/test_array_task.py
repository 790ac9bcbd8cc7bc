from __future__ import annotations

from pathlib import Path

import pytest

from slurm import array_task


def test_tasks_of_a_hand_made_array_share_one_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--quick", "--methods", "vanilla", "gce", "--set", "epochs=1", "--keep", "--results", str(tmp_path)]
    for name, value in {"ARRAY_JOB_ID": "5", "JOB_ID": "6", "ARRAY_TASK_MAX": "2"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    # Task 1 comes last: by then run 0 is done, and the first that is missing is its own.
    for task in ("2", "0", "1"):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", task)
        assert array_task.main(arguments) == 0
    assert len(list((tmp_path / "runs").rglob("*-s0.json"))) == 2
    assert len(list((tmp_path / "models").rglob("*.last.safetensors"))) == 2
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID")
    assert array_task.main(arguments) == 2
