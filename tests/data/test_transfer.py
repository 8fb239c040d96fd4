from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fm_al.data.transfer import batches_to_device, one_ahead


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_a_copy_is_begun_before_the_result_of_the_one_before_is_used(count: int) -> None:
    happened: list[str] = []

    def begin(rows: Tensor) -> Callable[[], Tensor]:
        number = int(rows)
        happened.append(f"begin {number}")
        return lambda: happened.append(f"finish {number}") or rows

    for rows in one_ahead(begin, [torch.tensor(number) for number in range(count)]):
        happened.append(f"use {int(rows)}")
    expected = ["begin 0"] if count else []
    for number in range(count):
        if number + 1 < count:
            expected.append(f"begin {number + 1}")
        expected += [f"finish {number}", f"use {number}"]
    assert happened == expected


def test_on_one_device_a_batch_is_made_when_it_is_asked_for() -> None:
    stored = torch.arange(10)
    batches = batches_to_device(stored, torch.arange(10).split(4), torch.device("cpu"))
    assert next(batches).tolist() == [0, 1, 2, 3]
    stored.zero_()
    assert next(batches).tolist() == [0, 0, 0, 0]
