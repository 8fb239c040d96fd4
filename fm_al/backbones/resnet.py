"""Residual networks for small images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn

from fm_al.backbones.base import Backbone

MAX_DEPTH = 1000  # blocks per stage; ResNet-1202, the deepest published, has 200


# Both blocks are torchvision's, with the same names and initial weights. They are written out here
# because importing torchvision takes as long as importing torch.
class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions, the first with the stride, added to the block's input."""

    expansion = 1

    def __init__(
        self, channels_in: int, planes: int, stride: int, downsample: nn.Module | None
    ) -> None:
        """downsample: Applied to the input before it is added; None adds the input itself."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = downsample

    def forward(self, images: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(images)))
        out = self.bn2(self.conv2(out))
        out += images if self.downsample is None else self.downsample(images)
        return self.relu(out)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3 (with the stride) and 1 x 1 convolutions, added to the block's input."""

    expansion = 4

    def __init__(
        self, channels_in: int, planes: int, stride: int, downsample: nn.Module | None
    ) -> None:
        """downsample: As in `BasicBlock`."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, planes * self.expansion, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, images: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(images)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += images if self.downsample is None else self.downsample(images)
        return self.relu(out)


_BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {
    "basic": BasicBlock,
    "bottleneck": Bottleneck,
}


class ResNet(Backbone):
    """A residual network (He et al. 2016, arXiv 1512.03385, table 1) for small images.

    As is usual for images of 32 x 32, the stem is a 3 x 3 convolution of stride 1 without max
    pooling. Weights are initialised as torch's layers do it.

    Args:
        channels: Of the images.
        classes: C.
        image_size: Height and width in pixels; any will do.
        block: `basic` (two 3 x 3 convolutions) or `bottleneck` (1 x 1, 3 x 3, 1 x 1, four times as
            wide).
        width: Channels of the stem and the first stage. Each further stage doubles them and halves
            the image.
        depths: Blocks per stage.
        head_bias: Whether the last layer has a bias.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        image_size: tuple[int, int],
        block: Literal["basic", "bottleneck"],
        width: PositiveInt,
        depths: Annotated[
            list[Annotated[int, Field(ge=1, le=MAX_DEPTH)]], Field(min_length=1, max_length=16)
        ],
        head_bias: bool,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        block_type = _BLOCKS[block]
        features = width
        blocks: list[nn.Module] = []
        for stage, depth in enumerate(depths):
            planes = width * 2**stage
            for position in range(depth):
                stride = 2 if stage > 0 and position == 0 else 1
                shortcut = _projection(features, planes * block_type.expansion, stride)
                blocks.append(block_type(features, planes, stride, shortcut))
                features = planes * block_type.expansion
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(features, classes, bias=head_bias)

    def embed(self, images: Tensor) -> Tensor:
        return self.blocks(self.stem(images)).mean((2, 3))


def _projection(channels_in: int, channels_out: int, stride: int) -> nn.Module | None:
    """The shortcut of a block that changes the shape; None for a block that keeps it."""
    if stride == 1 and channels_in == channels_out:
        return None
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
    )
