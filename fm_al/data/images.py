"""Images as one tensor, on the device or in main memory. A batch is an index into it.

Images are bytes, which are normalised batch by batch, or floats such as features, which are taken
as they are. Images in main memory are sent to the device in batches; the numbers are the same.

A crop first copies whole rows, then picks columns. A flip reverses the order of the columns, so it
is free once there is a crop. All passes but the last are over bytes; the last makes floats.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from fm_al.data.transfer import batches_to_device, to_device

CHUNK = 4096  # images at a time that are augmented or counted


class Images:
    """Images with their normalisation and augmentation.

    Attributes:
        stored: The images, uint8 or a float type, (N, channels, height, width).
        device: Where batches are.
    """

    def __init__(
        self,
        images: Tensor,
        mean: Tensor,
        std: Tensor,
        crop_padding: int = 0,
        horizontal_flip: bool = False,
        memory_format: torch.memory_format = torch.contiguous_format,
        device: torch.device | None = None,
    ) -> None:
        """Keep images where they are.

        Args:
            images: (N, channels, height, width): uint8, or float16 or float32 that are not
                normalised. They may be a memory map of a file.
            mean: Per channel, of values in [0, 1]: float (channels,). Floats ignore it.
            std: Like `mean`.
            crop_padding: Pixels of zeros around an image before it is cropped at random.
            horizontal_flip: Whether half of the images are mirrored at random.
            memory_format: Of the batches.
            device: Where batches go. None is where the images are.
        """
        self.stored = images
        self.device = images.device if device is None else device
        self.mean = mean
        self.std = std
        self.scale = (1 / (255 * std)).view(-1, 1, 1).float().to(self.device)
        self.shift = (-mean / std).view(-1, 1, 1).float().to(self.device)
        self.crop_padding = crop_padding
        self.horizontal_flip = horizontal_flip
        self.memory_format = memory_format
        self._positions: Tensor | None = None

    def __len__(self) -> int:
        return len(self.stored if self._positions is None else self._positions)

    @property
    def augments(self) -> bool:
        """Whether training images differ from the images themselves."""
        return self.crop_padding > 0 or self.horizontal_flip

    def batch(self, indices: Tensor) -> Tensor:
        """Normalised images, float32 (len(indices), channels, height, width)."""
        return self._normalised(to_device(self.stored, self._rows(indices), self.device))

    def batches(self, indices: Tensor, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over `batch` of consecutive parts of the indices.

        Images in main memory are sent one batch ahead, while the device computes.

        Args:
            indices: int64.
            batch_size: Of all parts but the last.

        Yields:
            The indices of a part, on the device, and its images.
        """
        if not len(indices):
            return
        rows = self._rows(indices).split(batch_size)
        sent = batches_to_device(self.stored, rows, self.device)
        for part, batch in zip(indices.to(self.device).split(batch_size), sent, strict=True):
            yield part, self._normalised(batch)

    def augmented_batch(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Like `batch`, with each image cropped and flipped at random by a CPU generator."""
        batch = to_device(self.stored, self._rows(indices), self.device)
        draws = self._draws(len(batch), generator)
        return self._normalised(self._windows(batch, *draws))

    def augmented(self, generator: torch.Generator) -> Images:
        """Crop and flip every image once. The result is kept where these images are, and is not
        augmented any further."""
        offsets, flipped = self._draws(len(self), generator)
        windows = self.stored.new_empty(len(self), *self.stored.shape[1:])
        everything = torch.arange(len(self), device=self.stored.device)
        for rows in everything.split(CHUNK) if len(self) else ():
            batch = self.stored.index_select(0, self._rows(rows))
            mine = slice(int(rows[0]), int(rows[-1]) + 1)
            windows[mine] = self._windows(batch, offsets[:, mine], flipped[mine])
        kept = copy.copy(self)
        kept.stored, kept._positions = windows, None
        kept.crop_padding, kept.horizontal_flip = 0, False
        return kept

    def among(self, indices: Tensor) -> Images:
        """A view of some of the images; position i of it is image indices[i]."""
        view = copy.copy(self)
        view._positions = self._rows(indices)
        return view

    def _rows(self, indices: Tensor) -> Tensor:
        """Where images of these indices are stored, on the device that stores them."""
        indices = indices.to(self.stored.device)
        return indices if self._positions is None else self._positions[indices]

    def _draws(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """First rows and columns of random windows, int64 (2, count); which are mirrored."""
        offsets = torch.randint(2 * self.crop_padding + 1, (2, count), generator=generator)
        mirrored = 0.5 if self.horizontal_flip else 0
        return offsets, torch.rand(count, generator=generator) < mirrored

    def _windows(self, batch: Tensor, offsets: Tensor, flipped: Tensor) -> Tensor:
        device = batch.device
        return _windows(batch, self.crop_padding, offsets.to(device), flipped.to(device))

    def _normalised(self, batch: Tensor) -> Tensor:
        floats = batch.to(torch.float32, memory_format=self.memory_format)
        if self.stored.is_floating_point():
            return floats
        return floats.mul_(self.scale).add_(self.shift)


def _windows(batch: Tensor, padding: int, offsets: Tensor, flipped: Tensor) -> Tensor:
    """Cut windows of the image's size out of the padded image, and mirror some of them.

    Args:
        batch: (N, channels, height, width).
        padding: Pixels of zeros around the images.
        offsets: First row and column of each window, int64 (2, N).
        flipped: Which windows are mirrored, bool (N,).
    """
    count, channels, height, width = batch.shape
    padded = functional.pad(batch, (padding, padding, padding, padding))
    tall, wide = padded.shape[2:]
    y = torch.arange(height, device=batch.device)
    x = torch.arange(width, device=batch.device)
    first = torch.arange(0, count * channels * tall, tall, device=batch.device)
    rows = first.view(count, channels, 1) + (offsets[0][:, None] + y)[:, None]
    kept = padded.view(-1, wide).index_select(0, rows.view(-1))
    columns = offsets[1][:, None] + torch.where(flipped[:, None], x.flip(0), x)
    columns = columns[:, None].expand(count, channels * height, width)
    return kept.view(count, channels * height, wide).gather(2, columns).view(batch.shape)


def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the mean and standard deviation of every channel, of values in [0, 1].

    They are computed in float64 from histograms.

    Args:
        images: uint8 (N, channels, height, width).

    Returns:
        Two tensors, float32 (channels,), on the images' device. A constant channel has deviation 1.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    histograms = torch.zeros(images.shape[1], 256, dtype=torch.int64)
    for part in images.split(CHUNK):  # bincount needs 8 bytes per value
        for histogram, channel in zip(histograms, part.unbind(1), strict=True):
            histogram += torch.bincount(channel.reshape(-1), minlength=256).cpu()
    shares = histograms.double() / images[:, 0].numel()
    means = shares @ values
    variances = (shares * (values - means[:, None]) ** 2).sum(1)
    deviations = torch.where(variances > 0, variances.sqrt(), 1)
    return means.float().to(images.device), deviations.float().to(images.device)
