"""A file of a method that cannot be imported ends every command that needs methods with one sentence."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import methods
from benchmark import errors
from benchmark.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def (", r"\(SyntaxError: invalid syntax \(slip.py, line 1\)\)"),
        ("import nolib", r"\(ModuleNotFoundError: No module named 'nolib' \(methods/slip.py, line 1\)\)"),
        (
            "from methods import register\nfrom methods.gce import GCE\n\nregister('lff')(GCE)",
            r"\(ValueError: Method 'lff' is registered twice: .*LfF.* and .*GCE.* \(methods/slip.py, line 4\)\)",
        ),
    ],
)
def test_a_slip_in_a_file_is_a_sentence_that_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "slip.py").write_text(text)
    monkeypatch.setattr(errors, "ROOT", tmp_path)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path / "methods")])
    with pytest.raises(UserError, match=rf"^methods/slip.py cannot be imported {message}: correct it\.$"):
        methods.load_all()


def test_a_command_ends_with_that_sentence(tmp_path: Path) -> None:
    for name in ("benchmark", "datasets", "networks", "slurm"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "methods", tmp_path / "methods")
    (tmp_path / "methods" / "slip.py").write_text("import nolib")
    command = [sys.executable, "-m", "benchmark.run", "--quick", "--methods", "vanilla", "--results", "results"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: methods/slip.py cannot be imported")
    assert done.stderr.count("\n") == 1
