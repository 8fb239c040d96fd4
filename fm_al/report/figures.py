"""All figures of one setting."""

from __future__ import annotations

from types import MappingProxyType

from matplotlib import style

from fm_al.report.bound_tables import bound_level
from fm_al.report.class_figures import class_figure, tier_figures
from fm_al.report.composition import mask_figure, query_figure, seconds_figure
from fm_al.report.curves import area_figure, metric_figure
from fm_al.report.drawing import STYLE, Figure
from fm_al.report.metrics import measure, metrics_of
from fm_al.report.palette import Palette
from fm_al.report.published import Published
from fm_al.report.runs import Runs

UNPUBLISHED: Published = MappingProxyType({})


@style.context(STYLE)
def figures_of_setting(
    runs: Runs, prefix: str, palette: Palette, published: Published = UNPUBLISHED
) -> list[Figure]:
    """Draw the figures of one setting, except those for which the records hold nothing.

    Args:
        runs: The runs of one setting.
        prefix: Start of the figures' file names.
        palette: Looks of the groups.
        published: Accuracies by group and number of labels, drawn beside the measured ones.
    """
    figures = [
        *(
            metric_figure(
                runs,
                prefix,
                measure(key),
                palette,
                published if key == "accuracy" else UNPUBLISHED,
                bound_level(runs, key),
            )
            for key in metrics_of(runs)
        ),
        area_figure(runs, prefix, palette),
        *tier_figures(runs, prefix, palette),
        class_figure(runs, prefix, palette),
        query_figure(runs, prefix, palette),
        mask_figure(runs, prefix, palette),
        seconds_figure(runs, prefix, palette),
    ]
    return [figure for figure in figures if figure is not None]
