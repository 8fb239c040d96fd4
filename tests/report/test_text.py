"""Names that may hold anything, in each format that a report is written in."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fm_al.report.selection import read_runs
from fm_al.report.text import UNPRINTABLE, latex, markdown, markdown_cell, markdown_code, printable
from tests.helpers.command_line import fm_al
from tests.helpers.made_runs import make_run

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Glyph"),  # the font of figures lacks some of the names'
]

ODD = [
    "line\nbreak", "tab\tand\rreturn", "nul\x00", "esc\x1b[31m", "c1\x85", "separator\u2028here",
    "turned\u202e", "half\ud83d", "none\uffff", "pi|pe", "tick`s``", "<b>&amp;\"'", "$a$ %b #c",
    "[2](x)", "*star*_", "\\", "# 1", "2. b", "größe 猫",
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb\t\r", r"a\nb\t\r"),
        ("\x00\x1b\x7f\x9f", r"\x00\x1b\x7f\x9f"),
        ("\u2028\ud83d\uffff", r"\u2028\ud83d\uffff"),
        ("größe 猫 👍 \\n", "größe 猫 👍 \\n"),
    ],
)
def test_what_can_not_be_printed_is_shown_as_its_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a|b\nc", r"a\|b\nc".replace(r"\n", r"\\n")),
        ("`x` *y* <z> ~~q~~ $m$", r"\`x\` \*y\* \<z> \~\~q\~\~ \$m\$"),
        ("_a_ b_c __init__", r"\_a\_ b_c \_\_init\_\_"),
        ("[0, 1] [a](b) [c][d]", r"[0, 1] [a\](b) [c\][d]"),
        ("&amp; A & B", r"\&amp; A & B"),
    ],
)
def test_markdown_is_literal(text: str, written: str) -> None:
    assert markdown_cell(text) == markdown(text) == written


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("# a", r"\# a"), ("> a", r"\> a"), ("- a", r"\- a"), ("---", r"\---"),
        ("12. a", r"12\. a"), ("1) a", r"1\) a"), ("-1.5", "-1.5"), ("2024", "2024"),
    ],
)  # fmt: skip
def test_what_would_begin_a_block_of_markdown_does_not(text: str, written: str) -> None:
    assert markdown(text) == written
    assert markdown_cell(text) == text


@pytest.mark.parametrize(
    ("text", "written"),
    [("a", "`a`"), ("a`b", "``a`b``"), ("`a\n``", "``` `a\\n`` ```")],
)
def test_a_code_span_ends_where_its_text_does(text: str, written: str) -> None:
    assert markdown_code(text) == written


def test_what_follows_the_end_of_a_row_is_no_argument_of_it_in_latex() -> None:
    assert latex("[2] *\n") == r"{[}2] {*}\textbackslash{}n"


class Page(HTMLParser):
    """Which elements and texts a page has."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report in which everything that can be is of an odd name."""
    place = tmp_path_factory.mktemp("odd")
    for seed in range(3):
        for number, odd in enumerate(ODD[:4]):
            directory = make_run(
                place / "outputs", "fishermask", seed, [0.3, 0.5 + 0.1 * number + seed / 50, 0.9],
                options={"of": odd}, overrides=f"of={number}", experiment=f"ex{number % 2}",
            )  # fmt: skip
            rounds = directory / "rounds.jsonl"
            records = [json.loads(line) for line in rounds.read_text().splitlines()]
            for record in records:
                record["per_class_accuracy"] = [record["accuracy"]] * len(ODD)
                record["queried_classes"] = [sum(record["queried_classes"])] + [0] * (len(ODD) - 1)
                if record["strategy"]:
                    record["strategy"] = {"mask_sizes": dict.fromkeys(ODD, 3)}
            rounds.write_text("".join(f"{json.dumps(record)}\n" for record in records))
            result = json.loads((directory / "result.json").read_text())
            (directory / "result.json").write_text(json.dumps(result | {"class_names": ODD}))
            provenance = json.loads((directory / "provenance.json").read_text())
            provenance["decides"]["experiment_name"] = ODD[number % 2]
            provenance["starts"][0] |= {"host": odd, "command": ["fm-al", f"a={odd}", "x=`y`\n"]}
            provenance["software"] |= {"torch": odd}
            (directory / "provenance.json").write_text(json.dumps(provenance))
    foreign = place / "outputs" / "not\nmine|\x1b"
    foreign.mkdir()
    (foreign / "result.json").touch()
    with pytest.MonkeyPatch.context() as patched:  # figures of other metrics prove nothing more
        patched.setattr("fm_al.report.metrics.METRICS", {"accuracy": "accuracy"})
        done = fm_al(
            place, "outputs", "--title", "ti\ntle|", "--note", "no`te\x1b", "--note=# no\ntitle",
            function="report",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not UNPRINTABLE.search(done.stdout.replace("\n", ""))
    assert r"outputs/not\nmine|\x1b has result.json and no provenance.json" in done.stdout
    return place / "outputs" / "report"


@pytest.mark.slow
def test_no_file_has_what_can_not_be_printed(written: Path) -> None:
    for path in [*written.glob("*.*"), *written.glob("tables/*"), *written.glob("figures/*.svg")]:
        assert not UNPRINTABLE.search(path.read_text().replace("\n", "")), path


def test_figures_are_xml(written: Path) -> None:
    figures = list(written.glob("figures/*.svg"))
    assert any("mask" in path.name for path in figures)
    assert any("queries" in path.name for path in figures)
    for path in figures:
        ElementTree.fromstring(path.read_text())


def test_the_page_shows_names_as_they_are(written: Path) -> None:
    page = Page()
    text = (written / "index.html").read_text()
    page.feed(text)
    assert "b" not in page.elements
    for odd in ODD:
        assert any(printable(odd) in each for each in page.texts), odd
    groups = {json.loads(each)[0] for each in re.findall(r"data-groups='(\[.*?\])'", text)}
    groups |= {
        name
        for each in re.findall(r'data-groups="(.*?)"', text)
        for name in json.loads(each.replace("&#34;", '"').replace("&quot;", '"'))
    }
    shown = set(re.findall(r'data-group="(.*?)"', text))
    assert groups <= shown, "what is switched is found by the same name"


def test_tables_keep_their_rows_and_columns(written: Path) -> None:
    tables = list(written.glob("tables/*.md"))
    for path in tables:
        table = path.read_text().partition("\n\n")[0].splitlines()
        separators = [len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in table]
        assert len(set(separators)) == 1, path
        with path.with_suffix(".csv").open(newline="") as file:
            rows = list(csv.reader(file))
        assert len(rows) == len(table) - 1
        assert len({len(row) for row in rows}) == 1
        tex = path.with_suffix(".tex").read_text()
        for row in re.findall(r"^.*(?<!\\) & .*$", tex, re.MULTILINE):
            assert row.endswith(r"\\")
    whole = (written / "report.md").read_text()
    assert whole.startswith("# ti\\\\ntle\\|\n")
    assert "\n- no\\`te\\\\x1b\n- \\# no\\\\ntitle\n" in whole
    assert r"``fm-al 'a=line\nbreak' 'x=`y`\n'``" in whole


def test_runs_are_chosen_by_odd_values_as_they_are_or_as_they_are_shown(tmp_path: Path) -> None:
    make_run(tmp_path, "badge", 0, [0.3, 0.5], options={"of": "a\nb"})
    make_run(tmp_path, "badge", 1, [0.3, 0.5], options={"of": "c"})
    for text in ("a\nb", r"a\nb"):
        assert read_runs(tmp_path, {"strategy.of": [text]}).seeds == [0]
