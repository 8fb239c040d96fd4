"""Rows of large matrices, some at a time, so that what is made of them needs little memory."""

from __future__ import annotations

ROWS = 2**14  # at a time
# Products of fewer rows than this are computed at once. A product's last bits may depend on how
# its rows are grouped.
MANY_ROWS = 2**17


def row_chunks(count: int) -> list[slice]:
    """Split rows into consecutive parts of `ROWS`; the last one takes the remainder as well.

    So no part is much smaller than the others: libraries round products of a few rows differently.

    Args:
        count: How many rows there are.
    """
    starts = range(0, max(1, count // ROWS) * ROWS, ROWS)
    return [slice(start, start + ROWS) for start in starts[:-1]] + [slice(starts[-1], count)]


def product_chunks(count: int) -> list[slice]:
    """Like `row_chunks`, for products; all rows at once if there are fewer than `MANY_ROWS`."""
    return [slice(0, count)] if count < MANY_ROWS else row_chunks(count)


def most_rows(count: int) -> int:
    """The most rows of a part of `row_chunks`."""
    return min(count, 2 * ROWS)


def product_rows(count: int) -> int:
    """The most rows of a part of `product_chunks`."""
    return count if count < MANY_ROWS else most_rows(count)
