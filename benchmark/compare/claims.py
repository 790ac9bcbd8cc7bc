"""The paper's claims, each as comparisons of numbers that records hold."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, pairwise, product

from benchmark.compare import published
from benchmark.metrics import METRICS
from benchmark.plan import paper
from benchmark.plan.paper import (
    CELEBA,
    ERM,
    GCE,
    KNOWN_POISONING,
    POISONER,
    STOPPED_ERM,
    STOPPED_GCE,
    TABLES,
    WITH_GIFL,
    WITHOUT_GIFL,
)
from benchmark.plan.table import Override, Row
from benchmark.rules import Rule
from benchmark.store.record import Number, Record, epochs_of
from benchmark.store.results import Results

# What the paper's words are taken to mean, in points of percent.
LOW = 33.0  # an error that "ends low" is below this
NEAR_100 = 90.0  # an error "near 100 %" is above this
WELL_ABOVE = 10.0
ABOUT_EQUAL = 2.0
QUICKLY = 0.1  # nats; the loss that has "dropped to 0 quickly" is below this after half of the epochs

CELEBA_MEAN = TABLES["1"].average
ROWS = {row.key: row for table in TABLES.values() for row in table.rows}
DEBIASING_TASKS = TABLES["1"].tasks + TABLES["2"].tasks
TASKS = (*CELEBA, CELEBA_MEAN, *TABLES["2"].tasks)
GROUPDRO = ROWS["groupdro"]
UNINFORMED = tuple(row for row in paper.COMPARED if row.key not in (POISONER.key, GROUPDRO.key))

# The values that stand for the sweeps of Figs. 5 to 7, whose grids the paper does not give.
BALANCES = tuple(value for value in paper.BALANCES if value)  # α, beside the data as they are
GAMMAS = (0.5,)  # γ, beside the 0 and 1 of Table 4
PERCENTILES, LARGE_PERCENTILE = (5.0, 10.0, 20.0), 40.0
CONFLICT_FACTORS = (1.0, 1.25, 1.5)

CURVE_METRICS = ("bias_acc", "aligned_error", "conflicting_error")
LOSS_METRICS = ("loss_gap", "halfway_loss")
TITLES = {
    **{name: metric.title for name, metric in METRICS.items()},
    "loss_gap": "loss of aligned less loss of conflicting samples, smallest of all epochs",
    "halfway_loss": "loss of conflicting samples after half of the epochs",
}


@dataclass(frozen=True)
class Quantity:
    """A number of the row's run: percent, or nats for losses. ``metric`` is a key of TITLES."""

    row: Row
    metric: str

    def read(self, record: Record, rule: Rule) -> Number:
        """The number; errors are the biased model's on the training set, losses those of the tested network.

        What the test says is of the epoch that the rule chooses.
        """
        if self.metric in CURVE_METRICS:
            entries = [each for each in record.curve("biased") if self.row.epoch in (None, each["epoch"])]
            return entries[-1].get(self.metric) if entries else None
        if self.metric in LOSS_METRICS:
            both = "aligned_loss", "conflicting_loss"
            curve = [each for each in record.curve("target") if None not in (each[name] for name in both)]
            if not curve:
                return None
            if self.metric == "loss_gap":
                return min(entry["aligned_loss"] - entry["conflicting_loss"] for entry in curve)
            epochs = epochs_of(curve)
            place = next(place for place, epoch in enumerate(epochs) if 2 * epoch >= epochs[-1])
            return curve[place]["conflicting_loss"]
        return record.fairness(rule).get(self.metric)

    def published(self, task: str) -> tuple[published.Cell, float] | None:
        """The paper's cell that has this number on the task, and the number as printed there."""
        return _published_cells().get((self.row.key, task, self.metric))


@cache
def _published_cells() -> dict[tuple[str, str, str], tuple[published.Cell, float]]:
    return {cell[1:]: (cell, value) for cell, value in published.numbers().items()}


@dataclass(frozen=True)
class Comparison:
    """States that ``left``, less ``right`` where there is one, lies above ``low`` and below ``high``."""

    left: Quantity
    right: Quantity | None = None
    low: float = 0.0
    high: float = math.inf

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        return (self.left,) if self.right is None else (self.left, self.right)

    def describe(self, results: Results) -> str:
        """The comparison in a few words, rows by their titles."""
        left, right = self.left, self.right or self.left
        rows = " − ".join(dict.fromkeys((results.row_title(left.row), results.row_title(right.row))))
        metrics = " − ".join(dict.fromkeys((TITLES[left.metric], TITLES[right.metric])))
        if math.isinf(self.high):
            bounds = f"> {self.low:g}"
        elif math.isinf(self.low):
            bounds = f"< {self.high:g}"
        else:
            bounds = f"between {self.low:g} and {self.high:g}"
        return f"{metrics}: {rows} {bounds}".replace(" -", " −")


@dataclass(frozen=True)
class Claim:
    """A claim of the paper in our words, and the comparisons that it comes down to on each of ``tasks``."""

    id: str
    sentence: str
    where: str
    tasks: tuple[str, ...]
    comparisons: tuple[Comparison, ...]


def _compare(metric: str, left: Row, right: Row, low: float = 0.0, high: float = math.inf) -> Comparison:
    return Comparison(Quantity(left, metric), Quantity(right, metric), low, high)


def _without_dogs_cats(tasks: tuple[str, ...]) -> tuple[str, ...]:
    """The paper has no model bias on Dogs & Cats, whose test images are all conflicting."""
    return tuple(task for task in tasks if task != "dogs_cats")


def _poisoner_with(key: str, symbol: str, value: float) -> Row:
    return Row(
        f"poisoner_{key}_{value:g}", "poisoner", f"Poisoner, {symbol} = {value:g}", (Override("poisoner", key, value),)
    )


def _bias_accuracy_order() -> Iterator[Claim]:
    poisoner = POISONER, "Poisoner"
    stopped = (STOPPED_ERM, "ERM stopped at epoch 2"), (STOPPED_GCE, "GCE stopped at epoch 2")
    final = (ERM, "ERM trained to its end"), (GCE, "GCE trained to its end")
    for (better, better_name), (worse, worse_name) in (*product([poisoner], stopped), *product(stopped, final)):
        yield Claim(
            f"bias_acc.{better.key}.{worse.key}",
            f"{better_name} predicts the bias better than {worse_name}.",
            "§4.3, Table 3",
            TABLES["3"].tasks,
            (_compare("bias_acc", better, worse),),
        )


def _best_method() -> Iterator[Claim]:
    where, among = "§4.2, Tables 1 and 2", "of the paper's methods without bias labels"
    yield Claim(
        "poisoner.lowest_bias",
        f"Poisoner has the lowest model bias {among}.",
        where,
        _without_dogs_cats(DEBIASING_TASKS),
        tuple(_compare("model_bias", other, POISONER) for other in UNINFORMED),
    )
    yield Claim(
        "poisoner.highest_average",
        f"Poisoner has the highest average accuracy {among}.",
        where,
        DEBIASING_TASKS,
        tuple(_compare("avg_acc", POISONER, other) for other in UNINFORMED),
    )
    yield Claim(
        "poisoner.best_worst_group",
        f"Poisoner has the best worst-group accuracy {among}.",
        where,
        DEBIASING_TASKS,
        tuple(_compare("worst_acc", POISONER, other) for other in UNINFORMED),
    )


def _gifl() -> Iterator[Claim]:
    tasks = TABLES["4"].tasks
    yield Claim(
        "gifl.lowers_bias",
        "GIFL lowers Poisoner's model bias.",
        "§4.5, Table 4",
        _without_dogs_cats(tasks),
        (_compare("model_bias", WITHOUT_GIFL, WITH_GIFL),),
    )
    yield Claim(
        "gifl.raises_accuracy",
        "GIFL raises Poisoner's average accuracy.",
        "§4.5, Table 4",
        tasks,
        (_compare("avg_acc", WITH_GIFL, WITHOUT_GIFL),),
    )


def _level_with_groupdro() -> Iterator[Claim]:
    where, tasks = "Table 1", (CELEBA_MEAN,)
    for metric in ("avg_acc", "model_bias"):
        yield Claim(
            f"groupdro.equal_{metric}",
            f"Poisoner's {TITLES[metric]} is about that of GroupDRO, which knows the bias labels.",
            where,
            tasks,
            (_compare(metric, POISONER, GROUPDRO, -ABOUT_EQUAL, ABOUT_EQUAL),),
        )
    yield Claim(
        "groupdro.worst_group",
        "Poisoner's worst group is better than that of GroupDRO, which knows the bias labels.",
        where,
        tasks,
        (_compare("worst_acc", POISONER, GROUPDRO),),
    )


def _biased_models_over_time() -> Iterator[Claim]:
    tasks = ("celeba_bignose",)
    for figure, row in (("Fig. 2a", ERM), ("Fig. 2b", GCE)):
        yield Claim(
            f"fig2.{row.key}_fits_conflicting",
            f"{row.title} trained to its end fits most conflicting samples: its error on them ends low.",
            figure,
            tasks,
            (Comparison(Quantity(row, "conflicting_error"), low=-math.inf, high=LOW),),
        )
    yield Claim(
        "fig2.known_poisoning_keeps_conflicting_wrong",
        "Where known conflicting samples are poisoned, the error on them ends near 100 %.",
        "Fig. 2c",
        tasks,
        (Comparison(Quantity(KNOWN_POISONING, "conflicting_error"), low=NEAR_100),),
    )
    yield Claim(
        "fig4.poisoner_keeps_conflicting_wrong",
        "The error of Poisoner's biased model on conflicting samples ends near 100 %.",
        "§4.3, Fig. 4",
        (*tasks, "waterbirds"),
        (Comparison(Quantity(POISONER, "conflicting_error"), low=NEAR_100),),
    )
    for name, row in (("ERM", STOPPED_ERM), ("GCE", STOPPED_GCE)):
        wrong = Quantity(row, "conflicting_error"), Quantity(row, "aligned_error")
        yield Claim(
            f"fig2.{row.key}_gap",
            f"At epoch 2, the error of {name} on conflicting samples is well above that on aligned ones.",
            "§2.3, Fig. 2",
            tasks,
            (Comparison(*wrong, low=WELL_ABOVE),),
        )
    first = {row.key: replace(row, title=f"{row.title}, epoch 1", epoch=1) for row in (POISONER, GCE)}
    yield Claim(
        "fig4.poisoner_error_grows",
        "The error of Poisoner's biased model on conflicting samples grows in training.",
        "§4.3, Fig. 4",
        (*tasks, "waterbirds"),
        (_compare("conflicting_error", POISONER, first["poisoner"]),),
    )
    yield Claim(
        "fig4.gce_error_falls",
        "The error of GCE on conflicting samples falls in training.",
        "§4.3, Fig. 4 (the text speaks of ERM and GCE, the caption of GCE only)",
        (*tasks, "waterbirds"),
        (_compare("conflicting_error", first["gce"], GCE),),
    )


def _balance_sweep() -> Iterator[Claim]:
    def at_balances(row: Row) -> list[Row]:
        """The row on the data as they are, and at every other ratio α of conflicting to aligned samples."""
        return [row] + [
            Row(
                f"{row.key}_balance_{value:g}",
                row.method,
                f"{row.title} at α = {value:g}",
                (Override("", "balance", value),),
            )
            for value in BALANCES
        ]

    poisoner, vanilla = at_balances(POISONER), at_balances(replace(ROWS["vanilla"], title="Vanilla"))
    yield Claim(
        "fig5.lowers_bias",
        "At every balance of the training data, Poisoner's model bias is below Vanilla's.",
        "Fig. 5, left",
        ("celeba_bignose",),
        tuple(_compare("model_bias", *rows) for rows in zip(vanilla, poisoner, strict=True)),
    )
    yield Claim(
        "fig5.bias_accuracy",
        "At every balance of the training data, Poisoner predicts the bias better than ERM and GCE.",
        "Fig. 5, right",
        ("celeba_bignose",),
        tuple(
            _compare("bias_acc", *rows)
            for other in (ERM, GCE)
            for rows in zip(poisoner, at_balances(other), strict=True)
        ),
    )


def _fit_without_gifl() -> Iterator[Claim]:
    yield Claim(
        "fig6a.conflicting_fitted_better",
        "Without GIFL, the loss of conflicting samples is below that of aligned ones throughout training.",
        "Fig. 6a",
        ("waterbirds",),
        (Comparison(Quantity(WITHOUT_GIFL, "loss_gap")),),
    )
    yield Claim(
        "fig6a.conflicting_fitted_quickly",
        "Without GIFL, the loss of conflicting samples drops to 0 quickly.",
        "Fig. 6a",
        ("waterbirds",),
        (Comparison(Quantity(WITHOUT_GIFL, "halfway_loss"), low=-math.inf, high=QUICKLY),),
    )


def _hyperparameters() -> Iterator[Claim]:
    gammas = (WITHOUT_GIFL, *(_poisoner_with("gamma", "γ", value) for value in GAMMAS), WITH_GIFL)
    yield Claim(
        "fig6b.bias_falls_with_gamma",
        "Poisoner's model bias falls as γ goes from 0 to 1.",
        "Fig. 6b",
        ("waterbirds",),
        tuple(_compare("model_bias", *rows) for rows in pairwise(gammas)),
    )
    good = [_poisoner_with("percentile", "p", value) for value in PERCENTILES]
    large = _poisoner_with("percentile", "p", LARGE_PERCENTILE)
    yield Claim(
        "fig7.good_percentiles",
        "Poisoner predicts the bias well for p between 5 and 20: better than ERM and GCE stopped at epoch 2.",
        "Fig. 7",
        ("celeba_bignose",),
        tuple(_compare("bias_acc", row, other) for row in good for other in (STOPPED_ERM, STOPPED_GCE)),
    )
    yield Claim(
        "fig7.large_percentile",
        "Poisoner predicts the bias worse when p is large.",
        "Fig. 7",
        ("celeba_bignose",),
        tuple(_compare("bias_acc", row, large) for row in good),
    )
    factors = [_poisoner_with("conflict_factor", "λ", value) for value in CONFLICT_FACTORS]
    yield Claim(
        "fig7.insensitive_to_lambda",
        "Poisoner's accuracy and bias hardly depend on λ between 1 and 1.5.",
        "Fig. 7",
        ("celeba_bignose",),
        tuple(
            _compare(metric, *rows, low=-ABOUT_EQUAL, high=ABOUT_EQUAL)
            for metric in ("avg_acc", "model_bias")
            for rows in pairwise(factors)
        ),
    )


TOPICS = {
    "Which biased model knows the bias best": tuple(_bias_accuracy_order()),
    "Poisoner, among the paper's methods without bias labels": tuple(_best_method()),
    "GIFL, a part of Poisoner, helps": tuple(_gifl()),
    "Poisoner beside GroupDRO, which knows the bias": tuple(_level_with_groupdro()),
    "How biased models learn": tuple(_biased_models_over_time()),
    "More and less biased data": tuple(_balance_sweep()),
    "How Poisoner learns without GIFL": tuple(_fit_without_gifl()),
    "Poisoner's γ, p and λ": tuple(_hyperparameters()),
}
CLAIMS = tuple(chain.from_iterable(TOPICS.values()))


def of_figure(number: str) -> list[Claim]:
    """The claims that a figure of the paper is to show."""
    return [claim for claim in CLAIMS if claim.id.startswith(f"fig{number}")]


def rows_of_figure(number: str) -> list[Row]:
    """The rows that these claims compare, of which the figure may lack some."""
    comparisons = (each for claim in of_figure(number) for each in claim.comparisons)
    return list(dict.fromkeys(quantity.row for each in comparisons for quantity in each.quantities))
