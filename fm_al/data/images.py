"""Images as one uint8 tensor on the device: a batch is an index, prepared there as a whole.

A crop is a choice of rows, copied whole, then of columns; a flip reverses the columns' order, so it
costs nothing beside a crop. All passes are over bytes but the last, which makes them floats.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


class Images:
    """Images uint8 (N, channels, height, width), with their normalisation and augmentation."""

    def __init__(
        self,
        images: Tensor,
        mean: Tensor,
        std: Tensor,
        crop_padding: int = 0,
        horizontal_flip: bool = False,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        """mean, std: of each channel, (channels,), of values in [0, 1]; on the images' device."""
        self.uint8 = images
        self.mean = mean
        self.std = std
        self.scale = (1 / (255 * std)).view(-1, 1, 1).float()
        self.shift = (-mean / std).view(-1, 1, 1).float()
        self.crop_padding = crop_padding
        self.horizontal_flip = horizontal_flip
        self.memory_format = memory_format

    def __len__(self) -> int:
        return len(self.uint8)

    @property
    def augments(self) -> bool:
        return self.crop_padding > 0 or self.horizontal_flip

    def batch(self, indices: Tensor) -> Tensor:
        """Normalised images, float32 (len(indices), channels, height, width)."""
        return self._normalised(self._bytes(indices))

    def augmented_batch(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """`batch`, cropped and flipped at random by a CPU generator."""
        return self._normalised(self._augmented_bytes(indices, generator))

    def augmented(self, generator: torch.Generator) -> Images:
        """All images, each cropped and flipped once at random; these are augmented no further."""
        everything = torch.arange(len(self))
        windows = self._augmented_bytes(everything, generator)
        return Images(windows, self.mean, self.std, memory_format=self.memory_format)

    def _bytes(self, indices: Tensor) -> Tensor:
        return self.uint8.index_select(0, indices.to(self.uint8.device))

    def _augmented_bytes(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        batch = self._bytes(indices)
        count, padding = len(batch), self.crop_padding
        offsets = torch.randint(2 * padding + 1, (2, count), generator=generator)
        flipped = torch.rand(count, generator=generator) < (0.5 if self.horizontal_flip else 0)
        return _windows(batch, padding, offsets.to(batch.device), flipped.to(batch.device))

    def _normalised(self, batch: Tensor) -> Tensor:
        floats = batch.to(torch.float32, memory_format=self.memory_format)
        return floats.mul_(self.scale).add_(self.shift)


def _windows(batch: Tensor, padding: int, offsets: Tensor, flipped: Tensor) -> Tensor:
    """Windows as large as the image at `offsets` (2, N), rows and columns into the padded image,
    mirrored where `flipped` (N,)."""
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
    """Mean and standard deviation of each channel of uint8 images (N, channels, height, width), of
    values in [0, 1]; float32 on their device, computed in float64 from the histogram of the values.
    A constant channel has deviation 1."""
    values = torch.arange(256, dtype=torch.float64) / 255
    histograms = torch.zeros(images.shape[1], 256, dtype=torch.int64)
    for part in images.split(4096):  # bincount makes 8 bytes of each
        for histogram, channel in zip(histograms, part.unbind(1), strict=True):
            histogram += torch.bincount(channel.reshape(-1), minlength=256).cpu()
    shares = histograms.double() / images[:, 0].numel()
    means = shares @ values
    variances = (shares * (values - means[:, None]) ** 2).sum(1)
    deviations = torch.where(variances > 0, variances.sqrt(), 1)
    return means.float().to(images.device), deviations.float().to(images.device)
