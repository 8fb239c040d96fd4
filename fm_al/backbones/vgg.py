"""VGG with 16 layers and batch norm, for small images."""

from __future__ import annotations

from torch import Tensor, nn

from fm_al.backbones.base import Backbone
from fm_al.errors import ConfigError

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))  # by stage


class VGG16(Backbone):
    """The convolutions of VGG16 with batch norm, the mean over positions, and one linear layer.

    Simonyan and Zisserman 2015 (arXiv 1409.1556, table 1, D) have three linear layers. The
    convolutions are initialised as in He et al. 2015 and torchvision; with torch's default, signals
    would fade over so many layers.

    Args:
        channels: Of the images.
        classes: C.
        image_size: Height and width in pixels, at least 32.
    """

    def __init__(self, channels: int, classes: int, image_size: tuple[int, int]) -> None:
        super().__init__()
        if min(image_size) < 32:
            raise ConfigError(
                f"backbone=vgg16: halves the image five times and needs 32 x 32 pixels, these are "
                f"{image_size[0]} x {image_size[1]}; set dataset.pad_to=32 or use backbone=cnn"
            )
        features = _features()
        features[0] = nn.Conv2d(channels, WIDTHS[0][0], 3, padding=1)
        for layer in features:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        self.body = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(512, classes)

    def embed(self, images: Tensor) -> Tensor:
        return self.body(images)


def _features() -> nn.Sequential:
    """Make the `features` of torchvision's vgg16_bn, with the same names and initial weights.

    Importing torchvision would take as long as importing torch.
    """
    layers: list[nn.Module] = []
    channels = 3
    for stage in WIDTHS:
        for width in stage:
            convolution = nn.Conv2d(channels, width, 3, padding=1)
            layers += [convolution, nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)
