from __future__ import annotations

import pytest

from fm_al.report.drawing import Figure
from fm_al.report.figures import figures_of_setting
from fm_al.report.palette import Palette
from fm_al.report.runs import Runs
from fm_al.report.selection import read_runs
from tests.helpers.made_runs import make_trial
from tests.report.drawn_figures import by_name


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("trial")
    make_trial(folder)
    return read_runs(folder)


@pytest.fixture(scope="module")
def drawn(trial: Runs) -> dict[str, Figure]:
    published = {"fishermask": {30: 0.6, 10: 0.4}, "coreset": {10: 0.3}}
    return by_name(figures_of_setting(trial, "trial-", Palette.of(trial.groups), published))


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the figures of settings, which take most of a report's time."""
    monkeypatch.setattr("fm_al.report.report.figures_of_setting", lambda *_: [])
    monkeypatch.setattr("fm_al.report.parallel.FEWEST_FOR_PROCESSES", 99)
