"""The library picks what the strategies pick, from plain tensors."""

from __future__ import annotations

import re
import runpy

import pytest
import torch
from torch import Tensor, nn

from fm_al.fisher import DesignOptions, FisherMaskOptions, select_bait, select_fishermask
from fm_al.strategies.bait import BAIT
from fm_al.strategies.base import Query
from fm_al.strategies.fishermask import FisherMask
from tests.helpers.command_line import ROOT
from tests.helpers.configs import built
from tests.helpers.synthetic import network_query

DOCUMENT = (ROOT / "docs" / "fisher.md").read_text()


def query() -> Query:
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(256, (40, 1, 5, 5), dtype=torch.uint8, generator=generator)
    return network_query(images, [25, 2, 9, 11], 3, embedding_scale=2, logit_scale=4)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    "options",
    [{}, {"max_candidates": 12}, {"oversampling": 1.0, "pool_fisher": "pool", "temperature": 1.0}],
    ids=str,
)
def test_bait_is_the_strategys(options: dict) -> None:
    asked = query()
    expected = BAIT(**options).select(asked, 8, generator()).tolist()
    outputs = asked.embeddings, asked.logits
    picks = select_bait(*outputs, asked.labelled, 8, options=DesignOptions(**options))
    assert picks.tolist() == expected


@pytest.mark.parametrize(
    "options",
    [{}, {"fraction": 0.6, "max_candidates": 12}, {"mask": "dispersed", "fraction": 0.6}],
    ids=str,
)
def test_fishermask_is_the_strategys(options: dict) -> None:
    asked = query()
    expected = FisherMask(**options).select(asked, 8, generator()).tolist()
    network = asked.model.train()
    before = [parameter.clone() for parameter in network.state_dict().values()]
    picks = select_fishermask(
        network,
        asked.images(torch.arange(40)),
        asked.labelled.tolist(),
        8,
        options=FisherMaskOptions(**options),
        batch_size=16,
    )
    assert picks.tolist() == expected
    assert all(module.training for module in network.modules())
    after = network.state_dict().values()
    assert all(torch.equal(*both) for both in zip(before, after, strict=True))


def test_the_defaults_are_those_of_the_configuration() -> None:
    assert built("strategy", "bait") == BAIT()
    assert built("strategy", "fishermask") == FisherMask()


def outputs() -> tuple[Tensor, Tensor]:
    return torch.randn(9, 4), torch.randn(9, 3)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n": 8}, "n=8: should be from 1 to 7, the unlabelled images"),
        ({"n": 0}, "n=0: should be from 1"),
        ({"labelled": [0, 9]}, "labelled: should be a list of indices from 0 to 8"),
        ({"labelled": [1, 1]}, "labelled: an index is there more than once"),
        ({"labelled": []}, "labelled is empty: set temperature"),
        ({"logits": torch.zeros(8, 3)}, "embeddings (9, 4) and logits (8, 3): should be (N, D)"),
        ({"logits": torch.zeros(9, 1)}, "should have at least two classes"),
        ({"logits": torch.full((9, 3), torch.nan)}, "logits: should be finite"),
        ({"options": DesignOptions(regularization=-1)}, "regularization=-1: should be greater"),
        ({"options": DesignOptions(max_candidates=2)}, "max_candidates=2: should be at least 3"),
        ({"options": DesignOptions(pool_fisher="all")}, "pool_fisher=all: should be 'pool'"),
    ],
)
def test_arguments_out_of_range_are_one_line(changed: dict, message: str) -> None:
    embeddings, logits = outputs()
    arguments = {"embeddings": embeddings, "logits": logits, "labelled": [0, 5], "n": 3}
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        select_bait(**arguments | changed)
    assert "\n" not in str(error.value)


def test_a_network_whose_last_layer_is_not_the_head() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Softmax(dim=1))
    images = torch.randn(9, 1, 2, 2)
    with pytest.raises(ValueError, match="head: should be the network's last layer"):
        select_fishermask(network, images, [0, 5], 3)
    with pytest.raises(ValueError, match=r"network: should have an nn\.Linear"):
        select_fishermask(nn.Sequential(nn.Flatten()), images, [0, 5], 3)


def test_the_example_in_the_document_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    namespace: dict = {}
    exec(example, namespace)
    assert len(namespace["picks"].unique()) == 20
    assert not torch.isin(namespace["picks"], namespace["labelled"]).any()


@pytest.mark.slow
def test_the_example_learns_more_from_chosen_images(capsys: pytest.CaptureFixture[str]) -> None:
    file = ROOT / "examples" / "select_batch.py"
    assert len(file.read_text().splitlines()) < 60
    runpy.run_path(str(file), run_name="__main__")
    lines = [line.rsplit(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    accuracy = {name.strip(): float(value.rstrip("%")) for name, value in lines}
    assert set(accuracy) == {"40 labels", "random", "BAIT", "FisherMask"}
    assert min(accuracy["BAIT"], accuracy["FisherMask"]) > accuracy["random"]
