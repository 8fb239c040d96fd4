"""Features of the train split that the user has in a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from fm_al.data.datasets.features import mapped
from fm_al.errors import ConfigError, RunError
from fm_al.features.base import Extractor, FeatureMap
from fm_al.records.digests import file_digest

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class File(Extractor):
    """Read a matrix with a row for every image of the data set's train split, in its stored order,
    before any imbalance.

    Args:
        path: A `.npy` file, float16, float32 or float64 (N, D).
    """

    path: Annotated[str, Field(min_length=1)]

    def identity(self) -> dict[str, Any]:
        path = Path(self.path)
        if not path.is_file():
            raise RunError(f"features.path={self.path}: there is no {path.absolute()}")
        described = super().identity() | {"content": file_digest(path)}
        del described["path"]
        return described

    def given(self, count: int) -> Tensor:
        import torch

        matrix = mapped(Path(self.path))
        if matrix.ndim != 2 or not np.issubdtype(matrix.dtype, np.floating) or not matrix.shape[1]:
            raise RunError(
                f"features.path={self.path}: holds {matrix.dtype} of shape {matrix.shape}; it "
                f"should hold float32 of shape ({count}, features)"
            )
        if len(matrix) != count:
            raise RunError(
                f"features.path={self.path}: has {len(matrix)} rows, and the data set's train "
                f"split has {count} images"
            )
        return torch.from_numpy(matrix)

    def fitted(self, images: Tensor, device: torch.device) -> FeatureMap:
        raise ConfigError(
            "features=file: has no features of other images than the train split's; use another, "
            "such as features=pca"
        )
