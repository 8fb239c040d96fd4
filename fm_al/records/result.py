"""The result of a run, from its rounds alone."""

from __future__ import annotations

from collections.abc import Sequence

from fm_al.records.curve import area_under_curve
from fm_al.records.schema import Result, Round

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "per_class_accuracy", "loss")
NEEDED_FOR_RESULT = ("labelled", *METRICS, "seconds")
# Metrics that rounds of older versions lack.
ADDED_METRICS = ("worst_class_accuracy", "expected_calibration_error", "brier_score")


def result_of(rounds: Sequence[Round], class_names: Sequence[str]) -> Result:
    """Compute a run's result.

    Args:
        rounds: All rounds of the run, which have `NEEDED_FOR_RESULT`.
        class_names: Names of the classes.
    """
    final = rounds[-1]
    lacks = final.lacks(*ADDED_METRICS)
    metrics = [*METRICS, *(name for name in ADDED_METRICS if name not in lacks)]
    return Result(
        rounds=len(rounds),
        labelled=final.labelled,
        **{name: getattr(final, name) for name in metrics},
        area_under_curve=area_under_curve(
            [record.labelled for record in rounds], [record.accuracy for record in rounds]
        ),
        class_names=list(class_names),
        confusion_matrix=final.confusion_matrix,
        seconds={
            stage: round(sum(record.seconds.get(stage, 0.0) for record in rounds), 3)
            for stage in rounds[0].seconds
        },
    )
