"""What became of a search: scores of its points, which one is chosen, and the table of recipes and tuned rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.plan.search import PREFIX, Search
from benchmark.plan.table import Row, Table
from benchmark.store.record import Record
from benchmark.store.results import Results


@dataclass(frozen=True)
class Outcome:
    """What became of a search: its records by the number of their points, why others failed, and the best score.

    ``chosen`` is the number of the point whose score is best, the first of several, None while points are missing.
    ``scores`` are those of the rule on validation images, in percent, what decides first.
    """

    search: Search
    records: dict[int, Record]
    scores: dict[int, tuple[float, ...]]
    failures: dict[int, str]

    @property
    def missing(self) -> int:
        return len(self.search.points) - len(self.records) - len(self.failures)

    @property
    def chosen(self) -> int | None:
        if self.missing or not self.scores:
            return None
        return max(self.scores, key=lambda number: (self.scores[number], -number))

    @property
    def hours(self) -> float:
        """What its finished points took, in hours of a processor core or of a GPU."""
        sources = [record.provenance for record in self.records.values()]
        return sum(each.seconds * (each.threads if on_cpu(each.device) else 1) for each in sources) / 3600

    @property
    def device(self) -> str:
        """ "CPU" or "GPU", or both."""
        devices = {"CPU" if on_cpu(each.provenance.device) else "GPU" for each in self.records.values()}
        return " and ".join(sorted(devices))


def on_cpu(device: str) -> bool:
    return device.startswith("CPU")


def outcome(search: Search, results: Results) -> Outcome:
    """What is stored of a search's points."""
    stored = {number: results.points.get(point.run.id) for number, point in enumerate(search.points)}
    found = {number: each for number, each in stored.items() if isinstance(each, Record)}
    failures = {number: each for number, each in stored.items() if isinstance(each, str)}
    scores = {number: score for number, record in found.items() if (score := record.score(results.rule))}
    return Outcome(search, found, scores, failures)


def tuned_table(outcomes: Sequence[Outcome], results: Results) -> Table:
    """The rows of one table on one task as their recipes have them, each followed by what its search chose."""
    first = outcomes[0].search
    rows: list[Row] = []
    for each in outcomes:
        rows.append(each.search.row)
        if each.chosen is not None:
            rows.append(each.search.tuned(each.chosen, results.row_title(each.search.row)))
    own = () if first.table.tasks == (first.task,) else (first.task,)
    searched = [each.search.row for each in outcomes]
    narrowed = () if searched == [*first.table.rows] else tuple(row.key for row in searched)
    return Table(
        name="-".join((PREFIX, first.table.name, *own, *narrowed)),
        title=f"{first.table.title}, each method by its recipe and tuned with {len(first.points)} points",
        tasks=(first.task,),
        rows=tuple(rows),
        metrics=first.table.metrics,
        overrides=first.table.overrides,
        preset=first.table.preset,
    )
