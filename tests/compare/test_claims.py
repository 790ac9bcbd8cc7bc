"""What the paper's claims compare, read from made-up records."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from factories.records import curves, make_results, phase, save_seeds

from benchmark.compare import claims, verdicts
from benchmark.compare.claims import CLAIMS
from benchmark.plan.run import PAPER

CLAIM = {claim.id: claim for claim in CLAIMS}
NO_GIFL = ("poisoner.gamma=0.0",)


def line(folder: Path, claim: str, task: str = "cmnist_99") -> dict[str, Any]:
    return verdicts.decide(CLAIM[claim], task, PAPER, make_results(folder))


def test_claims_about_curves(tmp_path: Path) -> None:
    errors = {"aligned_error": [5.0, 4.0, 0.0], "conflicting_error": [60.0, 50.0, 2.0]}
    save_seeds(tmp_path, "vanilla", {0: 0.5}, task="celeba_bignose", phases=[phase(target=curves(**errors))])
    errors["conflicting_error"] = [60.0, 13.0, 70.0]
    save_seeds(tmp_path, "gce", {0: 0.5}, task="celeba_bignose", phases=[phase(target=curves(**errors))])
    errors["conflicting_error"] = [60.0, 80.0, 97.0]
    save_seeds(tmp_path, "poisoner", {0: 0.5}, task="celeba_bignose", phases=[phase(biased=curves(**errors))])
    lines = verdicts.evaluate(make_results(tmp_path))
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


def test_claims_about_losses_look_at_every_epoch(tmp_path: Path) -> None:
    losses = {"aligned_loss": [1.0, 0.5, 0.4, 0.3], "conflicting_loss": [0.9, 0.09, 0.05, 0.2]}
    save_seeds(
        tmp_path, "poisoner", {0: 0.5}, task="waterbirds", changes=NO_GIFL, phases=[phase(target=curves(**losses))]
    )
    below = line(tmp_path, "fig6a.conflicting_fitted_better", "waterbirds")
    assert (below["verdict"], below["difference"]) == ("holds (one seed)", pytest.approx(0.1))
    fast = line(tmp_path, "fig6a.conflicting_fitted_quickly", "waterbirds")
    assert (fast["verdict"], fast["difference"]) == ("holds (one seed)", 0.09)
    seldom = [math.nan if epoch in (3, 5, 7, 9) else 1 - epoch / 10 for epoch in range(1, 11)]
    told = dict.fromkeys(("bias_acc", "aligned_error", "aligned_loss", "conflicting_error", "conflicting_loss"), seldom)
    save_seeds(tmp_path, "poisoner", {0: 0.5}, task="dogs_cats", changes=NO_GIFL, phases=[phase(target=curves(**told))])
    slow = line(tmp_path, "fig6a.conflicting_fitted_quickly", "dogs_cats")
    assert slow["difference"] == pytest.approx(0.4), "after the sixth epoch, the first measured in the second half"
    losses["aligned_loss"][0] = 0.8
    save_seeds(
        tmp_path, "poisoner", {0: 0.5}, task="waterbirds", changes=NO_GIFL, phases=[phase(target=curves(**losses))]
    )
    assert line(tmp_path, "fig6a.conflicting_fitted_better", "waterbirds")["verdict"] == "does not hold (one seed)"


def test_figure_5_compares_at_every_balance(tmp_path: Path) -> None:
    for balance in (None, *claims.BALANCES):
        changes = () if balance is None else (f"balance={balance}",)
        save_seeds(tmp_path, "vanilla", {0: 0.4, 1: 0.4}, changes=changes)
        save_seeds(tmp_path, "poisoner", {0: 0.6, 1: 0.61}, changes=changes)
    assert line(tmp_path, "fig5.lowers_bias")["verdict"] == "holds"
    save_seeds(tmp_path, "poisoner", {0: 0.3, 1: 0.29}, changes=("balance=0.75",))
    found = line(tmp_path, "fig5.lowers_bias")
    assert (found["verdict"], "α = 0.75" in found["comparison"]) == ("does not hold", True)


def test_claims_have_ids_and_tasks_of_their_own() -> None:
    assert len(CLAIM) == len(CLAIMS)
    for claim in CLAIMS:
        assert claim.comparisons
        assert set(claim.tasks) <= set(claims.TASKS)
        for comparison in claim.comparisons:
            assert comparison.low < comparison.high
            assert {each.metric for each in comparison.quantities} <= set(claims.TITLES)
