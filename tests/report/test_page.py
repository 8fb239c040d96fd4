from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from fm_al.records.schema import Provenance, Result, Start
from fm_al.report.page import Section, SvgFigure, page, provenance_of
from fm_al.report.palette import Look, Palette
from fm_al.report.runs import LeftOut, Run, Runs
from fm_al.report.selection import read_runs
from fm_al.report.typeset import Cell, Table
from tests.helpers.made_runs import make_run, make_trial

HOSTILE = "<script>alert(1)</script>"
QUOTES = "\"'><img src=x onerror=alert(2)>"
BROWSER = ("chromium", "chromedriver")
NOT_INSTALLED = [name for name in BROWSER if shutil.which(name) is None]
in_a_browser = pytest.mark.skipif(
    bool(NOT_INSTALLED),
    reason=f"no {', '.join(NOT_INSTALLED)}: apt-get install chromium chromium-driver",
)

GROUPS = ("random", "badge", "bait")
SVG = """
<svg xmlns="http://www.w3.org/2000/svg" width="900" height="300" viewBox="0 0 90 30">
<g class="series" data-groups='["random"]'><path d="M0 0L90 30" stroke="red"/></g>
<g class="series" data-groups='["badge"]'><path d="M0 30L90 0" stroke="blue"/></g></svg>
"""


def a_run(group: str = "random", seed: int = 0) -> Run:
    return made_up(Path(f"{group}/seed{seed}"), "cifar10", group, seed, {"seed": seed})


def made_up(
    directory: Path,
    setting: str,
    group: str,
    seed: int,
    config: dict[str, Any],
    software: dict[str, str | None] | None = None,
    starts: Sequence[Start] = (),
) -> Run:
    provenance = Provenance.model_construct(software=software or {}, starts=[*starts])
    result = Result.model_construct()
    return Run(directory, setting, group, seed, config, provenance, [], result, {})


def a_table(name: str = "accuracy", *rows: tuple[Cell, ...], columns: int = 9) -> Table:
    """By default of three groups, whose order by number is not the one by text."""
    made = [
        (Cell(group), *[Cell(f"{value:g} ± 1.25", value)] * columns)
        for group, value in zip(GROUPS, (9, 10, -2), strict=True)
    ]
    header = ["strategy", *(f"{100 * number} labels" for number in range(1, columns + 1))]
    return Table(name, "Accuracy", header, rows or made, ["over 5 seeds", "bold: best"])


def a_section(title: str = "cifar10", *tables: Table, svg: str = SVG) -> Section:
    drawing = SvgFigure("curves", "Learning curves", "Means over seeds.", svg)
    return Section(title, tables or [a_table()], [drawing], "fm-al-report outputs --where a=b")


def a_page(
    *sections: Section,
    legend: tuple[str, ...] = GROUPS,
    runs: Runs | None = None,
    notices: tuple[str, ...] = (),
    summary: tuple[str, ...] = (),
) -> str:
    looks = Palette.of(legend).looks
    runs = runs or Runs([a_run(group) for group in GROUPS])
    return page("Trial", "fm-al-report outputs", sections, looks, runs, notices, summary)


def change_provenance(directory: Path, change: Callable[[Any], object]) -> None:
    path = directory / "provenance.json"
    provenance = json.loads(path.read_text())
    change(provenance)
    path.write_text(json.dumps(provenance))


def test_provenance_tells_what_runs_share_from_what_differs_by_group(tmp_path: Path) -> None:
    for seed, device in enumerate(("cpu", "cuda")):
        make_run(tmp_path, "random", seed, [0.5, 0.6])
        make_run(tmp_path, "bait", seed, [0.5, 0.7], options={"decay": 0.1}, device=device)
    of = provenance_of(read_runs(tmp_path))
    assert (of.runs, of.seeds, of.groups) == (4, [0, 1], ["bait", "random"])
    assert of.differing == {
        "device.kind": {"bait": "cpu, cuda", "random": "cpu"},
        "strategy._target_": {
            "bait": "fm_al.strategies.bait.Bait",
            "random": "fm_al.strategies.random.Random",
        },
        "strategy.decay": {"bait": "0.1", "random": "–"},
    }
    assert of.shared["trainer.optimizer.lr"] == "0.001"
    assert of.shared["experiment_name"] == "trial"
    assert "seed" not in of.shared


def test_provenance_counts_versions_and_hosts_and_gives_each_command_once(tmp_path: Path) -> None:
    first, second = (make_run(tmp_path, "random", seed, [0.5, 0.6]) for seed in range(2))
    again = {"time": "2026-11-03T10:00:00+00:00", "host": "node0"}
    change_provenance(
        first,
        lambda p: p["starts"].append(p["starts"][0] | again | {"command": ["fm-al", "a=[1, 2]"]}),
    )
    change_provenance(second, lambda p: p["software"].update(torch="2.8.0", wandb=None))
    of = provenance_of(read_runs(tmp_path))
    assert of.software["torch"] == {"2.9.0": 1, "2.8.0": 1}
    assert of.software["python"] == {"3.11.7": 2}
    assert of.software["wandb"] == {"null": 2}
    assert of.hosts == {"node0": 2, "node1": 1}
    assert of.commands == ["fm-al -m experiment=trial", "fm-al 'a=[1, 2]'"]
    assert (of.first, of.last) == ("2026-11-01T10:00:00+00:00", "2026-11-03T10:00:00+00:00")


def test_the_page_points_out_software_that_differs_among_runs(tmp_path: Path) -> None:
    first, _ = (make_run(tmp_path, "random", seed, [0.5, 0.6]) for seed in range(2))
    assert "differs among runs" not in a_page(runs=read_runs(tmp_path))
    change_provenance(first, lambda p: p["software"].update(torch="2.8.0"))
    assert a_page(runs=read_runs(tmp_path)).count("differs among runs") == 1


def test_the_header_counts_runs_and_says_what_is_compared(tmp_path: Path) -> None:
    make_trial(tmp_path, seeds=3)
    by_strategy = a_page(runs=read_runs(tmp_path), notices=("3 seeds are too few",))
    header = " ".join(by_strategy.split())
    assert "12 runs: 1 setting, 4 strategies, 3 seeds." in header
    assert '<p class="notice">3 seeds are too few</p>' in header
    by_rate = a_page(runs=read_runs(tmp_path, {"strategy": ["badge"]}, ["trainer.optimizer.lr"]))
    assert "3 runs: 1 setting, 1 group, 3 seeds." in " ".join(by_rate.split())


@pytest.mark.parametrize(("number", "is_open"), [(5, True), (6, False)])
def test_folders_left_out_are_listed_and_folded_where_they_are_many(
    number: int, is_open: bool
) -> None:
    left_out = [LeftOut(Path(f"run{each}"), f"has {each} rounds") for each in range(number)]
    html = a_page(runs=Runs([a_run()], left_out))
    assert ('<details class="left-out" open>' in html) == is_open
    assert f"{number} folders left out" in html
    assert "run4</code>" in html
    assert "has 4 rounds" in html


def test_contents_are_listed_where_there_is_more_than_one_section() -> None:
    assert "<nav" not in a_page(a_section())
    html = a_page(a_section("cifar10"), a_section("svhn"))
    assert '<a href="#section-2">svhn</a>' in html
    assert '<h2 id="section-2">svhn</h2>' in html


def test_links_are_to_files_beside_the_page() -> None:
    html = a_page(a_section("cifar10", a_table("a b&c")))
    for link in ("figures/curves.png", "figures/curves.pdf", "figures/curves.svg"):
        assert f'href="{link}"' in html
    for kind in ("md", "tex", "csv"):
        assert f'href="tables/a%20b%26c.{kind}"' in html


def test_the_best_are_bold_and_those_level_with_them_are_marked() -> None:
    row = (Cell("badge"), Cell("0.7", 0.7, best=True), Cell("0.6", 0.6, mark="°"))
    html = a_page(a_section("cifar10", a_table("accuracy", row, columns=2)))
    assert "<strong>0.7</strong>" in html
    assert '0.6<span class="mark">°</span>' in html


def test_remarks_notes_and_captions_are_shown() -> None:
    section = Section(
        "a", [a_table()], [SvgFigure("b", "B", "A caption.", SVG)], "c", ["A remark."]
    )
    html = a_page(section)
    html += a_page(summary=("A summary.",))
    remark, summary = "<p>A remark.</p>", "<p>A summary.</p>"
    for text in (remark, summary, ">over 5 seeds; bold: best.</p>", "A caption."):
        assert text in html


def test_the_command_of_a_part_is_given_where_it_is_not_that_of_the_page() -> None:
    assert "<code>fm-al-report outputs --where a=b</code>" in a_page(a_section())
    whole = Section("cifar10", [], [], "fm-al-report outputs")
    assert a_page(whole).count("<code>fm-al-report") == 1


class Elements(HTMLParser):
    """Collects tags and the names of attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


@pytest.mark.parametrize("name", [HOSTILE, QUOTES])
def test_what_records_say_is_text(name: str) -> None:
    html = hostile_page(name)
    elements = Elements(html)
    assert name not in html
    assert elements.tags.count("script") == 1
    assert "img" not in elements.tags
    assert not any(attribute.startswith("on") for attribute in elements.attributes)


def hostile_page(name: str) -> str:
    row = (Cell(name), Cell(name, 0.5))
    table = Table(name, name, [name, name], [row], [name])
    section = Section(name, [table], [SvgFigure(name, name, name, SVG)], name, [name])
    config = {name: name, "strategy": name, "seed": 0}
    starts = [Start.model_construct(time=name, host=name, command=[name])]
    runs = Runs(
        [
            made_up(Path(name), name, name, 0, config, {name: name}, starts),
            made_up(Path(name), name, name, 0, {}, {}, starts),
        ],
        [LeftOut(Path(name), name)],
    )
    return page(name, name, [section, section], {name: Look(name, (), "o")}, runs, [name], [name])


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


@in_a_browser
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


@in_a_browser
@pytest.mark.parametrize("name", [HOSTILE, QUOTES])
def test_hostile_names_do_nothing(opened: Open, name: str) -> None:
    driver = opened(hostile_page(name))
    sort_by(driver, 1)
    legend_button(driver, name).click()
    assert dimmed(driver) == [name, name]
    assert driver.get_log("browser") == []


@in_a_browser
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


@in_a_browser
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


@in_a_browser
def test_headers_and_legend_are_worked_by_keys(opened: Open) -> None:
    driver = opened(a_page(a_section(), runs=Runs([])))
    header(driver, 1).find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert column(driver, 0) == ["bait", "random", "badge"]
    legend_button(driver, "badge").send_keys(Keys.SPACE)
    assert dimmed(driver) == ["badge"]


@in_a_browser
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


@in_a_browser
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


@in_a_browser
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
