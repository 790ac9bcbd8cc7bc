"""Verdicts on the paper's claims: from records made up for the purpose, and from those of the repository."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from factories.records import make_record, make_results, make_run, put, save_seeds

from benchmark.compare import claims, fidelity, verdicts
from benchmark.compare.cells import tidy
from benchmark.compare.claims import CLAIMS
from benchmark.plan.paper import CELEBA, TABLES
from benchmark.plan.run import PAPER

ROOT = Path(__file__).parents[2]
CLAIM = {claim.id: claim for claim in CLAIMS}
NO_GIFL = ("poisoner.gamma=0.0",)


def line(folder: Path, claim: str, task: str = "cmnist_99", preset: str = PAPER) -> dict[str, Any]:
    return verdicts.decide(CLAIM[claim], task, preset, make_results(folder))


def test_a_claim_holds_where_the_whole_interval_does(tmp_path: Path) -> None:
    save_seeds(tmp_path, "poisoner", {0: 0.50, 1: 0.60, 2: 0.70})
    save_seeds(tmp_path, "poisoner", {0: 0.45, 1: 0.54, 2: 0.64}, changes=NO_GIFL)
    found = line(tmp_path, "gifl.raises_accuracy")
    assert (found["verdict"], found["n"], found["scope"]) == ("holds", 3, "paper")
    differences = [4.5, 5.4, 5.4]  # of accuracy over groups of which one in ten is all right in any case
    assert found["difference"] == pytest.approx(np.mean(differences))
    half = 4.302653 * np.std(differences, ddof=1) / np.sqrt(3)
    assert (found["low"], found["high"]) == pytest.approx((np.mean(differences) - half, np.mean(differences) + half))
    assert found["paper"] == pytest.approx(82.57 - 81.14)


def test_a_claim_does_not_hold_where_the_whole_interval_lies_outside(tmp_path: Path) -> None:
    save_seeds(tmp_path, "poisoner", {0: 0.45, 1: 0.50, 2: 0.48})
    save_seeds(tmp_path, "poisoner", {0: 0.55, 1: 0.60, 2: 0.57}, changes=NO_GIFL)
    assert line(tmp_path, "gifl.raises_accuracy")["verdict"] == "does not hold"
    assert line(tmp_path, "gifl.lowers_bias")["verdict"] == "does not hold"


def test_a_claim_is_undecided_where_seeds_disagree(tmp_path: Path) -> None:
    save_seeds(tmp_path, "poisoner", {0: 0.55, 1: 0.50})
    save_seeds(tmp_path, "poisoner", {0: 0.50, 1: 0.52}, changes=NO_GIFL)
    found = line(tmp_path, "gifl.raises_accuracy")
    assert found["verdict"] == "undecided"
    assert found["low"] < 0 < found["difference"] < found["high"]


def test_one_seed_gives_a_hint_without_interval(tmp_path: Path) -> None:
    save_seeds(tmp_path, "poisoner", {0: 0.55})
    save_seeds(tmp_path, "poisoner", {0: 0.50}, changes=NO_GIFL)
    found = line(tmp_path, "gifl.raises_accuracy")
    assert (found["verdict"], found["n"]) == ("holds (one seed)", 1)
    assert pd.isna(found["low"])
    assert pd.isna(found["high"])


def test_seeds_that_all_say_the_same_decide_nothing(tmp_path: Path) -> None:
    """Two seeds may agree to the digit by chance, above all in a small group: their spread is not known."""
    save_seeds(tmp_path, "poisoner", {0: 0.55, 1: 0.65})
    save_seeds(tmp_path, "poisoner", {0: 0.45, 1: 0.55}, changes=NO_GIFL)
    found = line(tmp_path, "gifl.raises_accuracy")
    assert (found["verdict"], found["n"], found["difference"]) == ("undecided", 2, pytest.approx(9))
    assert pd.isna(found["low"])
    assert pd.isna(found["high"])


def test_only_seeds_that_both_have_are_compared(tmp_path: Path) -> None:
    save_seeds(tmp_path, "poisoner", {0: 0.10, 1: 0.55, 2: 0.65})
    save_seeds(tmp_path, "poisoner", {1: 0.50, 2: 0.60, 3: 0.99}, changes=NO_GIFL)
    found = line(tmp_path, "gifl.raises_accuracy")
    assert (found["n"], found["difference"]) == (2, pytest.approx(4.5))
    save_seeds(tmp_path, "poisoner", {8: 0.9}, task="cmnist_98")
    save_seeds(tmp_path, "poisoner", {9: 0.5}, task="cmnist_98", changes=NO_GIFL)
    lines = verdicts.evaluate(make_results(tmp_path))
    assert lines[(lines.claim == "gifl.raises_accuracy") & (lines.task == "cmnist_98")].empty, "no seed in common"


def test_the_best_method_must_beat_every_other_one(tmp_path: Path) -> None:
    rivals = [row.method for row in claims.UNINFORMED]
    save_seeds(tmp_path, "poisoner", {0: 0.80, 1: 0.83})
    save_seeds(tmp_path, "groupdro", {0: 0.99, 1: 0.99})
    for rival in rivals[:-1]:
        save_seeds(tmp_path, rival, {0: 0.40, 1: 0.42})
    assert rivals[-1] == "be"
    assert line(tmp_path, "poisoner.highest_average")["verdict"] == "not measured", "BE may still be better"
    save_seeds(tmp_path, "be", {0: 0.70, 1: 0.72})
    found = line(tmp_path, "poisoner.highest_average")
    assert (found["verdict"], found["comparison"]) == ("holds", "average accuracy: Poisoner − BE > 0")
    save_seeds(tmp_path, "be", {0: 0.95, 1: 0.97})
    found = line(tmp_path, "poisoner.highest_average")
    assert found["verdict"] == "does not hold"
    assert found["difference"] == pytest.approx(-13.05)
    shutil.rmtree(tmp_path / "runs" / "cmnist_99" / "focal")
    assert line(tmp_path, "poisoner.highest_average")["verdict"] == "does not hold", "a missing rival cannot mend that"


def test_a_model_that_turned_the_bias_round_decides_nothing(tmp_path: Path) -> None:
    """Its conflicting groups, of which averages and worst groups of some tasks are, come out best of all."""
    for row in claims.UNINFORMED:
        save_seeds(tmp_path, row.method, {0: 0.40, 1: 0.42})
    inverted = np.full((10, 10), 100) - 70 * np.eye(10, dtype=int)
    for seed in (0, 1):
        put(tmp_path, make_record(make_run("cmnist_99", "poisoner", seed=seed), correct=inverted.tolist()))
    for claim in ("poisoner.highest_average", "poisoner.best_worst_group", "poisoner.lowest_bias"):
        found = line(tmp_path, claim)
        assert found["verdict"] == "undecided"
        assert "Collapsed, so that its numbers mean nothing: Poisoner." in found["collapsed"]
    save_seeds(tmp_path, "poisoner", {0: 0.80, 1: 0.83})
    put(tmp_path, make_record(make_run("cmnist_99", "lff", seed=0), correct=inverted.tolist()))
    found = line(tmp_path, "poisoner.highest_average")
    assert found["verdict"] == "holds", "LfF, which is of no use, is no rival"
    assert "LfF; left out." in found["collapsed"]


def test_one_rival_with_a_single_seed_leaves_a_hint(tmp_path: Path) -> None:
    save_seeds(tmp_path, "poisoner", {0: 0.80, 1: 0.83})
    for row in claims.UNINFORMED:
        save_seeds(tmp_path, row.method, {0: 0.70, 1: 0.72})
    save_seeds(tmp_path, "poisoner", {0: 0.8}, task="cmnist_98")
    for row in claims.UNINFORMED:
        save_seeds(tmp_path, row.method, {0: 0.70, 1: 0.72}, task="cmnist_98")
    assert line(tmp_path, "poisoner.highest_average")["verdict"] == "holds"
    assert line(tmp_path, "poisoner.highest_average", "cmnist_98")["verdict"] == "holds (one seed)"


def test_about_equal_means_within_two_points_either_way(tmp_path: Path) -> None:
    save_seeds(tmp_path, "groupdro", {0: 0.50, 1: 0.50, 2: 0.50})
    claim = "groupdro.equal_avg_acc"
    for share, verdict in ((0.50, "holds"), (0.49, "holds"), (0.55, "does not hold"), (0.45, "does not hold")):
        save_seeds(tmp_path, "poisoner", {0: share, 1: share, 2: share + 0.01})
        assert line(tmp_path, claim)["verdict"] == verdict
    save_seeds(tmp_path, "poisoner", {0: 0.50, 1: 0.54, 2: 0.55})
    found = line(tmp_path, claim)
    assert (found["verdict"], found["scope"]) == ("undecided", "elsewhere")
    assert found["comparison"].endswith("between −2 and 2")


def test_the_celeba_mean_needs_all_four_targets(tmp_path: Path) -> None:
    for task, share in zip(CELEBA, (0.5, 0.6, 0.7, 0.8), strict=True):
        assert line(tmp_path, "groupdro.worst_group", "celeba_avg")["verdict"] == "not measured"
        save_seeds(tmp_path, "poisoner", {0: share, 1: share + 0.01}, task=task)
        save_seeds(tmp_path, "groupdro", {0: 0.4, 1: 0.4, 2: 0.4}, task=task)
    found = line(tmp_path, "groupdro.worst_group", "celeba_avg")
    assert (found["verdict"], found["n"]) == ("holds", 2)
    assert found["difference"] == pytest.approx(25.5)
    assert found["paper"] == pytest.approx(75.18 - 73.02)


def test_other_presets_have_lines_of_their_own(tmp_path: Path) -> None:
    save_seeds(tmp_path, "poisoner", {0: 0.6}, task="waterbirds", preset="reduced")
    save_seeds(tmp_path, "poisoner", {0: 0.5}, task="waterbirds", preset="reduced", changes=NO_GIFL)
    assert line(tmp_path, "gifl.raises_accuracy", "waterbirds")["verdict"] == "not measured"
    assert line(tmp_path, "gifl.raises_accuracy", "waterbirds", "reduced")["verdict"] == "holds (one seed)"
    results = make_results(tmp_path)
    found, judged = fidelity.cells(results), verdicts.evaluate(results)
    cell = found[(found.method == "poisoner_with_gifl") & (found.task == "waterbirds") & (found.metric == "avg_acc")]
    assert cell.set_index("preset").n.to_dict() == {"paper": 0, "reduced": 1}
    assert "reduced preset, for orientation" in verdicts.write(judged, results)
    assert "reduced preset, for orientation" in fidelity.write(found, judged, results)


def test_the_interval_is_students() -> None:
    # 4.302653 is the 97.5 % quantile of two degrees of freedom in printed tables; the sample's deviation is √21.
    assert verdicts.interval([0.0, 3.0, 9.0]) == pytest.approx((4 - 4.302653 * np.sqrt(7), 4 + 4.302653 * np.sqrt(7)))
    assert np.isnan(verdicts.interval([4.0])).all()
    assert np.isnan(verdicts.interval([0.3, 0.1 + 0.2, 0.3])).all(), "level but for rounding"


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_95_percent_intervals_cover_95_percent(n: int) -> None:
    rng = np.random.default_rng(n)
    samples = rng.normal(1, 2, (2000, n))
    covered = np.mean([low < 1 < high for low, high in map(verdicts.interval, samples)])
    assert covered == pytest.approx(0.95, abs=0.015)  # three standard errors


def test_the_same_records_make_the_same_files(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "results" / "runs" / "cmnist_99", tmp_path / "runs" / "cmnist_99")
    names = ("tables/claims.csv", "tables/claims.md", "fidelity.csv", "fidelity.md")
    contents = []
    for _ in range(2):
        results = make_results(tmp_path)
        judged = verdicts.evaluate(results)
        assert verdicts.write(judged, results) == (tmp_path / "tables" / "claims.md").read_text()
        text = fidelity.write(fidelity.cells(results), judged, results)
        assert text == (tmp_path / "fidelity.md").read_text()
        contents.append([(tmp_path / name).read_bytes() for name in names])
    assert contents[0] == contents[1]


def test_every_claim_has_a_verdict_on_the_records_of_the_repository() -> None:
    results = make_results(ROOT / "results")
    lines = verdicts.evaluate(results)
    assert set(lines.claim) == set(CLAIM)
    assert set(lines.verdict) <= set(verdicts.DECISIVE)
    for claim in CLAIMS:
        found = lines[(lines.claim == claim.id) & (lines.preset == PAPER)]
        assert set(claim.tasks) <= set(found.task)
        assert (found.scope == "paper").sum() == len(claim.tasks)
    measured = lines[(lines.claim == "bias_acc.erm_stop_epoch2.erm") & (lines.task == "cmnist_99")]
    assert measured.verdict.iloc[0].startswith("holds")
    table = TABLES["3"]
    means = tidy(table, results).set_index(["method", "task"])["mean"]
    expected = means["erm_stop_epoch2", "cmnist_99"] - means["erm", "cmnist_99"]
    assert measured.difference.iloc[0] == pytest.approx(expected), "both rows are the same runs"


def test_the_overview_marks_seeds_and_tasks(tmp_path: Path) -> None:
    save_seeds(tmp_path, "poisoner", {0: 0.55, 1: 0.56, 2: 0.56})
    save_seeds(tmp_path, "poisoner", {0: 0.50, 1: 0.50, 2: 0.51}, changes=NO_GIFL)
    save_seeds(tmp_path, "poisoner", {0: 0.55}, task="cmnist_98")
    save_seeds(tmp_path, "poisoner", {0: 0.50}, task="cmnist_98", changes=NO_GIFL)
    results = make_results(tmp_path)
    text = verdicts.write(verdicts.evaluate(results), results)
    rows = [[each.strip() for each in row.split("|")[1:-1]] for row in text.splitlines()]
    assert ["Claim", "C-MNIST¹ (ρ = 0.99)", "C-MNIST² (ρ = 0.98)"] in rows
    number = 1 + list(CLAIM).index("gifl.raises_accuracy")
    assert [f"{number}. GIFL raises Poisoner's average accuracy.", "✓", "(✓)†"] in rows


def test_in_short_the_marks_of_a_topic_stand_in_order(tmp_path: Path) -> None:
    save_seeds(tmp_path, "poisoner", {0: 0.55, 1: 0.56, 2: 0.56})
    save_seeds(tmp_path, "poisoner", {0: 0.50, 1: 0.50, 2: 0.51}, changes=NO_GIFL)
    for method, share in (("poisoner", 0.40), ("groupdro", 0.50)):
        save_seeds(tmp_path, method, {0: share}, task="cmnist_98")
    results = make_results(tmp_path)
    text = verdicts.write(verdicts.evaluate(results), results)
    (short,) = re.findall(r"(?s)\n## In short\n(.*?)\n## ", text)
    found = [each for each in verdicts.evaluate(results).verdict if each != "not measured"]
    held, failed, undecided = (found.count(each) for each in ("holds", "does not hold", "undecided"))
    hints = [each for each in found if each.endswith("(one seed)")]
    held_by_one, failed_by_one = (hints.count(f"{each} (one seed)") for each in ("holds", "does not hold"))
    assert short.strip().startswith(
        f"Of {len(found)} verdicts so far, each on one claim and one task, {held} hold, {failed} do not, and "
        f"{undecided} are undecided; of {len(hints)} hints of one seed, {held_by_one} are for and {failed_by_one} "
        "against."
    )
    assert 0 < held_by_one < len(hints)
    rows = [[each.strip() for each in row.split("|")[1:-1]] for row in short.splitlines()]
    assert ["Claims", "C-MNIST¹ (ρ = 0.99)", "C-MNIST² (ρ = 0.98)"] in rows
    assert ["10–11. GIFL, a part of Poisoner, helps", "✓ ✓", ""] in rows
    groupdro = [
        line(tmp_path, f"groupdro.{name}", "cmnist_98") for name in ("equal_avg_acc", "equal_model_bias", "worst_group")
    ]
    marks = " ".join(verdicts.SYMBOLS[each["verdict"]] for each in groupdro)
    assert marks.startswith("(✗) ")
    assert ["12–14. Poisoner beside GroupDRO, which knows the bias", "", f"{marks} †"] in rows


def test_errata_stand_beside_the_claims_they_concern(tmp_path: Path) -> None:
    lines = verdicts.evaluate(make_results(tmp_path)).set_index(["claim", "task"])
    note = lines.errata["gifl.lowers_bias", "cmnist_99"]
    assert note.startswith("without GIFL: The text says that every task loses fairness")
    assert "Echoes: Bias 27.52" in lines.errata["poisoner.best_worst_group", "celeba_attractive"]
    assert "Echoes" not in lines.errata["poisoner.highest_average", "celeba_attractive"]
    everyone = lines.errata["poisoner.highest_average", "dogs_cats"]
    assert everyone.count("The text names correlation 0.95") == 1


def test_what_collapsed_is_said_of_every_preset_and_is_no_erratum(tmp_path: Path) -> None:
    """On a task whose published numbers have errata, which stand in a note of their own."""
    for row in (*claims.UNINFORMED, claims.ROWS["poisoner"]):
        save_seeds(tmp_path, row.method, {0: 0.40, 1: 0.42}, task="celeba_attractive", preset="reduced")
    inverted = np.full((10, 10), 100) - 70 * np.eye(10, dtype=int)
    run = make_run("celeba_attractive", "lff", preset="reduced")
    put(tmp_path, make_record(run, correct=inverted.tolist()))
    results = make_results(tmp_path)
    text = verdicts.markdown(verdicts.evaluate(results), results)
    section = text.split("`poisoner.best_worst_group`")[1].split("\n## ")[0]
    collapsed = "Collapsed, so that its numbers mean nothing: LfF; left out."
    assert f"- CelebA, attractive (reduced preset, for orientation): {collapsed}" in section
    (erratum,) = (each for each in section.splitlines() if each.startswith("- Errata, CelebA, attractive."))
    assert "Collapsed" not in erratum


def test_claims_are_checked_without_pytorch() -> None:
    code = "import sys, benchmark.collect, benchmark.compare.fidelity; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
