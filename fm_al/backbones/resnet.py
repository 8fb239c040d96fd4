"""Residual networks for small images."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from fm_al.backbones.base import Backbone

DEEPEST = 1000  # blocks of a stage; those of ResNet-1202, the deepest that was published, have 200

_BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {
    "basic": BasicBlock,
    "bottleneck": Bottleneck,
}


class ResNet(Backbone):
    """He et al. 2016 (arXiv 1512.03385, table 1) with a 3 x 3 stem of stride 1 and no max-pooling,
    as is usual for images of 32 x 32; weights start as torch's layers do.

    block: basic (two 3 x 3 convolutions) or bottleneck (1 x 1, 3 x 3, 1 x 1, four times as wide).
    width: channels of the stem and the first stage; each further stage doubles them and halves the
    image. depths: blocks of each stage. head_bias: whether the last layer has a bias.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        image_size: tuple[int, int],
        block: Literal["basic", "bottleneck"],
        width: PositiveInt,
        depths: Annotated[
            list[Annotated[int, Field(ge=1, le=DEEPEST)]], Field(min_length=1, max_length=16)
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
    """The shortcut of a block whose output has another shape than its input, else None."""
    if stride == 1 and channels_in == channels_out:
        return None
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
    )
