"""The paper's figures from invented records: what is drawn must be what the records and the paper say."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from factories.records import curves, fixed_store, make_record, make_results, make_run, phase
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing
from matplotlib.text import Text

from benchmark.compare import published
from benchmark.compare.cells import tidy
from benchmark.compare.claims import rows_of_figure
from benchmark.plan import catalogue
from benchmark.plan.paper import FIGURES, TABLES
from benchmark.plan.recipes import load
from benchmark.plan.run import Run
from benchmark.plan.table import Figure, Override
from benchmark.report import figures, style
from benchmark.rules import REPORTED
from benchmark.run import main
from benchmark.store.record import Record
from benchmark.store.results import Results
from benchmark.store.store import Store


def invented(run: Run) -> Record:
    """A record whose every number depends on its settings and seed."""
    options, balance = run.settings["options"], run.settings["balance"] or 0.01
    shift = run.seed + 10 * options.get("gamma", 0) + options.get("percentile", 0) / 10
    correct = np.full((10, 10), 50 + round(shift))
    correct[:, 1] -= 20
    train = np.full((10, 10), round(1000 * balance))
    np.fill_diagonal(train, 9000)
    epochs = np.arange(1, 4)
    told = {
        "bias_acc": 90.0 - epochs,
        "aligned_error": np.full(3, 1.0 + shift),
        "conflicting_error": (10 + 0.1 * run.seed) * epochs + shift,
        "aligned_loss": 0.5 / epochs,
        "conflicting_loss": 0.1 / epochs,
        "avg_acc": np.full(3, 50.0),
        "model_bias": np.full(3, 20.0),
    }
    networks = {"target": curves(**told)}
    if run.method == "poisoner":
        networks = {"biased": networks["target"], "target": curves(**told | {"conflicting_loss": 0.2 / epochs})}
    return make_record(run, correct=correct.tolist(), train=train.tolist(), phases=[phase("p", **networks)])


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """All runs of all figures on C-MNIST, with two seeds."""
    stand_ins = [figure.on("cmnist_99") for figure in FIGURES.values()]
    runs = catalogue.runs(load(), stand_ins, range(2))
    return make_results(tmp_path_factory.mktemp("results"), *map(invented, runs))


def drawn(number: str, results: Results) -> tuple[Figure, list[Axes]]:
    figure = FIGURES[number].on("cmnist_99")
    return figure, figures.draw(figure, results).axes


def line(axes: Axes, label: str) -> list[list[float]]:
    """x and y of the line of that label."""
    (found,) = (each for each in axes.lines if each.get_label() == label)
    return [np.asarray(each, float).tolist() for each in (found.get_xdata(), found.get_ydata())]


def diamonds(axes: Axes) -> list[tuple[float, float]]:
    return [
        (float(each.get_xdata()[0]), float(each.get_ydata()[0]))
        for each in axes.lines
        if each.get_marker() == "D" and len(each.get_xdata())
    ]


def test_curves_are_those_of_the_biased_model_averaged_over_seeds(results: Results) -> None:
    _, (axes,) = drawn("4", results)
    # Poisoner has p = 5, γ = 1 and hence a shift of 10.5 in this invention; the mean of seeds 0 and 1 adds a half.
    assert line(axes, "Poisoner: conflicting samples") == [[1, 2, 3], pytest.approx([21.05, 31.1, 41.15])]
    assert line(axes, "GCE: aligned samples") == [[1, 2, 3], [1.5, 1.5, 1.5]]
    assert len(axes.collections) == 4, "a band for each line"


def test_the_loss_without_gifl_is_the_target_networks(results: Results) -> None:
    _, (losses, _) = drawn("6", results)
    assert line(losses, "conflicting samples")[1] == pytest.approx([0.2, 0.1, 0.2 / 3])


def test_a_sweep_shows_final_values_in_order_beside_the_papers(results: Results) -> None:
    figure, (_, sweep) = drawn("6", results)
    # Over γ nothing but the level changes, and with it the gap of the worst colour not at all: 50+10γ against 30+10γ.
    x, y = line(sweep, "model bias")
    assert x == [0, 0.25, 0.5, 0.75, 1]
    lines = tidy(figure, results)
    cells = lines[(lines.selection == REPORTED.name) & (lines.metric == "model_bias")].set_index("method")["mean"]
    assert y[-1] == pytest.approx(cells["poisoner-poisoner.gamma=1.0"])
    assert y == pytest.approx([18.0] * 5)
    assert diamonds(sweep) == [
        (0, published.numbers()["table4", "poisoner_without_gifl", "cmnist_99", "model_bias"]),
        (1, published.numbers()["table4", "poisoner_with_gifl", "cmnist_99", "model_bias"]),
    ]


def test_a_sweep_is_of_the_seeds_that_the_rule_can_choose_in(tmp_path: Path) -> None:
    """As on the page; a point of one seed is hollow, and one without any is not there."""
    made = {
        (gamma, seed): invented(make_run("cmnist_99", "poisoner", f"poisoner.gamma={gamma}", seed=seed))
        for gamma in (0.0, 0.5, 1.0)
        for seed in (0, 1)
    }

    def blind(record: Record) -> Record:
        groups = msgspec.structs.replace(record.groups, validation=None)
        return msgspec.structs.replace(
            record, groups=groups, answers=msgspec.structs.replace(record.answers, validation=None)
        )

    for place in ((0.5, 1), (1.0, 0), (1.0, 1)):
        made[place] = blind(made[place])
    results = make_results(tmp_path, *made.values())
    figure = FIGURES["6"].on("cmnist_99")
    (sweep,) = (axes for axes in figures.draw(figure, results).axes if axes.get_xlabel() == "γ")
    x, y = line(sweep, "model bias")
    assert list(x) == [0.0, 0.5]
    assert np.isfinite(y).all()
    nothing = make_results(tmp_path / "blind", *(blind(each) for each in made.values()))
    assert "Not drawn: (b)" in figures.reading(figure, nothing)
    assert "there are no validation images" in figures.reading(figure, nothing).split("Not drawn")[1]


def test_balance_stands_where_the_record_counts_it(results: Results) -> None:
    _, (bias, _, identification) = drawn("5", results)
    x, _ = line(bias, "LfF")
    conflicting = [90 * round(1000 * balance) for balance in (0.01, 0.05, 0.1, 0.2, 0.75, 1.0)]
    assert x == pytest.approx([each / 90_000 for each in conflicting])
    assert published.numbers()["table3", "erm", "cmnist_99", "bias_acc"] == 65.70
    natural = x[0]
    assert (natural, 65.70) in [(pytest.approx(a), b) for a, b in diamonds(identification)]


def test_identification_counts_what_the_biased_model_gets_wrong(tmp_path: Path) -> None:
    train = np.full((10, 10), 10)
    np.fill_diagonal(train, 9000)

    def record(percentile: float, conflicting_error: float) -> Record:
        biased = curves(aligned_error=[10.0], conflicting_error=[conflicting_error])
        run = make_run("cmnist_99", "poisoner", f"poisoner.percentile={percentile}")
        return make_record(run, train=train.tolist(), phases=[phase(biased=biased, target=curves(bias_acc=[50.0]))])

    # 90 conflicting cells of 10, all wrong; ten aligned ones of 9,000, a tenth of each wrong.
    all_wrong, half_wrong = record(5.0, 100.0), record(40.0, 50.0)
    assert all_wrong.identification() == {"recall": 100, "precision": pytest.approx(100 * 900 / (900 + 9000))}
    assert half_wrong.identification() == {"recall": 50, "precision": pytest.approx(100 * 450 / (450 + 9000))}
    over_p, _ = figures.draw(FIGURES["7"].on("cmnist_99"), make_results(tmp_path, all_wrong, half_wrong)).axes
    assert line(over_p, "recall of conflicting") == [[5.0, 40.0], [100.0, 50.0]]
    biased = curves(aligned_error=[0.0], conflicting_error=[0.0])
    perfect = make_record(
        make_run("cmnist_99", "poisoner"), phases=[phase(biased=biased, target=curves(bias_acc=[50.0]))]
    )
    assert perfect.identification() == {"recall": 0, "precision": None}


def test_curves_and_sweeps_name_what_collapsed(tmp_path: Path) -> None:
    inverted = np.full((10, 10), 100) - 70 * np.eye(10, dtype=int)
    made = [
        make_record(make_run("cmnist_99", "lff"), correct=inverted.tolist()),
        make_record(make_run("cmnist_99", "poisoner", "poisoner.percentile=40.0"), correct=inverted.tolist()),
        make_record(make_run("cmnist_99", "poisoner"), 0.8),
    ]
    results = make_results(tmp_path, *made)
    drawing = figures.curves(TABLES["2"], results, "cmnist_99")
    texts = " ".join(each.get_text().replace("\n", " ") for each in drawing.findobj(Text))
    assert f"Some or all runs collapsed (last epoch or {REPORTED.title}): LfF." in texts
    sweep = figures.caption(FIGURES["7"].on("cmnist_99"), results)
    assert re.search(r"Some or all runs collapsed \([^)]*\): [^.]*40", sweep)


def test_a_figure_says_what_came_of_claims_that_compare_more_than_it_shows(tmp_path: Path) -> None:
    """Figure 7 shows Poisoner alone; that it identifies well is said beside ERM and GCE."""
    biased = [phase(biased=curves(bias_acc=[90.0, 90.0]), target=curves(bias_acc=[50.0, 50.0]))]
    made = [
        make_record(make_run("cmnist_99", "poisoner", f"poisoner.percentile={p}"), phases=biased) for p in (10.0, 20.0)
    ]
    made += [make_record(make_run("cmnist_99", "poisoner"), phases=biased)]
    made += [make_record(make_run("cmnist_99", method)) for method in ("vanilla", "gce")]
    results, figure = make_results(tmp_path, *made), FIGURES["7"].on("cmnist_99")
    shown = results.part(figure, figure.tasks, rows_of_figure(figure.number))
    assert "Holds (one seed) on C-MNIST¹ (ρ = 0.99): Poisoner predicts the bias well" in figures.reading(figure, shown)
    assert figures.reading(figure, shown) == figures.reading(figure, results)
    assert "predicts the bias well for p" not in figures.reading(figure, results.part(figure, figure.tasks))


def test_a_stand_in_says_so(results: Results) -> None:
    figure = FIGURES["4"]
    text = figures.caption(figure.on("cmnist_99"), results)
    assert "C-MNIST¹ (ρ = 0.99), in place of the paper's CelebA, big nose and Waterbirds (n = 2)" in text
    assert "in place" not in figures.caption(figure, results)


def test_a_caption_says_what_came_out_beside_what_is_claimed(results: Results) -> None:
    """In this invention the error of every biased model grows by 20 points to 41 or so, the bias is level in γ."""
    text = figures.caption(FIGURES["4"].on("cmnist_99"), results)
    claim, outcome = text.split("GCE fits conflicting samples. ")
    assert "The paper's claim: Poisoner's errors" in claim
    fails, holds = outcome.split("Holds on C-MNIST¹ (ρ = 0.99): ")
    assert fails == (
        "Does not hold on C-MNIST¹ (ρ = 0.99): The error of Poisoner's biased model on conflicting samples ends near "
        "100 %. The error of GCE on conflicting samples falls in training. "
    ), fails
    assert holds == "The error of Poisoner's biased model on conflicting samples grows in training."
    modified = replace(FIGURES["4"].on("cmnist_99"), overrides=(Override("", "epochs", 5),))
    assert "old on" not in figures.caption(modified, results), "verdicts are of the recipes' runs"


def test_without_records_there_is_a_sentence_and_no_picture(tmp_path: Path) -> None:
    results, figure = make_results(tmp_path), FIGURES["2"]
    (tmp_path / "figures").mkdir()
    for suffix in ("png", "pdf"):
        (tmp_path / "figures" / f"figure2.{suffix}").write_bytes(b"of earlier records")
    assert figures.write_figure(figure, results) == []
    assert not list((tmp_path / "figures").iterdir())
    assert figures.caption(figure, results).endswith("Nothing is drawn: not measured.")


def test_panels_without_records_are_named_and_left_out(tmp_path: Path) -> None:
    results = make_results(tmp_path, invented(make_run("cmnist_99", "gce")))
    figure = FIGURES["2"].on("cmnist_99")
    (axes,) = figures.draw(figure, results).axes
    assert axes.get_title() == "(b) GCE"
    missing = "(a) ERM; (c) Poisoning known conflicting samples; (d) Trained on the bias"
    assert f"Not drawn: {missing}: not measured." in figures.caption(figure, results)


def test_one_seed_is_hollow(results: Results, tmp_path: Path) -> None:
    def faces(results: Results) -> set[str]:
        points = figures.draw(FIGURES["6"].on("cmnist_99"), results).axes[1].containers
        return {str(point.lines[0].get_markerfacecolor()) for point in points}  # type: ignore[attr-defined]

    alone = make_results(tmp_path, *(record for record in results.records if record.seed == 0))
    assert faces(alone) == {"white"}
    assert "white" not in faces(results)
    assert "of one seed" in style.spread([0, 1, 5])
    assert "of one seed" not in style.spread([0, 2, 5])


@pytest.mark.parametrize("number", FIGURES)
def test_figures_are_of_print_size_with_named_axes(number: str, results: Results) -> None:
    drawing = figures.draw(FIGURES[number].on("cmnist_99"), results)
    assert drawing.get_size_inches()[0] in (style.COLUMN, style.PAGE)
    canvas = FigureCanvasAgg(drawing)
    canvas.draw()
    texts = [each for each in drawing.findobj(Text) if each.get_text() and each.get_visible()]
    assert len(texts) > 10
    assert min(each.get_fontsize() for each in texts) >= 7
    renderer, page = canvas.get_renderer(), drawing.bbox
    for axes in drawing.axes:
        assert axes.get_xlabel()
        assert axes.get_ylabel().endswith(("(%)", "(nats)"))
        assert axes.get_ylim()[0] < 0, "a line at 0 is seen"
        assert axes.get_ylim()[1] > 100 or axes.get_ylabel() in ("model bias (%)", "training loss (nats)")
        boxes = [each.get_window_extent(renderer) for each in axes.get_xticklabels() if each.get_text()]
        assert not any(one.overlaps(other) for one, other in pairwise(boxes)), "labels run into each other"
        assert page.x0 <= axes.get_tightbbox(renderer).x0
        assert axes.get_tightbbox(renderer).x1 <= page.x1
        assert not axes.get_legend(), "it would hide lines"


def test_curves_show_every_method_with_its_seeds(tmp_path: Path) -> None:
    results = make_results(fixed_store(tmp_path).folder)
    figure = figures.curves(TABLES["2"], results, "cmnist_99")
    average, _, biased = figure.axes
    assert [each.get_label() for each in average.lines] == ["Vanilla", "LfF", "Poisoner", "GroupDRO*"]
    assert [each.get_label() for each in biased.lines] == ["Vanilla", "Poisoner"]
    assert average.lines[0].get_ydata()[-1] == pytest.approx(41), "the mean over seeds"
    assert len(average.collections) == 3, "a band where there is more than one seed"
    assert "n = 1 to 2" in figure.texts[0].get_text()


@pytest.fixture
def store(results: Results, tmp_path: Path) -> Store:
    """The results in a folder that may be written to."""
    (tmp_path / "runs").symlink_to(results.folder / "runs")
    return Store(tmp_path)


def test_the_command_line_draws_what_is_asked_for(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--results", str(store.folder), "--render-only"]
    assert main(["--figure", "4", "6", "--task", "cmnist_99", *where]) == 0
    assert {path.name for path in (store.folder / "figures").iterdir()} == {
        f"figure{number}-cmnist_99.{suffix}" for number in "46" for suffix in ("png", "pdf")
    }
    first = (store.folder / "figures" / "figure6-cmnist_99.png").read_bytes()
    assert main(["--figure", "6", "--task", "cmnist_99", *where]) == 0
    assert (store.folder / "figures" / "figure6-cmnist_99.png").read_bytes() == first
    capsys.readouterr()
    assert main(["--figure", "3", *where]) == 2
    assert "There is no figure 3: those of the paper that show runs are 2, 4, 5, 6, 7." in capsys.readouterr().err
    assert main(["--table", "2", "--task", "cmnist_99", *where]) == 2
    assert "--task is for figures" in capsys.readouterr().err


def test_all_means_every_table_every_figure_and_every_stand_in_with_all_its_runs(store: Store) -> None:
    assert main(["--all", "--render-only", "--results", str(store.folder)]) == 0
    written = {path.stem for path in (store.folder / "figures").glob("*.png")}
    assert {f"figure{number}-cmnist_99" for number in "24567"} <= written
    assert not {f"figure{number}" for number in "24567"} & written, "nothing is measured on the paper's tasks"
    assert not any("cmnist_98" in name for name in written), "which has no runs"
    assert {path.stem for path in (store.folder / "tables").glob("*.tex")} >= {"table1", "table2", "table3", "table4"}


@pytest.mark.parametrize("suffix", ["png", "pdf"])
def test_a_full_disk_leaves_no_picture_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    def savefig(self: Drawing, path: Path, **options: object) -> None:
        path.write_bytes(b"half" if options["format"] == suffix else b"whole")
        if options["format"] == suffix:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(Drawing, "savefig", savefig)
    (tmp_path / f"old.{suffix}").write_bytes(b"old")
    for stem in ("old", "new"):
        with pytest.raises(OSError, match="No space"):
            style.save(Drawing(), tmp_path / stem)
    assert (tmp_path / f"old.{suffix}").read_bytes() == b"old"
    assert not (tmp_path / f"new.{suffix}").exists()
    assert not list(tmp_path.glob(".*"))
