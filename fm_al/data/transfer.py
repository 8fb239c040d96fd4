"""Sending rows of a tensor in main memory to the device, one batch ahead of the computation.

Rows are gathered into pinned memory, so that a CUDA GPU copies them on a stream of its own while it
computes. The tensor itself is not pinned: it may be a memory map, or most of main memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor


def to_device(stored: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    """Copy rows of a tensor to a device.

    Args:
        stored: On the device or on the CPU.
        rows: Indices of rows, int64, where `stored` is.
        device: Where they go.
    """
    return _gathered(stored, rows, device).to(device, non_blocking=True)


def batches_to_device(
    stored: Tensor, parts: Sequence[Tensor], device: torch.device
) -> Iterator[Tensor]:
    """Iterate over `to_device` of several sets of rows; a CUDA GPU is sent one batch ahead."""
    if device.type == "cuda" and stored.device.type == "cpu":
        yield from one_ahead(_side_stream_copies(stored, device), parts)
    else:
        for rows in parts:
            yield to_device(stored, rows, device)


def one_ahead(
    begin: Callable[[Tensor], Callable[[], Tensor]], parts: Sequence[Tensor]
) -> Iterator[Tensor]:
    """Begin the copy of the next part before the result of a part is handed out.

    Args:
        begin: Begins the copy of a part; returns a function that waits for it.
        parts: In their order.
    """
    finish: Callable[[], Tensor] | None = None
    for rows in parts:
        following = begin(rows)
        if finish is not None:
            yield finish()
        finish = following
    if finish is not None:
        yield finish()


def _side_stream_copies(
    stored: Tensor, device: torch.device
) -> Callable[[Tensor], Callable[[], Tensor]]:
    """Copies for `one_ahead` on a stream beside the one that computes."""
    stream = torch.cuda.Stream(device)

    def begin(rows: Tensor) -> Callable[[], Tensor]:
        gathered = _gathered(stored, rows, device)
        with torch.cuda.stream(stream):
            batch = gathered.to(device, non_blocking=True)
        copied = stream.record_event()

        def finish() -> Tensor:
            computing = torch.cuda.current_stream(device)
            computing.wait_event(copied)
            batch.record_stream(computing)  # its memory belongs to the other stream
            return batch

        return finish

    return begin


def _gathered(stored: Tensor, rows: Tensor, device: torch.device) -> Tensor:
    """The rows, where the tensor is; in pinned memory if they go to a CUDA GPU from the CPU.

    torch reuses pinned memory only after the copies out of it are done.
    """
    if device.type != "cuda" or stored.device.type != "cpu":
        return stored.index_select(0, rows)
    shape = len(rows), *stored.shape[1:]
    pinned = torch.empty(shape, dtype=stored.dtype, pin_memory=True)
    return torch.index_select(stored, 0, rows, out=pinned)
