"""Tables that the paper does not have: readings of Poisoner, other tasks, the quick tour, and any selection."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmark.metrics import FAIRNESS
from benchmark.plan.paper import COMPARED
from benchmark.plan.table import Override, Row, Table, method_rows


def _reading(title: str, *overrides: Override) -> Row:
    return Row(f"poisoner-{','.join(map(str, overrides))}", "poisoner", title, overrides)


def _poisoner(key: str, value: object) -> Override:
    return Override("poisoner", key, value)


def _values(symbol: str, key: str, values: Sequence[float]) -> tuple[Row, ...]:
    return tuple(_reading(f"{symbol} = {value:g}", _poisoner(key, value)) for value in values)


def _lengths(*lengths: int) -> Iterable[Row]:
    for length in lengths:
        epochs = Override("", "epochs", length)
        yield _reading(f"{length} epochs", epochs)
        yield _reading(f"{length} epochs, γ = 0", epochs, _poisoner("gamma", 0.0))


CENTRED = Override("", "mean", (0.5, 0.5, 0.5)), Override("", "std", (0.5, 0.5, 0.5))  # inputs in [-1, 1]
GIFL_READINGS = (
    _reading("GIFL: running means, 0.9", _poisoner("fit_momentum", 0.9)),
    _reading("GIFL: running means, 0.99", _poisoner("fit_momentum", 0.99)),
    _reading("GIFL: its means differentiated", _poisoner("differentiated", "both")),
    _reading("GIFL: its means as constants", _poisoner("differentiated", "neither")),
    _reading("GIFL: gradient through the conflicting mean only", _poisoner("differentiated", "conflicting")),
    _reading("GIFL: gradient through the aligned mean only", _poisoner("differentiated", "aligned")),
    _reading("GIFL: gradient through all but β", _poisoner("differentiated", "all_but_beta")),
    *(_reading(f"GIFL: κ ≥ {floor:g}", _poisoner("multiplier_floor", floor)) for floor in (0.1, 0.25, 0.5)),
)
# What the paper leaves open, or says not to matter, one change at a time, and GIFL in a longer training too; those
# without effect on a task are the recipe's own setting there.
ABLATIONS = Table(
    "ablations",
    "Readings and settings of Poisoner",
    ("cmnist_99", "cmnist_98", "celeba_bignose", "celeba_blond", "dogs_cats"),
    (
        Row("poisoner", "poisoner", "as in the recipe"),
        _reading("one epoch of plain training before poisoning", _poisoner("warmup_epochs", 1)),
        _reading("poisoning batches balanced by current labels", _poisoner("strata", "poisoned")),
        _reading("second stage: plain batches", _poisoner("target_sampler", "shuffled")),
        _reading("second stage: class-balanced batches", _poisoner("target_sampler", "class_balanced")),
        *GIFL_READINGS,
        _reading("inputs in [−1, 1]", *CENTRED),
        _reading("inputs in [−1, 1], GIFL: its means as constants", *CENTRED, _poisoner("differentiated", "neither")),
        *_lengths(50, 100),
        *_values("γ", "gamma", (0.0, 0.5)),
        *_values("λ", "conflict_factor", (1.0, 1.5)),
        *_values("p", "percentile", (1.0, 2.0, 5.0, 10.0, 20.0, 40.0)),
    ),
    ("bias_acc", *FAIRNESS),
)
# What the paper does not name, hence without published numbers.
BEYOND = Table(
    "beyond",
    "Debiasing on other tasks",
    ("dogs_cats_99", "waterbirds_layout"),
    COMPARED,
    FAIRNESS,
)
# Some of the paper's rows beside other methods, on tasks whose validation images have all groups.
# Not the embedded digits: every machine has runs of its own of these, by which committed tables would change.
MODERN = Table(
    "modern",
    "Other methods beside the paper's",
    ("cmnist_99", "cmnist_98", "waterbirds", "celeba_blond"),
    method_rows("vanilla", "rwg", "groupdro", "jtt", "be", "poisoner", "dpr", "xrm", "lisa", "dfr", "afr"),
    FAIRNESS,
)
EMBEDDED = ("colored_digits",)  # data sets that come with a package, of which nothing can be missing
OURS = {table.name: table for table in (ABLATIONS, BEYOND, MODERN)}  # by the names that --table takes
SELECTION = "selection"  # how the names of tables begin that somebody has put together
QUICK = Table("quick", "All methods on the embedded digits", ("colored_digits",), COMPARED, FAIRNESS)


def selection(tasks: Iterable[str], methods: Iterable[str]) -> Table:
    """A table of any tasks and methods, for runs outside the paper's tables.

    Its name, hence its file, tells the tasks, and the methods where they are not the paper's nine.
    """
    tasks, rows = tuple(dict.fromkeys(tasks)), method_rows(*methods)
    narrowed = () if rows == COMPARED else tuple(row.method for row in rows)
    return Table("-".join((SELECTION, *tasks, *narrowed)), "Selected tasks and methods", tasks, rows, FAIRNESS)
