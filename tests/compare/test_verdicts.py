"""Claims, fidelity and errata: from records made up for the purpose, and from those of the repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_tables import made_up_record

from benchmark import errata, fidelity, findings, recipes, statements, tables
from benchmark.plan import CELEBA, TABLES, Run
from benchmark.recipes import Override
from benchmark.records import Store
from benchmark.statements import CLAIMS

RESULTS = Path(__file__).parent.parent / "results"
CLAIM = {claim.id: claim for claim in CLAIMS}
NO_GIFL = (Override("poisoner", "gamma", 0.0),)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def save(
    store: Store,
    method: str,
    shares: Mapping[int, float],
    *,
    task: str = "cmnist_99",
    overrides: Sequence[Override] = (),
    preset: str = recipes.PAPER,
    change: Callable[[dict[str, Any]], None] = lambda record: None,
) -> None:
    """Records whose average accuracy rises and whose model bias falls with the share of each seed."""
    for seed, share in shares.items():
        run = Run(recipes.resolve(task, method, overrides, preset), seed)
        record = made_up_record(run, share)
        change(record)
        store.save(run, record)


def line(store: Store, claim: str, task: str = "cmnist_99", preset: str = recipes.PAPER) -> dict[str, Any]:
    return findings.decide(CLAIM[claim], task, preset, findings.Measured(store))


def averages(shares: Sequence[float]) -> np.ndarray:
    return np.array([100 * (9 * share + 1) / 10 - 1 for share in shares])


def test_a_claim_holds_where_the_whole_interval_does(store: Store) -> None:
    save(store, "poisoner", {0: 0.50, 1: 0.60, 2: 0.70})
    save(store, "poisoner", {0: 0.45, 1: 0.50, 2: 0.68}, overrides=NO_GIFL)
    found = line(store, "gifl.raises_accuracy")
    assert (found["verdict"], found["n"], found["scope"]) == ("holds", 3, "paper")
    assert found["difference"] == pytest.approx(np.mean([4.5, 9.0, 1.8]))
    assert 1.8 - 1e-9 <= found["low"] < found["difference"] < found["high"] <= 9.0 + 1e-9
    assert found["paper"] == pytest.approx(82.57 - 81.14)


def test_a_claim_does_not_hold_where_the_whole_interval_lies_outside(store: Store) -> None:
    save(store, "poisoner", {0: 0.45, 1: 0.50})
    save(store, "poisoner", {0: 0.50, 1: 0.60}, overrides=NO_GIFL)
    assert line(store, "gifl.raises_accuracy")["verdict"] == "does not hold"
    assert line(store, "gifl.lowers_bias")["verdict"] == "does not hold"


def test_a_claim_is_undecided_where_seeds_disagree(store: Store) -> None:
    save(store, "poisoner", {0: 0.55, 1: 0.50})
    save(store, "poisoner", {0: 0.50, 1: 0.52}, overrides=NO_GIFL)
    found = line(store, "gifl.raises_accuracy")
    assert found["verdict"] == "undecided"
    assert found["low"] < 0 < found["difference"] < found["high"]


def test_one_seed_gives_a_hint_without_interval(store: Store) -> None:
    save(store, "poisoner", {0: 0.55})
    save(store, "poisoner", {0: 0.50}, overrides=NO_GIFL)
    found = line(store, "gifl.raises_accuracy")
    assert (found["verdict"], found["n"]) == ("holds (one seed)", 1)
    assert pd.isna(found["low"])
    assert pd.isna(found["high"])


def test_only_seeds_that_both_have_are_compared(store: Store) -> None:
    save(store, "poisoner", {0: 0.10, 1: 0.55, 2: 0.65})
    save(store, "poisoner", {1: 0.50, 2: 0.60, 3: 0.99}, overrides=NO_GIFL)
    found = line(store, "gifl.raises_accuracy")
    assert (found["n"], found["difference"]) == (2, pytest.approx(4.5))
    save(store, "poisoner", {8: 0.9}, task="cmnist_98")
    save(store, "poisoner", {9: 0.5}, task="cmnist_98", overrides=NO_GIFL)
    lines = findings.evaluate(store)
    assert lines[(lines.claim == "gifl.raises_accuracy") & (lines.task == "cmnist_98")].empty, "no seed in common"


def test_the_best_method_must_beat_every_other_one(store: Store) -> None:
    rivals = [row.method for row in statements.UNINFORMED]
    save(store, "poisoner", {0: 0.80, 1: 0.80})
    save(store, "groupdro", {0: 0.99, 1: 0.99})
    for rival in rivals[:-1]:
        save(store, rival, {0: 0.40, 1: 0.42})
    assert rivals[-1] == "be"
    assert line(store, "poisoner.highest_average")["verdict"] == "not measured", "BE may still be better"
    save(store, "be", {0: 0.70, 1: 0.72})
    found = line(store, "poisoner.highest_average")
    assert (found["verdict"], found["comparison"]) == ("holds", "average accuracy: Poisoner − BE > 0")
    save(store, "be", {0: 0.81, 1: 0.83})
    found = line(store, "poisoner.highest_average")
    assert found["verdict"] == "does not hold"
    assert found["difference"] == pytest.approx(-1.8)
    shutil.rmtree(store.folder / "runs" / "cmnist_99" / "focal")
    assert line(store, "poisoner.highest_average")["verdict"] == "does not hold", "a missing rival cannot mend that"


def test_one_rival_with_a_single_seed_leaves_a_hint(store: Store) -> None:
    save(store, "poisoner", {0: 0.80, 1: 0.80})
    for row in statements.UNINFORMED:
        save(store, row.method, {0: 0.70, 1: 0.72})
    save(store, "poisoner", {0: 0.8}, task="cmnist_98")
    for row in statements.UNINFORMED:
        save(store, row.method, {0: 0.70, 1: 0.72}, task="cmnist_98")
    assert line(store, "poisoner.highest_average")["verdict"] == "holds"
    assert line(store, "poisoner.highest_average", "cmnist_98")["verdict"] == "holds (one seed)"


def test_about_equal_means_within_two_points_either_way(store: Store) -> None:
    save(store, "groupdro", {0: 0.50, 1: 0.50, 2: 0.50})
    claim = "groupdro.equal_avg_acc"
    for share, verdict in ((0.51, "holds"), (0.49, "holds"), (0.53, "does not hold"), (0.47, "does not hold")):
        save(store, "poisoner", {0: share, 1: share, 2: share})
        assert line(store, claim)["verdict"] == verdict
    save(store, "poisoner", {0: 0.50, 1: 0.54, 2: 0.55})
    found = line(store, claim)
    assert (found["verdict"], found["scope"]) == ("undecided", "elsewhere")
    assert found["comparison"].endswith("between −2 and 2")


def test_the_celeba_mean_needs_all_four_targets(store: Store) -> None:
    for task, share in zip(CELEBA, (0.5, 0.6, 0.7, 0.8), strict=True):
        assert line(store, "groupdro.worst_group", "celeba_avg")["verdict"] == "not measured"
        save(store, "poisoner", {0: share, 1: share}, task=task)
        save(store, "groupdro", {0: 0.4, 1: 0.4, 2: 0.4}, task=task)
    found = line(store, "groupdro.worst_group", "celeba_avg")
    assert (found["verdict"], found["n"]) == ("holds", 2)
    assert found["difference"] == pytest.approx(25.0)
    assert found["paper"] == pytest.approx(75.18 - 73.02)


def with_curve(role: str, **numbers: Sequence[float]) -> Callable[[dict[str, Any]], None]:
    def change(record: dict[str, Any]) -> None:
        epochs = zip(*numbers.values(), strict=True)
        record["curves"] = [
            {"phase": "train", "epoch": epoch, role: dict(zip(numbers, values, strict=True))}
            for epoch, values in enumerate(epochs, 1)
        ]

    return change


def test_claims_about_curves(store: Store) -> None:
    errors = {"aligned_error": [5.0, 4.0, 0.0], "conflicting_error": [60.0, 50.0, 2.0]}
    save(store, "vanilla", {0: 0.5}, task="celeba_bignose", change=with_curve("target", **errors))
    errors["conflicting_error"] = [60.0, 13.0, 70.0]
    save(store, "gce", {0: 0.5}, task="celeba_bignose", change=with_curve("target", **errors))
    errors["conflicting_error"] = [60.0, 80.0, 97.0]
    save(store, "poisoner", {0: 0.5}, task="celeba_bignose", change=with_curve("biased", **errors))
    lines = findings.evaluate(store)
    found = lines[lines.task == "celeba_bignose"].set_index("claim")
    holds, fails = "holds (one seed)", "does not hold (one seed)"
    expected = {
        "fig2.erm_fits_conflicting": (holds, 2.0),
        "fig2.gce_fits_conflicting": (fails, 70.0),
        "fig4.poisoner_keeps_conflicting_wrong": (holds, 97.0),
        "fig2.erm_stop_epoch2_gap": (holds, 46.0),
        "fig2.gce_stop_epoch2_gap": (fails, 9.0),
        "fig4.poisoner_error_grows": (holds, 37.0),
        "fig4.gce_error_falls": (fails, -10.0),
    }
    assert {claim: (found.verdict[claim], found.difference[claim]) for claim in expected} == expected


def test_claims_about_losses_look_at_every_epoch(store: Store) -> None:
    losses = {"aligned_loss": [1.0, 0.5, 0.4, 0.3], "conflicting_loss": [0.9, 0.09, 0.05, 0.2]}
    save(store, "poisoner", {0: 0.5}, task="waterbirds", overrides=NO_GIFL, change=with_curve("target", **losses))
    below = line(store, "fig6a.conflicting_fitted_better", "waterbirds")
    assert (below["verdict"], below["difference"]) == ("holds (one seed)", pytest.approx(0.1))
    fast = line(store, "fig6a.conflicting_fitted_quickly", "waterbirds")
    assert (fast["verdict"], fast["difference"]) == ("holds (one seed)", 0.09)
    losses["aligned_loss"][0] = 0.8
    save(store, "poisoner", {0: 0.5}, task="waterbirds", overrides=NO_GIFL, change=with_curve("target", **losses))
    assert line(store, "fig6a.conflicting_fitted_better", "waterbirds")["verdict"] == "does not hold (one seed)"


def test_figure_5_compares_at_every_balance(store: Store) -> None:
    for balance in (None, *statements.BALANCES):
        overrides = () if balance is None else (Override("", "balance", balance),)
        save(store, "vanilla", {0: 0.4, 1: 0.4}, overrides=overrides)
        save(store, "poisoner", {0: 0.6, 1: 0.6}, overrides=overrides)
    assert line(store, "fig5.lowers_bias")["verdict"] == "holds"
    save(store, "poisoner", {0: 0.3, 1: 0.3}, overrides=(Override("", "balance", 0.75),))
    found = line(store, "fig5.lowers_bias")
    assert (found["verdict"], "α = 0.75" in found["comparison"]) == ("does not hold", True)


def test_other_presets_have_lines_of_their_own(store: Store) -> None:
    save(store, "poisoner", {0: 0.6}, task="waterbirds", preset="reduced")
    save(store, "poisoner", {0: 0.5}, task="waterbirds", preset="reduced", overrides=NO_GIFL)
    assert line(store, "gifl.raises_accuracy", "waterbirds")["verdict"] == "not measured"
    assert line(store, "gifl.raises_accuracy", "waterbirds", "reduced")["verdict"] == "holds (one seed)"
    found = fidelity.cells(store)
    cell = found[(found.method == "poisoner_with_gifl") & (found.task == "waterbirds") & (found.metric == "avg_acc")]
    assert cell.set_index("preset").n.to_dict() == {"paper": 0, "reduced": 1}
    assert "reduced preset, for orientation" in findings.write(findings.evaluate(store), store.folder)
    assert "reduced preset, for orientation" in fidelity.write(
        fidelity.cells(store), findings.evaluate(store), store.folder
    )


def test_the_interval_is_the_one_that_enumeration_gives() -> None:
    # Of the 27 ordered resamples of three values, one has the smallest mean and three the next: 1/27 > 2.5 %.
    assert findings.interval([0.0, 3.0, 9.0]) == (0.0, 9.0)
    assert findings.interval([4.0]) == (4.0, 4.0)
    rng = np.random.default_rng(1)
    values = list(rng.normal(5, 2, 400))
    half = 1.96 * np.std(values) / np.sqrt(400)
    assert findings.interval(values) == pytest.approx((np.mean(values) - half, np.mean(values) + half), abs=0.02)
    assert findings.interval(values) == findings.interval(values)


def test_the_same_records_make_the_same_files(store: Store) -> None:
    shutil.copytree(RESULTS / "runs" / "cmnist_99", store.folder / "runs" / "cmnist_99")
    names = ("tables/claims.csv", "tables/claims.md", "fidelity.csv", "fidelity.md")
    contents = []
    for _ in range(2):
        assert (
            findings.write(findings.evaluate(store), store.folder)
            == (store.folder / "tables" / "claims.md").read_text()
        )
        assert (
            fidelity.write(fidelity.cells(store), findings.evaluate(store), store.folder)
            == (store.folder / "fidelity.md").read_text()
        )
        contents.append([(store.folder / name).read_bytes() for name in names])
    assert contents[0] == contents[1]


def test_every_claim_has_a_verdict_on_the_records_of_the_repository() -> None:
    store = Store(RESULTS)
    lines = findings.evaluate(store)
    assert set(lines.claim) == set(CLAIM)
    assert set(lines.verdict) <= set(findings.DECISIVE)
    for claim in CLAIMS:
        found = lines[(lines.claim == claim.id) & (lines.preset == recipes.PAPER)]
        assert set(claim.tasks) <= set(found.task)
        assert (found.scope == "paper").sum() == len(claim.tasks)
    measured = lines[(lines.claim == "bias_acc.erm_stop_epoch2.erm") & (lines.task == "cmnist_99")]
    assert measured.verdict.iloc[0].startswith("holds")
    table = TABLES["3"]
    means = tables.tidy(table, tables.collect(table, store)).set_index(["method", "task"])["mean"]
    expected = means["erm_stop_epoch2", "cmnist_99"] - means["erm", "cmnist_99"]
    assert measured.difference.iloc[0] == pytest.approx(expected), "both rows are the same runs"


def test_claims_have_ids_and_tasks_of_their_own() -> None:
    assert len(CLAIM) == len(CLAIMS)
    for claim in CLAIMS:
        assert claim.comparisons
        assert set(claim.tasks) <= set(statements.TASKS)
        for comparison in claim.comparisons:
            assert comparison.low < comparison.high
            assert {each.metric for each in comparison.quantities} <= set(statements.METRIC_TITLES)


def test_fidelity_has_every_published_number_with_what_was_measured(store: Store) -> None:
    save(store, "vanilla", {0: 0.5, 1: 0.6})
    found = fidelity.cells(store)
    cells = found.set_index(list(errata.CELL))
    assert len(found) == len(tables.published())
    assert cells.paper.to_dict() == tables.published().to_dict()
    cell = cells.loc[("table2", "vanilla", "cmnist_99", "avg_acc")]
    values = averages([0.5, 0.6])
    assert (cell["mean"], cell["std"]) == pytest.approx((values.mean(), values.std(ddof=1)))
    assert (cell["n"], cell["preset"]) == (2, "paper")
    assert cell["delta"] == pytest.approx(values.mean() - 56.28)
    gap = cells.loc[("table1", "vanilla", "celeba_avg", "avg_acc")]
    assert gap["n"] == 0
    assert pd.isna(gap["mean"])


def test_fidelity_averages_the_four_celeba_targets(store: Store) -> None:
    for task, share in zip(CELEBA, (0.2, 0.4, 0.6, 0.8), strict=True):
        save(store, "debian", {0: share, 1: share + 0.1}, task=task)
    cells = fidelity.cells(store).set_index(list(errata.CELL))
    cell = cells.loc[("table1", "debian", "celeba_avg", "avg_acc")]
    assert (cell["mean"], cell["n"]) == (pytest.approx(averages([0.55])[0]), 2)
    assert cell["std"] == pytest.approx(9 / np.sqrt(2))
    assert cell["kind"] == "copied"
    near = fidelity.columns(fidelity.cells(store)).set_index(["task", "metric"])
    assert near.methods["celeba_avg", "avg_acc"] == 0, "a copied number is compared with nothing"
    assert near.methods["celeba_blond", "worst_acc"] == 0, "nor is an impossible one"
    assert near.methods["celeba_blond", "avg_acc"] == 1


def test_rank_correlation_and_difference_by_hand(store: Store) -> None:
    # Published averages: Vanilla 56.28, LfF 75.26, JTT 74.05, Poisoner 82.57: ranks 1, 3, 2, 4.
    shares = {"vanilla": 0.5, "lff": 0.4, "jtt": 0.6, "poisoner": 0.8}  # ranks 2, 1, 3, 4
    for method in ("vanilla", "lff"):
        save(store, method, {0: shares[method]})
    near = fidelity.columns(fidelity.cells(store)).set_index(["table", "task", "metric"])
    assert pd.isna(near.rank_correlation["table2", "cmnist_99", "avg_acc"]), "two methods have no order to speak of"
    for method in ("jtt", "poisoner"):
        save(store, method, {0: shares[method]})
    near = fidelity.columns(fidelity.cells(store)).set_index(["table", "task", "metric"])
    column = near.loc["table2", "cmnist_99", "avg_acc"]
    assert column["rank_correlation"] == pytest.approx(1 - 6 * (1 + 4 + 1) / (4 * 15))
    published = np.array([56.28, 75.26, 74.05, 82.57])
    assert column["difference"] == pytest.approx(np.abs(averages(list(shares.values())) - published).mean())
    assert (column["methods"], column["published"]) == (4, 9)


def test_fidelity_says_how_many_claims_hold_and_which_numbers_are_in_doubt(store: Store) -> None:
    shutil.copytree(RESULTS / "runs" / "cmnist_99", store.folder / "runs" / "cmnist_99")
    rows = [
        [each.strip() for each in row.split("|")[1:-1]]
        for row in fidelity.write(fidelity.cells(store), findings.evaluate(store), store.folder).splitlines()
    ]
    claims = findings.evaluate(store)
    made = findings.count(claims[claims.scope == "paper"])
    verdicts = ("holds", "does not hold", "undecided", "not measured")
    assert ["where the paper makes them (paper preset)", *(str(made[each]) for each in verdicts)] in rows
    assert ["Table 1", "0 of 108", "–", "–", "0"] in rows
    copied = [row for row in rows if "copied" in row]
    assert [row[:3] for row in copied] == [["Table 1", "CelebA, mean of the four", "DebiAN"]]


def test_the_overview_marks_seeds_and_tasks(store: Store) -> None:
    save(store, "poisoner", {0: 0.55, 1: 0.56})
    save(store, "poisoner", {0: 0.50, 1: 0.50}, overrides=NO_GIFL)
    save(store, "poisoner", {0: 0.55}, task="cmnist_98")
    save(store, "poisoner", {0: 0.50}, task="cmnist_98", overrides=NO_GIFL)
    rows = [
        [each.strip() for each in row.split("|")[1:-1]]
        for row in findings.write(findings.evaluate(store), store.folder).splitlines()
    ]
    assert ["Claim", "C-MNIST¹ (ρ = 0.99)", "C-MNIST² (ρ = 0.98)"] in rows
    number = 1 + list(CLAIM).index("gifl.raises_accuracy")
    assert [f"{number}. GIFL raises Poisoner's average accuracy.", "✓", "(✓)†"] in rows


def test_methods_that_are_all_level_have_no_rank_correlation(store: Store) -> None:
    for method in ("vanilla", "lff", "jtt"):
        save(store, method, {0: 0.5})
    near = fidelity.columns(fidelity.cells(store)).set_index(["table", "task", "metric"])
    assert near.methods["table2", "cmnist_99", "avg_acc"] == 3
    assert pd.isna(near.rank_correlation["table2", "cmnist_99", "avg_acc"])


def test_errata_name_cells_that_are_published() -> None:
    cells = list(tables.published().index)
    for each in errata.errata():
        assert any(each in errata.of_cell(*cell) for cell in cells), each
        assert each["kind"] in (RESULTS / "paper" / "README.md").read_text()


def test_the_impossible_numbers_are_those_that_contradict_their_neighbours() -> None:
    """Worst ≤ average − EO/2 for two classes and biases, worst ≤ average − bias for many."""
    found = set()
    for (table, method, task), cells in tables.published().groupby(["table", "method", "task"]):
        values = cells.droplevel(["table", "method", "task"])
        if not {"model_bias", "avg_acc", "worst_acc"} <= set(values.index) or task == "celeba_avg":
            continue
        two = task in (*CELEBA, "waterbirds")
        if values["worst_acc"] > values["avg_acc"] - values["model_bias"] / (2 if two else 1) + 0.01:
            found.add((table, method, task))
    marked = {(each["table"], each["method"], each["task"]) for each in errata.errata() if each["kind"] == "impossible"}
    assert marked == found


def test_the_copied_block_is_the_only_one_that_is_not_the_mean_of_the_targets() -> None:
    published = tables.published()
    for (table, method, task, metric), value in published.items():
        if task != "celeba_avg":
            continue
        mean = np.mean([published[table, method, each, metric] for each in CELEBA])
        kinds = {each["kind"] for each in errata.of_cell(table, method, task, metric)}
        if abs(mean - value) > 0.01:
            assert method == "debian"
            assert kinds == {"copied"}
            assert value == published[table, method, "celeba_bags_under_eyes", metric]
        else:
            assert "copied" not in kinds
            assert ("rounding" in kinds) == (abs(mean - value) > 0.0051)


def test_errata_stand_beside_the_claims_they_concern(store: Store) -> None:
    lines = findings.evaluate(store).set_index(["claim", "task"])
    note = lines.note["gifl.lowers_bias", "cmnist_99"]
    assert note.startswith("without GIFL: The text says that every task loses fairness")
    assert "Echoes: Bias 27.52" in lines.note["poisoner.best_worst_group", "celeba_attractive"]
    assert "Echoes" not in lines.note["poisoner.highest_average", "celeba_attractive"]
    everyone = lines.note["poisoner.highest_average", "dogs_cats"]
    assert everyone.count("The text names correlation 0.95") == 1


def test_claims_are_checked_without_pytorch() -> None:
    code = "import sys, benchmark.findings, benchmark.fidelity; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=RESULTS.parent)
