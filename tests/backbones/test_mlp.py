from __future__ import annotations

from torch import nn

from fm_al.backbones.mlp import MLP


def test_layers_have_the_widths_asked_for() -> None:
    model = MLP(channels=3, classes=4, image_size=(5, 7), hidden=[11, 13, 6])
    linear = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [
        (105, 11),
        (11, 13),
        (13, 6),
        (6, 4),
    ]
