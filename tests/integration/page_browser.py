"""The report in a browser: ``make test-page`` installs a headless Chromium, where that can be, and runs these tests.

The page is made from the committed records and one with hostile text.
"""

from __future__ import annotations

import json
import shutil
import time
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
from selenium.webdriver.support.ui import Select, WebDriverWait

from benchmark.compare.cells import tidy
from benchmark.plan.paper import TABLES
from benchmark.run import main
from benchmark.store.results import Results
from benchmark.store.store import Store

RESULTS = Path(__file__).parents[2] / "results"
PHONE, DESKTOP = 390, 1280
ATTACK = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("results")
    shutil.copytree(RESULTS / "runs", folder / "runs")
    record = next(Store(folder).everything())
    provenance = replace(record.provenance, device=f"</script>{ATTACK}")
    settings = record.settings | {"task": ATTACK}
    return make_results(folder, replace(record, task=ATTACK, settings=settings, provenance=provenance))


@pytest.fixture(scope="module")
def browser(results: Results) -> Iterator[webdriver.Chrome]:
    """A browser showing the page; at the end it must have had nothing to say and nothing to fetch."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no Chromium here: Debian's packages are chromium and chromium-driver")
    assert main(["--all", "--render-only", "--results", str(results.folder)]) == 0
    address = (results.folder / "report.html").as_uri()
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
    assert {url for url in sent if not url.startswith("data:")} == {address}
    assert said == []


def resize(browser: webdriver.Chrome, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def press(browser: webdriver.Chrome, *keys: str) -> None:
    ActionChains(browser).send_keys(*keys).perform()


def tab_to(browser: webdriver.Chrome, selector: str) -> WebElement:
    """Press Tab until an element of that kind has the focus."""
    for _ in range(300):
        press(browser, Keys.TAB)
        element = browser.switch_to.active_element
        if browser.execute_script("return arguments[0].matches(arguments[1])", element, selector):
            return element
    raise AssertionError(f"no {selector} within 300 presses of Tab")


def is_open(browser: webdriver.Chrome) -> bool:
    return browser.execute_script("return document.getElementById('provenance').open")


def overflow(browser: webdriver.Chrome) -> int:
    """By how many pixels the page is wider than the window."""
    return browser.execute_script("const page = document.documentElement; return page.scrollWidth - innerWidth;")


def test_pictures_are_there(browser: webdriver.Chrome) -> None:
    widths = browser.execute_script("return [...document.images].map((image) => image.naturalWidth)")
    assert widths, browser.execute_script("return `${location.href}: ${document.body.innerText.slice(0, 500)}`")
    assert min(widths) > 0


@pytest.mark.parametrize("kind", [".cell:not(.gap)", ".cell.gap"])
def test_where_a_number_comes_from_by_keyboard_alone(browser: webdriver.Chrome, results: Results, kind: str) -> None:
    browser.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    # Gaps of tasks of which nothing is measured are folded away.
    browser.execute_script("for (const each of document.querySelectorAll('details')) each.open = true")
    cell = tab_to(browser, f"#table2 {kind}")
    row, task = cell.get_attribute("data-row"), cell.get_attribute("data-task")
    press(browser, Keys.ENTER)
    assert is_open(browser)
    text = browser.find_element("id", "provenance").text
    assert browser.execute_script("return document.getElementById('provenance').contains(document.activeElement)")
    table = TABLES["2"]
    (found,) = (results.cell(table, each, task).records for each in table.rows if each.key == row)
    if "gap" in cell.get_attribute("class"):
        assert not found
        assert f"python -m benchmark.run --table 2 --tasks {task} --methods {row}" in text
    else:
        assert found
        for record in found:
            assert str(record.provenance.commit) in text
            assert record.provenance.data in text
            assert f"Seed {record.seed}" in text
    press(browser, Keys.ESCAPE)
    assert not is_open(browser)
    assert browser.switch_to.active_element == cell, "the focus is back"


def test_curves_of_a_chosen_run_by_keyboard_alone(browser: webdriver.Chrome) -> None:
    browser.refresh()
    tab_to(browser, "nav a[href='#curves']")  # past the cells, which are hundreds of stops
    press(browser, Keys.ENTER)
    tab_to(browser, "#curve-task")
    first = browser.find_element("css selector", "#curve-charts svg").get_attribute("aria-label")
    press(browser, Keys.ARROW_DOWN)
    assert browser.find_element("css selector", "#curve-charts svg").get_attribute("aria-label") != first
    Select(browser.find_element("id", "curve-task")).select_by_index(0)
    tab_to(browser, "[data-choose=none]")
    press(browser, Keys.ENTER)
    assert not browser.find_elements("css selector", "#curve-charts svg")
    box = tab_to(browser, "#curve-runs input")
    press(browser, Keys.SPACE)
    run = browser.execute_script("return data.records[arguments[0].value]", box)
    paths = browser.execute_script(
        "return [...document.querySelectorAll('#curve-charts .line')].map((path) => path.getAttribute('d'))"
    )
    curves = run["curves"].get("biased", {}) | {
        name: values for name, values in run["curves"]["target"].items() if name in ("avg_acc", "model_bias")
    }
    assert len(paths) >= len(curves) >= 2
    epochs = len(next(iter(run["curves"]["target"].values())))
    assert any(path.count("L") == epochs - 1 for path in paths)
    assert all("NaN" not in path for path in paths)
    browser.find_element("css selector", "#curve-charts summary").send_keys(Keys.ENTER)
    numbers = wait_for(browser, "#curve-charts td")
    assert float(numbers.text) >= 0


def wait_for(browser: webdriver.Chrome, selector: str) -> WebElement:
    for _ in range(50):
        if found := browser.find_elements("css selector", selector):
            return found[0]
        time.sleep(0.1)
    raise AssertionError(f"no {selector} within 5 s")


@pytest.mark.parametrize("width", [PHONE, DESKTOP])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_as_wide_as_the_window(browser: webdriver.Chrome, width: int, scheme: str) -> None:
    resize(browser, width)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    for unfolded in ("false", "true"):
        browser.execute_script(f"for (const each of document.querySelectorAll('details')) each.open = {unfolded}")
        assert overflow(browser) <= 0
    browser.execute_script("document.querySelector('.cell:not(.gap)').click()")
    assert overflow(browser) <= 0
    wide = "return [...document.querySelectorAll('dialog, dialog *')].filter((each) => each.scrollWidth > innerWidth)"
    assert browser.execute_script(wide) == []
    press(browser, Keys.ESCAPE)
    background = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    level = sum(int(part) for part in background.removeprefix("rgb(").removesuffix(")").split(","))
    assert (level < 200) == (scheme == "dark")


def test_every_number_is_the_tables(browser: webdriver.Chrome, results: Results) -> None:
    shown: list[dict[str, Any]] = browser.execute_script(
        """return [...document.querySelectorAll(".cell")].map((cell) => ({
            table: cell.closest("table").dataset.table, ...cell.dataset,
            mean: cell.querySelector(".mean")?.textContent, paper: cell.querySelector(".paper")?.textContent,
        }))"""
    )
    for table in TABLES.values():
        lines = tidy(table, results)
        lines = lines[lines.selection == "last"]
        expected = {
            (line["method"], line["task"], line["metric"]): tuple(
                None if pd.isna(line[name]) else f"{line[name]:.2f}" for name in ("mean", "paper")
            )
            for line in lines.to_dict("records")
        }
        found = {
            (cell["row"], cell["task"], cell["metric"]): (cell["mean"], cell["paper"])
            for cell in shown
            if cell["table"] == table.name
        }
        assert found == expected


def test_hostile_text_is_only_text(browser: webdriver.Chrome) -> None:
    assert browser.execute_script("return document.querySelectorAll('[onerror], [src=x]').length") == 0
    button = next(
        row.find_element("css selector", "button")
        for row in browser.find_elements("css selector", "#records tbody tr")
        if ATTACK in row.get_attribute("textContent")
    )
    browser.execute_script("arguments[0].click()", button)
    assert f"</script>{ATTACK}" in browser.find_element("id", "provenance").text
    assert browser.execute_script("return document.querySelectorAll('[onerror], [src=x]').length") == 0
    press(browser, Keys.ESCAPE)
