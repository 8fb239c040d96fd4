"""Images as one uint8 tensor on the device. A batch is an index into it.

A crop first copies whole rows, then picks columns. A flip reverses the order of the columns, so it
is free once there is a crop. All passes but the last are over bytes; the last makes floats.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


class Images:
    """Images with their normalisation and augmentation.

    Attributes:
        uint8: The images as bytes, (N, channels, height, width).
    """

    def __init__(
        self,
        images: Tensor,
        mean: Tensor,
        std: Tensor,
        crop_padding: int = 0,
        horizontal_flip: bool = False,
        memory_format: torch.memory_format = torch.contiguous_format,
    ) -> None:
        """Keep images on the device that they are on.

        Args:
            images: uint8 (N, channels, height, width).
            mean: Per channel, of values in [0, 1]: float (channels,), on the images' device.
            std: Like `mean`.
            crop_padding: Pixels of zeros around an image before it is cropped at random.
            horizontal_flip: Whether half of the images are mirrored at random.
            memory_format: Of the batches.
        """
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
        """Whether training images differ from the images themselves."""
        return self.crop_padding > 0 or self.horizontal_flip

    def batch(self, indices: Tensor) -> Tensor:
        """Normalised images, float32 (len(indices), channels, height, width)."""
        return self._normalised(self._bytes(indices))

    def augmented_batch(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Like `batch`, with each image cropped and flipped at random by a CPU generator."""
        return self._normalised(self._augmented_bytes(indices, generator))

    def augmented(self, generator: torch.Generator) -> Images:
        """Crop and flip every image once. The result is not augmented any further."""
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
    """Cut windows of the image's size out of the padded image, and mirror some of them.

    Args:
        batch: uint8 (N, channels, height, width).
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
    for part in images.split(4096):  # bincount needs 8 bytes per value
        for histogram, channel in zip(histograms, part.unbind(1), strict=True):
            histogram += torch.bincount(channel.reshape(-1), minlength=256).cpu()
    shares = histograms.double() / images[:, 0].numel()
    means = shares @ values
    variances = (shares * (values - means[:, None]) ** 2).sum(1)
    deviations = torch.where(variances > 0, variances.sqrt(), 1)
    return means.float().to(images.device), deviations.float().to(images.device)
