"""The command line ``python -m benchmark.run``: trains what is missing and writes tables and figures."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tabulate import tabulate

from benchmark import options as command
from benchmark import rendering
from benchmark.errors import UserError, exit_code, handling
from benchmark.identity import Outdated
from benchmark.options import Execution, Jobs
from benchmark.plan import sources
from benchmark.plan.ours import EMBEDDED
from benchmark.plan.recipes import Recipes, load
from benchmark.plan.run import Run
from benchmark.plan.table import Override, Table
from benchmark.selection import Selection, checked_overrides, select, with_dataset
from benchmark.store import status
from benchmark.store.store import Store
from slurm import jobs, profiles


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Returns the exit code: 0; 1 when a run failed; 2 for bad input; 130 when interrupted."""
    interrupted = "Interrupted; the same command continues from the last checkpoint."
    # SIGTERM, which else would end this process on the spot, is what Ctrl-C is.
    with handling(signal.SIGTERM, signal.default_int_handler):
        return exit_code(lambda: _main(command.parser().parse_args(arguments)), interrupted)


def _main(options: argparse.Namespace) -> int:
    if options.list or options.show:
        recipes, _ = with_dataset(load(), options.dataset, options.bias)
        overrides = checked_overrides(options.overrides, recipes)
        if options.show:
            print(_show(recipes, options, overrides))
        else:
            from benchmark.terminal import overview

            overview.print_listing(recipes)
        return 0
    if options.status:
        from benchmark.terminal import overview

        store = Store(options.results)
        overview.print_runs(options.status, store, jobs.last_jobs(store.folder))
        return 0
    selection, store = select(options), Store(options.results)
    if options.render_only and not options.results.is_dir():
        raise UserError(f"There is no results folder {options.results} to render: name another with --results.")
    execution, submission = command.execution(options), command.jobs(options)
    profiles.load(submission.profile, submission.slurm)  # a mistake in it is one even where nothing is submitted
    command.check_launcher(options)
    for note in selection.notes:
        print(note)
    if options.search:
        return _search(options, selection, store, execution, submission)
    runs = selection.runs()
    if options.status is not None:
        _print_status([(_named(table), selection.runs(table)) for table in selection.tables], store)
        return 0
    if not options.render_only:
        runs = _able(runs, selection, execution.data_root)
    if options.dataset and options.select and not options.render_only:
        from benchmark.workers.rehearsal import check_rule

        check_rule(runs, selection.recipes, execution.data_root, command.rule(options))
    if options.dry_run:
        _list_missing(runs, selection, store, execution, submission, options.again)
        return 0
    store.check_writable()
    store.clean()
    failed = 0 if options.render_only else execute(runs, store, execution, submission, options.again)
    if failed is None:
        return 0
    rules = command.rule(options), command.rule_of_folders(options)
    rendering.render(selection, store, options.compare, *rules, everything=options.all)
    return 1 if failed else 0


def _search(
    options: argparse.Namespace, selection: Selection, store: Store, execution: Execution, submission: Jobs
) -> int:
    """Tune: train the points that are missing, then what they choose, and write both beside the recipes."""
    from benchmark.search import Tuning  # takes a second to load, which nothing else should wait for

    tuning = Tuning(selection, options.search, command.rule(options), store)
    if options.status is not None:
        _print_status([(f"Search of {options.search} points", [*tuning.points(), *tuning.reported()])], store)
        return 0
    if not options.render_only:
        from benchmark.workers.rehearsal import check_rule

        check_rule(tuning.points(), selection.recipes, execution.data_root, tuning.rule)
    if options.dry_run:
        _list_missing(tuning.points(), selection, store, execution, submission, options.again)
        return 0
    store.check_writable()
    store.clean()
    failed = 0
    stages = (tuning.points, replace(execution, keep=())), (tuning.reported, execution)  # a point is not to be used
    for runs, how in () if options.render_only else stages:
        outcome = execute(runs(), store, how, submission, options.again)
        if outcome is None:
            print("Once all points are measured, the same command trains what they choose and writes the tables.")
            return 0
        failed += outcome
    tuning.render(options.compare)
    return 1 if failed else 0


def _named(table: Table) -> str:
    """Its heading, and what sets it apart from the paper's, such as the preset."""
    return table.heading + (f" ({table.modified})" if table.modified else "")


def _print_status(tables: Sequence[tuple[str, Sequence[Run]]], store: Store) -> None:
    from benchmark.terminal import overview  # as everything that prints with rich, which nothing else should wait for

    every = {run.id: run for _, runs in tables for run in runs}
    found = {each.run.id: each for each in status.survey(every.values(), store, jobs.last_jobs(store.folder))}
    overview.print_status([(heading, [found[run.id] for run in runs]) for heading, runs in tables])


def _list_missing(
    runs: Sequence[Run], selection: Selection, store: Store, execution: Execution, submission: Jobs, again: bool
) -> None:
    """Print the runs that would be trained. Raises UserError for what would make one fail."""
    outdated = Outdated.among(runs, store, execution.data_root, execution.keep)
    if not again:
        outdated.refuse(execution.data_root)
    renew = outdated.ids if again else frozenset()
    missing = [run for run in runs if run.id in renew or store.lacks(run)]
    _rehearse(missing, selection.recipes, execution, submission)
    _say_outlook(missing, execution)
    print("\n".join(run.id for run in missing) or "Nothing to train.")


def execute(runs: Sequence[Run], store: Store, execution: Execution, submission: Jobs, again: bool) -> int | None:
    """Train the runs that have no record, or submit them; returns how many failed, None where nobody waited for it."""
    outdated = Outdated.among(runs, store, execution.data_root, execution.keep)
    if not again:
        outdated.refuse(execution.data_root)
    begun = sum(store.is_renewed(run) for run in runs)
    if begun:
        are = "is" if begun == 1 else "are"
        print(
            f"{begun} of these runs {are} trained anew, as --again once asked; old records stand until then.",
            flush=True,
        )
    renew = outdated.ids if again else frozenset()
    _say_outlook([run for run in runs if run.id in renew or store.lacks(run)], execution)
    if submission.launcher == "inline":
        from benchmark.workers import crew

        return crew.train(runs, store, execution, renew)
    from slurm import launch  # submitit is loaded only where something is submitted

    return launch.launch(runs, store, execution, submission, renew)


def _able(runs: list[Run], selection: Selection, data_root: Path) -> list[Run]:
    """The runs whose data have the validation images that their method uses; says which others are left out."""
    if not any("uses_validation" in selection.recipes.uses(run.method) for run in runs):
        return runs
    from benchmark.workers.rehearsal import able

    kept, notes = able(runs, selection.recipes, data_root, selection.methods)
    for note in notes:
        print(note)
    return kept


def _rehearse(runs: Sequence[Run], recipes: Recipes, execution: Execution, submission: Jobs) -> None:
    """Raises UserError for what would make a run fail and planning does not see: what data, weights and device lack."""
    device = "cpu" if submission.launcher == "slurm" else execution.device  # a job's is not here
    complete = all(
        run.settings["dataset"] in EMBEDDED and not run.settings["balance"] and run.settings["network"] == "mlp"
        for run in runs
    )
    if complete and device in ("auto", "cpu"):
        return
    from benchmark.workers.rehearsal import rehearse  # looks at files, and loads PyTorch where it must

    rehearse(runs, recipes, execution.data_root, device)


def _say_outlook(missing: Sequence[Run], execution: Execution) -> None:
    """Print how much there is to train on a folder of one's own."""
    if missing and missing[0].settings["dataset"] == "folder":
        from benchmark.workers.rehearsal import outlook

        print(outlook(missing, execution.data_root), flush=True)


def _show(recipes: Recipes, options: argparse.Namespace, overrides: Sequence[Override]) -> str:
    """Every setting of a run with its value, where it was set last, and the source that is given there."""
    task, method = options.show
    settings = sources.settings(recipes, task, method, overrides, options.preset)
    lines = [(each.name, each.value, each.where, each.source) for each in settings]
    return tabulate(lines, ["setting", "value", "set in", "source"], tablefmt="plain", disable_numparse=True)


if __name__ == "__main__":
    sys.exit(main())
