"""Selection over likeliest classes keeps to its memory, and its digits are watched."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from fm_al.errors import RunError
from fm_al.fisher import top_class_fisher
from fm_al.fisher.top_class_blocks import TopClassBlocks
from fm_al.fisher.top_class_criterion import TopClassCriterion
from fm_al.fisher.top_class_memory import TopClassSizes, top_classes_needs
from fm_al.fisher.top_class_scores import TopClassScores
from fm_al.fisher.top_classes import KnownWeights, mean_eigenvalue, top_classes_design
from tests.fisher.top_class_problems import Problem, top_class_blocks


class LargestTensor(TorchDispatchMode):
    """Notes the bytes of the largest tensor that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for made in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(made, Tensor):
                self.size = max(self.size, made.untyped_storage().nbytes())
        return result


@pytest.mark.parametrize("oversampling", [0, 1])
def test_no_tensor_is_as_large_as_what_is_stated(oversampling: float) -> None:
    classes, D, images, labelled, n = 1000, 64, 600, 15, 4
    problem = replace(Problem.random(images, classes, D), labelled=labelled)
    pool = problem.pool
    sizes = TopClassSizes(
        images=images,
        dimensions=D,
        classes=classes,
        top_classes=2,
        candidates=images - labelled,
        known=labelled,
        n=n,
        oversampling=oversampling,
        copied=0,
    )
    stated = sum(top_classes_needs(sizes, pool.device).values())
    weights = torch.full((images,), 1 / images, dtype=torch.float64)
    known = KnownWeights(pool.labelled, torch.full((labelled,), 0.2, dtype=torch.float64))
    with LargestTensor() as largest:
        blocks = TopClassBlocks.of_pool(pool, 2, "fisher", 1.0)
        top_classes_design(
            blocks, pool.unlabelled, n, weights, known, 0.2, 0.01, oversampling=oversampling
        )
    assert largest.size < stated / 4 < (classes * D) ** 2


@pytest.mark.parametrize("share", [1e-2, 1e-4, 1e-6])
def test_both_ways_pick_the_same_with_a_small_lambda(
    monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    problem = Problem.random(300, 6, 8, logit_scale=4)
    generator = torch.Generator().manual_seed(4)
    # A third of the images are almost others.
    logits = problem.logits + 1e-4 * torch.randn(300, 6, generator=generator)
    twice = Problem(problem.embeddings, logits).of(torch.arange(100))
    problem = Problem(
        torch.cat([problem.embeddings, twice.embeddings]),
        torch.cat([problem.logits, twice.logits]),
        labelled=10,
    )
    pool, blocks = problem.pool, top_class_blocks(problem, 3)
    weights = torch.full((400,), 1 / 400, dtype=torch.float64)
    known = KnownWeights(pool.labelled, torch.full((10,), 0.8, dtype=torch.float64))
    lambda_ = share * mean_eigenvalue(blocks, weights)
    designs = []
    for by_image in (True, False):
        monkeypatch.setattr(TopClassScores, "_images_are_few", lambda _, way=by_image: way)
        designs.append(
            top_classes_design(blocks, pool.unlabelled, 40, weights, known, 0.8, lambda_, 0.5)
        )
    assert designs[0].picks.tolist() == designs[1].picks.tolist()
    assert designs[0].objective == pytest.approx(designs[1].objective, rel=1e-6)


def test_drift_is_mended_or_tolerated_or_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = Problem.random(40, 4, 3)
    blocks = top_class_blocks(problem, 2)
    weights = torch.full((40,), 1 / 40, dtype=torch.float64)
    nothing = KnownWeights(torch.arange(0), weights[:0])

    def scores() -> TopClassScores:
        fisher = top_class_fisher.TopClassFisher(blocks, weights)
        criterion = TopClassCriterion(fisher, blocks[nothing.images], 0.01)
        return TopClassScores(criterion, torch.arange(40), 1.0)

    right, wrong = scores(), scores()
    for _ in range(4):
        right.add_best()
    for _ in range(4):
        wrong.just_computed = False
        wrong.B *= 1.01
        wrong.add_best()
    assert wrong.inside == right.inside
    assert wrong.objective == pytest.approx(right.objective, rel=1e-9)

    recompute = TopClassScores.recompute

    def badly(self: TopClassScores, error: float) -> None:
        recompute(self)
        self.B *= 1 + error

    monkeypatch.setattr(TopClassScores, "recompute", lambda self: badly(self, 1e-4))
    tolerant = scores()
    for _ in range(4):
        tolerant.add_best()
    assert tolerant.inside == right.inside
    monkeypatch.setattr(TopClassScores, "recompute", lambda self: badly(self, 0.1))
    with pytest.raises(RunError, match="raise regularization"):
        scores().add_best()
