"""What a query needs in memory, and the error if that is too much."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from fm_al.device import GIB, available_memory
from fm_al.errors import RunError
from fm_al.fisher.chunks import chunk_images, numbers_per_image
from fm_al.fisher.pool_blocks import PoolBlocks
from fm_al.fisher.removal import most_rows

# Bytes per weight: float64 sums, means and the numbers that are ranked, ranks, float32 gradients.
MASK_BYTES = 56
MATRICES = 6  # of all weights by all weights, at once
FACTORED_COPIES = 3  # more of them on CUDA, which factors and solves in copies of its own


def mask_needs(weights: int) -> dict[str, int]:
    """Bytes, by purpose, for choosing a mask among this many weights."""
    return {f"diagonal Fisher information of {weights:,} weights": MASK_BYTES * weights}


def query_needs(blocks: PoolBlocks, candidates: int) -> dict[torch.device, dict[str, int]]:
    """Peak memory of a query that chooses among this many candidates.

    Returns:
        For every device, bytes by purpose.
    """
    columns = blocks.factors.columns * blocks.last_layer
    sizes = blocks.rows, columns, blocks.dimensions, blocks.dense_width
    batch = min(blocks.batch_size, candidates)
    factors = candidates * (blocks.rows * columns + 1) + batch * blocks.factors.numbers
    needs = {
        blocks.device: design_needs(candidates, *sizes, blocks.device) | {"factors": 8 * factors}
    }
    gradients = f"gradients of {candidates:,} candidates at {blocks.dense_width:,} weights"
    stored = candidates * blocks.rows * blocks.dense_width * blocks.dtype.itemsize
    needs.setdefault(blocks.storage, {})[gradients] = stored
    if blocks.gradients is not None and blocks.network is not None:
        passes = blocks.gradients.memory(blocks.network.images(blocks.pool.unlabelled[:1]), batch)
        needs.setdefault(blocks.pool.device, {})["backward passes"] = passes
    return needs


def design_needs(
    candidates: int,
    rows: int,
    columns: int,
    dimensions: int,
    dense_width: int,
    device: torch.device,
) -> dict[str, int]:
    """Peak memory of `greedy_design`, beside the candidates' blocks: bytes by purpose.

    Args:
        candidates: How many images there are to choose from.
        rows: R.
        columns: E; 0 if there are no embeddings.
        dimensions: D; 0 if there are no embeddings.
        dense_width: q.
        device: Where the design is computed.
    """
    width = columns * dimensions + dense_width
    matrices = MATRICES + FACTORED_COPIES * (device.type == "cuda")
    chunk = min(candidates, chunk_images(rows, dimensions, dense_width, device, for_squares=True))
    in_chunk = chunk * numbers_per_image(rows, dimensions, dense_width)
    needs = {
        f"{candidates:,} candidates' four {rows} x {rows} matrices": 32 * candidates * rows**2,
        f"{matrices} {width:,} x {width:,} matrices": matrices * 8 * width**2,
        f"{chunk:,} candidates in float64": 4 * 8 * in_chunk,
    }
    # Picks are removed after all that is freed.
    picked = min(candidates * rows, most_rows(width))
    backward = 8 * (6 * picked**2 + 4 * picked * width + 3 * width**2)
    more = backward - sum(needs.values())
    return needs | {f"matrices of {picked:,} picks' rows": more} if more > 0 else needs


def fits(needs: Mapping[torch.device, Mapping[str, int]], limit_gib: float | None) -> bool:
    """Return whether a query may use that much memory; see `require_memory`."""
    return all(
        sum(of_device.values()) <= _limit(device, limit_gib) for device, of_device in needs.items()
    )


def _limit(device: torch.device, limit_gib: float | None) -> int:
    return available_memory(device) if limit_gib is None else int(limit_gib * GIB)


def require_memory(
    device: torch.device,
    needs: Mapping[str, int],
    limit_gib: float | None,
    limit_name: str,
    remedy: str,
) -> None:
    """Refuse a query that needs more memory than it may use.

    Args:
        device: Where the memory is needed.
        needs: Bytes by purpose.
        limit_gib: What the query may use, in GiB; None for what the device has left.
        limit_name: The name of that option, for the error.
        remedy: How to need less, for the error.

    Raises:
        RunError: The needs exceed the limit. The message has all numbers.
    """
    limit = _limit(device, limit_gib)
    needed = sum(needs.values())
    if needed > limit:
        has = "has" if limit_gib is None else f"may use ({limit_name})"
        parts = ", ".join(f"{purpose} {size / GIB:.3g} GiB" for purpose, size in needs.items())
        raise RunError(
            f"this query needs {needed / GIB:.3g} GiB, {device.type} {has} "
            f"{limit / GIB:.3g} GiB: {parts}; {remedy}"
        )
