"""Square roots of the Fisher information that an image's logits hold about themselves."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Weighting = Literal["fisher", "uniform"]


def fisher_factors(
    logits: Tensor, weighting: Weighting = "fisher", temperature: float = 1.0
) -> Tensor:
    """Compute R_x with R_x^T R_x = sum_c w_c (e_c - p) (e_c - p)^T for every image x.

    With J_x the Jacobian of the logits, (R_x J_x)^T (R_x J_x) is the image's Fisher information.
    Every row of R_x sums to 0, so C - 1 rows hold all that C gradients of log probabilities do.

    Args:
        logits: (N, C), any float type.
        weighting: w_c. `fisher`: p_c, so R_x^T R_x = diag p - p p^T. `uniform`: 1, as in the
            selection of the FisherMask authors' code.
        temperature: T. The network is taken to have the logits z / T, so p = softmax(z / T), and
            R_x is divided by T because the Jacobian is J_x / T.

    Returns:
        (N, C - 1, C) float64, on the logits' device.
    """
    return _factors((logits.double() / temperature).softmax(dim=1), weighting) / temperature


def _factors(p: Tensor, weighting: Weighting) -> Tensor:
    """`fisher_factors` of probabilities (N, C) float64 at a temperature of 1."""
    classes = p.shape[1]
    if weighting == "uniform":
        # With Q the contrasts and u = Q^T p, a root is (1 + C u u^T)^{1/2} Q^T.
        basis = contrasts(classes).to(p.device)
        u = p @ basis
        stretch = classes / (1 + (1 + classes * u.square().sum(dim=1)).sqrt())
        return basis.T + (stretch[:, None] * u)[:, :, None] * (u @ basis.T)[:, None]
    # The Cholesky factor of diag p - p p^T in closed form (Tanabe and Sagae 1992): row j contrasts
    # class j with the classes after it. Their probabilities are summed, not subtracted from 1, so
    # nothing cancels.
    smallest = torch.finfo(p.dtype).tiny
    left = p @ torch.ones(classes, classes).to(p).tril()
    after = left[:, 1:]
    shares = p[:, None, :] / after[:, :, None].clamp_min(smallest)
    rows = torch.eye(classes, dtype=p.dtype, device=p.device)[:-1] - shares.triu(1)
    return (p[:, :-1] / left[:, :-1].clamp_min(smallest) * after).sqrt()[:, :, None] * rows


def contrasts(classes: int) -> Tensor:
    """Return an orthonormal basis of the vectors over C classes that sum to 0: (C, C - 1) float64.

    All rows of `fisher_factors` lie in its span. In this basis the C D weights of the last layer
    are (C - 1) D coordinates, and D more that never hold any information.
    """
    steps = torch.arange(1, classes, dtype=torch.float64)
    helmert = torch.ones(classes, classes - 1, dtype=torch.float64).triu()
    helmert[torch.arange(1, classes), torch.arange(classes - 1)] = -steps
    return helmert / (steps * (steps + 1)).sqrt()
