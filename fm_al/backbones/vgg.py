"""VGG with 16 layers and batch norm, for small images."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import vgg

from fm_al.backbones.base import Backbone
from fm_al.errors import ConfigError


class VGG16(Backbone):
    """The convolutions of Simonyan and Zisserman 2015 (arXiv 1409.1556, table 1, D) with batch
    norm, the mean over the positions, and one linear layer instead of three. The convolutions start
    as He et al. 2015 have it (and torchvision): torch's own start fades over so many layers."""

    def __init__(self, channels: int, classes: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        if min(image_size) < 32:
            raise ConfigError(
                f"backbone=vgg16: halves the image five times and needs 32 x 32 pixels, these are "
                f"{image_size[0]} x {image_size[1]}; set dataset.pad_to=32 or use backbone=cnn"
            )
        features = vgg.make_layers(vgg.cfgs["D"], batch_norm=True)
        features[0] = nn.Conv2d(channels, 64, 3, padding=1)  # torchvision's takes three channels
        for layer in features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        self.body = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(512, classes)

    def embed(self, images: Tensor) -> Tensor:
        return self.body(images)
