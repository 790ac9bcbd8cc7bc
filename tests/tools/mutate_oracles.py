"""Put one fault after the other into a copy of the methods, and see whether tests/test_oracles.py finds it.

``python tests/tools/mutate_oracles.py`` says of each fault whether its test failed; exit code 1 if one did not.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FAULTS = [  # file, what stands there, the fault, the test that finds it
    ("lff.py", "(1 - self.alpha) * loss", "(1 + self.alpha) * loss", "test_lff"),
    ("lff.py", "ce) + (weights * target_ce)", "ce) - (weights * target_ce)", "test_lff"),
    ("losses.py", "torch.expm1(-q *", "torch.expm1(q *", "test_lff"),
    ("jtt.py", ".argmax(1) != self.all_targets", ".argmax(1) == self.all_targets", "test_jtt"),
    ("jtt.py", "1 + self.upsampling", "1 - self.upsampling", "test_jtt"),
    ("debian.py", "first <= second", "first >= second", "test_debian"),
    ("debian.py", "violation + balance", "violation - balance", "test_debian"),
    ("echoes.py", "error_rate < self", "error_rate > self", "test_echoes"),
    ("echoes.py", "biased + self.target_factor", "biased - self.target_factor", "test_echoes"),
    ("be.py", "sure > self.confidence", "sure < self.confidence", "test_be"),
    ("be.py", "self.vote_count >= self.votes", "self.vote_count > self.votes", "test_be"),
    ("groupdro.py", "exp(self.step_size", "exp(-self.step_size", "test_groupdro"),
    ("groupdro.py", "group_loss + self.margin", "group_loss - self.margin", "test_groupdro"),
    ("dpr.py", "logits / temperature", "logits * temperature", "test_dpr"),
    ("dpr.py", "self.target.load_state_dict(self.biased.state_dict())", "pass", "test_dpr"),
    ("xrm.py", "torch.where(of_first, second, first)", "torch.where(of_first, first, second)", "test_xrm"),
    ("xrm.py", "(confidence - 1 /", "(confidence + 1 /", "test_xrm"),
    ("xrm.py", "wrong[0] | wrong[1]", "wrong[0] & wrong[1]", "test_xrm"),
    ("lisa.py", "same_class == within_class", "same_class != within_class", "test_lisa"),
    ("lisa.py", "share * own + (1 - share)", "(1 - share) * own + share", "test_lisa"),
]


def fails(folder: Path, test: str) -> bool:
    """Whether a test, or one of those whose names begin so, fails in the copy. Raises RuntimeError if it cannot run."""
    command = [sys.executable, "-m", "pytest", "-qx", "tests/test_oracles.py", "-k", test]
    # Two texts of one length within a second are the same to Python's cache of compiled modules.
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stdout + done.stderr)
    return done.returncode == 1


def main() -> int:
    missed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("benchmark", "datasets", "methods", "tests"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        if fails(folder, "test"):
            raise RuntimeError("tests/test_oracles.py fails without any fault")
        for file, right, wrong, test in FAULTS:
            path = folder / "methods" / file
            source = path.read_text(encoding="utf-8")
            if source.count(right) != 1:
                raise RuntimeError(f"'{right}' stands {source.count(right)} times in methods/{file}")
            path.write_text(source.replace(right, wrong), encoding="utf-8")
            found = fails(folder, test)
            path.write_text(source, encoding="utf-8")
            missed += not found
            print(f"{'found ' if found else 'MISSED'} by {test}: {file}, '{right}' -> '{wrong}'", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
