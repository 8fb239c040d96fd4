"""What docs/strategies.md says of a strategy's options."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import pytest
import torch

from fm_al.strategies import clustering
from tests.helpers.command_line import ROOT
from tests.helpers.configs import built

PAGE = (ROOT / "docs" / "strategies.md").read_text()
INHERITED = {"fishermask": "bait"}


def section(strategy: str) -> str:
    (found,) = re.findall(rf"^## {strategy}\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL)
    return found


def options(strategy: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(type(built("strategy", strategy))).parameters)


@pytest.mark.parametrize("strategy", re.findall(r"^\| \[`([a-z_]+)`\]", PAGE, re.MULTILINE))
def test_a_strategy_of_the_table_has_its_options_named(strategy: str) -> None:
    """Not the other way: an option of one's own is no reason for a test to fail."""
    text = section(strategy)
    listed = re.findall(r"^Options: (.*?\.)", text, re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"`([a-z_]+)`", listed[0])) if listed else set()
    named |= set(re.findall(r"^\| `([a-z_]+)` \|", text, re.MULTILINE))
    expected = set(options(strategy))
    if strategy in INHERITED:
        expected = expected - set(options(INHERITED[strategy])) | {INHERITED[strategy]}
    assert named == expected


@pytest.mark.parametrize(
    "strategy",
    [
        "bald",
        "kmeans",
        "typiclust",
        "probcover",
        "max_herding",
        "uncertainty_herding",
        "cbal",
        "cluster_margin",
        "lcmd",
        "alfa_mix",
        "drop_query",
        "direct",
    ],
)
def test_defaults_are_those_of_the_page(strategy: str) -> None:
    rows = re.findall(
        r"^\| `([a-z_]+)` \| `?([0-9.]+|[a-z]+)`? \|", section(strategy), re.MULTILINE
    )
    assert len(rows) == len(options(strategy))
    for name, default in rows:
        value = getattr(built("strategy", strategy), name)
        assert default == ("null" if value is None else str(value))


def test_typiclust_uses_mini_batches_where_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    (said,) = re.findall(r"Up to (\d+) clusters, or up to ([\d,]+) images", section("typiclust"))
    few_clusters, few_images = (int(number.replace(",", "")) for number in said)
    used: list[str] = []

    def uses(name: str) -> Callable[..., torch.Tensor]:
        def found(points: torch.Tensor, centres: torch.Tensor, *_: object) -> torch.Tensor:
            used.append(name)
            return centres

        return found

    for name in ("lloyd", "mini_batches"):
        monkeypatch.setattr(clustering, name, uses(name))
    for more_clusters, more_images in ((1, 0), (0, 1), (1, 1)):
        points = torch.randn(few_images + more_images, 2, generator=torch.Generator())
        clustering.clusters(points, few_clusters + more_clusters, torch.Generator())
    assert used == ["lloyd", "lloyd", "mini_batches"]
