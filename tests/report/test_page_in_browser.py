"""What the page does, in a browser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from fm_al.report.page import Section, page
from fm_al.report.palette import Look
from fm_al.report.runs import LeftOut, Runs
from fm_al.report.selection import read_runs
from fm_al.report.typeset import Cell
from tests.helpers.made_runs import make_run
from tests.report.made_pages import (
    GROUPS,
    HOSTILE,
    QUOTES,
    a_page,
    a_section,
    a_table,
    hostile_page,
)

BROWSER = ("chromium", "chromedriver")


NOT_INSTALLED = [name for name in BROWSER if shutil.which(name) is None]


pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        bool(NOT_INSTALLED),
        reason=f"no {', '.join(NOT_INSTALLED)}: apt-get install chromium chromium-driver",
    ),
]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for argument in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        f"user-data-dir={tmp_path_factory.mktemp('chromium')}",
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # A path given, selenium looks for no driver to download.
    chrome = Chrome(options, Service(executable_path=shutil.which("chromedriver")))
    yield chrome
    chrome.quit()


Open = Callable[[str], Chrome]


@pytest.fixture
def opened(driver: Chrome, tmp_path: Path) -> Open:
    """Opens a page from disk in a browser whose logs are empty."""

    def open_(html: str) -> Chrome:
        path = tmp_path / "report.html"
        path.write_text(html)
        driver.get("about:blank")
        for log in ("browser", "performance"):
            driver.get_log(log)
        driver.get(path.as_uri())
        return driver

    return open_


def all_of(driver: Chrome, selector: str) -> list[WebElement]:
    return driver.find_elements(By.CSS_SELECTOR, selector)


def column(driver: Chrome, number: int) -> list[str]:
    return [row.find_elements(By.XPATH, "*")[number].text for row in all_of(driver, "tbody tr")]


def header(driver: Chrome, number: int) -> WebElement:
    return all_of(driver, ".sortable thead th")[number]


def sort_by(driver: Chrome, number: int) -> None:
    header(driver, number).find_element(By.TAG_NAME, "button").click()


def legend_button(driver: Chrome, text: str) -> WebElement:
    (button,) = (each for each in all_of(driver, ".legend button") if each.text == text)
    return button


def drawn(driver: Chrome) -> list[str]:
    """The groups of the series that are seen."""
    return [
        json.loads(str(each.get_dom_attribute("data-groups")))[0]
        for each in all_of(driver, ".series")
        if each.value_of_css_property("display") != "none"
    ]


def dimmed(driver: Chrome) -> list[str]:
    """The first cells of the rows that are dimmed."""
    return [
        row.find_element(By.TAG_NAME, "th").text
        for row in all_of(driver, ".sortable tbody tr")
        if float(row.value_of_css_property("opacity")) < 1
    ]


def test_it_opens_from_disk_and_asks_for_nothing_else(opened: Open, tmp_path: Path) -> None:
    driver = opened(a_page(a_section(), a_section("svhn")))
    assert driver.title == "Trial"
    legend_button(driver, "badge").click()
    sort_by(driver, 1)
    assert driver.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked_for = [
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in asked_for if not url.startswith("data:")] == [
        (tmp_path / "report.html").as_uri()
    ]


@pytest.mark.parametrize("name", [HOSTILE, QUOTES])
def test_hostile_names_do_nothing(opened: Open, name: str) -> None:
    driver = opened(hostile_page(name))
    sort_by(driver, 1)
    legend_button(driver, name).click()
    assert dimmed(driver) == [name, name]
    assert driver.get_log("browser") == []


def test_a_header_sorts_by_value_then_downwards(opened: Open) -> None:
    rows = [
        (Cell("random"), Cell("9.5", 9.5)),
        (Cell("bald"), Cell("–")),
        (Cell("badge"), Cell("10.5", 10.5)),
        (Cell("bait"), Cell("no such run", float("nan"))),
        (Cell("coreset"), Cell("-2", -2.0)),
    ]
    driver = opened(a_page(Section("", [a_table("a", *rows, columns=1)], [], ""), runs=Runs([])))
    assert header(driver, 1).get_dom_attribute("aria-sort") == "none"
    sort_by(driver, 1)
    assert column(driver, 0) == ["coreset", "random", "badge", "bald", "bait"]
    assert header(driver, 1).get_dom_attribute("aria-sort") == "ascending"
    sort_by(driver, 1)
    assert column(driver, 0) == ["badge", "random", "coreset", "bald", "bait"]
    assert header(driver, 1).get_dom_attribute("aria-sort") == "descending"
    sort_by(driver, 0)
    assert column(driver, 0) == ["badge", "bait", "bald", "coreset", "random"]
    assert header(driver, 1).get_dom_attribute("aria-sort") == "none"
    assert header(driver, 0).get_dom_attribute("aria-sort") == "ascending"


def test_a_column_without_values_is_sorted_by_text_and_what_is_equal_stays(opened: Open) -> None:
    rows = [
        (Cell(name), Cell(text))
        for name, text in [("a", "lr=10"), ("b", ""), ("c", "lr=9"), ("d", "lr=10"), ("e", "lr=1")]
    ]
    driver = opened(a_page(Section("", [a_table("a", *rows, columns=1)], [], ""), runs=Runs([])))
    sort_by(driver, 1)
    assert column(driver, 0) == ["e", "c", "a", "d", "b"]
    sort_by(driver, 1)
    assert column(driver, 0) == ["a", "d", "c", "e", "b"]


def test_headers_and_legend_are_worked_by_keys(opened: Open) -> None:
    driver = opened(a_page(a_section(), runs=Runs([])))
    header(driver, 1).find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert column(driver, 0) == ["bait", "random", "badge"]
    legend_button(driver, "badge").send_keys(Keys.SPACE)
    assert dimmed(driver) == ["badge"]


def test_the_legend_switches_groups_in_every_figure_and_dims_their_rows(opened: Open) -> None:
    pair, other = (Cell("badge - random"), Cell("0.1", 0.1)), (Cell("bait - random"), Cell("0", 0))
    pairs = a_table("pairs", pair, other, columns=1)
    driver = opened(a_page(a_section("a", a_table(), pairs), a_section("b"), runs=Runs([])))
    assert drawn(driver) == ["random", "badge", "random", "badge"]
    legend_button(driver, "badge").click()
    assert drawn(driver) == ["random", "random"]
    assert dimmed(driver) == ["badge", "badge - random", "badge"]
    assert legend_button(driver, "badge").get_dom_attribute("aria-pressed") == "false"
    assert legend_button(driver, "random").get_dom_attribute("aria-pressed") == "true"
    sort_by(driver, 1)
    assert dimmed(driver) == ["badge", "badge - random", "badge"]
    legend_button(driver, "badge").click()
    assert drawn(driver) == ["random", "badge", "random", "badge"]
    assert dimmed(driver) == []

    legend_button(driver, "none").click()
    assert drawn(driver) == []
    pairs_named = ["badge - random", "bait - random"]
    assert sorted(dimmed(driver)) == sorted([*GROUPS, *GROUPS, *pairs_named])
    legend_button(driver, "random").click()
    assert drawn(driver) == ["random", "random"]
    legend_button(driver, "all").click()
    assert drawn(driver) == ["random", "badge", "random", "badge"]
    assert dimmed(driver) == []


def test_the_legend_stays_in_view(opened: Open) -> None:
    driver = opened(a_page(a_section("a"), a_section("b"), a_section("c")))
    driver.execute_script("document.querySelector('#provenance').scrollIntoView()")
    legend, heading = (
        driver.execute_script(
            f"return document.querySelector('{selector}').getBoundingClientRect()"
        )
        for selector in (".legend", "#provenance")
    )
    assert legend["top"] == 0
    assert heading["top"] >= legend["bottom"]


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_does_not_scroll_sideways(opened: Open, tmp_path: Path, width: int) -> None:
    long = "x" * 300
    runs = read_runs(_made(tmp_path / "outputs", long))
    runs = Runs(runs.runs, [LeftOut(Path(long), long)], runs.by)
    table = a_table("accuracy", (Cell(long), *[Cell("0.123 ± 0.456", 0.123)] * 20), columns=20)
    sections, looks = [a_section(long, table)] * 2, {long: Look("red", (), "o")}
    html = page(long, long, sections, looks, runs, [long], [long])
    driver = opened(html)
    metrics = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        for details in all_of(driver, "details"):
            driver.execute_script("arguments[0].open = true", details)
        scroll, client = driver.execute_script(
            "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        (wide, *_) = all_of(driver, ".wide")
        inner, outer = driver.execute_script(
            "return [arguments[0].scrollWidth, arguments[0].clientWidth]", wide
        )
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert scroll <= client <= width
    assert inner > outer


def _made(folder: Path, long: str) -> Path:
    for strategy in ("random", "badge"):
        make_run(folder, strategy, 0, [0.5, 0.6], options={"name": long + strategy})
    return folder
