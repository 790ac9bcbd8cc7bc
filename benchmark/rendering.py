"""Rendering a selection and saying what was written: each table, figure and page only where anything has changed.

A ``Sheet`` is computed from nothing but what its fingerprint covers: a table is given the results as if nothing else
were stored. Where not even the folder of records has changed since the same command, no record is read.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmark.compare import published
from benchmark.compare.claims import rows_of_figure
from benchmark.cores import cores
from benchmark.plan import catalogue
from benchmark.plan.recipes import Recipes
from benchmark.plan.table import Figure, Table
from benchmark.rules import REPORTED, Rule
from benchmark.selection import Selection
from benchmark.store.atomic import noting, sha256, withdraw
from benchmark.store.rendered import Command, Product, Rendered, fingerprint, noted, short
from benchmark.store.results import Results
from benchmark.store.store import Store

ROOT = Path(__file__).parents[1]
# What a rendered file depends on beside records: methods and networks by the versions that their files state.
PACKAGES = ("benchmark", "methods", "networks")
SOURCES = (".py", ".toml", ".html", ".css", ".js")
LIBRARIES = (
    "contourpy", "cycler", "fonttools", "jinja2", "kiwisolver", "markupsafe", "matplotlib", "msgspec", "numpy",
    "packaging", "pandas", "pillow", "pyparsing", "python-dateutil", "rich", "scipy", "six", "tabulate", "wcwidth",
)  # fmt: skip
MOST = 8  # processes that draw


@dataclass(frozen=True)
class Sheet:
    """What is rendered at once: ``write`` writes its files and returns what is printed of them.

    ``name`` is its place in the folder, without suffix, ``source`` the fingerprint of all that ``write`` looks at,
    ``records`` the ``short`` digests of those that it shows.
    """

    name: str
    source: str
    records: frozenset[str]
    write: Callable[[], str]

    @property
    def drawn(self) -> bool:
        return self.name.startswith("figures/")

    def rendered(self, folder: Path) -> Product:
        with noting() as files:
            said = self.write()
        return Product(self.source, noted(files, folder), said, self.records)


def render(
    selection: Selection, store: Store, compare: str, rule: Rule, rule_of_folders: Rule, everything: bool
) -> None:
    """Write and print every chosen table, with its curves, and every figure, in the epochs that the rule chooses.

    With ``everything``, also what the stored records give in tables of ours and of folders of one's own, which have a
    rule of their own, in other presets, or on tasks that stand in for a figure's own, the verdicts on the paper's
    claims, the distance to its numbers, and the page; what any command has rendered of records that are gone is
    deleted.
    """
    failed, digests = store.failures(), store.digests()
    command = fingerprint(selection.tables, compare, rule.name, rule_of_folders.name, everything)
    with closing(Press(store.folder, selection.recipes)) as press:
        if press.repeat(command, digests, failed):
            if everything:
                press.withdraw_gone(command, digests.values())
            return
        from benchmark.collect import collect, own_tables

        results = collect(store, selection.recipes, rule, failed)
        variants, folders = list[Table](), list[Table]()
        if everything:
            variants = list(stored_variants(selection.recipes, results))
            folders = list(own_tables(results, selection.recipes))
        tables: dict[str, Table] = {}
        for table in (*selection.tables, *variants):
            tables.setdefault(table.stem, results.with_own_methods(table) if everything else table)
        sheets = [sheet for each in tables.values() for sheet in _sheets(press, each, results, compare)]
        under = replace(results, rule=rule_of_folders)
        sheets += [sheet for each in folders for sheet in _sheets(press, each, under, compare)]
        if everything:
            overview = f"figures/{results.name('overview')}"
            sheets.append(press.sheet(overview, partial(_draw_overview, results), results))
            write = partial(_write_report, [*folders, *variants], results)
            sheets.append(press.sheet(results.name("report"), write, results, folders, variants))
        press.render(sheets)
        press.remember(command, results.digests, failed)
        if everything:
            press.withdraw_gone(command, results.digests.values())


class Press:
    """Renders into a folder of results, prints what there is to see, and names what had to be written."""

    def __init__(self, folder: Path, recipes: Recipes) -> None:
        self.folder = folder
        self.basis = fingerprint(code(), recipes.content, published.content())
        self.stored = Rendered.read(folder)
        self.products: dict[str, Product] = {}
        self.current = 0

    def close(self) -> None:
        """Keep what is known of the folder now; also what stops halfway has rendered something."""
        if self.products:
            self.stored.products.update(self.products)
            self.stored.write(self.folder)
        if self.current:
            print(f"{self.current} files in {self.folder} are as they would be rendered now.")

    def sheet(self, name: str, write: Callable[[], str], shown: Results, *source: Any) -> Sheet:
        return Sheet(name, fingerprint(self.basis, name, shown.content, *source), short(shown.sources), write)

    def render(self, sheets: Sequence[Sheet]) -> None:
        """Write those of the sheets that are not there as they would be written, and print all in their order."""
        found = {each.name: self.stored.current(each.name, each.source, self.folder) for each in sheets}
        due = [each for each in sheets if found[each.name] is None]
        self.products |= {name: product for name, product in found.items() if product}
        with _drawing([each for each in due if each.drawn], self.folder) as drawn:
            for sheet in due:  # the longest, the page, while others are drawn
                if sheet.name not in drawn:
                    self.products[sheet.name] = sheet.rendered(self.folder)
            for sheet in sheets:
                if sheet.name in drawn:
                    self.products[sheet.name] = drawn[sheet.name].result()
                self._say(self.products[sheet.name], is_new=found[sheet.name] is None)

    def repeat(self, command: str, *source: Any) -> bool:
        """Print what the command printed before, if nothing that it looks at has changed since; else False."""
        products = self.stored.of_command(command, fingerprint(self.basis, *source), self.folder)
        for product in products or ():
            self._say(product, is_new=False)
        return products is not None

    def remember(self, command: str, *source: Any) -> None:
        """Keep what the command has rendered, by all that it has looked at.

        What it rendered the last time and no longer does, and no other command either, would tell of records that are
        gone: it goes, too, unless somebody has changed it.
        """
        before = self.stored.commands.pop(command, None)
        others = {name for each in self.stored.commands.values() for name in each.products}
        for name in (before.products if before else {}).keys() - self.products.keys() - others:
            self._withdraw(name)
        sources = {name: each.source for name, each in self.products.items()}
        self.stored.commands[command] = Command(fingerprint(self.basis, *source), sources)

    def withdraw_gone(self, command: str, digests: Iterable[str | None]) -> None:
        """Delete what other commands have rendered, of records of which any is gone, unless somebody has changed it.

        ``digests`` are those of the records that are there.
        """
        there, own = short(digests), self.stored.commands[command].products
        for name in [each for each, product in self.stored.products.items() if not product.records <= there]:
            if name not in own:
                for file in self._withdraw(name):
                    print(f"removed {self.folder / file}, of records that are gone", flush=True)

    def _withdraw(self, name: str) -> list[str]:
        """Forget a product, and delete its files unless somebody has changed them; returns which were."""
        product = self.stored.products.pop(name, None)
        if product is None or not product.is_intact(self.folder):
            return []
        for file in product.files:
            withdraw(self.folder / file)
        return [file for file, digest in product.files.items() if digest]

    def _say(self, product: Product, is_new: bool) -> None:
        from benchmark.terminal.output import show  # rich, which --help should not wait for

        if product.said:
            show(product.said)
        written = [name for name, digest in product.files.items() if digest]
        if is_new:
            print("".join(f"wrote {self.folder / name}\n" for name in written), end="", flush=True)
        else:
            self.current += len(written)


def _sheets(press: Press, table: Table, results: Results, compare: str) -> Iterator[Sheet]:
    """A table with its tests, and its curves on each task; or a figure."""
    from benchmark.report import figures

    compared = rows_of_figure(table.number) if isinstance(table, Figure) else ()
    shown = results.part(table, table.tasks, compared)
    name = results.name(table.stem)
    if isinstance(table, Figure):

        def draw() -> str:
            figures.write_figure(table, shown)
            return f"{table.heading}. {figures.caption(table, shown)}"

        yield press.sheet(f"figures/{name}", draw, shown, table)
        return

    def write() -> str:
        # SciPy's statistics load while pictures are drawn.
        from benchmark.report import groups, rules, significance, tables

        text = tables.write(table, shown, compare)
        groups.write(table, shown)
        rules.write(table, shown)
        significance.write(table, shown)
        return text

    yield press.sheet(f"tables/{name}", write, shown, table, compare)
    for task in table.tasks if figures.has_curves(table) else ():
        if results.measured(table, task):
            own = replace(results.part(table, [task]), rule=REPORTED)  # curves show all epochs
            draw_curves = partial(_draw_curves, table, own, task)
            yield press.sheet(f"figures/{table.stem_on(task)}", draw_curves, own, table)


def _draw_curves(table: Table, results: Results, task: str) -> str:
    from benchmark.report import figures

    figures.write_curves(replace(table, tasks=(task,)), results)
    return ""


def _draw_overview(results: Results) -> str:
    from benchmark.report import overview

    overview.write(results)
    return ""


def _write_report(variants: Sequence[Table], results: Results) -> str:
    """What all records together say of the paper: claims, fidelity, readings, and the page."""
    from benchmark.compare import fidelity, readings, verdicts
    from benchmark.report import page

    judged, cells, left_open = verdicts.evaluate(results), fidelity.cells(results), readings.evaluate(results)
    verdicts.write(judged, results)
    fidelity.write(cells, judged, results)
    readings.write(left_open, results)
    page.write(results, variants, cells, judged, left_open)
    return ""


def stored_variants(recipes: Recipes, results: Results) -> Iterator[Table]:
    """Variants of tables that have any record, and of figures that have them all."""
    for table in map(results.with_own_methods, catalogue.variants(recipes)):
        found = (len(results.cell(table, row, task)) > 0 for task in table.tasks for row in table.rows)
        if all(found) if isinstance(table, Figure) else any(found):
            yield table


@cache
def code() -> str:
    """The fingerprint of the code that renders, and of the libraries that it uses."""
    files = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*") if path.suffix in SOURCES)
    return fingerprint(sys.version, [(name, _version(name)) for name in LIBRARIES], [sha256(path) for path in files])


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


@contextmanager
def _drawing(sheets: Sequence[Sheet], folder: Path) -> Iterator[dict[str, Future[Product]]]:
    """Draw the sheets in processes of their own, where the system can fork this one; else nothing is drawn.

    A process that has trained has threads and devices, which do not outlive a fork.
    """
    can_fork = sys.platform == "linux" and "torch" not in sys.modules
    count = min(len(sheets), cores(), MOST) if can_fork else 1
    if count < 2:
        yield {}
        return
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(count, fork, initializer=_start_drawing, initargs=(sheets, folder)) as pool:
        try:
            yield {sheet.name: pool.submit(_draw, place) for place, sheet in enumerate(sheets)}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_sheets_to_draw: Sequence[Sheet]
_folder: Path
"""What this drawing process draws, and where: inherited, since sheets cannot be sent."""


def _start_drawing(sheets: Sequence[Sheet], folder: Path) -> None:
    global _sheets_to_draw, _folder
    _sheets_to_draw, _folder = sheets, folder
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _draw(place: int) -> Product:
    return _sheets_to_draw[place].rendered(_folder)
