"""The files of a table's tests: which there are, what they say, and that the picture can be read."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from factories.records import make_record, make_results, make_run, put, save_seeds
from matplotlib.text import Text

from benchmark.compare.significance import Ranking
from benchmark.plan.ours import ABLATIONS, selection
from benchmark.plan.paper import COMPARED, TABLES
from benchmark.report import rank_diagram, significance
from benchmark.run import main

SHARES = {"vanilla": 0.3, "lff": 0.5, "poisoner": 0.7, "groupdro": 0.6}


def names(written: list[Path]) -> list[str]:
    return [path.name for path in written]


def test_nothing_is_written_of_a_table_without_anything_to_compare(tmp_path: Path) -> None:
    assert significance.write(TABLES["2"], make_results(tmp_path)) == []
    save_seeds(tmp_path, "lff", {0: 0.5})
    assert significance.write(TABLES["2"], make_results(tmp_path)) == []
    assert not (tmp_path / "tables").exists()


def test_few_tasks_have_differences_and_a_sentence_in_place_of_ranks(tmp_path: Path) -> None:
    for method, share in SHARES.items():
        save_seeds(tmp_path, method, {0: share, 1: share + 0.02, 2: share + 0.03} if method != "lff" else {0: share})
    save_seeds(tmp_path, "poisoner", {1: SHARES["poisoner"] + 0.03})
    results = make_results(tmp_path)
    written = significance.write(TABLES["2"], results)
    assert names(written) == ["table2-tests.md", "table2-tests.csv"]
    text = written[0].read_text()
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert rows.keys() == {"Method", "LfF", "Poisoner", "GroupDRO*"}
    assert rows["LfF"].count("°") == 3
    assert "**" not in rows["LfF"]
    assert "**" in rows["Poisoner"]
    assert "**" not in rows["GroupDRO*"], "all of its differences are equal"
    assert rows["GroupDRO*"].count("(–)") == 3
    assert "on the same 5 or more tasks, which is not so here: 1 of 5 tasks have records." in text
    assert "Commit" in text


def test_the_devices_of_what_is_compared_are_named_where_they_are_several_or_unknown(tmp_path: Path) -> None:
    def note(*devices: str) -> str:
        for method, device in zip(("vanilla", "lff"), devices, strict=True):
            made = make_record(make_run("cmnist_99", method))
            provenance = msgspec.structs.replace(made.provenance, device=device)
            put(tmp_path, msgspec.structs.replace(made, provenance=provenance))
        results = make_results(tmp_path)
        significance.write(TABLES["2"], results)
        text = (tmp_path / "tables" / "table2-tests.md").read_text()
        return next((line for line in text.splitlines() if line.startswith("- Computed")), "")

    one, other = "CPU (Some Processor, AVX512)", "Some GPU"
    assert note(one, one) == note(other, other) == ""
    assert note(one, other).startswith(f"- Computed 1 on {one}, 1 on {other}. Each kind rounds otherwise")
    assert note("CPU (x86_64)", one).startswith(
        f"- Computed 1 on processors that their records do not name, 1 on {one}."
    )


def test_collapsed_runs_are_marked_and_never_bold(tmp_path: Path) -> None:
    for method in ("vanilla", "lff"):
        save_seeds(tmp_path, method, {seed: 0.5 for seed in range(3)})
    one_answer = [[100 if y == 0 else 0 for _ in range(10)] for y in range(10)]
    for seed in range(3):
        put(tmp_path, make_record(make_run(method="lff", seed=seed), correct=one_answer))
    (text, _) = significance.write(selection(["cmnist_99"], ["vanilla", "lff"]), make_results(tmp_path))
    (row,) = (line for line in text.read_text().splitlines() if line.startswith("| LfF"))
    assert row.count("§") == 3
    assert "**" not in row


def test_five_tasks_have_ranks_and_a_picture_which_go_with_their_records(tmp_path: Path) -> None:
    table = TABLES["2"]
    for task in table.tasks:
        for method, share in SHARES.items():
            save_seeds(tmp_path, method, {0: share}, task=task)
    written = significance.write(table, make_results(tmp_path))
    assert names(written) == [
        "table2-tests.md", "table2-tests.csv", "table2-ranks.csv", "table2-ranks.png", "table2-ranks.pdf",
    ]  # fmt: skip
    assert all(path.is_file() for path in written)
    text = written[0].read_text()
    assert "4 methods on 5 tasks: Friedman's χ²(3) = 15.00, p = 0.0018; F(3, 12) = inf, p = 0.0000; CD = 2.10." in text
    assert "Told apart: Poisoner before Vanilla." in text
    assert re.search(r"\| GroupDRO\* +\| +2\.00 \|", text)
    for path in (tmp_path / "runs" / table.tasks[0]).rglob("*.json"):
        path.unlink()
    assert names(significance.write(table, make_results(tmp_path))) == ["table2-tests.md", "table2-tests.csv"]
    assert [path.is_file() for path in written] == [True, True, False, False, False]


def test_the_command_line_writes_them_beside_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for method, share in SHARES.items():
        save_seeds(tmp_path, method, {0: share})
    assert main(["--table", "2", "3", "--render-only", "--results", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert f"wrote {tmp_path}/tables/table2-tests.md" in said
    assert f"wrote {tmp_path}/tables/table3-tests.md" in said
    assert sorted(path.name for path in (tmp_path / "tables").glob("*-tests.*")) == [
        "table2-tests.csv", "table2-tests.md", "table3-tests.csv", "table3-tests.md",
    ]  # fmt: skip


@pytest.mark.parametrize("rows", [COMPARED, COMPARED[:3], ABLATIONS.rows])
def test_the_diagram_can_be_read_in_print(rows: tuple, tmp_path: Path) -> None:  # type: ignore[type-arg]
    """No text is smaller than 7 points, leaves the page or lies upon another, all methods level or none."""
    results, tasks = make_results(tmp_path), tuple("abcdefgh")
    random = np.random.default_rng(0).permuted(np.tile(np.arange(1.0, len(rows) + 1), (8, 1)), axis=1)
    ordered = np.tile(np.arange(1.0, len(rows) + 1), (8, 1))
    none = np.zeros(random.shape, bool)
    found = [Ranking("avg_acc", tasks, rows, random, none), Ranking("model_bias", tasks, rows, ordered, none)]
    found += [replace(found[0], ranks=np.full(random.shape, (len(rows) + 1) / 2), collapsed=~none)]
    titles = [results.row_title(row) + results.mark(row.method) for row in rows]
    drawing = rank_diagram.draw(found, [titles] * 3, "Table 2: Debiasing on further tasks (cpu preset)")
    texts = [each for each in drawing.findobj(Text) if each.get_text()]
    assert all(each.get_fontsize() >= 7 for each in texts)
    drawn = {each.get_text().rstrip("§") for each in texts}
    assert all(title in drawn or f"{title[: rank_diagram.LONGEST - 1]}…" in drawn for title in titles)
    page, boxes = drawing.bbox, [each.get_window_extent() for each in texts]
    for each, box in zip(texts, boxes, strict=True):
        assert page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 and box.y1 <= page.y1, each.get_text()  # noqa: PT018
    overlapping = [
        (texts[one].get_text(), texts[other].get_text())
        for one in range(len(boxes))
        for other in range(one)
        if boxes[one].padded(-1).overlaps(boxes[other].padded(-1))
    ]
    assert overlapping == []
