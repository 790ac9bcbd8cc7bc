"""Table and plot of speed measurements, as pure functions of the JSON files that ``benchmark.speed`` stores."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator
from tabulate import tabulate

from benchmark.errors import say
from benchmark.report.style import PAGE, finish, plain, save, wrap
from benchmark.store.atomic import write_atomically

PRODUCT, COPY = "matrix product", "copy"
BARE, FILES = "bare loop", "image files"
VANILLA = "Vanilla"
NETWORKS = {"mlp": "MLP", "resnet18": "ResNet-18"}
HEADINGS = (
    "",
    "images/s",
    "ms/update",
    "× files",
    "time / bare",
    "time / Vanilla",
    "FLOPs / Vanilla",
    "GFLOP/s",
    "of floor",
)
Measurement = dict[str, Any]


Amount = Annotated[int, msgspec.Meta(ge=0, le=2**60)]
Seconds = Annotated[float, msgspec.Meta(ge=1e-9, le=1e9)]


class Subject(TypedDict):
    """What was timed: how many images, operations and bytes at least, and the seconds of each repetition."""

    images: Amount
    flops: Amount
    bytes: Amount
    seconds: Annotated[list[Seconds], msgspec.Meta(min_length=1)]


class SubjectOnGpu(Subject, total=False):
    peak_device_memory: Amount


class Stored(TypedDict):
    """What a file must hold, of these kinds, to be a measurement."""

    network: str
    size: int
    device: str
    cpu: str
    cores: int | None
    threads: int
    workers: int
    load: tuple[float, float]
    batch_size: Amount
    updates: int
    repetitions: int
    precision: str
    versions: dict[str, str]
    commit: str | None
    modified: bool | None
    subjects: dict[str, SubjectOnGpu]


def load(folder: Path) -> list[Measurement]:
    """The measurements stored in a folder, in order of their names. A damaged one is named and left out."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(_read(path))
        except (OSError, ValueError, RecursionError) as error:
            say(f"Measurement {path} is damaged ({error}) and left out.")
    return found


def _read(path: Path) -> Measurement:
    """A stored measurement. Raises ValueError for what is none, and OSError."""
    content = path.read_bytes()
    measurement: Measurement = msgspec.json.decode(content)
    msgspec.convert(measurement, Stored)
    subjects = measurement["subjects"]
    if measurement["network"] not in NETWORKS or not {PRODUCT, COPY, BARE, FILES, VANILLA} <= subjects.keys():
        raise ValueError("it lacks what others are compared with")
    if {len(each["seconds"]) for each in subjects.values()} != {measurement["repetitions"]}:
        raise ValueError("not everything was timed equally often")
    if not subjects[PRODUCT]["flops"] or not subjects[COPY]["bytes"] or not subjects[VANILLA]["flops"]:
        raise ValueError("it counts no operations")
    if not all(subjects[name]["images"] for name in (BARE, FILES, VANILLA)):
        raise ValueError("it trains on no images")
    memory = [name for name in loops(measurement) if "peak_device_memory" in subjects[name]]
    if memory and memory != loops(measurement):
        raise ValueError("it lacks memory of some")
    return measurement


def write(results: Path) -> list[Path]:
    """Write ``results``/tables/speed.md and figures/speed.png, .pdf from ``results``/speed/*.json."""
    found = load(results / "speed")
    if not found:
        return []
    path = results / "tables" / "speed.md"
    write_atomically(path, markdown(found))
    return [path, *save(draw(found), results / "figures" / "speed")]


def rate(measurement: Measurement, name: str, what: str = "images") -> float:
    """Median images, "flops" or "bytes" a second."""
    subject = measurement["subjects"][name]
    return subject[what] / statistics.median(subject["seconds"])


def times(measurement: Measurement, name: str, base: str) -> float:
    """Time for an image as a multiple of that of ``base``: the median over repetitions of the paired ratio."""
    one, other = (measurement["subjects"][each] for each in (name, base))
    pairs = zip(one["seconds"], other["seconds"], strict=True)
    return statistics.median(a / b for a, b in pairs) * other["images"] / one["images"]


def implied(measurement: Measurement, name: str) -> float:
    """Counted operations for an image as a multiple of Vanilla's."""
    one, other = (measurement["subjects"][each] for each in (name, VANILLA))
    return one["flops"] / one["images"] / (other["flops"] / other["images"])


def floor_seconds(measurement: Measurement, name: str) -> float:
    """Seconds that the counted operations or bytes take, whichever are more, at the machine's measured rates."""
    subject = measurement["subjects"][name]
    computing = subject["flops"] / rate(measurement, PRODUCT, "flops")
    return max(computing, subject["bytes"] / rate(measurement, COPY, "bytes"))


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def loops(measurement: Measurement) -> list[str]:
    """What trains: the two loops to compare with and the methods' phases."""
    return [name for name, subject in measurement["subjects"].items() if subject["images"]]


def markdown(found: Sequence[Measurement]) -> str:
    return "\n".join(("# Speed of training\n", *(section(each) for each in found)))


def title(measurement: Measurement) -> str:
    device = measurement["cpu"] if measurement["device"].startswith("CPU") else measurement["device"]
    return f"{NETWORKS[measurement['network']]}, {measurement['size']} px, {device}"


def section(measurement: Measurement) -> str:
    """Heading, table and notes of one measurement."""
    names = loops(measurement)
    memory = any("peak_device_memory" in measurement["subjects"][name] for name in names)
    rows = [[*_row(measurement, name), *([_mebibytes(measurement, name)] if memory else [])] for name in names]
    headings = [*HEADINGS, *(["peak MiB"] if memory else [])]
    notes = "\n".join(f"- {note}" for note in _notes(measurement))
    return (
        f"## {title(measurement)}\n\n{tabulate(rows, headings, tablefmt='github', disable_numparse=True)}\n\n{notes}\n"
    )


def _row(measurement: Measurement, name: str) -> list[str]:
    seconds = statistics.median(measurement["subjects"][name]["seconds"])
    return [
        name,
        number(rate(measurement, name)),
        f"{1000 * measurement['batch_size'] / rate(measurement, name):.3g}",
        f"{1 / times(measurement, name, FILES):.1f}",
        f"{times(measurement, name, BARE):.2f}",
        f"{times(measurement, name, VANILLA):.2f}",
        f"{implied(measurement, name):.2f}",
        f"{rate(measurement, name, 'flops') / 1e9:,.1f}",
        f"{100 * floor_seconds(measurement, name) / seconds:.0f} %",
    ]


def _mebibytes(measurement: Measurement, name: str) -> str:
    return f"{measurement['subjects'][name]['peak_device_memory'] / 2**20:,.0f}"


def _notes(measurement: Measurement) -> list[str]:
    vanilla = measurement["subjects"][VANILLA]
    commit = (measurement["commit"] or "unknown")[:10] + ("+" if measurement["modified"] else "")
    versions = ", ".join(f"{name} {each}" for name, each in measurement["versions"].items())
    before, after = measurement["load"]
    return [
        f"Median of n = {measurement['repetitions']} interleaved repetitions of {measurement['updates']} × "
        f"{measurement['batch_size']} images; multiples are medians of paired ratios.",
        f"Floor: {vanilla['flops'] / vanilla['images'] / 1e6:,.1f} MFLOP and "
        f"{vanilla['bytes'] / vanilla['images'] / 1e3:,.0f} "
        f"kB an image for Vanilla, at the machine's {rate(measurement, PRODUCT, 'flops') / 1e9:,.0f} GFLOP/s "
        f"({measurement['precision']} matrix product) and {rate(measurement, COPY, 'bytes') / 1e9:,.1f} GB/s (copy).",
        f"{measurement['device']}, {measurement['cores']} cores; threads: {measurement['threads']}, "
        f"workers that read files: {measurement['workers']}; load average {before} before, {after} after.",
        f"{versions}; commit {commit}.",
    ]


EXPECTED = "where the counted operations alone would put it, from Vanilla"


def draw(found: Sequence[Measurement]) -> Drawing:
    """Bars of images/s, a panel for each measurement; diamonds where counted operations alone would put a method."""
    height = 0.5 + 0.16 * max(len(loops(each)) for each in found)
    drawing = Drawing(figsize=(PAGE, height), layout="constrained")
    grid = drawing.subplots(1, len(found), squeeze=False)
    for axes, measurement in zip(grid.flat, found, strict=True):
        names = loops(measurement)
        values = [rate(measurement, name) for name in names]
        colors = ["#777777" if name in (BARE, FILES) else "#0072B2" for name in names]
        axes.barh(names, values, color=colors, height=0.7)
        for index, value in enumerate(values):
            axes.text(1.28 * max(values), index, number(value), ha="right", va="center")
        methods = [index for index, name in enumerate(names) if name not in (BARE, FILES, VANILLA)]
        expected = [rate(measurement, VANILLA) / implied(measurement, names[index]) for index in methods]
        axes.plot(expected, methods, "D", color="#D55E00", label=EXPECTED)
        axes.invert_yaxis()
        axes.set_title("\n".join(wrap(title(measurement), PAGE / len(found) - 1.6)))
        axes.set(xlabel="images/s", xlim=(0, 1.3 * max(values)))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        plain(axes)
        axes.grid(visible=False, axis="y")
    handles, labels = grid.flat[0].get_legend_handles_labels()
    finish(drawing, "Images per second", dict(zip(labels, handles, strict=True)))
    return drawing
