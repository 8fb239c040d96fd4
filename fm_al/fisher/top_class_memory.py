"""What selection over likeliest classes needs in memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from fm_al.fisher.chunks import CHUNK_BYTES
from fm_al.fisher.top_class_fisher import rows_at_once

NUMBER = 8  # bytes


@dataclass(frozen=True, kw_only=True)
class TopClassSizes:
    """The sizes of a query.

    Attributes:
        images: N, of the whole pool.
        dimensions: D, counting the 1 for a bias.
        classes: C.
        top_classes: c.
        candidates: How many images there are to choose from.
        known: How many images M knows without the picks.
        n: How many to pick.
        oversampling: b.
        copied: Bytes per number of embeddings that are copied, to append the 1; 0 without a bias.
    """

    images: int
    dimensions: int
    classes: int
    top_classes: int
    candidates: int
    known: int
    n: int
    oversampling: float
    copied: int


def top_classes_needs(sizes: TopClassSizes, device: torch.device) -> dict[str, int]:
    """Peak memory of a query, beside embeddings and logits as the pool has them: bytes by purpose.

    Args:
        sizes: The sizes.
        device: Where the design is computed.
    """
    N, D, c = sizes.images, sizes.dimensions, sizes.top_classes
    n, R, k = sizes.candidates, c - 1, sizes.classes * D
    forward = min(sizes.n + math.floor(sizes.oversampling * sizes.n + 0.5), n)
    # Factors, classes, positions, and entries sorted by class.
    per_image = R * c + 2 * c + 1
    pairs = c * (c + 1) // 2
    r = (sizes.known + forward) * R
    m = min(rows_at_once(N, c, k, device), max(r, n * R))
    chunks = 4 * CHUNK_BYTES[device.type]
    passes = 4 * N * c * m + 3 * n * c * m + 6 * m * k
    needs = {
        f"{N:,} images' factors of {c} classes": NUMBER * (2 * N + 2 * n) * per_image
        + sizes.copied * N * D,
        f"{n:,} candidates' five {R} x {R} matrices": NUMBER * 5 * n * R**2,
        # Blocks of pairs and products with rows come one after the other.
        f"{m:,} rows of {k:,} numbers and their products with the pool": NUMBER
        * max(passes, N * (6 * pairs + 2 * c**2) + 2 * D**2)
        + chunks,
        f"three {r:,} x {r:,} matrices of labelled images and picks": NUMBER * 3 * r**2,
    }
    if forward > sizes.n:
        picked = forward * R
        needs[f"{picked:,} rows of {k:,} numbers, of the picks to remove from"] = NUMBER * (
            4 * picked * k + 6 * picked**2
        )
    return needs
