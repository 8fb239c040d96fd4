from __future__ import annotations

import torch

from fm_al.backbones.linear import Linear


def test_embedding_is_the_pixels() -> None:
    model = Linear(channels=3, classes=4, image_size=(5, 7))
    batch = torch.randn(2, 3, 5, 7)
    assert torch.equal(model.embed(batch), batch.reshape(2, 105))
    torch.testing.assert_close(
        model(batch), batch.reshape(2, 105) @ model.head.weight.T + model.head.bias
    )
