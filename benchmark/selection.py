"""What a command line chooses: tables and figures, narrowed to tasks and methods, with what --set changes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.arguments import has_controls, is_text
from benchmark.errors import UserError, unknown
from benchmark.plan import catalogue, limits, ours
from benchmark.plan.paper import COMPARED, FIGURES, TABLES
from benchmark.plan.recipes import Recipes, folder_task, load
from benchmark.plan.run import Run, Settings
from benchmark.plan.table import Figure, Override, Row, Table, with_methods
from benchmark.plan.uses import Labels

LONGEST_NAME = 255  # bytes: a folder of records is called like its task


@dataclass(frozen=True)
class Selection:
    """The tables and figures asked for, narrowed to some tasks and methods where any are named, and the seeds.

    ``notes`` are sentences on what was left out.
    """

    recipes: Recipes
    tables: tuple[Table, ...]
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: int
    notes: tuple[str, ...] = ()

    def runs(self, *tables: Table) -> list[Run]:
        """The runs of these tables, or of all, each once."""
        chosen = tables or self.tables
        return catalogue.runs(self.recipes, chosen, range(self.seeds), self.tasks, self.methods)


def select(options: argparse.Namespace) -> Selection:
    """What the options choose. Raises UserError for names that do not exist and choices that leave nothing."""
    recipes, own = with_dataset(load(), options.dataset, options.bias)
    if own and (options.table or options.quick or options.tasks or options.task or options.all):
        raise UserError("--dataset is a task of its own: leave out --table, --all, --quick, --task and --tasks.")
    task = own if own and options.figure else options.task
    tasks = tuple(recipes.check_task(each) for each in ([own] if own and not options.figure else options.tasks))
    methods = tuple(recipes.check_method(each) for each in options.methods)
    if options.preset not in recipes.all_presets:
        raise unknown("preset", options.preset, recipes.all_presets)
    tables = tuple(replace(each, preset=options.preset) for each in _chosen(options, recipes, task, tasks, methods))
    remaining, notes = _with_any_run(tables, tasks, methods, recipes)
    if options.all:  # it renders every table, whatever it trains
        notes = ()
    else:
        tables = remaining
    if own:
        tables, more = _without_lacking(tables, methods, options.dataset, own, recipes)
        notes += more
    overrides, more = _effective(options.overrides, Selection(recipes, tables, tasks, methods, 1))
    notes += more
    tables = tuple(replace(each, overrides=overrides) for each in tables)
    Selection(recipes, tables, tasks, methods, 1).runs()  # refuses settings that do not go together
    return Selection(recipes, tables, tasks, methods, options.seeds, notes)


def with_dataset(recipes: Recipes, folder: Path | None, bias: Sequence[str] = ()) -> tuple[Recipes, str]:
    """The recipes with the task of a folder of one's own, and its name.

    ``bias`` are the columns that --bias names; their order is none of the choice. Raises UserError without a
    labels.csv there, and for columns without a folder.
    """
    if folder is None:
        if bias:
            raise UserError("--bias chooses columns of the labels.csv of a folder: name the folder, too.")
        return recipes, ""
    from datasets.folder import BIAS, labels_digest  # the registry of data sets, which only such a folder needs here

    data: Settings = {"folder": folder.resolve().name}
    if (columns := sorted(set(bias))) not in ([], [BIAS]):
        data["bias"] = columns
    name = folder_task(data)
    if not data["folder"] or not is_text(name) or has_controls(name) or len(name.encode()) > LONGEST_NAME:
        columns_too = " or the columns" if "bias" in data else ""
        raise UserError(
            f"The folder '{folder}' has the name '{name}', by which no task can be called: rename it{columns_too}."
        )
    return recipes.with_folder({**data, "labels": labels_digest(folder)}), name


def _chosen(
    options: argparse.Namespace, recipes: Recipes, task: str | None, tasks: Sequence[str], methods: tuple[str, ...]
) -> list[Table]:
    """The tables and figures, with rows of the user's extra methods."""
    chosen = [catalogue.table(number) for number in (TABLES if options.all else options.table or ())]
    if options.quick or (options.all and options.render_only):
        chosen.append(ours.QUICK)
    chosen = [with_methods(table, methods) for table in chosen]
    figures: list[Figure] = [catalogue.figure(number) for number in (FIGURES if options.all else options.figure or ())]
    if task and not figures:
        raise UserError("--task is for figures: add --figure, or choose columns of tables with --tasks.")
    if task:
        figures = [figure.on(recipes.check_task(task)) for figure in figures]
    if chosen or figures:
        return [*chosen, *figures]
    if not tasks:
        raise UserError(
            "Nothing to do: name a --table, --figure, --tasks, --dataset, --quick or --all; --list shows what there is."
        )
    return [ours.selection(tasks, methods or [row.method for row in COMPARED])]


def _with_any_run(
    tables: Sequence[Table], tasks: Sequence[str], methods: Sequence[str], recipes: Recipes
) -> tuple[tuple[Table, ...], tuple[str, ...]]:
    """The tables, of one preset, that show any of the tasks and methods in it, and notes on what is left out.

    Raises UserError for a task that no table has, and where no table remains.
    """
    for task in tasks:
        if not any(task in table.tasks for table in tables):
            names = ", ".join(table.heading for table in tables)
            known = ", ".join(dict.fromkeys(each for table in tables for each in table.tasks))
            raise UserError(f"No column {task} in {names}; tasks there: {known}.")
    remaining, reasons, lacking = list[Table](), list[str](), list[str]()
    without = dict[str, None]()
    for table in tables:
        asked = [each for each in tasks or table.tasks if each in table.tasks]
        available = recipes.available(table)
        rows = list(dict.fromkeys(row.method for row in table.rows))
        if not asked:
            reasons.append(f"{table.name} has no column {' or '.join(tasks)}")
        elif methods and not set(rows) & set(methods):
            reasons.append(f"{table.name} shows no run of {' or '.join(methods)}; its methods: {', '.join(rows)}")
        elif not set(asked) & set(available):
            lacking.append(f"No preset '{table.preset}' exists for {', '.join(asked)}: leave out --preset")
        else:
            remaining.append(table)
        without |= dict.fromkeys(each for each in asked if each not in available)
    if not remaining:
        # A task that exists somewhere, but not in that preset, says more than another table's lack of it.
        raise UserError((*lacking, *reasons)[0] + ".")
    notes = [f"Left out: {each}." for each in reasons]
    if without:
        notes.append(f"Left out, since there is no preset '{tables[0].preset}' for it: {', '.join(without)}.")
    return tuple(remaining), tuple(notes)


def _without_lacking(
    tables: Sequence[Table], methods: Sequence[str], folder: Path, own: str, recipes: Recipes
) -> tuple[tuple[Table, ...], tuple[str, ...]]:
    """The tables without what needs labels or validation images that the folder lacks, and notes that say so.

    Raises UserError where a method that needs them was asked for by name.
    """
    from datasets.folder import BIAS, bias_of

    labels = Labels(own, *bias_of(folder, recipes.task_settings(own)["data"].get("bias", (BIAS,))))
    for method in methods:
        labels.check(method, recipes.uses(method))
    left_out: dict[str, dict[str, None]] = {}

    def can_do(row: Row) -> bool:
        balanced = [str(each) for each in row.overrides if each.key == "balance" and not each.owner and each.value]
        why = labels.lacking(("uses_bias_labels",) if balanced else recipes.uses(row.method))
        if why:
            left_out.setdefault(why, {}).update(dict.fromkeys(balanced or [recipes.method_title(row.method)]))
        return not why

    tables = tuple(each.only(can_do) for each in tables)
    return tables, tuple(f"Left out, since {why}: {', '.join(names)}." for why, names in left_out.items())


def _effective(texts: Sequence[str], selection: Selection) -> tuple[tuple[Override, ...], tuple[str, ...]]:
    """The overrides that change a run asked for, and notes on others, of methods that are not.

    Raises UserError for one that should change a run and does not, or may not. What names a row is its own.
    """
    recipes = selection.recipes
    overrides = checked_overrides(texts, recipes)
    asked: dict[tuple[str, str, str], list[Row]] = {}
    for table in selection.tables if overrides else ():
        for row, task in catalogue.cells(recipes, table, selection.tasks, selection.methods):
            asked.setdefault((task, row.method, table.preset), []).append(row)
    effective, notes = list[Override](), list[str]()
    for override in overrides:
        concerned = [row for run, rows in asked.items() if recipes.applies(override, *run) for row in rows]
        if not all(row.sets(override) for row in concerned):
            effective.append(override)
        elif not concerned and override.owner not in ("", "data"):
            notes.append(f"--set {override} changes nothing: no run of {override.owner} is asked for.")
        else:
            why = f", since each row that it is for sets {override.key} itself" if concerned else ""
            raise UserError(f"--set {override} changes none of the runs asked for{why}: leave it out.")
    return tuple(effective), tuple(notes)


def checked_overrides(texts: Sequence[str], recipes: Recipes) -> list[Override]:
    """The parsed --set, each once. Raises UserError for what does not exist, is beyond its limits, or has two values.

    Limits of a method's options stand beside the method.
    """
    overrides = list(dict.fromkeys(recipes.parse_override(text) for text in texts))
    given: dict[str, Override] = {}
    for override in overrides:
        if (first := given.setdefault(override.name, override)) is not override:
            raise UserError(f"--set {first} and --set {override} contradict each other: leave one of them out.")
    owned = [each for each in overrides if each.owner in recipes.methods and each.key in recipes.options(each.owner)]
    if owned:
        import methods  # the methods themselves, hence PyTorch, which only this asks for before something is trained

        for override in owned:
            limits.check(override.name, override.value, methods.options(override.owner)[override.key])
    return overrides
