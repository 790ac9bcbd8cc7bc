"""A scheduler that queues everything and runs nothing, for tests of the launcher without SLURM.

Installed under the names of SLURM's commands in a folder on PATH, this file is all of them; the queue is a JSON file
beside them, which tests read and change through ``FakeSlurm``.
"""

from __future__ import annotations

import json
import re
import stat
import sys
from pathlib import Path
from typing import Any

COMMANDS = ("sbatch", "squeue", "sacct", "scontrol", "scancel", "srun")


class FakeSlurm:
    """The queue of a fake cluster in ``folder``: ``jobs`` maps ids such as "1_0" to SLURM's states."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.path = folder / "queue.json"
        self.folder = folder
        folder.mkdir()
        self.path.write_text(json.dumps({"jobs": {}, "scripts": [], "max_array_size": 1001, **config}))
        for name in COMMANDS:
            (folder / name).write_text(f"#!{sys.executable} -SE\n{Path(__file__).read_text(encoding='utf-8')}")
            (folder / name).chmod((folder / name).stat().st_mode | stat.S_IXUSR)

    @property
    def queue(self) -> dict[str, Any]:
        return json.loads(self.path.read_text())

    @property
    def jobs(self) -> dict[str, str]:
        return self.queue["jobs"]

    @property
    def scripts(self) -> list[str]:
        """The submitted batch scripts, in order."""
        return self.queue["scripts"]

    def set(self, **states: str) -> None:
        """Put jobs, such as job_1_0="RUNNING", into another state."""
        queue = self.queue
        queue["jobs"] |= {name.removeprefix("job_"): state for name, state in states.items()}
        self.path.write_text(json.dumps(queue))

    def end(self, state: str = "COMPLETED") -> None:
        """All jobs leave the queue."""
        self.set(**{f"job_{job}": state for job in self.jobs})


def main(command: str, arguments: list[str]) -> int:
    path = Path(sys.argv[0]).with_name("queue.json")
    queue = json.loads(path.read_text())
    if command == "sbatch":
        script = "" if "--test-only" in arguments else Path(arguments[-1]).read_text(encoding="utf-8")
        if (match := re.search(r"--partition=(\S+)", script + " ".join(arguments))) and match[1] == "nowhere":
            print("sbatch: error: invalid partition specified: nowhere", file=sys.stderr)
            print("sbatch: error: Batch job submission failed: Invalid partition name specified", file=sys.stderr)
            return 1
        if "--account=nobody" in script + " ".join(arguments):
            failed = "sbatch: error: Batch job submission failed: "
            print(f"{failed}Invalid account or account/partition combination specified", file=sys.stderr)
            return 1
        if script:
            number = len(queue["scripts"]) + 1
            array = re.search(r"--array=0-(\d+)", script)
            ids = [f"{number}_{task}" for task in range(int(array[1]) + 1)] if array else [str(number)]
            queue["jobs"] |= dict.fromkeys(ids, "PENDING")
            queue["scripts"].append(script)
            path.write_text(json.dumps(queue))
            print(f"Submitted batch job {number}")
    elif command == "squeue":
        if queue.get("down"):
            print("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", file=sys.stderr)
            return 1
        print("\n".join(f"{job}|{state}" for job, state in queue["jobs"].items() if state in ("PENDING", "RUNNING")))
    elif command == "sacct":
        print("\n".join(f"{job}|{state}" for job, state in queue["jobs"].items()))
    elif command == "scontrol":
        print(f"MaxArraySize            = {queue['max_array_size']}")
    elif command == "srun" and (complaint := queue.get("node_error")):
        print(complaint, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[0]).name, sys.argv[1:]))
