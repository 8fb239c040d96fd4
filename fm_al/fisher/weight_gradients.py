"""Per-image gradients of linear and convolutional weights: sum_t delta[o, t] a[k, t].

a is the layer's unfolded input, delta the gradient at its output. There are two ways to compute the
sum, each with its own memory layout. `Product` multiplies two matrices per image. It needs the
unfolded input, which is nine times the input for a 3 x 3 kernel. `Grouped` runs a convolution's own
backward pass with one image per group and needs no unfolded input. With oneDNN on a CPU it is
several times faster for some sizes.

Deltas are the gradients at the layer's output, one tensor of its shape per row. Sizes: n images, R
rows, O outputs, T positions, K numbers of the weight per output, G groups of the convolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.grad import conv2d_weight

Module = nn.Linear | nn.Conv2d

GROUPED_CHANNELS = 16  # oneDNN's kernels take this many together
GROUPED_POSITIONS = 256  # with fewer, writing the gradients takes longer than computing them
GROUPED_CAPABILITIES = ("AVX2", "AVX512")


class Way(Protocol):
    """A way to compute a weight's gradients."""

    def features(self, inputs: Tensor) -> Tensor:
        """Arrange the layer's input, (n, ...)."""

    def stacked(self, deltas: Sequence[Tensor]) -> Tensor:
        """Arrange the gradients at the output, (n, ...)."""

    def gradients(self, features: Tensor, stacked: Tensor, buffer: Tensor | None = None) -> Tensor:
        """Return the gradients, (n, R, O, K), with K in an order of the way's own.

        buffer: At least as many numbers, to be overwritten. Filling fresh memory can take longer
            than the computation.
        """

    def squares(self, features: Tensor, stacked: Tensor) -> Tensor | None:
        """Return the squared gradients, summed over images and rows, (O, K).

        None if that takes the gradients themselves.
        """

    def flattened(self) -> Tensor:
        """Return the weight, (O, K)."""

    def unflattened(self, values: Tensor) -> Tensor:
        """Bring (O, K) into the weight's shape."""

    def sum(self, stacked: Tensor) -> Tensor:
        """Sum over positions: (n, R, O)."""

    def dot(self, stacked: Tensor, features: Tensor) -> Tensor:
        """Multiply by features (n, O, T), one per output, and sum over positions: (n, R, O)."""


class Product:
    """A matrix product per image.

    A convolution's columns are in the order (height, width, channel): what is contiguous in
    channels_last is contiguous here.
    """

    def __init__(self, module: Module) -> None:
        self.module = module

    def features(self, inputs: Tensor) -> Tensor:
        """(n, G, T, K)"""
        if isinstance(self.module, nn.Linear):
            return by_channel(self.module, inputs).mT.unsqueeze(1)
        windows = _windows(self.module, inputs).unflatten(1, (self.module.groups, -1))
        return windows.permute(0, 1, 3, 4, 5, 6, 2).flatten(4).flatten(2, 3)

    def stacked(self, deltas: Sequence[Tensor]) -> Tensor:
        """(n, T, R, O)"""
        return torch.stack([by_channel(self.module, delta).mT for delta in deltas], dim=2)

    def gradients(self, features: Tensor, stacked: Tensor, buffer: Tensor | None = None) -> Tensor:
        images, groups = features.shape[:2]
        by_group = stacked.unflatten(3, (groups, -1)).permute(0, 3, 2, 4, 1)
        rows = by_group.reshape(images * groups, -1, stacked.shape[1])
        shape = len(rows), rows.shape[1], features.shape[3]
        out = None if buffer is None else buffer[: math.prod(shape)].view(shape)
        products = torch.bmm(rows, features.flatten(0, 1), out=out)
        return products.view(*by_group.shape[:4], -1).transpose(1, 2).flatten(2, 3)

    def squares(self, features: Tensor, stacked: Tensor) -> Tensor | None:
        if stacked.shape[1] > 1:
            return None
        # The square of a product is the product of squares.
        outputs = stacked[:, 0].square().sum(dim=1).unflatten(1, (features.shape[1], -1))
        squares = torch.einsum("ngo,ngk->gok", outputs, features[:, :, 0].square())
        return squares.flatten(0, 1)

    def flattened(self) -> Tensor:
        weight = self.module.weight.detach()
        return weight if weight.dim() == 2 else weight.permute(0, 2, 3, 1).flatten(1)

    def unflattened(self, values: Tensor) -> Tensor:
        if isinstance(self.module, nn.Linear):
            return values
        return values.view(len(values), *self.module.kernel_size, -1).permute(0, 3, 1, 2)

    def sum(self, stacked: Tensor) -> Tensor:
        return stacked.sum(dim=1)

    def dot(self, stacked: Tensor, features: Tensor) -> Tensor:
        return (stacked * features.mT[:, :, None]).sum(dim=1)


class Grouped:
    """A convolution's backward pass with one image per group, for convolutions without groups."""

    def __init__(self, module: nn.Conv2d) -> None:
        self.module = module
        # A backward pass cannot express other padding, which may differ between the sides.
        self.pads_before = module.padding_mode != "zeros" or isinstance(module.padding, str)

    @staticmethod
    def fits(module: nn.Module, output: Tensor) -> bool:
        """Return whether this is the fast way for such an output, (n, ...)."""
        return (
            isinstance(module, nn.Conv2d)
            and module.groups == 1
            and output.device.type == "cpu"
            and output.dtype == torch.float32
            and torch.backends.mkldnn.is_available()
            and torch.backends.cpu.get_cpu_capability() in GROUPED_CAPABILITIES
            and module.in_channels % GROUPED_CHANNELS == 0
            and module.out_channels % GROUPED_CHANNELS == 0
            and output[0, 0].numel() >= GROUPED_POSITIONS
        )

    def features(self, inputs: Tensor) -> Tensor:
        """The input, (n, channels, height, width), padded if the pass does not pad it."""
        return (_padded(self.module, inputs) if self.pads_before else inputs).contiguous()

    def stacked(self, deltas: Sequence[Tensor]) -> Tensor:
        """(n, R, O, height, width)"""
        rows = torch.stack([delta.flatten(2) for delta in deltas], dim=1)
        return rows.unflatten(3, deltas[0].shape[2:])

    def gradients(self, features: Tensor, stacked: Tensor, buffer: Tensor | None = None) -> Tensor:
        images, rows, outputs = stacked.shape[:3]
        gradients = conv2d_weight(
            features.reshape(1, -1, *features.shape[2:]),
            [images * rows * outputs, *self.module.weight.shape[1:]],
            stacked.reshape(1, -1, *stacked.shape[3:]),
            self.module.stride,
            0 if self.pads_before else self.module.padding,
            self.module.dilation,
            images,
        )
        return gradients.view(images, rows, outputs, -1)

    def squares(self, features: Tensor, stacked: Tensor) -> Tensor | None:
        return None

    def flattened(self) -> Tensor:
        return self.module.weight.detach().flatten(1)

    def unflattened(self, values: Tensor) -> Tensor:
        return values.view_as(self.module.weight)

    def sum(self, stacked: Tensor) -> Tensor:
        return stacked.sum(dim=(3, 4))

    def dot(self, stacked: Tensor, features: Tensor) -> Tensor:
        return (stacked.flatten(3) * features[:, None]).sum(dim=3)


def columns(module: Module, inputs: Tensor, chosen: Tensor) -> Tensor:
    """Return chosen columns of the unfolded input, (n, chosen, T).

    Columns are numbered by (channel, height, width), as in the weight of a convolution without
    groups.
    """
    if isinstance(module, nn.Linear):
        return by_channel(module, inputs)[:, chosen]
    height, width = module.kernel_size
    channel, offset = chosen // (height * width), chosen % (height * width)
    found = _windows(module, inputs)[:, channel, :, :, offset // width, offset % width]
    return found.flatten(2).transpose(0, 1)


def by_channel(module: nn.Module, tensor: Tensor) -> Tensor:
    """Bring a layer's input or output into the shape (n, features, T)."""
    if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
        return tensor.flatten(2)
    size = tensor.shape[-1]
    if isinstance(module, nn.LayerNorm):
        size = math.prod(module.normalized_shape)
    return tensor.reshape(len(tensor), math.prod(tensor.shape[1:]) // size, size).mT


def _windows(module: nn.Conv2d, inputs: Tensor) -> Tensor:
    """Return (n, channels, height, width, kernel height, kernel width), without a copy."""
    windows = _padded(module, inputs)
    for axis, (size, stride, dilation) in enumerate(
        zip(module.kernel_size, module.stride, module.dilation, strict=True), start=2
    ):
        windows = windows.unfold(axis, (size - 1) * dilation + 1, stride)[..., ::dilation]
    return windows


def _padded(module: nn.Conv2d, inputs: Tensor) -> Tensor:
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    return functional.pad(inputs, module._reversed_padding_repeated_twice, mode=mode)
