"""Euclidean distances for selection."""

from __future__ import annotations

import torch
from torch import Tensor


def squared_distances(points: Tensor, centres: Tensor) -> Tensor:
    """|x - y|^2 of points (N, D) and centres (M, D): (N, M), without a tensor of size N x M x D.

    Summed from differences, not expanded into |x|^2 + |y|^2 - 2 x.y: that cancels where points are
    close compared with their norms, so copies of a point would be at some distance from it. Here
    they are at 0 exactly. For few centres either way takes as long as reading the points.
    """
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(points, centres, compute_mode=mode).square_()
