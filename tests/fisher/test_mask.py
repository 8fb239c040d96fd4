from __future__ import annotations

import json
import re
from fractions import Fraction

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fm_al.backbones.resnet import ResNet
from fm_al.errors import ConfigError, RunError
from fm_al.fisher.mask import Mask, check_fraction, choose, size
from tests import oracle

LAST = ("head.weight", "head.bias")
Shapes = dict[str, tuple[int, ...]]
SHAPES: Shapes = {
    "conv.weight": (4, 3, 3, 3),
    "norm.weight": (4,),
    "head.weight": (3, 4),
    "head.bias": (3,),
    "unused": (50,),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fisher_of(shapes: Shapes = SHAPES, seed: int = 0) -> dict[str, Tensor]:
    draws = generator(seed)
    return {
        name: torch.rand(shape, dtype=torch.float64, generator=draws) ** 4
        for name, shape in shapes.items()
    }


def chosen(mask: Mask) -> set[tuple[str, int]]:
    return {(name, i) for name, indices in mask.positions.items() for i in indices.tolist()}


def assert_well_formed(mask: Mask, fisher: dict[str, Tensor]) -> None:
    assert list(mask.positions) == [name for name in fisher if name in mask.positions]
    for name, indices in mask.positions.items():
        assert indices.dtype == torch.int64
        assert 0 < len(indices) <= fisher[name].numel()
        assert indices.tolist() == sorted(set(indices.tolist()))
        assert 0 <= indices[0] <= indices[-1] < fisher[name].numel()
    assert mask.sizes == {name: len(indices) for name, indices in mask.positions.items()}
    assert len(mask) == sum(mask.sizes.values())
    whole = all(mask.sizes.get(name) == fisher[name].numel() for name in mask.last_layer)
    assert mask.whole_last_layer == whole
    outside = [name for name in mask.positions if not (whole and name in mask.last_layer)]
    assert list(mask.dense) == outside


@settings(max_examples=200, deadline=None)
@given(
    kind=st.sampled_from(["standard", "dispersed", "relative"]),
    # Few values, so that many are equal; small integers, so that means are exact.
    layers=st.lists(
        st.lists(st.sampled_from([0, 0, 1, 1, 2, 9]), min_size=1, max_size=90),
        min_size=1,
        max_size=4,
    ),
    last_at=st.integers(0, 3),
    bias=st.booleans(),
    fraction=st.none() | st.decimals("0.001", "1", places=3).map(str),
    whole=st.booleans(),
)
def test_masks_equal_the_slow_version(kind, layers, last_at, bias, fraction, whole) -> None:
    last = LAST if bias else LAST[:1]
    values = {f"layer{i}": layer for i, layer in enumerate(layers)}
    items = list(values.items())
    items[last_at:last_at] = [(name, [float(i % 3) for i in range(6)]) for name in last]
    values = dict(items)
    fraction = None if kind == "relative" else fraction
    parameters = sum(map(len, values.values()))
    least = 6 * len(last) if whole else 1
    if kind == "standard" and fraction is not None:
        assume(Fraction(fraction) * parameters >= least)
    expected = oracle.mask(kind, values, list(last), fraction, whole)
    assume(expected)
    fisher = {name: torch.tensor(v, dtype=torch.float64) for name, v in values.items()}
    typed = None if fraction is None else float(fraction)
    mask = choose(kind, fisher, last, typed, whole, generator())
    assert chosen(mask) == expected
    assert_well_formed(mask, fisher)
    assert Mask.from_json(json.loads(json.dumps(mask.to_json()))) == mask


@pytest.mark.parametrize(("classes", "k", "last"), [(4, 1401, 512), (10, 1402, 1280)])
@pytest.mark.parametrize("kind", ["standard", "random"])
def test_sizes_on_the_papers_network(kind, classes, k, last) -> None:
    network = ResNet(3, classes, (32, 32), "basic", width=16, depths=[2] * 4, head_bias=False)
    shapes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    mask = choose(kind, fisher_of(shapes), ("head.weight",), 0.002, True, generator())
    assert (len(mask), mask.sizes["head.weight"], mask.whole_last_layer) == (k, last, True)
    assert sum(map(len, mask.dense.values())) == k - last
    default = choose(kind, fisher_of(shapes), ("head.weight",), None, True, generator())
    assert len(default) == max(k, 2 * last)


@pytest.mark.parametrize("kind", ["standard", "dispersed", "relative", "random"])
def test_ties_go_to_the_first_and_a_fisher_of_zero_ranks(kind) -> None:
    zero = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in SHAPES.items()}
    mask = choose(kind, zero, LAST, None, True, generator())
    assert mask.whole_last_layer
    if kind == "standard":
        assert mask.dense["conv.weight"].tolist() == list(range(15))
        assert len(mask) == 30
    if kind == "relative":
        assert mask.dense == {}


def test_a_relative_mask_takes_what_stands_out_up_to_a_fortieth() -> None:
    def layer(*values_and_counts: tuple[int, int]) -> Tensor:
        return torch.tensor([float(v) for v, count in values_and_counts for _ in range(count)])

    fisher = {
        "few": layer((0, 100), (1, 292), (3, 3)),  # ones are above the mean, not above twice it
        "many": layer((0, 100), (1, 275), (3, 20)),
        "twice": layer((0, 200), (1, 200)),
        "small": layer((0, 38), (9, 1)),
    }
    mask = choose("relative", fisher, (), None, False, generator())
    assert {name: indices.tolist() for name, indices in mask.positions.items()} == {
        "few": [392, 393, 394],
        "many": list(range(375, 384)),
    }


def test_a_random_mask_is_uniform_and_the_same_for_the_same_generator() -> None:
    parameters = {name: torch.full(shape, -1.0) for name, shape in SHAPES.items()}
    counts = dict.fromkeys(SHAPES, 0)
    for seed in range(300):
        mask = choose("random", parameters, LAST, 0.25, False, generator(seed))
        assert len(mask) == 177 // 4
        assert_well_formed(mask, parameters)
        for name, n in mask.sizes.items():
            counts[name] += n
    for name, values in parameters.items():
        expected = 300 * (177 // 4) * values.numel() / 177
        assert counts[name] == pytest.approx(expected, abs=5 * expected**0.5), name
    again = choose("random", fisher_of(), LAST, 0.25, False, generator(299))
    assert again == mask
    assert choose("random", fisher_of(), LAST, 0.25, False, generator(298)) != mask


def test_a_random_mask_with_the_whole_last_layer_draws_the_rest() -> None:
    masks = [choose("random", fisher_of(), LAST, 0.2, True, generator(s)) for s in range(50)]
    for mask in masks:
        assert (len(mask), mask.whole_last_layer) == (35, True)
        assert_well_formed(mask, fisher_of())
    drawn = set().union(*(chosen(mask) for mask in masks))
    assert len(drawn) == 177


def test_a_last_layer_that_competes_is_a_block_only_if_all_of_it_wins() -> None:
    fisher = fisher_of()
    part = choose("standard", fisher, LAST, 0.2, False, generator())
    assert not part.whole_last_layer
    assert part.dense == part.positions
    assert part.sizes["head.weight"] > 0
    for name in LAST:
        fisher[name] += 1
    won = choose("standard", fisher, LAST, 0.2, False, generator())
    assert won == choose("standard", fisher, LAST, 0.2, True, generator())
    assert set(won.dense) == set(won.positions) - set(LAST)
    everything = choose("dispersed", fisher, LAST, 1.0, False, generator())
    assert (len(everything), everything.whole_last_layer) == (177, True)


def test_the_default_size_holds_the_last_layer_and_as_many_again() -> None:
    assert size(None, 10_000, 3) == 20
    assert size(None, 10_000, 300) == 600
    assert size(None, 100, 80) == 100


def test_the_size_loses_nothing_to_rounding() -> None:
    assert int(0.29 * 100) == 28
    assert size(0.29, 100, 10) == 29
    assert all(size(i / 1000, 1000, 1) == i for i in range(1, 1001))
    dispersed = choose("dispersed", {"a": torch.arange(10.0)}, (), 0.3, False, generator())
    assert dispersed.positions["a"].tolist() == [7, 8, 9]


@settings(max_examples=300, deadline=None)
@given(parameters=st.integers(2, 10**9), data=st.data(), whole=st.booleans())
def test_the_smallest_fraction_named_works_and_is_the_smallest(parameters, data, whole) -> None:
    last = data.draw(st.integers(1, parameters))
    least = last if whole else 1
    fraction = data.draw(st.floats(0, least / parameters, exclude_min=True, exclude_max=True))
    assume(Fraction(str(fraction)) * parameters < least)
    with pytest.raises(ConfigError, match=r"^fraction=") as error:
        check_fraction("standard", fraction, parameters, last, whole)
    named = re.search("at least ([^,]+), ", str(error.value))
    assert named is not None
    check_fraction("standard", float(named[1]), parameters, last, whole)
    assert size(float(named[1]), parameters, last) == least
    assert float(named[1]) <= 1


def test_a_fraction_too_small_names_the_smallest_that_works() -> None:
    with pytest.raises(ConfigError) as error:
        check_fraction("standard", 0.0001, 700_688, 512, True)
    assert str(error.value) == (
        "fraction=0.0001: should be at least 0.000731, to hold the whole last layer, 512 of 700,688"
    )
    with pytest.raises(ConfigError, match=r"=1e-07: should be at least 2e-06, .*a single weight"):
        check_fraction("random", 1e-7, 700_688, 512, False)


def test_a_relative_mask_takes_no_fraction() -> None:
    with pytest.raises(ConfigError, match=r"fraction=0\.1: should be null"):
        choose("relative", fisher_of(), LAST, 0.1, True, generator())


def test_what_can_not_be_ranked_is_an_error() -> None:
    zero = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in SHAPES.items()}
    with pytest.raises(RunError, match=r"the relative mask is empty: .* try mask="):
        choose("relative", zero, LAST, None, False, generator())
    zero["norm.weight"][2] = torch.nan
    with pytest.raises(RunError, match=r"information of norm\.weight is not finite: .*optimizer"):
        choose("standard", zero, LAST, None, True, generator())
