"""What the page says, as HTML."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from fm_al.report.page import Section, SvgFigure, provenance_of
from fm_al.report.runs import LeftOut, Runs
from fm_al.report.selection import read_runs
from fm_al.report.typeset import Cell
from tests.helpers.made_runs import make_run, make_trial
from tests.report.made_pages import (
    HOSTILE,
    QUOTES,
    SVG,
    a_page,
    a_run,
    a_section,
    a_table,
    change_provenance,
    hostile_page,
)


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
