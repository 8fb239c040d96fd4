"""The pool: its images, and which of them are labelled."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from fm_al.data.images import Images


class Pool:
    """N images with their classes. The classes of unlabelled images stay hidden.

    Attributes:
        classes: C, the number of classes.
        features: Fixed features of the images, float32 (N, D), on the device or the CPU; None if
            there are none.
        labelled: Indices of the labelled images, int64, in the order of labelling.
    """

    def __init__(
        self, images: Images, targets: Tensor, classes: int, features: Tensor | None = None
    ) -> None:
        """Make a pool without labels.

        Args:
            images: The N images.
            targets: Their classes, int64 (N,), on the device of the images' batches.
            classes: C, the number of classes.
            features: Fixed features of the images, float32 (N, D); None if there are none.
        """
        self.features = features
        self._images = images
        self._targets = targets
        self.classes = classes
        self.labelled = torch.empty(0, dtype=torch.int64, device=targets.device)
        self._is_labelled = torch.zeros(len(targets), dtype=torch.bool, device=targets.device)

    def __len__(self) -> int:
        return len(self._targets)

    @property
    def device(self) -> torch.device:
        """Where batches of images, classes and indices are."""
        return self._targets.device

    @property
    def unlabelled(self) -> Tensor:
        """Indices of the unlabelled images, int64, ascending."""
        return (~self._is_labelled).nonzero().squeeze(1)

    def are_unlabelled(self, indices: Tensor) -> bool:
        """Whether all of these are indices of unlabelled images."""
        if bool(((indices < 0) | (indices >= len(self))).any()):
            return False
        return not bool(self._is_labelled[indices].any())

    def label(self, indices: Tensor) -> None:
        """Label distinct unlabelled images, in this order. Raises ValueError for any others."""
        indices = indices.to(self.device)
        before = int(self._is_labelled.sum())
        marked = self._is_labelled.clone()
        marked[indices] = True
        if bool((indices < 0).any()) or int(marked.sum()) != before + len(indices):
            raise ValueError("images to label must be in the pool, distinct and not labelled yet")
        self._is_labelled = marked
        self.labelled = torch.cat([self.labelled, indices])

    def targets(self, indices: Tensor) -> Tensor:
        """Classes of labelled images, int64. Raises ValueError if one is not labelled."""
        if not bool(self._is_labelled[indices].all()):
            raise ValueError("the class of an unlabelled image is not known")
        return self._targets[indices]

    def hidden_targets(self, indices: Tensor) -> Tensor:
        """Classes of any images, int64: for `Query.reveal`, which charges for them, alone."""
        return self._targets[indices]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Channels, height and width."""
        return tuple(self._images.stored.shape[1:])

    def images(self, indices: Tensor) -> Tensor:
        """Normalised images, float32 (len(indices), channels, height, width)."""
        return self._images.batch(indices)

    def batches(self, indices: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over consecutive parts of the indices with their `images`; see `Images.batches`.

        Args:
            indices: int64.
            batch_size: Of all parts but the last.
        """
        return self._images.batches(indices, batch_size)

    def among(self, unlabelled: Tensor) -> tuple[Pool, Tensor]:
        """Look at this pool as it is now as if it held some unlabelled images alone, beside all
        labelled ones.

        Args:
            unlabelled: Indices of these images, int64.

        Returns:
            A pool that numbers its images anew, in the same order, and their indices in this pool,
            int64 ascending.
        """
        there = torch.zeros_like(self._is_labelled)
        there[unlabelled] = True
        kept = (there | self._is_labelled).nonzero().squeeze(1)
        features = None if self.features is None else self.features[kept.to(self.features.device)]
        pool = Pool(self._images.among(kept), self._targets[kept], self.classes, features)
        pool.label(torch.searchsorted(kept, self.labelled))
        return pool, kept

    def augmented(self, generator: torch.Generator) -> Pool:
        """Copy this pool as it is now, with all images augmented once, if the data set asks for it.

        Args:
            generator: A CPU generator.
        """
        pool = copy.copy(self)
        if self._images.augments:
            pool._images = self._images.augmented(generator)
        return pool

    def training_images(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Like `images`, augmented by a CPU generator if the data set asks for it."""
        if self._images.augments:
            return self._images.augmented_batch(indices, generator)
        return self._images.batch(indices)
