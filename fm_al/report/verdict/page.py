"""The page of the verdict as Markdown, and the pages of the long tables behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

import numpy as np
from matplotlib import style

from fm_al.report import text, typeset
from fm_al.report.claim import claim, published_order
from fm_al.report.curves import metric_figure
from fm_al.report.drawing import STYLE, Figure
from fm_al.report.metrics import capitalized, measure
from fm_al.report.notices import capped_rounds, notices_of
from fm_al.report.palette import Palette
from fm_al.report.published import Published, published_beside
from fm_al.report.report import Part, Report
from fm_al.report.runs import Runs
from fm_al.report.tables import beside_published, tables_of_setting
from fm_al.report.text import listed
from fm_al.report.verdict.claims import headline, outperforms, saves_labels, under_imbalance
from fm_al.report.verdict.facts import facts_of
from fm_al.report.verdict.picture import standings_figure
from fm_al.report.verdict.questions import ablations, regularization, rivals, whole_network
from fm_al.report.verdict.records import Records, dataset_of, settings_of
from fm_al.report.verdict.standings import Standings
from fm_al.report.verdict.tables import (
    ablation_table,
    opponents_table,
    ratio_table,
    standings_table,
)
from fm_al.report.verdict.words import signed, spoken
from fm_al.report.writing import markdown

TITLE = "FisherMask: the verdict"
ABOUT = (
    "FisherMask (arXiv 2411.05752) is a strategy for batch active learning: each round it labels "
    "the images that tell most about the important weights of a network, found by their Fisher "
    "information. Its abstract claims the three things quoted below. Here it runs with the paper's "
    "network, pools and hyperparameters, with batch-norm statistics that are recomputed after "
    "training. Area is the area under the accuracy curve over labels, divided by their range: a "
    "mean accuracy. Runs of one seed start from the same labels, so differences are paired by "
    "seed. Brackets are 95% intervals of one difference by itself; they cover the chance of the "
    "seeds on these data sets, not other data sets. Significant means p < 0.05 after Holm's "
    "correction, so a difference may be not significant although its interval excludes 0. Few "
    "seeds miss small differences: not significant does not mean equal."
)
ABOUT_VARIANTS = (
    "BAIT and FisherMask have three variants:",
    "- **as published**: the paper's options, among them lambda = 1 in the objective. The "
    "departures of its authors' code are not among them.\n"
    "- **rescaled**: lambda is a hundredth of the mean eigenvalue of the pool's Fisher "
    "information.\n"
    "- **repaired**: rescaled, and all classes weigh the same in that information, a labelled "
    "image counts like a pick, and the network's confidence is calibrated. These are fm_al's "
    "defaults. They were chosen on these data sets, so what they gain here is optimistic; no "
    "other strategy was tuned.",
)
FAMILIES_OF_TESTS = (
    "The long tables and the figures of curves correct over all pairs of a setting, so they call "
    "fewer differences significant than this page."
)
NOTHING_PUBLISHED = "No published numbers are known."
OTHER_PROTOCOL = (
    "The paper's balanced runs draw 500 labels a round from 26,000 images, so its numbers are not "
    "shown beside these."
)
BALANCED_FIGURE = [2600] * 10, 500, 500  # pool, first labels and those of a round, in the paper
MOST_COLUMNS = 6  # numbers of labels in a table beside published values


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
def verdict_of(records: Records, command: str, folder: str, notes: Sequence[str] = ()) -> Verdict:
    """Judge the paper by the records.

    Args:
        records: The runs.
        command: What makes the page.
        folder: Of the figures and long tables, from the page.
        notes: What else a reader must know about the runs.
    """
    standings = Standings(settings_of(records.rivals))
    summary = headline(records)
    figures = [standings_figure(standings)]
    lines = [
        f"# {TITLE}",
        f"Written by {text.markdown_code(command)}.",
        "## Verdict",
        f"**{text.markdown(summary)}**",
        ABOUT,
        *ABOUT_VARIANTS,
        *_findings(records, standings),
        "## All strategies",
        _shown(figures[0], folder),
        text.markdown(figures[0].caption),
        typeset.markdown(standings_table(standings)),
        "## The paper's figures",
        typeset.markdown(opponents_table(records)),
    ]
    curves = [_curves(runs) for runs in settings_of(records.full_length)]
    lines.append(text.markdown(curves[0].caption))
    for runs, figure in zip(settings_of(records.full_length), curves, strict=True):
        lines += _beside_published(runs, figure, folder, NOTHING_PUBLISHED)
    lines.append("## Without imbalance")
    for runs in records.balanced:
        curves.append(_curves(runs))
        lines += _beside_published(runs, curves[-1], folder, OTHER_PROTOCOL)
    lines += [
        "## Ablations",
        "\n".join(f"- {text.markdown(each)}" for each in ablations(records)),
        typeset.markdown(ablation_table(records)),
        typeset.markdown(ratio_table(records)),
        "## The runs",
        "\n".join(f"- {each}" for each in [*_runs(records, folder), *map(text.markdown, notes)]),
        FAMILIES_OF_TESTS,
    ]
    long_tables = {name: _long_tables(title, command, of) for name, title, of in _parts(records)}
    page = "\n\n".join(line.rstrip() for line in lines) + "\n"
    return Verdict(summary, page, long_tables, [*figures, *curves])


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


def _curves(runs: Runs) -> Figure:
    prefix = f"{_dataset(runs)}-{runs.labels[-1]}-"
    beside = _published(runs)
    return metric_figure(runs, prefix, measure("accuracy"), Palette.of(runs.groups), beside)


def _published(runs: Runs) -> Published:
    """Published accuracies, if the runs of one setting reproduce a figure of the paper.

    An imbalanced figure is told by the experiment's name, a balanced one by pool and budget.
    """
    run = runs.runs[0]
    counts = run.provenance.pool_counts or [0]
    if min(counts) < max(counts):
        return published_beside(runs)
    budget = run.config["budget"]
    if (list(counts), budget["initial"], budget["per_round"]) != BALANCED_FIGURE:
        return {}
    return published_beside(runs, f"balanced_{_dataset(runs).removesuffix('_jpeg')}")


def _dataset(runs: Runs) -> str:
    """The option of one setting's data set."""
    return runs.runs[0].options["dataset"]


def _heading(runs: Runs) -> str:
    return f"### {dataset_of(runs)}, to {runs.labels[-1]:,} labels"


def _beside_published(runs: Runs, figure: Figure, folder: str, otherwise: str) -> list[str]:
    """One figure of the paper: what is measured beside what is published.

    otherwise: The sentence to show if nothing was published.
    """
    beside = _published(runs)
    published = [*_closeness(runs, beside), *published_order(runs, beside)] or [otherwise]
    told = " ".join([*published, *(f"{capitalized(each)}." for each in capped_rounds(runs))])
    tables = beside_published(runs, "", beside, MOST_COLUMNS)
    return [
        _heading(runs),
        text.markdown(told),
        _shown(figure, folder),
        *map(typeset.markdown, tables),
    ]


def _closeness(runs: Runs, beside: Published) -> list[str]:
    """How far measured accuracies are above published ones, in a sentence; none without any."""
    apart = {}
    for group in (group for group in runs.groups if group in beside):
        labels = [n for n in runs.labels_after_first if n in beside[group]]
        differences = [runs.at("accuracy", n)[group].mean() - beside[group][n] for n in labels]
        if differences:
            apart[group] = float(np.mean(differences))
    if not apart:
        return []
    told = listed([f"{signed(each)} for {spoken(group)}" for group, each in apart.items()])
    return [
        "Measured minus published accuracy, mean over the numbers of labels after the first: "
        f"{told}."
    ]


def _parts(records: Records) -> list[tuple[str, str, Runs]]:
    """The pages of long tables: name, title, runs."""
    return [
        ("full_length", "The paper's figures", records.full_length),
        ("rivals", "All strategies", records.rivals),
        *(
            (f"balanced_{_dataset(runs)}", f"Without imbalance: {dataset_of(runs)}", runs)
            for runs in records.balanced
        ),
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
        beside = _published(of_setting)
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
