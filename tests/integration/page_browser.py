"""The report in a browser: ``make test-page`` installs a headless Chromium, where that can be, and runs these tests.

The page is made from the committed records and one with hostile text. Everything is done by keyboard.
"""

from __future__ import annotations

import base64
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from factories.records import make_results
from msgspec.structs import replace
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from benchmark.compare import fidelity, groups, readings, verdicts
from benchmark.compare.cells import tidy
from benchmark.metrics import METRICS
from benchmark.plan.paper import TABLES
from benchmark.plan.recipes import load
from benchmark.plan.run import PAPER
from benchmark.rendering import stored_variants
from benchmark.report.page import write
from benchmark.rules import RULES
from benchmark.store.results import Results
from benchmark.store.store import Store

REPOSITORY = Path(__file__).parents[2]
RESULTS = REPOSITORY / "results"
AXE = REPOSITORY / ".venv" / "axe-core-4.14.1.tgz"  # from tests/tools/chromium.sh
PHONE, DESKTOP = 390, 1280
ATTACK = "<img src=x onerror=alert(1)>"
AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# What the page may weigh and measure, so that it stays readable however many records there are.
BYTES, HEIGHT, STOPS = 2_000_000, 10_000, 300


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("results")
    shutil.copytree(RESULTS / "runs", folder / "runs")
    record = next(each for each in Store(folder).everything() if each.preset == PAPER)  # which is shown first
    provenance = replace(record.provenance, device=f"</script>{ATTACK}")
    settings = record.settings | {"task": ATTACK}
    return make_results(folder, replace(record, task=ATTACK, settings=settings, provenance=provenance))


@pytest.fixture(scope="module")
def browser(results: Results) -> Iterator[webdriver.Chrome]:
    """A browser showing the page; at the end it must have had nothing to say and nothing to fetch."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no Chromium here: Debian's packages are chromium and chromium-driver")
    frames = fidelity.cells(results), verdicts.evaluate(results), readings.evaluate(results)
    address = write(results, stored_variants(load(), results), *frames).as_uri()
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    browser.get(address)
    # A browser's very first start may say that it has loaded while its empty page is still shown.
    WebDriverWait(browser, 60).until(
        lambda it: it.execute_script("return document.readyState === 'complete' && location.href") == address
    )
    yield browser
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    said = browser.get_log("browser")
    browser.quit()
    sent = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    assert address in sent, "requests are seen"
    assert {url.partition("#")[0] for url in sent if not url.startswith("data:")} == {address}
    assert said == []


@pytest.fixture
def page(browser: webdriver.Chrome, results: Results) -> webdriver.Chrome:
    """The page as it is when it is opened."""
    resize(browser, DESKTOP)
    visit(browser, results, "#curve-charts .line")
    return browser


def visit(browser: webdriver.Chrome, results: Results, drawn: str, fragment: str = "") -> None:
    """Open the page anew, and wait until there is what is drawn last: a browser may say too early that it is ready."""
    browser.get("about:blank")
    browser.get((results.folder / "report.html").as_uri() + fragment)
    WebDriverWait(browser, 30).until(
        lambda it: it.execute_script(
            "return document.readyState === 'complete' && document.querySelector(arguments[0])", drawn
        )
    )


def resize(browser: webdriver.Chrome, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def press(browser: webdriver.Chrome, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def press_with(browser: webdriver.Chrome, held: str, key: str) -> None:
    ActionChains(browser).key_down(held).send_keys(key).key_up(held).perform()


def tab_to(browser: webdriver.Chrome, selector: str) -> WebElement:
    """Press Tab until an element of that kind has the focus."""
    for _ in range(STOPS):
        press(browser, Keys.TAB)
        element = browser.switch_to.active_element
        if browser.execute_script("return arguments[0].matches(arguments[1])", element, selector):
            return element
    raise AssertionError(f"no {selector} within {STOPS} presses of Tab")


def choose(browser: webdriver.Chrome, selector: str, value: str) -> None:
    """Choose an option of a select element with the arrow keys."""
    tab_to(browser, selector)
    press(browser, Keys.HOME)
    for _ in range(60):
        if browser.execute_script("return document.activeElement.value") == value:
            return
        press(browser, Keys.ARROW_DOWN)
    raise AssertionError(f"{selector} has no {value}")


def focused(browser: webdriver.Chrome) -> str:
    return browser.execute_script("return document.activeElement.id")


def said(browser: webdriver.Chrome) -> str:
    """What a screen reader would read of the focused cell."""
    return browser.execute_script("return document.activeElement.querySelector('.unseen').textContent")


def dialog(browser: webdriver.Chrome) -> str:
    assert browser.execute_script("return document.getElementById('dialog').open")
    return browser.execute_script("return document.getElementById('dialog').textContent")


def overflow(browser: webdriver.Chrome) -> int:
    """By how many pixels the page is wider than the window."""
    return browser.execute_script("const page = document.documentElement; return page.scrollWidth - innerWidth;")


def test_the_page_stays_small(page: webdriver.Chrome, results: Results) -> None:
    assert (results.folder / "report.html").stat().st_size <= BYTES
    presets = page.execute_script("return [...document.querySelectorAll('#preset option')].map((each) => each.value)")
    assert presets[0] == "paper"
    for preset in presets:
        if len(presets) > 1:  # there is nothing to choose else
            choose(page, "#preset", preset)
        assert page.execute_script("return document.documentElement.scrollHeight") <= HEIGHT
        page.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
    stops = 0
    while stops <= STOPS:
        press(page, Keys.TAB)
        if page.execute_script("return document.activeElement === document.body"):
            break
        stops += 1
    assert 10 < stops <= STOPS


def test_where_a_number_comes_from(page: webdriver.Chrome, results: Results) -> None:
    cell = tab_to(page, "[data-table=table2] td")
    name = focused(page)
    _, row, task, metric = name.split(".")
    table = TABLES["2"]
    (series,) = (results.cell(table, each, task) for each in table.rows if each.key == row)
    assert said(page).startswith(f"{results.names.methods[row]}, {results.task_title(task)}, {METRICS[metric].title}, ")
    assert f"{len(series)} seeds" in said(page)
    press(page, Keys.ENTER)
    text = dialog(page)
    for record in series.records:
        assert str(record.provenance.commit) in text
        assert record.provenance.data in text
        assert f"Seed {record.seed}" in text
    assert page.execute_script("return location.hash") == f"#{name}"
    press(page, Keys.ESCAPE)
    assert not page.execute_script("return document.getElementById('dialog').open")
    assert page.switch_to.active_element == cell, "the focus is back"


def test_few_groups_stand_behind_a_number_as_the_rule_has_them(page: webdriver.Chrome, results: Results) -> None:
    (table,) = (each for each in stored_variants(load(), results) if each.stem == "table1-reduced")
    (vanilla,) = (each for each in table.rows if each.key == "vanilla")
    records = results.cell(table, vanilla, "celeba_blond").records
    name = "table1-reduced.vanilla.celeba_blond.avg_acc"
    for rule in ("validation_average", "last"):
        page.execute_script("document.activeElement.blur(); location.hash = arguments[0]", f"{name}~{rule}")
        WebDriverWait(page, 5).until(lambda it: focused(it) == name)
        press(page, Keys.ENTER)
        dialog(page)
        _, *lines = page.execute_script(
            """return [...document.querySelectorAll("#dialog table tr")].map(
                (row) => [...row.cells].map((cell) => cell.textContent))"""
        )
        kinds = ["conflicting", "aligned", "aligned", "conflicting"]
        assert lines == [
            [
                f"{each.target}, {each.bias} ({kind})",
                f"{each.mean:.2f}",
                f"{each.train:,.0f}",
                f"{each.test:,.0f}",
            ]
            for each, kind in zip(groups.over_seeds(records, RULES[rule]), kinds, strict=True)
        ]
        press(page, Keys.ESCAPE)


def test_a_table_is_one_stop_with_arrows_inside(page: webdriver.Chrome) -> None:
    tab_to(page, "[data-table=table2] td")
    first = focused(page)
    press(page, Keys.ARROW_RIGHT, Keys.ARROW_DOWN)
    there = focused(page)
    assert there != first
    assert there.split(".")[2] == first.split(".")[2]
    press(page, Keys.ARROW_LEFT, Keys.ARROW_UP)
    assert focused(page) == first
    press(page, Keys.END)
    assert focused(page).split(".")[:2] == first.split(".")[:2]
    press_with(page, Keys.CONTROL, Keys.END)
    last = page.switch_to.active_element
    press(page, Keys.TAB)
    assert page.execute_script("return document.activeElement.closest('table').dataset.table") == "table3"
    press_with(page, Keys.SHIFT, Keys.TAB)
    assert page.switch_to.active_element == last, "where one was, and not at its beginning"


def test_a_column_is_sorted_from_its_head(page: webdriver.Chrome) -> None:
    def values(column: str) -> list[float]:
        script = f"""return [...document.querySelectorAll("[data-table=table2] tbody td[id$='{column}'] .measured")]
            .map((each) => each.textContent)"""
        return [float(each) for each in page.execute_script(script)]

    tab_to(page, "[data-table=table2] td")
    press(page, Keys.ARROW_RIGHT)
    column = ".".join(focused(page).split(".")[2:])
    assert column.endswith("avg_acc")
    own = values(column)
    press(page, Keys.ARROW_UP, Keys.ENTER)
    assert page.execute_script("return document.activeElement.getAttribute('aria-sort')") == "descending"
    assert values(column) == sorted(own, reverse=True) != own
    press(page, Keys.ENTER)
    assert values(column) == sorted(own)
    press(page, Keys.ENTER)
    assert values(column) == own
    assert page.execute_script("return document.activeElement.getAttribute('aria-sort')") == "none"


def test_filters_leave_what_was_asked_for(page: webdriver.Chrome) -> None:
    def seen() -> list[str]:
        cells = "[...document.querySelectorAll('.numbers td[id]')].filter((cell) => cell.offsetParent)"
        return page.execute_script(f"return {cells}.map((cell) => cell.id)")

    assert not any(".waterbirds." in name for name in seen()), "what is not measured is hidden at first"
    tab_to(page, "#gaps")
    press(page, Keys.SPACE)
    assert "table2.vanilla.waterbirds.avg_acc" in seen()
    press(page, Keys.SPACE)
    page.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
    choose(page, "#task-filter", "cmnist_98")
    choose(page, "#method-filter", "be")
    assert {tuple(name.split(".")[1:3]) for name in seen()} == {("be", "cmnist_98")}
    assert tab_to(page, "[data-table=table2] td").get_attribute("id").startswith("table2.be.cmnist_98.")


def test_a_gap_tells_its_command(page: webdriver.Chrome) -> None:
    page.execute_script("location.hash = 'table2.poisoner.waterbirds.avg_acc'")
    WebDriverWait(page, 5).until(lambda it: focused(it) == "table2.poisoner.waterbirds.avg_acc")
    assert "not measured" in said(page)
    press(page, Keys.ENTER)
    assert "python -m benchmark.run --table 2 --tasks waterbirds --methods poisoner" in dialog(page)
    press(page, Keys.ESCAPE)


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_changes_every_number(page: webdriver.Chrome, results: Results, rule: str) -> None:
    before = page.execute_script("return document.getElementById('dumbbells').innerHTML")
    choose(page, "#rule", rule)
    shown: dict[str, list[str | None]] = page.execute_script(
        """const text = (cell, kind) => cell.querySelector(kind)?.firstChild.textContent ?? null;
        return Object.fromEntries([...document.querySelectorAll(".numbers td[id]")].map((cell) =>
            [cell.id, [text(cell, ".measured:not(.none)"), text(cell, ".paper")]]))"""
    )
    for table in TABLES.values():
        lines = tidy(table, results)
        for line in lines[(lines.selection == rule) | (lines.metric == "bias_acc")].to_dict("records"):
            name = ".".join(str(line[key]) for key in ("table", "method", "task", "metric"))
            assert shown[name] == [None if pd.isna(line[key]) else f"{line[key]:.2f}" for key in ("mean", "paper")]
    assert page.execute_script("return document.getElementById('rule-note').textContent") == RULES[rule].note
    changed = page.execute_script("return document.getElementById('dumbbells').innerHTML") != before
    assert changed == (rule != results.rule.name)


def test_the_script_writes_what_stands_there_without_it(page: webdriver.Chrome, results: Results) -> None:
    text = """return Object.fromEntries(
        [...document.querySelectorAll(".numbers td[id], .matrix td[id], .winners td[id]")].map((cell) => {
            const copy = cell.cloneNode(true);
            for (const each of copy.querySelectorAll(".unseen")) each.remove();
            return [cell.id, copy.textContent.replace(/\\s+/g, " ").trim()];
        }))"""
    drawn = page.execute_script(text)
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    visit(page, results, "#about")
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert not page.execute_script("return document.documentElement.classList.contains('js')")
    plain = page.execute_script(text)
    assert set(plain) == set(drawn)
    assert {name for name in plain if plain[name] != drawn[name]} == set()


def test_a_link_to_a_cell_leads_to_it(page: webdriver.Chrome, results: Results) -> None:
    name = "table2.poisoner.cmnist_98.worst_acc"
    visit(page, results, "#curve-charts .line", f"#{name}~validation_worst")
    WebDriverWait(page, 5).until(lambda it: focused(it) == name)
    assert page.execute_script("return document.getElementById('rule').value") == "validation_worst"


def test_claims_say_what_they_rest_on(page: webdriver.Chrome) -> None:
    tab_to(page, ".matrix td")
    for _ in range(2):
        press(page, Keys.ARROW_DOWN)
    assert said(page).startswith(
        "Poisoner has the best worst-group accuracy of the paper's methods without bias labels."
    )
    assert "seed" in said(page)
    press(page, Keys.ENTER)
    text = dialog(page)
    assert "95 % interval" in text
    assert "Decided by" in text
    press(page, Keys.ESCAPE)


def test_curves_of_chosen_runs(page: webdriver.Chrome) -> None:
    def lines() -> list[str]:
        script = "return [...document.querySelectorAll('#curve-charts .line')].map((path) => path.getAttribute('d'))"
        return page.execute_script(script)

    first = lines()
    assert len(first) >= 9 * 3
    assert all("NaN" not in path for path in first)
    tab_to(page, "#curve-task")
    press(page, Keys.ARROW_DOWN)
    assert lines() != first
    press(page, Keys.ARROW_UP)
    assert lines() == first
    tab_to(page, "#curve-what")
    press(page, Keys.ARROW_DOWN)
    assert 0 < len(lines()) != len(first) or lines() != first
    press(page, Keys.ARROW_UP)
    tab_to(page, "#curve-lines [role=option]")
    press(page, Keys.SPACE)
    assert len(lines()) == len(first) - 3, "a method less in three charts"
    press(page, Keys.END, Keys.ENTER)
    assert len(lines()) == len(first)
    press_with(page, Keys.SHIFT, Keys.TAB)
    assert focused(page) == "curve-reset"
    press(page, Keys.ENTER)
    assert lines() == first
    tab_to(page, "#curve-numbers summary")
    press(page, Keys.ENTER)
    number = WebDriverWait(page, 5).until(lambda it: it.find_elements("css selector", "#curve-numbers td + th + td"))
    assert float(number[0].text) >= 0


def test_the_papers_figures_are_drawn(page: webdriver.Chrome) -> None:
    tab_to(page, "#figure")
    press(page, Keys.HOME)
    for _ in range(page.execute_script("return document.getElementById('figure').options.length")):
        drawn = page.execute_script("return document.getElementById('figure-charts').innerHTML")
        assert "<path" in drawn
        assert "NaN" not in drawn
        assert page.execute_script("return document.getElementById('figure-caption').textContent.includes('claim')")
        press(page, Keys.ARROW_DOWN)


def test_hostile_text_is_only_text(page: webdriver.Chrome, results: Results) -> None:
    tab_to(page, "#all-runs summary")
    press(page, Keys.ENTER)
    tab_to(page, "#all-runs td")
    rows = page.find_elements("css selector", "#all-runs tbody tr")
    place = next(place for place, row in enumerate(rows) if ATTACK in row.get_attribute("textContent"))
    for _ in range(place):
        press(page, Keys.ARROW_DOWN)
    press(page, Keys.ENTER)
    assert f"</script>{ATTACK}" in dialog(page)
    assert page.execute_script("return document.querySelectorAll('[onerror], [src=x]').length") == 0
    press(page, Keys.ESCAPE)


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_as_wide_as_the_window(page: webdriver.Chrome, width: int, scheme: str) -> None:
    resize(page, width)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    for unfolded in ("false", "true"):
        page.execute_script(f"for (const each of document.querySelectorAll('details')) each.open = {unfolded}")
        assert overflow(page) <= 0
    page.execute_script("document.querySelector('.numbers td[id]').click()")
    wide = "return [...document.querySelectorAll('dialog, dialog *')].filter((each) => each.scrollWidth > innerWidth)"
    assert page.execute_script(wide) == []
    press(page, Keys.ESCAPE)
    background = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    level = sum(int(part) for part in background.removeprefix("rgb(").removesuffix(")").split(","))
    assert (level < 200) == (scheme == "dark")


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: webdriver.Chrome, width: int, scheme: str) -> None:
    if not AXE.exists():
        pytest.skip("no axe-core here: tests/tools/chromium.sh fetches it with npm")
    with tarfile.open(AXE) as archive:
        axe = archive.extractfile("package/axe.min.js")
        assert axe is not None
        page.execute_script(axe.read().decode())
    resize(page, width)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    page.set_script_timeout(120)
    for prepare in ("", "document.querySelector('.numbers td[id]').click()"):
        page.execute_script(prepare)
        found = page.execute_async_script(f"axe.run({{runOnly: {AXE_TAGS}}}).then(arguments[0])")
        assert len(found["passes"]) >= 10
        serious = [each for each in found["violations"] if each["impact"] in ("serious", "critical")]
        assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in serious] == []
    press(page, Keys.ESCAPE)


def test_paper_is_short(page: webdriver.Chrome) -> None:
    printed: dict[str, Any] = page.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    assert base64.b64decode(printed["data"]).count(b"/Type /Page\n") <= 8
