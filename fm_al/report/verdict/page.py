"""The page of the verdict as Markdown, and the pages of the long tables behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from matplotlib import style

from fm_al.report import text, typeset
from fm_al.report.claim import claim, published_order
from fm_al.report.curves import metric_figure
from fm_al.report.drawing import STYLE, Figure
from fm_al.report.metrics import measure
from fm_al.report.notices import notices_of
from fm_al.report.palette import Palette
from fm_al.report.published import Published, published_beside
from fm_al.report.report import Part, Report
from fm_al.report.runs import Runs
from fm_al.report.tables import beside_published, tables_of_setting
from fm_al.report.verdict.claims import headline, outperforms, saves_labels, under_imbalance
from fm_al.report.verdict.facts import facts_of
from fm_al.report.verdict.picture import finding, standings_figure
from fm_al.report.verdict.questions import ablations, regularization, rivals, whole_network
from fm_al.report.verdict.records import Records, dataset_of, of_settings
from fm_al.report.verdict.standings import Standings
from fm_al.report.verdict.table import ablation_table, ratio_table, standings_table
from fm_al.report.writing import markdown

TITLE = "FisherMask: the verdict"
ABOUT = (
    "FisherMask (arXiv 2411.05752) is a strategy for batch active learning: each round it labels "
    "the images that tell most about the important weights of a network, found by their Fisher "
    "information. Here it runs on the paper's own network, data and training. Runs of one seed "
    "start from the same labels, so differences are paired by seed. Area is the area under the "
    "accuracy curve over labels, divided by their range: a mean accuracy. Brackets hold 95% "
    "intervals. Significant means p < 0.05, corrected by Holm; level means that no significant "
    "difference was found."
)
ABOUT_VARIANTS = (
    "BAIT and FisherMask have three variants. As published, the constant lambda of their objective "
    "is 1. Rescaled, it is 0.01 of the mean eigenvalue of the pool's Fisher information. Repaired, "
    "in addition all classes weigh the same in this information, a labelled image counts like a "
    "pick, and the logits are calibrated; these are fm_al's defaults."
)


@dataclass(frozen=True)
class Verdict:
    """What is written.

    Attributes:
        summary: One sentence.
        page: The page.
        long_tables: Pages of tables by the stem of their files.
        figures: What the page shows.
    """

    summary: str
    page: str
    long_tables: Mapping[str, str]
    figures: Sequence[Figure]


@style.context(STYLE)
def verdict_of(records: Records, command: str, folder: str) -> Verdict:
    """Judge the paper by the records.

    Args:
        records: The runs.
        command: What makes the page.
        folder: Of the figures and long tables, from the page.
    """
    standings = Standings(of_settings(records.rivals))
    summary = headline(records)
    picture = standings_figure(standings, finding(standings))
    figures = [picture]
    lines = [
        f"# {TITLE}",
        f"Written by {text.markdown_code(command)}.",
        "## Verdict",
        f"**{text.markdown(summary)}**",
        f"{ABOUT} {ABOUT_VARIANTS}",
        *_findings(records, standings),
        "## All strategies",
        _shown(picture, folder),
        text.markdown(picture.caption),
        typeset.markdown(standings_table(standings)),
    ]
    for title, of_part in (
        ("The paper's figures", records.full_length),
        ("Without imbalance", records.balanced),
    ):
        lines.append(f"## {title}")
        for runs in of_settings(of_part):
            beside = published_beside(runs)
            figures.append(_curves(runs, beside))
            lines += _beside_published(runs, beside, figures[-1], folder)
        lines.append(text.markdown(figures[-1].caption))
    lines += [
        "## Ablations",
        "\n".join(f"- {text.markdown(each)}" for each in ablations(records)),
        typeset.markdown(ablation_table(records)),
        typeset.markdown(ratio_table(records)),
    ]
    lines += ["## The runs", "\n".join(f"- {each}" for each in _runs(records, folder))]
    long_tables = {name: _long_tables(title, command, of) for name, title, of in _parts(records)}
    page = "\n\n".join(line.rstrip() for line in lines) + "\n"
    return Verdict(summary, page, long_tables, figures)


def _findings(records: Records, standings: Standings) -> list[str]:
    """Claims and questions with their answers."""
    found = [
        outperforms(records),
        under_imbalance(records),
        saves_labels(records),
        whole_network(records),
        regularization(records),
        rivals(standings),
    ]
    return [
        f"{number}. **{text.markdown_cell(each.claim)}** *{text.markdown_cell(each.answer)}* "
        f"{text.markdown_cell(each.evidence)}"
        for number, each in enumerate(found, 1)
    ]


def _shown(figure: Figure, folder: str) -> str:
    path = quote(f"{folder}/figures/{figure.name}.png")
    return f"![{text.markdown(figure.title)}]({path})"


def _curves(runs: Runs, beside: Published) -> Figure:
    prefix = f"{runs.runs[0].options['dataset']}-{runs.labels[-1]}-"
    return metric_figure(runs, prefix, measure("accuracy"), Palette.of(runs.groups), beside)


def _beside_published(runs: Runs, beside: Published, figure: Figure, folder: str) -> list[str]:
    """One figure of the paper: what is measured beside what is published."""
    order = published_order(runs, beside) if beside else ["No published numbers are known."]
    return [
        f"### {dataset_of(runs)}, to {runs.labels[-1]:,} labels",
        *([text.markdown(" ".join(order))] if order else []),
        _shown(figure, folder),
        *(typeset.markdown(table) for table in beside_published(runs, "", beside)),
    ]


def _parts(records: Records) -> list[tuple[str, str, Runs]]:
    """The pages of long tables: name, title, runs."""
    return [
        ("full_length", "The paper's figures", records.full_length),
        ("rivals", "All strategies", records.rivals),
        ("balanced", "Without imbalance", records.balanced),
        *(
            (f"ablation_{each.name}", f"Ablation: {each.name}", each.runs)
            for each in records.ablations
        ),
        ("ablation_imbalance_ratio", "Ablation: imbalance_ratio", records.ratios),
    ]


def _long_tables(title: str, command: str, runs: Runs) -> str:
    """All tables of some runs, without figures."""
    parts = []
    for setting in runs.settings:
        of_setting = runs.of(setting)
        beside = published_beside(of_setting)
        tables = [
            *tables_of_setting(of_setting, "", ()),
            *beside_published(of_setting, "", beside),
        ]
        parts.append(Part(setting, command, tables, [], claim(of_setting, beside)))
    palette = Palette.of(runs.groups)
    return markdown(Report(title, command, runs, parts, palette, notices_of(runs), []), "")


def _runs(records: Records, folder: str) -> list[str]:
    """What was run, a line for each part."""
    return [
        f"[{title}]({quote(folder)}/{name}.md): {text.markdown_cell(facts_of(runs))}"
        for name, title, runs in _parts(records)
    ]
