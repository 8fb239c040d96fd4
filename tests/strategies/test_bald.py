from __future__ import annotations

import numpy as np
import torch

from fm_al.strategies import bald
from fm_al.strategies.bald import BALD, mutual_information
from tests import oracle
from tests.helpers.synthetic import given_query


def test_scores_and_picks_equal_explicit_loops_over_the_same_masks() -> None:
    embeddings = torch.randn(30, 6, generator=torch.Generator().manual_seed(1))
    query = given_query(embeddings, torch.zeros(30, 3), labelled=[4, 0])
    samples, dropout = 5, 0.3

    drawn = torch.Generator().manual_seed(
        int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(7)))
    )
    masks = torch.stack(
        [torch.empty(28, 6).bernoulli_(1 - dropout, generator=drawn) for _ in range(samples)]
    )
    scores = oracle.bald(
        embeddings[query.unlabelled].double().numpy(),
        query.model.head.weight.detach().double().numpy(),
        query.model.head.bias.detach().double().numpy(),
        masks.double().numpy(),
        dropout,
    )
    picks = BALD(samples=samples, dropout=dropout).select(
        query, 28, torch.Generator().manual_seed(7)
    )
    assert picks.tolist() == query.unlabelled[torch.from_numpy(np.argsort(-scores))].tolist()


def test_an_image_whose_prediction_no_mask_changes_comes_last() -> None:
    embeddings = torch.randn(20, 6, generator=torch.Generator().manual_seed(1))
    embeddings[7] = 0
    query = given_query(embeddings, torch.zeros(20, 3))
    picks = BALD(samples=10, dropout=0.5).select(query, 20, torch.Generator().manual_seed(0))
    assert int(picks[-1]) == 7


def test_every_chunk_of_images_draws_its_own_masks(monkeypatch) -> None:
    embeddings = torch.randn(1, 6, generator=torch.Generator().manual_seed(1)).repeat(20, 1)
    monkeypatch.setattr(bald, "CHUNK", 10)
    query = given_query(embeddings, torch.zeros(20, 3))
    masks = torch.Generator().manual_seed(0)
    first, second = (
        mutual_information(query.model.head, chunk, samples=3, dropout=0.5, generator=masks)
        for chunk in embeddings.split(10)
    )
    assert not torch.equal(first, second)
    picks = BALD(samples=3).select(query, 20, torch.Generator().manual_seed(0))
    assert sorted(picks.tolist()) == list(range(20))
