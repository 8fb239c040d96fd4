from __future__ import annotations

import pytest


@pytest.fixture
def without_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out the figures of settings, which take most of a report's time."""
    monkeypatch.setattr("fm_al.report.report.figures_of_setting", lambda *_: [])
    monkeypatch.setattr("fm_al.report.parallel.FEWEST_FOR_PROCESSES", 99)
