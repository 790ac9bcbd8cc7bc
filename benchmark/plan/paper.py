"""The paper's Tables 1 to 4 and Figures 2 and 4 to 7, as the runs that they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmark.metrics import FAIRNESS
from benchmark.plan.table import Figure, Override, Panel, Row, Table, method_rows

COMPARED = method_rows("vanilla", "focal", "lff", "jtt", "debian", "echoes", "be", "poisoner", "groupdro")
AVERAGES = {"celeba_avg": "CelebA, mean of the four"}  # columns that are the mean of a table's tasks
CELEBA = ("celeba_bignose", "celeba_attractive", "celeba_blond", "celeba_bags_under_eyes")
ERM, GCE = Row("erm", "vanilla", "ERM"), Row("gce", "gce", "GCE")
STOPPED_ERM = Row("erm_stop_epoch2", "vanilla", "ERM, epoch 2", epoch=2)
STOPPED_GCE = Row("gce_stop_epoch2", "gce", "GCE, epoch 2", epoch=2)
POISONER = Row("poisoner", "poisoner", "Poisoner")
WITHOUT_GIFL = Row("poisoner_without_gifl", "poisoner", "without GIFL", (Override("poisoner", "gamma", 0.0),))
WITH_GIFL = Row("poisoner_with_gifl", "poisoner", "with GIFL")
KNOWN_POISONING, BIAS_LABELS = Row("known", "known_poisoning", "known"), Row("bias_labels", "bias_labels", "bias")

TABLES = {
    "1": Table("table1", "Debiasing on CelebA", CELEBA, COMPARED, FAIRNESS, average="celeba_avg", number="1"),
    "2": Table(
        "table2",
        "Debiasing on further tasks",
        ("waterbirds", "dogs_cats", "cmnist_99", "cmnist_98", "imagenet_b"),
        COMPARED,
        FAIRNESS,
        number="2",
    ),
    "3": Table(
        "table3",
        "Bias Accuracy of biased models",
        (*CELEBA, "waterbirds", "dogs_cats", "cmnist_99", "imagenet_b"),
        (ERM, STOPPED_ERM, GCE, STOPPED_GCE, POISONER),
        ("bias_acc",),
        number="3",
    ),
    "4": Table(
        "table4",
        "Poisoner without and with GIFL",
        ("celeba_bignose", "waterbirds", "dogs_cats", "cmnist_99", "imagenet_b"),
        (WITHOUT_GIFL, WITH_GIFL),
        ("model_bias", "avg_acc"),
        number="4",
    ),
}


def _figure(number: str, title: str, tasks: tuple[str, ...], panels: tuple[Panel, ...], claim: str) -> Figure:
    rows = {row.key: row for panel in panels for row in panel.rows}
    return Figure(
        f"figure{number}",
        title,
        tasks,
        tuple(rows.values()),
        FAIRNESS,
        number=number,
        panels=panels,
        claim=claim,
        own_tasks=tasks,
    )


def sweep(
    method: str,
    setting: str,
    values: Sequence[float],
    published: Mapping[float, tuple[tuple[str, str], ...]] | None = None,
) -> tuple[Row, ...]:
    """A row for each value of a setting, named as --set does."""
    owner, _, key = setting.rpartition(".")
    overrides = {value: Override(owner, key, value) for value in values}
    return tuple(
        Row(f"{method}-{override}", method, overrides=(override,), published=(published or {}).get(value, ()))
        for value, override in overrides.items()
    )


_ERRORS = ("conflicting_error", "aligned_error")
BALANCES = (0.05, 0.1, 0.2, 0.0, 0.75, 1.0)  # 0 is the natural balance, 0.43 on CelebA's big noses


def _balance_rows(*methods: str) -> tuple[Row, ...]:
    names = {"vanilla": ("vanilla", "erm"), "gce": ("gce",)}
    return tuple(
        row
        for method in methods
        for row in sweep(
            method,
            "balance",
            BALANCES,
            {0.0: tuple((f"table{n}", name) for n in "123" for name in names.get(method, (method,)))},
        )
    )


FIGURES = {
    "2": _figure(
        "2",
        "What biased models learn of aligned and conflicting training samples",
        ("celeba_bignose",),
        (
            Panel("(a) ERM", (ERM,), _ERRORS, marks=((2, 46, "paper: 46 % at epoch 2"),)),
            Panel("(b) GCE", (GCE,), _ERRORS),
            Panel("(c) Poisoning known conflicting samples", (KNOWN_POISONING,), _ERRORS),
            Panel("(d) Trained on the bias", (BIAS_LABELS,), _ERRORS),
        ),
        "ERM and GCE come to fit conflicting samples, after a start at which they know the bias better; poisoning "
        "known conflicting samples drives the error on them towards 100 %, like training on the bias itself.",
    ),
    "4": _figure(
        "4",
        "The biased models of GCE and Poisoner",
        ("celeba_bignose", "waterbirds"),
        (Panel("", (GCE, POISONER), _ERRORS),),
        "Poisoner's errors on aligned and conflicting samples part more and more, the latter ending near 100 %; "
        "GCE fits conflicting samples.",
    ),
    "5": _figure(
        "5",
        "Less and more balanced training data",
        ("celeba_bignose",),
        (
            Panel("Debiasing: bias", _balance_rows("vanilla", "lff", "poisoner"), ("model_bias",), x="balance"),
            Panel("Debiasing: accuracy", _balance_rows("vanilla", "lff", "poisoner"), ("avg_acc",), x="balance"),
            Panel(
                "Biased models",
                tuple(
                    replace(row, title=ERM.title) if row.method == ERM.method else row
                    for row in _balance_rows("vanilla", "gce", "poisoner")
                ),
                ("bias_acc",),
                x="balance",
            ),
        ),
        "Poisoner lowers the bias at every balance, LfF fails above 0.5 and loses accuracy; the Bias Accuracy of "
        "Poisoner's biased model is the highest throughout.",
    ),
    "6": _figure(
        "6",
        "Group-wise inverse focal loss",
        ("waterbirds",),
        (
            Panel(
                "(a) Re-weighting without GIFL",
                (WITHOUT_GIFL,),
                ("conflicting_loss", "aligned_loss"),
                network="target",
            ),
            Panel(
                "(b) Bias over γ",
                sweep(
                    "poisoner",
                    "poisoner.gamma",
                    (0.0, 0.25, 0.5, 0.75, 1.0),
                    {0.0: (("table4", "poisoner_without_gifl"),), 1.0: (("table4", "poisoner_with_gifl"),)},
                ),
                ("model_bias",),
                x="poisoner.gamma",
            ),
        ),
        "Without GIFL the loss of conflicting samples lies below that of aligned ones throughout and soon vanishes; "
        "the bias falls as γ goes to 1.",
    ),
    "7": _figure(
        "7",
        "Poisoner's percentile p and conflict factor λ",
        ("celeba_bignose",),
        (
            Panel(
                "Bias identification over p",
                sweep("poisoner", "poisoner.percentile", (1.0, 2.0, 5.0, 10.0, 20.0, 40.0)),
                ("bias_acc", "recall", "precision"),
                x="poisoner.percentile",
            ),
            Panel(
                "Debiasing over λ",
                sweep("poisoner", "poisoner.conflict_factor", (1.0, 1.25, 1.5)),
                ("avg_acc", "worst_acc", "model_bias"),
                x="poisoner.conflict_factor",
            ),
        ),
        "Identification is good for p between 5 and 20 and suffers from larger p; debiasing does not depend much on λ "
        "between 1 and 1.5.",
    ),
}
