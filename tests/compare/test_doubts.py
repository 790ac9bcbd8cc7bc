"""Doubts about records stand wherever a number of theirs does, not in tables alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from factories.records import make_record, make_results, make_run, put, save_seeds
from matplotlib.text import Text

from benchmark import curves
from benchmark.compare import fidelity, readings, verdicts
from benchmark.compare.doubts import doubts
from benchmark.plan import code
from benchmark.plan.paper import FIGURES, TABLES
from benchmark.plan.recipes import load
from benchmark.report import figures, overview, page
from benchmark.store.record import Record
from benchmark.store.results import Results
from benchmark.store.store import Store


def said(results: Results) -> dict[str, str]:
    """What each output that compares or draws numbers says, as text."""
    judged, found, left_open = verdicts.evaluate(results), fidelity.cells(results), readings.evaluate(results)
    drawings = {
        "overview": overview.draw(overview.averages(results), results),
        "table's curves": figures.curves(TABLES["2"], results, "cmnist_99"),
        "figure": figures.draw(replace(FIGURES["4"], tasks=("cmnist_99",)), results),
    }
    (group,) = curves.group_by_task(
        curves.select(results, {each.run.id for each in results.records}, load(), None, None), results
    )
    drawings |= {"curves": curves.curves(group, results), "trade-off": curves.tradeoff(group, results)}
    texts = {
        name: " ".join(each.get_text() for each in drawing.findobj(Text)).replace("\n", " ")
        for name, drawing in drawings.items()
    }
    return texts | {
        "claims": verdicts.markdown(judged, results),
        "fidelity": fidelity.markdown(found, judged, results),
        "readings": readings.markdown(left_open, results),
        "figure's caption": figures.caption(replace(FIGURES["4"], tasks=("cmnist_99",)), results),
        "text": curves.text(group, results),
        "page": " ".join(page.page(results, [], found, judged, left_open)["views"][0]["doubts"]),
    }


def of_provenance(record: Record, **changes: str) -> Record:
    return msgspec.structs.replace(record, provenance=msgspec.structs.replace(record.provenance, **changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for method, share in {"vanilla": 0.4, "poisoner": 0.8, "gce": 0.3}.items():
        save_seeds(tmp_path, method, {0: share, 1: share + 0.02})
    return tmp_path


def test_older_code_is_named_everywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not any("STALE" in text for text in said(make_results(folder)).values())
    now = code.of_method
    monkeypatch.setattr(code, "of_method", lambda name: "2" if name == "poisoner" else now(name))
    for name, text in said(make_results(folder)).items():
        assert "STALE: 2 of these runs were measured by older code (version 1 of the method poisoner" in text, name


@pytest.mark.parametrize(
    ("other", "doubt"),
    [
        ({"data": "other"}, "THESE RECORDS ARE OF DIFFERENT DATA"),
        ({"validation_data": "other"}, "THESE RECORDS ARE OF DIFFERENT DATA"),
        ({"weights": "b" * 64}, "THESE NETWORKS STARTED FROM DIFFERENT WEIGHTS"),
        ({"network_package": "timm 2"}, "the network is that of timm 1 in some runs, of timm 2 in others"),
    ],
    ids=["data", "validation data", "weights", "package"],
)
def test_what_differs_between_records_is_named_everywhere(folder: Path, other: dict[str, str], doubt: str) -> None:
    alike = {"validation_data": "one", "weights": "a" * 64, "network_package": "timm 1"}
    for record in list(Store(folder).everything()):
        put(folder, of_provenance(record, **alike))
    assert not any("C-MNIST¹ (ρ = 0.99): TH" in text for text in said(make_results(folder)).values())
    put(folder, of_provenance(make_record(make_run("cmnist_99", "poisoner", seed=1), 0.82), **alike | other))
    for name, text in said(make_results(folder)).items():
        assert f"C-MNIST¹ (ρ = 0.99): {doubt}" in text, name


def test_claims_and_fidelity_say_what_records_say_of_their_data(folder: Path) -> None:
    told = make_record(make_run("cmnist_99", "poisoner", seed=1), 0.82)
    provenance = msgspec.structs.replace(told.provenance, data_notes=["A part is missing."])
    put(folder, msgspec.structs.replace(told, provenance=provenance))
    texts = said(make_results(folder))
    for name in ("claims", "fidelity"):
        assert "- C-MNIST¹ (ρ = 0.99): A part is missing." in texts[name], name


def test_data_that_are_meant_to_differ_leave_no_doubt(folder: Path) -> None:
    for seed, balance in enumerate((0.0, 0.05, 0.1)):
        made = make_record(make_run("cmnist_99", "vanilla", f"balance={balance}", seed=seed))
        provenance = msgspec.structs.replace(made.provenance, data=f"of {balance}")
        put(folder, msgspec.structs.replace(made, provenance=provenance))
    results = make_results(folder)
    swept = [record for record in results.records if record.settings["balance"]]
    assert len({record.provenance.data for record in swept}) == 2
    assert doubts(swept, results) == []
