from __future__ import annotations

import threading

import pytest

from fm_al.data import parallel
from fm_al.data.parallel import FILES_A_TASK, in_threads


@pytest.mark.parametrize("count", [0, 1, FILES_A_TASK, 3 * FILES_A_TASK + 1])
def test_results_come_in_order(count):
    assert in_threads("squaring", lambda i: i * i, count) == [i * i for i in range(count)]


def test_an_error_ends_the_work_that_has_not_begun():
    begun = []

    def work(position: int) -> None:
        begun.append(position)
        if position == 0:
            raise ZeroDivisionError("no more")
        threading.Event().wait(0.01)

    with pytest.raises(ZeroDivisionError, match="no more"):
        in_threads("dividing", work, 100 * FILES_A_TASK)
    assert len(begun) < 50 * FILES_A_TASK


def test_what_takes_long_says_how_far_it_is(monkeypatch, capsys):
    in_threads("reading [bold]x", lambda i: i, 2 * FILES_A_TASK)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(parallel, "REPORT_EVERY", -1)
    in_threads("reading [bold]x", lambda i: i, 2 * FILES_A_TASK)
    assert capsys.readouterr().err == (
        f"reading [bold]x: {FILES_A_TASK} of {2 * FILES_A_TASK} files\n"
        f"reading [bold]x: {2 * FILES_A_TASK} of {2 * FILES_A_TASK} files\n"
    )
