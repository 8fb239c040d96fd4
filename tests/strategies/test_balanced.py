from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fm_al.errors import ConfigError
from fm_al.strategies.badge import BADGE
from fm_al.strategies.balanced import Balanced
from fm_al.strategies.base import Query, QuerySizes, Strategy
from fm_al.strategies.candidates import CandidateOptions, candidates_query
from fm_al.strategies.entropy import Entropy
from fm_al.strategies.kmeans import KMeans
from fm_al.strategies.random import Random
from fm_al.strategies.representation import FeatureOptions
from tests.helpers.command_line import QUICK, fm_al
from tests.helpers.configs import built, names
from tests.helpers.rare_classes import share_of_rare_labels
from tests.helpers.synthetic import given_query, network_query


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def query_of(predicted: list[int], labelled_targets: list[int], classes: int = 3) -> Query:
    """Unlabelled images with these predictions, the first ones less sure; before them the labelled,
    with these classes."""
    first = len(labelled_targets)
    both = torch.tensor([*labelled_targets, *predicted], dtype=torch.int64)
    logits = torch.nn.functional.one_hot(both, classes).float()
    logits *= torch.arange(1, len(both) + 1)[:, None] / 10
    embeddings = torch.arange(float(len(both)))[:, None]
    return given_query(embeddings, logits, range(first), both)


def test_classes_are_levelled_and_the_inner_strategy_picks_within_each() -> None:
    query = query_of([0] * 6 + [1] * 6 + [2] * 6, [0, 0, 0, 1])
    picks = Balanced(inner=Entropy()).select(query, 5, generator())
    # Labels become 3, 3, 3: nothing of class 0, two of class 1 and three of class 2.
    assert query.recorded == {"wanted": [0, 2, 3], "given": [0, 2, 3]}
    assert picks.tolist() == [10, 11, 16, 17, 18]


def test_a_class_without_enough_images_passes_its_rest_on() -> None:
    query = query_of([0] * 6 + [1] * 6 + [2], [0, 0, 0, 1])
    picks = Balanced(inner=Entropy()).select(query, 5, generator())
    # Labels become 4, 4, 1.
    assert query.recorded == {"wanted": [0, 2, 3], "given": [1, 3, 1]}
    assert picks.tolist() == [4, 10, 11, 12, 16]


@pytest.mark.parametrize("n", [1, 12])
def test_one_image_or_all_of_them(n: int) -> None:
    query = query_of([0] * 5 + [2] * 7, [])
    picks = Balanced(inner=BADGE()).select(query, n, generator())
    assert len(picks.unique()) == n
    assert sum(query.recorded["given"]) == sum(query.recorded["wanted"]) == n


@pytest.mark.parametrize("name", [name for name in names("strategy") if name != "balanced"])
def test_any_strategy_may_be_the_inner_one(name: str) -> None:
    images = torch.randint(256, (60, 1, 5, 5), dtype=torch.uint8, generator=generator(1))
    query = network_query(images, labelled=[30, 2, 9, 17], logit_scale=50)
    strategy = Balanced(inner=built("strategy", name))
    strategy.check(query.model, query.images(torch.tensor([0])))
    picks = strategy.select(query, 9, generator())
    assert len(picks.unique()) == 9
    assert torch.isin(picks, query.unlabelled).all()
    predicted = query.logits.argmax(dim=1)[picks]
    assert torch.bincount(predicted, minlength=3).tolist() == query.recorded["given"]


@dataclass(frozen=True, kw_only=True)
class Noting(CandidateOptions, FeatureOptions, Strategy):
    """Reveals what it picks, and records how much it sees and what it learns."""

    augment: bool = False

    def select(self, query: Query, n: int, generator: torch.Generator) -> Tensor:
        picks = query.unlabelled[-n:]
        query.record("seen", [len(query.labelled), len(query.unlabelled)])
        query.record("classes", query.reveal(picks).tolist())
        return picks


def test_what_the_inner_strategy_records_and_reveals_is_kept_by_class() -> None:
    query = query_of([0] * 6 + [1] * 6 + [2] * 6, [0, 0, 0, 1])
    picks = Balanced(inner=Noting()).select(query, 5, generator())
    assert query.recorded["inner"] == {
        "1": {"seen": [4, 6], "classes": [1, 1]},
        "2": {"seen": [4, 6], "classes": [2, 2, 2]},
    }
    assert query.revealed.tolist() == picks.tolist() == [14, 15, 19, 20, 21]


def test_candidates_may_be_limited_within_each_class_and_before() -> None:
    query = query_of([0] * 20 + [1] * 20, [2, 2])
    inner = Noting(max_candidates=7)
    picks = Balanced(inner=inner).select(query, 8, generator())
    assert [record["candidates"] for record in query.recorded["inner"].values()] == [7, 7]
    assert query.recorded["inner"]["1"]["seen"] == [2, 7]
    assert torch.isin(picks, query.unlabelled).all()
    assert query.labelled_targets.tolist() == [2, 2]

    outer, query = Balanced(inner=inner, max_candidates=30), query_of([0] * 20 + [1] * 20, [2, 2])
    shown = candidates_query(outer, query, generator())
    assert len(shown.unlabelled) == 30
    chosen = shown.pool_indices(outer.select(shown, 8, generator()))
    assert query.logits[chosen].argmax(dim=1).tolist() == [0] * 4 + [1] * 4
    assert query.revealed.tolist() == chosen.tolist()


def test_the_inner_strategys_wishes_count() -> None:
    assert Balanced(inner=Entropy(augment=True)).augment is True
    assert Balanced(inner=Entropy()).augment is False
    assert Balanced(inner=Noting()).reads_features is True
    assert Balanced(inner=Noting(representation="embeddings")).reads_features is False
    with pytest.raises(ConfigError, match=r"^strategy\.inner\.max_candidates=5: .* 20"):
        Balanced(inner=Random(max_candidates=5)).check_query(20)
    with pytest.raises(ConfigError, match=r"^strategy\.max_candidates=5: "):
        Balanced(inner=Random(), max_candidates=5).check_query(20)


def test_the_inner_strategys_memory_is_checked_where_it_picks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[Strategy, QuerySizes, int]] = []

    def check(strategy: Strategy, query: Query, n: int) -> None:
        asked.append((strategy, query.sizes, n))

    monkeypatch.setattr("fm_al.strategies.picking.check_memory", check)
    inner = KMeans()
    query = query_of([0] * 6 + [1] * 9, [2])
    Balanced(inner=inner).select(query, 4, generator())
    assert [(strategy, sizes.images, n) for strategy, sizes, n in asked] == [
        (inner, 7, 2),
        (inner, 10, 2),
    ]


def test_balanced_does_not_balance_itself() -> None:
    with pytest.raises(ConfigError, match=r"strategy\.inner=balanced: should be another strategy"):
        Balanced(inner=Balanced(inner=Entropy()))


def test_permuting_the_pool_permutes_the_picks() -> None:
    points = torch.randn(60, 3, generator=generator(4))
    order = torch.randperm(60, generator=generator(5))
    picks = Balanced(inner=Entropy()).select(given_query(points, points), 11, generator())
    permuted = given_query(points[order], points[order])
    again = Balanced(inner=Entropy()).select(permuted, 11, generator())
    assert order[again].tolist() == picks.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_it_collects_rare_classes(seed: int) -> None:
    plain = share_of_rare_labels(Entropy(), seed)
    assert share_of_rare_labels(Random(), seed) < 0.05 < plain
    assert share_of_rare_labels(Balanced(inner=Entropy()), seed) >= max(0.3, plain)


def run(folder: Path, *arguments: str) -> Any:
    return fm_al(folder, *QUICK, "strategy=balanced", *arguments)


def test_a_run_names_its_inner_strategy_and_is_recognised_when_finished(tmp_path: Path) -> None:
    done = run(tmp_path, "strategy.inner=margin", "strategy.inner.max_candidates=50")
    assert done.returncode == 0, done.stderr
    (result,) = tmp_path.rglob("result.json")
    assert "balanced/" in result.as_posix()
    assert "/inner=margin,max_candidates=50," in result.as_posix()
    again = run(tmp_path, "strategy.inner.max_candidates=50", "strategy.inner=margin")
    assert "this run is finished already" in again.stdout
    swept = run(tmp_path, "-m", "strategy.inner=margin,entropy", "strategy.inner.max_candidates=50")
    assert swept.returncode == 0, swept.stderr
    assert len([*tmp_path.rglob("result.json")]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["strategy.inner=margn"], "did you mean strategy.inner=margin?"),
        (["strategy.inner=balanced"], "strategy.inner=balanced: should be another strategy"),
        (["strategy.inner=typiclust"], "or the strategy's representation=embeddings"),
        (["strategy.inner.augmnt=true"], "strategy.inner.augmnt: no such option; strategy.inner"),
        (["strategy.inner.max_candidates=5"], "strategy.inner.max_candidates=5: "),
    ],
)
def test_a_bad_inner_strategy_is_one_line(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = run(tmp_path, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
