"""What runs would cost, predicted: from counts of images, networks and epochs, at the speed of a calibrated device.

A prediction is none of the measured times of ``slurm.cost`` and is never added to them. What is counted and timed
stands in ``benchmark.speed.calibrate``; this module stores and shows it, and does without PyTorch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
from tabulate import tabulate

from benchmark.errors import say
from benchmark.plan.run import Run
from benchmark.store.atomic import write_atomically

SEEDS = 3
GPUS = (1, 8, 64)


class Images(NamedTuple):
    """How many images each split of a data set has."""

    train: int
    validation: int
    test: int


# Of the data sets in the paper's tables, as they are published or, where they are mixed here, as datasets/ mixes them.
IMAGES = {
    "celeba": Images(162_770, 19_867, 19_962),
    "waterbirds": Images(4_795, 1_199, 5_794),
    "dogs_cats": Images(8_460, 1_000, 2_000),  # 0.95 of them aligned
    "colored_mnist": Images(55_000, 5_000, 10_000),
    # Imagenette's 9,469 and 3,925; 500 of the former are held out, and tested under ten corruptions like the latter.
    "imagenet_b": Images(8_969, 5_000, 39_250),
}
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]


class Cost(msgspec.Struct, frozen=True):
    """Seconds of one run: of its training, and of the measurements between its epochs."""

    training: Seconds
    measuring: Seconds

    @property
    def seconds(self) -> float:
        return self.training + self.measuring


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What a device does: images/s by network and size, then by what is done; and the cost of runs on it, by series."""

    device: str
    measured: str
    torch: str
    commit: str | None
    load: tuple[float, float]
    speed: dict[str, dict[str, Annotated[float, msgspec.Meta(gt=0, le=1e12)]]]
    runs: dict[str, Cost]


def folder(results: Path) -> Path:
    """Where a results folder keeps its calibrations, one file a device."""
    return results / "speed" / "calibration"


def write(calibration: Calibration, results: Path) -> Path:
    """Store a calibration in the place of the device's last one."""
    name = re.sub(r"[^a-z0-9]+", "-", calibration.device.lower()).strip("-")
    path = folder(results) / f"{name}.json"
    write_atomically(path, msgspec.json.format(msgspec.json.encode(calibration), indent=1) + b"\n")
    return path


def load(results: Path) -> list[Calibration]:
    """The calibrations of a results folder, in order of their names. A damaged one is named and left out."""
    found = []
    for path in sorted(folder(results).glob("*.json")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Calibration))
        except (OSError, ValueError, RecursionError) as error:
            say(f"Calibration {path} is damaged ({error}) and left out.")
    return found


def report(calibration: Calibration, runs: Mapping[str, Mapping[str, Run]], tables: Mapping[str, Sequence[Run]]) -> str:
    """Hours of each method on each task, of each task, of each table, and of all.

    ``runs`` are those of one seed by task and by the title of their row, ``tables`` the same runs by table.
    """
    costs = calibration.runs
    titles = list(dict.fromkeys(title for rows in runs.values() for title in rows))
    lines: list[list[str]] = []
    for title in titles:
        cells = (costs.get(rows[title].series) if title in rows else None for rows in runs.values())
        lines.append([title, *("" if each is None else f"{each.seconds / 3600:.2f}" for each in cells)])
    for title, part in (("all", "seconds"), ("of which measuring", "measuring")):
        sums = (_sum([costs.get(run.series) for run in rows.values()], part) for rows in runs.values())
        lines.append([f"{title}, {SEEDS} seeds", *sums])
    every = list({run.series: run for rows in runs.values() for run in rows.values()}.values())
    return "\n".join(
        (
            f"PREDICTED for {calibration.device}, not measured: hours of a run, and of all {SEEDS} seeds of a task.",
            "",
            tabulate(lines, ["", *runs], "github", disable_numparse=True),
            "",
            *(f"- Table {name}: {_outlook(each, costs)}." for name, each in tables.items()),
            f"- All: {_outlook(every, costs)}.",
            f"- Calibrated on {calibration.measured} with PyTorch {calibration.torch}, commit "
            f"{(calibration.commit or 'unknown')[:10]}; load average {calibration.load[0]} before, "
            f"{calibration.load[1]} after. Images, networks and epochs are counted; loading of data and storing of "
            "checkpoints are not.",
        )
    )


def _sum(costs: Sequence[Cost | None], part: str) -> str:
    known = [getattr(each, part) for each in costs if each]
    if len(known) < len(costs):
        return f"{len(known)} of {len(costs)} rows"
    return f"{sum(known) * SEEDS / 3600:.2f}"


def _outlook(runs: Sequence[Run], costs: Mapping[str, Cost]) -> str:
    """The hours of some runs with all seeds, on one device and on several."""
    known = [costs[run.series].seconds for run in runs if run.series in costs] * SEEDS
    count = len(runs) * SEEDS
    if len(known) < count:
        return f"{count} runs, of which {len(known)} are predicted"
    busy = "; ".join(f"{devices} devices: {hours(known, devices):.1f} h" for devices in GPUS)
    return f"{count} runs, {busy}"


def hours(runs: Sequence[float], devices: int) -> float:
    """Hours until so many devices have done the runs, each taking the longest that is left."""
    ends = [0.0] * devices
    for run in sorted(runs, reverse=True):
        ends[ends.index(min(ends))] += run
    return max(ends) / 3600
