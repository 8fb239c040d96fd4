"""How many images are processed together: few enough for a cache, or for a GPU's memory."""

from __future__ import annotations

import torch

CHUNK_BYTES = {"cpu": 2**22, "cuda": 2**28}  # of what is computed for some images at a time
SQUARES_LEAST = 256  # images at a time in products with a k x k matrix


def images_at_once(numbers: int, device: torch.device) -> int:
    """How many images with this many float64 numbers each fit into a chunk; at least one."""
    return max(1, CHUNK_BYTES[device.type] // (8 * numbers))


def chunk_images(
    rows: int, dimensions: int, dense_width: int, device: torch.device, for_squares: bool
) -> int:
    """How many images of `Blocks` are processed together.

    for_squares: For products with a k x k matrix. Enough images then share a chunk that reading the
        matrix takes no longer than multiplying with it.
    """
    least = max(SQUARES_LEAST, dense_width // (2 * rows)) if for_squares else 1
    return max(least, images_at_once(numbers_per_image(rows, dimensions, dense_width), device))


def row_chunk_images(rows: int, width: int, device: torch.device) -> int:
    """How many images are processed together as full rows of k = `width` numbers."""
    return max(SQUARES_LEAST // rows, images_at_once(rows * width, device))


def numbers_per_image(rows: int, dimensions: int, dense_width: int) -> int:
    """Float64 numbers of one image in a chunk, with the results computed from it."""
    return rows * dense_width + dimensions + 8 * rows**2
