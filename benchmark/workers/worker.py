"""Executes runs: builds their dataset, trains them, and stores a record or why there is none."""

from __future__ import annotations

import gc
import json
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch

import datasets
import methods
from benchmark.errors import UserError, described
from benchmark.models.keeping import keep
from benchmark.plan import code, limits
from benchmark.plan.run import Run
from benchmark.plan.uses import MARKS, Labels
from benchmark.rules import Rule
from benchmark.store import leases
from benchmark.store.atomic import Patience
from benchmark.store.leases import Holder, Lease
from benchmark.store.logs import RunLog
from benchmark.store.provenance import commit
from benchmark.store.record import Commit, Record
from benchmark.store.store import Models, Predictions, Store
from benchmark.terminal.display import SHOWN, Event, Tell, told
from benchmark.training.loop import train
from benchmark.training.networks import check as check_network
from benchmark.training.networks import check_precision
from benchmark.training.process import configure, keep_freed_memory
from benchmark.training.progress import EpochEntry
from benchmark.training.recording import make_record
from benchmark.training.training import Training
from datasets import BiasedDataset
from datasets.base import Fingerprint

if TYPE_CHECKING:
    from benchmark.options import Execution

Outcome = Literal["done", "failed", "elsewhere"]


def pick_device(name: str) -> torch.device:
    """The device of that name, "auto" meaning a GPU where there is one. Raises UserError where it is absent."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"Device '{name}' cannot be used here: {str(error).splitlines()[0]}") from error


class Leased(NamedTuple):
    """A run and our lease of it."""

    run: Run
    lease: Lease


class Worker:
    """Executes runs one after the other on one device, keeping the dataset between runs that share it.

    In a job, ``log`` is the file its output goes to, and ``submitted`` the commit at which it was submitted. Of a
    small network up to ``seeds_at_once`` seeds are trained as one: by default 16 on a GPU, which one network leaves
    nearly idle, and one on a CPU, which it does not. Of the epochs that the rules ``keep`` choose, models are kept;
    every epoch is logged in the formats ``logs``.
    Networks that gain from several ``threads`` take so many, by default all cores. ``tell`` is called with what there
    is to show.
    """

    def __init__(
        self,
        store: Store,
        data_root: Path,
        device: torch.device,
        checkpoint_seconds: float = 30,
        log: Path | None = None,
        submitted: Commit | None = None,
        seeds_at_once: int | None = None,
        keep: Sequence[Rule] = (),
        threads: int | None = None,
        logs: Sequence[str] = (),
        tell: Tell = lambda event: None,
    ) -> None:
        self.store = store
        self.data_root = data_root
        self.device = device
        self.checkpoint_seconds = checkpoint_seconds
        self.log = log
        self.submitted = submitted
        self.seeds_at_once = seeds_at_once or (16 if device.type == "cuda" else 1)
        self.keep = keep
        self.logs = logs
        self._patience: defaultdict[str, Patience] = defaultdict(Patience)  # of each run, by its id
        self._leases: list[Lease] = []
        self._trainings: list[Training] = []
        self.threads = threads or torch.get_num_threads()
        self.tell = tell
        self._load = lru_cache(maxsize=1)(self._load_dataset)
        # What has just been loaded is what will be trained, whatever becomes of the checkout meanwhile.
        for name in methods.METHODS:
            code.of_method(name)
        commit()
        configure()

    def _load_dataset(self, builder: str, data: str, balance: float) -> tuple[BiasedDataset, Fingerprint]:
        dataset = datasets.load(builder, self.data_root, balance, **json.loads(data))
        return dataset, dataset.fingerprint()

    def dataset(self, run: Run) -> tuple[BiasedDataset, Fingerprint]:
        """The run's dataset and its fingerprint. Raises UserError when its files are missing or damaged."""
        return self._load(run.settings["dataset"], json.dumps(run.settings["data"]), run.settings["balance"])

    def forget_data(self) -> None:
        """Let the memory go that the last dataset takes."""
        self._load.cache_clear()

    def check(self, run: Run) -> None:
        """Raises UserError for what would make the run fail and can be known beforehand."""
        check_options(run)
        if not code.of_method(run.method):
            raise UserError(
                f'No class in a file of methods/ has @register("{run.method}") above it in so many letters, by which '
                "its code could be known again: write it so."
            )
        dataset, _ = self.dataset(run)
        kind = methods.get(run.method)
        labels = Labels(dataset.name, dataset.train.bias, dataset.validation.bias)
        labels.check(run.method, [each for each in MARKS if getattr(kind, each)])
        check_network(run.settings, dataset.image_shape, len(dataset.class_names))
        check_precision(run.settings["precision"], self.device)

    def prepare(self, runs: Sequence[Run]) -> None:
        """Check all runs before the first one starts, so that nothing is found missing after an hour.

        Raises UserError. Sorted, since the worker keeps one dataset at a time.
        """
        for run in sorted(runs, key=lambda run: (run.settings["dataset"], str(run.settings["data"]))):
            self.check(run)

    def work(self, runs: Sequence[Run]) -> list[Outcome]:
        """Execute the runs, first those that nobody else has; returns what became of each.

        Leases of others are then watched until they change or go stale, so that nothing stays behind a dead owner.
        """
        outcomes: dict[str, Outcome] = {}
        watched: list[tuple[Run, Holder | None, float]] = []
        for runs_together in together(runs, self.seeds_at_once):
            outcomes |= self.execute(runs_together)
            for run in runs_together:
                if outcomes[run.id] == "elsewhere":
                    watched.append((run, leases.newest(self.store.record_path(run)), time.monotonic()))
        for run, holder, since in watched:
            while holder and holder == leases.newest(self.store.record_path(run)):
                if time.monotonic() - since > leases.STALE:
                    break
                time.sleep(1)
            # Should the lease have changed after all, it is not the abandoned one and is respected.
            outcomes |= self.execute([run], holder)
            if outcomes[run.id] == "elsewhere":
                self._note([run], f"{run} is being trained by another worker.")
                self._end(run, "elsewhere")
        return [outcomes[run.id] for run in runs]

    def execute(self, runs: Sequence[Run], abandoned: Holder | None = None) -> dict[str, Outcome]:
        """Train seeds of one run and store their records, or store why one failed; returns outcomes by run id.

        A seed that another worker has is left to that worker. ``abandoned`` is a lease that may be disregarded, since
        it was watched long enough. Should anything go wrong with several seeds, each goes on alone from its checkpoint.
        """
        outcomes: dict[str, Outcome] = {run.id: "elsewhere" for run in runs}
        with self._leased(runs, abandoned, outcomes) as mine:
            try:
                for outcome in self._train_and_store(mine):
                    outcomes |= outcome
                return outcomes
            except Exception as error:  # whatever goes wrong in one run must not take the others with it
                if len(mine) == 1:
                    return outcomes | {mine[0].run.id: self._explain(mine[0].run, error)}
                reason = described(error)
        self._note(runs, f"{title(runs)} go on one by one: {reason}")
        for run, _ in mine:
            outcomes |= self.execute([run])
        return outcomes

    @contextmanager
    def _leased(
        self, runs: Sequence[Run], abandoned: Holder | None, outcomes: dict[str, Outcome]
    ) -> Iterator[list[Leased]]:
        """Those of the runs that can be had, ours until the end of the context; ``outcomes`` of those that fail."""
        mine: list[Leased] = []
        self._leases = []
        try:
            for run in runs:
                path = self.store.record_path(run)
                try:
                    lease = self._patience[run.id](partial(leases.acquire, path, self.log, abandoned), path)
                except OSError as error:
                    outcomes[run.id] = self._explain(run, error)
                    continue
                if lease:
                    self._leases.append(lease)
                    mine.append(Leased(run, lease))
            yield mine
        finally:
            self._trainings = []
            gc.collect()  # a training hangs in cycles of references, and its tensors with it
            for lease in self._leases:
                lease.release()
            for run, _ in mine:
                self.store.clean_up(run)

    def _train_and_store(self, mine: Sequence[Leased]) -> Iterator[dict[str, Outcome]]:
        """Train and store what has no record yet; yields the outcome of each run, once it is on disk."""
        open_runs = []
        for each in mine:
            if self.store.has(each.run):  # another worker has just finished it
                self._done(each.run)
                yield {each.run.id: "done"}
            else:
                open_runs.append(each)
        if not open_runs:
            return
        data = self._train(open_runs)
        for each, training in zip(open_runs, self._trainings, strict=True):
            record = make_record(each.run, training, data, len(open_runs), self.submitted)
            kept = keep(record, training, self.keep) if self.keep else None
            save = partial(self._save, each, record, training.predictions(), kept)
            if not self._patience[each.run.id](save, self.store.record_path(each.run)):
                self._note([each.run], f"{each.run} was finished by another worker meanwhile, whose record stands.")
            self._done(each.run)
            yield {each.run.id: "done"}

    def _save(self, mine: Leased, record: Record, predictions: Predictions, kept: Models | None) -> bool:
        """Store the record of a run that is still ours; see ``Store.save``. Raises Lost where it is not."""
        mine.lease.check()
        return self.store.save(record, predictions, kept)

    def _train(self, mine: Sequence[Leased]) -> Fingerprint:
        """Train seeds of one run, ``self._trainings``, to their end; returns the fingerprint of their data."""
        first = mine[0].run
        dataset, fingerprint = self.dataset(first)
        # One thread for the small network: more hardly help it, crawl where another program wants the cores, and
        # would make its sums, hence its numbers, depend on the machine.
        torch.set_num_threads(1 if first.settings["network"] == "mlp" else self.threads)
        keep_freed_memory()
        if self.device.type == "cuda":
            torch.cuda.init()  # before a device was touched there are no statistics to reset
            torch.cuda.reset_peak_memory_stats(self.device)
        self._trainings = []
        for run, _ in mine:
            self._trainings.append(
                Training(
                    dataset,
                    run.settings,
                    run.seed,
                    self.device,
                    self.store.checkpoint_path(run),
                    self.checkpoint_seconds,
                    splits=self._trainings[0].splits if self._trainings else None,
                    fingerprint=fingerprint,
                    keep=self.keep,
                )
            )
        with ExitStack() as stack:
            logs = []
            for (run, lease), training in zip(mine, self._trainings, strict=True):
                lease.total = training.total_epochs
                log = RunLog(self.store.folder, run.id, self.logs, lease.total, partial(self._note, [run]))
                logs.append(stack.enter_context(closing(log)))
                training.report = self._reporter([run for run, _ in mine], training, lease, log)
            train(self._trainings)
            for log, training in zip(logs, self._trainings, strict=True):
                log.follow(training.progress.history)  # of a run that was killed after its last epoch
        return fingerprint

    def _explain(self, run: Run, error: Exception) -> Outcome:
        """Say and store why a run ended without a record."""
        if isinstance(error, leases.Lost) or self.store.has(run):
            self._note([run], f"{run} stopped: {error}")
            return "elsewhere"
        reason = described(error)
        where = {"job": leases.slurm_job(), "log": str(self.log)} if self.log else {}
        note = partial(self.store.save_failure, run, reason, traceback.format_exc(), **where)
        try:
            self._patience[run.id](note, self.store.failure_path(run))
        except OSError as unwritable:
            self._note([run], f"Why {run} failed could not be stored ({unwritable}); other runs go on.")
        self._end(run, "failed", text=reason)
        return "failed"

    def _note(self, runs: Sequence[Run], text: str) -> None:
        self.tell(Event("note", tuple(run.id for run in runs), title(runs), text))

    def _done(self, run: Run) -> None:
        """Tell what the record says that is stored, whoever made it."""
        if record := self.store.load(run):
            known = {name: value for name, value in record.fairness().items() if value is not None}
            said = "collapsed" if record.collapsed() else ""
            self._end(run, "done", text=said, metrics=known, seconds=record.provenance.seconds)
        else:
            self._end(run, "done")

    def _end(self, run: Run, outcome: Outcome, **what: Any) -> None:
        self.tell(Event("ended", (run.id,), str(run), outcome=outcome, **what))

    def suspend(self) -> None:
        """Checkpoint the runs in progress and let others have them; made to be called from a signal handler."""
        for training in self._trainings:
            if training.checkpoint:
                training.checkpoint.write()
        for lease in self._leases:
            lease.release()

    def _reporter(
        self, runs: Sequence[Run], training: Training, lease: Lease, log: RunLog
    ) -> Callable[[EpochEntry], None]:
        ids, name = tuple(run.id for run in runs), title(runs)

        def report(entry: EpochEntry) -> None:
            lease.check()
            lease.done = len(training.progress.history)
            log.follow(training.progress.history)
            done = sum(len(each.progress.history) for each in self._trainings)
            total = sum(each.total_epochs for each in self._trainings)
            known = told(entry.get("target") or {}, entry.get("biased") or {})
            shown = {metric: known[metric] for metric in SHOWN if metric in known}
            lease.tell(entry["phase"], entry["epoch"], entry["loss"], shown)
            self.tell(Event("epoch", ids, name, entry["phase"], done, total, known))

        return report


def worker_for(store: Store, execution: Execution, **more: Any) -> Worker:
    """A worker that executes runs as the command line asks. Raises UserError where its device is absent."""
    return Worker(
        store,
        execution.data_root,
        pick_device(execution.device),
        execution.checkpoint_seconds,
        seeds_at_once=execution.seeds_at_once,
        keep=execution.keep,
        logs=execution.logs,
        **more,
    )


def check_options(run: Run) -> None:
    """Raises UserError for options other than the method's own, beyond their limits, or that do not go together."""
    kinds, options = methods.options(run.method), run.settings["options"]
    for name in sorted(kinds.keys() ^ options.keys()):
        wrong = f"lacks {name}: add it with its source" if name in kinds else f"has {name}, which it does not take"
        raise UserError(f"[method.{run.method}] in recipes.toml {wrong}.")
    for name, value in options.items():
        limits.check(f"{run.method}.{name}", value, kinds[name])
    methods.get(run.method).check(options, run.settings["optimizer"])


def title(runs: Sequence[Run]) -> str:
    """A run's name, or that of several seeds of one."""
    if len(runs) == 1:
        return str(runs[0])
    return f"{runs[0].task}/{runs[0].method} seeds {', '.join(str(run.seed) for run in runs)}"


def together(runs: Sequence[Run], seeds_at_once: int) -> list[list[Run]]:
    """The runs, those together that are seeds of one and may be trained as one batched network."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        alone = seeds_at_once == 1 or run.settings["network"] != "mlp"
        groups.setdefault(run.id if alone else run.digest, []).append(run)
    return [
        group[start : start + seeds_at_once]
        for group in groups.values()
        for start in range(0, len(group), seeds_at_once)
    ]
