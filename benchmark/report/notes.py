"""What a reader must know of a table's numbers: sentences under tables and pictures, and beside the page's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from benchmark import quoting
from benchmark.compare import cells, published
from benchmark.compare.doubts import data_notes, doubts
from benchmark.metrics import FAIRNESS, INVERTED
from benchmark.plan.run import PAPER
from benchmark.plan.table import Row, Table
from benchmark.plan.uses import MARKS, WORDS
from benchmark.report.words import COLLAPSED, ONE_SEED
from benchmark.rules import LAST, Rule
from benchmark.store.record import Record
from benchmark.store.results import Results

FEW = 6  # of what is named one by one
LEGEND = (("*", "* uses them"), ("†", "† uses those of validation images"))
"""What footers say of the marks of methods with bias labels."""


def marks(shown: str) -> list[str]:
    """A sentence for each mark of a method among those that are shown."""
    return [f"{mark} uses {WORDS[use]}." for use, mark in MARKS.items() if mark in shown]


def seeds(numbers: Iterable[int]) -> str:
    """How many seeds there are, such as "1 to 3", of what was measured; ``numbers`` are those of each."""
    counts = set(numbers) - {0} or {0}
    return " to ".join(map(str, sorted({min(counts), max(counts)})))


def seeds_of(table: Table, results: Results) -> str:
    """How many seeds the cells of a table have; of numbers of the test, only those that the rule can be applied to."""
    return seeds(number for row in table.rows for number in _seeds_of_row(table, row, results))


def _seeds_of_row(table: Table, row: Row, results: Results) -> list[int]:
    """The numbers of a row's cells, task by task."""
    of_test = bool({*table.metrics} & {*FAIRNESS})
    return [
        sum(record.epoch(results.rule) is not None or not of_test for record in results.cell(table, row, task).records)
        for task in table.tasks
    ]


def footer(table: Table, results: Results, whole: bool = True) -> list[str]:
    """What a reader must know of the numbers: seeds, spread, selection, and why cells are empty.

    Without ``whole`` not what can be said once of many tables: the marks.
    """
    marks = "".join(results.mark(row.method) for row in table.rows)
    of_bias = [text for mark, text in LEGEND if mark in marks]
    fairness = f", among methods without bias labels ({', '.join(of_bias)})" if of_bias else ""
    of_test = {"model_bias", "max_min_bias"} & {*table.metrics}
    near_chance = " A low bias alone proves nothing: a model near chance has none." if of_test else ""
    if table.metrics == ("bias_acc",):
        near_chance = " A Bias Accuracy of 50 tells of no bias: either all labels are fitted, or nothing is."
    empty = [results.task_title(task) for task in table.tasks if not results.measured(table, task)]
    return [
        f"Percent; {_seeds_note(table, results, marked=whole)}; selection: {selection(table, results)}.",
        *(f"{each}; --select {LAST.name} shows what there is." for each in unselected(table, results)),
        *_first_epoch_note(table, results),
        *_capped_note(table, results),
        *_same_runs_note(table, results),
        *_seeds_apart_note(table, results),
        *([f"Best in bold, second underlined{fairness}.{near_chance}"] if whole else []),
        *(["‡ trains on validation images, without their bias labels."] if "‡" in marks and whole else []),
        *caveats(table, results),
        *([f"Tasks left out, without records: {'; '.join(empty)}."] if empty else []),
        *(f"Failed: {failure}" for failure in failures(table, results)),
    ]


def provenance(table: Table, results: Results, rules: Iterable[Rule] = ()) -> list[str]:
    """What a reader must know of the records: ``caveats``, and the commits of their code."""
    return [*caveats(table, results, rules), *commits_note(table, results)]


def caveats(table: Table, results: Results, rules: Iterable[Rule] = ()) -> list[str]:
    """What a reader must know of the records: which collapsed, their preset and data, and how old their code is.

    ``rules`` are those whose epochs are shown, the results' by default.
    """
    found = results.records_of(table, table.tasks)
    return [
        *_collapsed_note(found, table, tuple(rules) or (results.rule,)),
        *_preset_note(table),
        *data_notes(found, results),
        *_precision_note(found, results),
        *doubts(found, results),
    ]


def commits_note(table: Table, results: Results) -> list[str]:
    """The commits of the code that measured the table's records; nothing without records."""
    commits = sorted({record.provenance.short_commit for record in results.records_of(table, table.tasks)})
    return [f"Commit {', '.join(commits)}."] if commits else []


def selection(table: Table, results: Results) -> str:
    """Which epoch the table's numbers are of: Bias Accuracy follows no rule."""
    if not {*table.metrics} & {*FAIRNESS}:
        return LAST.note
    apart = results.rule is not LAST and "bias_acc" in table.metrics
    return results.rule.note + (f"; Bias Acc. of the {LAST.title}" if apart else "")


def unselected(table: Table, results: Results) -> Iterator[str]:
    """Why runs that there are have no number under the rule, each reason once."""
    if not set(table.metrics) & set(FAIRNESS):
        return
    reasons = Counter(
        (task, reason)
        for task in table.tasks
        for record in {each.run.id: each for each in results.records_of(table, [task])}.values()
        if (reason := record.why_not(results.rule))
    )
    for (task, reason), count in reasons.items():
        yield f"{results.task_title(task)}: {quoting.counted(count, 'run')} cannot be selected so, since {reason}"


def _first_epoch_note(table: Table, results: Results) -> Iterator[str]:
    """Of which rows the rule mostly chose the first epoch that it could: it had no say on what lies before its end."""
    if not set(table.metrics) & set(FAIRNESS):
        return
    rows: dict[tuple[str, ...], list[str]] = {}
    for task in table.tasks:
        found = tuple(results.row_title(row) for row in table.rows if _mostly_first(table, row, task, results))
        if found:
            rows.setdefault(found, []).append(results.task_title(task))
    for found, tasks in rows.items():
        yield (
            f"{'; '.join(tasks)}: in most runs shown in the first epoch that was measured, and maybe better before its "
            f"end: {', '.join(found)}."
        )


def _capped_note(table: Table, results: Results) -> Iterator[str]:
    """Which rows' bias is the average itself, which it cannot exceed where it counts from each class's worst group."""
    if not {"model_bias", "avg_acc"} <= {*table.metrics}:
        return
    for task in table.tasks:
        rows = [results.row_title(row) for row in table.rows if cells.has_capped_bias(table, row, task, results)]
        if rows:
            yield (
                f"{results.task_title(task)}: in every class some group has no right answer, so that the bias is the "
                f"average itself, cannot be more, and is never the best: {', '.join(rows)}."
            )


def _same_runs_note(table: Table, results: Results) -> Iterator[str]:
    """Which rows show the same runs, such as those of a setting's own value beside the recipe's."""
    for task in table.tasks:
        rows: dict[tuple[str, int | None], list[str]] = {}
        for row in table.rows:
            if len(results.cell(table, row, task)):
                rows.setdefault(results.source(table, row, task), []).append(results.row_title(row))
        for titles in rows.values():
            if len(titles) > 1:
                yield f"{results.task_title(task)}: the same runs stand in the rows {', '.join(titles)}."


def _seeds_apart_note(table: Table, results: Results) -> Iterator[str]:
    """Which rows have no seed of the first one, so that what lies between them may be that of the seeds."""
    for task in table.tasks:
        seeds_of = {row.key: {record.seed for record in results.cell(table, row, task).records} for row in table.rows}
        first, *others = [row for row in table.rows if seeds_of[row.key]] or table.rows
        apart = [results.row_title(row) for row in others if seeds_of[row.key].isdisjoint(seeds_of[first.key])]
        if apart and seeds_of[first.key]:
            yield (
                f"{results.task_title(task)}: of other seeds than {results.row_title(first)}, so not paired with it: "
                f"{', '.join(apart)}."
            )


def _mostly_first(table: Table, row: Row, task: str, results: Results) -> bool:
    records = results.cell(table, row, task).records
    chosen = [each for each in records if len(each.answers.epochs) > 1 and each.epoch(results.rule) is not None]
    return 2 * sum(each.epoch(results.rule) == each.answers.epochs[0] for each in chosen) > len(chosen)


def _collapsed_note(found: Sequence[Record], table: Table, rules: Sequence[Rule]) -> list[str]:
    if not {*table.metrics} & {*FAIRNESS} or not any(record.collapsed(rule) for record in found for rule in rules):
        return []
    return [
        f"{COLLAPSED} collapsed: some or all of its runs are at chance, with one answer for everything, or with the "
        f"bias turned round (conflicting groups answered {INVERTED:.0f} points better than aligned ones); never the "
        "best."
    ]


def _seeds_note(table: Table, results: Results, marked: bool) -> str:
    """How many seeds, and where single ones are ``marked`` in the cells, by what."""
    n = seeds_of(table, results)
    if n == "0":
        return "no run can be shown" if results.records_of(table, table.tasks) else "no records yet"
    if n == "1":
        return f"n = 1 ({ONE_SEED} one seed)" if marked else "n = 1"
    alone = f"; {ONE_SEED} one seed" if marked and n.startswith("1 ") else ""
    if few := _rows_of_fewer(table, results):
        n += f" ({few})"
    return f"n = {n}, mean ± sample standard deviation (ddof 1) over seeds{alone}"


def _rows_of_fewer(table: Table, results: Results) -> str:
    """The rows of which no cell has as many seeds as others have, with their numbers; single seeds have a mark."""
    numbers = {row: [number for number in _seeds_of_row(table, row, results) if number] for row in table.rows}
    most = max((number for own in numbers.values() for number in own), default=0)
    rows: dict[str, list[str]] = {}
    for row, own in numbers.items():
        if own and min(own) > 1 and max(own) < most:
            rows.setdefault(seeds(own), []).append(results.row_title(row))
    return "; ".join(f"{number}: {', '.join(titles)}" for number, titles in rows.items())


def _preset_note(table: Table) -> list[str]:
    if table.preset == PAPER:
        return []
    beside = "; the paper's numbers are for orientation, not for comparison" if published.prints(table.name) else ""
    return [f"Measured in the {table.preset} preset{beside}."]


def _precision_note(found: Sequence[Record], results: Results) -> list[str]:
    """How many of the shown runs computed in less than float32, which depends on the device; the fewer are named."""
    runs = {record.run.id: record for record in found}.values()
    lower = [record for record in runs if record.provenance.precision == "bfloat16"]
    if not lower:
        return []
    if len(lower) == len(runs):
        return [f"{'This run' if len(lower) == 1 else f'All of these {len(lower)} runs'} computed in bfloat16."]
    full = [record for record in runs if record not in lower]
    fewer, precision = min((lower, "bfloat16"), (full, "float32"), key=lambda each: len(each[0]))
    methods: dict[str, set[str]] = {}
    for each in fewer:
        title = results.names.methods.get(each.method, each.method)
        methods.setdefault(results.task_title(each.task), set()).add(title)
    named = "; ".join(f"{task}: {', '.join(sorted(titles))}" for task, titles in sorted(methods.items()))
    apart = f" In {precision} {named}." if len(fewer) <= FEW else ""
    return [f"{len(lower)} of these {len(runs)} runs computed in bfloat16, the others in float32.{apart}"]


def failures(table: Table, results: Results) -> Iterator[str]:
    """The table's failed runs, each with its reason."""
    for task in table.tasks:
        for row in table.rows:
            yield from failures_of(table, row, task, results)


def failures_of(table: Table, row: Row, task: str, results: Results) -> Iterator[str]:
    """Those of a row on a task; a row of changed settings is named."""
    which = f"{task}/{row.method} ({results.row_title(row)})" if row.overrides else f"{task}/{row.method}"
    for seed, reason in sorted(results.cell(table, row, task).failures.items()):
        yield f"{which} seed {seed}: {reason}"
