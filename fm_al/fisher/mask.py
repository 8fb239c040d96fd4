"""The mask of FisherMask: the few weights with the most Fisher information (Gul et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import torch
from torch import Tensor

from fm_al.errors import DIVERGED, ConfigError, RunError

MaskKind = Literal["standard", "dispersed", "relative", "random"]


@dataclass(frozen=True, eq=False)
class Mask:
    """Chosen entries of a network's parameters. A layer is a parameter tensor.

    Attributes:
        positions: Ascending indices into the flattened parameter, int64 on the CPU, by parameter
            name in the network's order. Parameters without chosen entries are left out.
        last_layer: Names of the last layer's parameters.
        whole_last_layer: Whether all of their entries are chosen.
    """

    positions: dict[str, Tensor]
    last_layer: tuple[str, ...]
    whole_last_layer: bool

    def __len__(self) -> int:
        """k, the number of chosen weights."""
        return sum(self.sizes.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and self.to_json() == other.to_json()

    @property
    def sizes(self) -> dict[str, int]:
        """Number of chosen weights by layer; layers without any are left out."""
        return {name: len(indices) for name, indices in self.positions.items()}

    @property
    def dense(self) -> dict[str, Tensor]:
        """The positions outside the last layer, or all of them if it is not whole."""
        block = self.last_layer if self.whole_last_layer else ()
        return {name: indices for name, indices in self.positions.items() if name not in block}

    def to_json(self) -> dict[str, Any]:
        positions = {name: indices.tolist() for name, indices in self.positions.items()}
        return vars(self) | {"positions": positions, "last_layer": list(self.last_layer)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Mask:
        positions = {name: torch.tensor(indices) for name, indices in record["positions"].items()}
        return cls(positions, tuple(record["last_layer"]), record["whole_last_layer"])


def choose(
    kind: MaskKind,
    fisher: Mapping[str, Tensor],
    last_layer: Sequence[str],
    fraction: float | None,
    whole_last_layer: bool,
    generator: torch.Generator,
) -> Mask:
    """Choose the mask. Among weights with equal Fisher information the first are taken.

    Args:
        kind: `standard`, `dispersed`, `relative` or `random`; see the functions of these names.
        fisher: Diagonal Fisher information by parameter name, in the parameter's shape, float64, on
            any device. A random mask needs only the shapes.
        last_layer: Names of the last layer's parameters.
        fraction: Share of all weights, see `size`; of each layer for a dispersed mask; None for a
            relative one.
        whole_last_layer: Whether all of the last layer is in. If not, the kind decides about it,
            too.
        generator: Draws a random mask; on the CPU.

    Raises:
        ConfigError: The fraction is out of range or too small.
        RunError: The Fisher information is not finite, or no weight is chosen.
    """
    for name, values in fisher.items():
        if not bool(values.isfinite().all()):
            raise RunError(f"the Fisher information of {name} is not finite: {DIVERGED}")
    always = last_layer if whole_last_layer else ()
    layers = [
        torch.full_like(values, torch.inf).flatten() if name in always else values.flatten()
        for name, values in fisher.items()
    ]
    parameters = sum(map(len, layers))
    last = sum(fisher[name].numel() for name in last_layer)
    check_fraction(kind, fraction, parameters, last, whole_last_layer)
    if kind == "relative":
        flags = relative(layers)
    elif kind == "dispersed":
        flags = dispersed(layers, share(fraction, parameters, last))
    else:
        k = size(fraction, parameters, last)
        flags = standard(layers, k) if kind == "standard" else random(layers, k, generator)
    found = [layer.nonzero().squeeze(1).cpu() for layer in flags]
    chosen = dict(zip(fisher, found, strict=True))
    positions = {name: indices for name, indices in chosen.items() if len(indices)}
    if not positions:
        raise RunError(
            f"the {kind} mask is empty: no weight's Fisher information stands out in its layer; "
            "try mask=standard or whole_last_layer=true"
        )
    whole = all(len(chosen[name]) == fisher[name].numel() for name in last_layer)
    return Mask(positions, tuple(last_layer), whole)


def standard(layers: Sequence[Tensor], k: int) -> Sequence[Tensor]:
    """Choose the k largest of all: a bool tensor (size,) per layer.

    Here and below `layers` are diagonal Fisher informations (size,), infinite for weights that are
    always in.
    """
    return _largest(torch.cat([*layers]), k).split([len(layer) for layer in layers])


def dispersed(layers: Sequence[Tensor], share: Fraction) -> Sequence[Tensor]:
    """Choose the largest ceil(share x size) of each layer."""
    return [_largest(layer, math.ceil(share * len(layer))) | layer.isinf() for layer in layers]


def relative(layers: Sequence[Tensor]) -> Sequence[Tensor]:
    """Choose what is above twice its layer's mean, at most the largest 2.5% of the layer."""
    return [
        _largest(layer, len(layer) // 40) & (layer > 2 * layer.mean()) | layer.isinf()
        for layer in layers
    ]


def random(layers: Sequence[Tensor], k: int, generator: torch.Generator) -> Sequence[Tensor]:
    """Draw k of all uniformly, including those that are always in."""
    always = torch.cat([*layers]).cpu().isinf()
    order = torch.randperm(len(always), generator=generator).double().where(~always, torch.inf)
    return standard(order.split([len(layer) for layer in layers]), k)


def _largest(values: Tensor, n: int) -> Tensor:
    largest = torch.zeros_like(values, dtype=torch.bool)
    largest[values.argsort(descending=True, stable=True)[:n]] = True
    return largest


def share(fraction: float | None, parameters: int, last_layer: int) -> Fraction:
    """Return the fraction exactly as typed, so that 0.29 of 100 is 29 and not 28.999...

    None stands for 0.002, or twice the last layer if that is more, and at most 1.
    """
    if fraction is None:
        return min(Fraction(1), max(Fraction("0.002"), Fraction(2 * last_layer, parameters)))
    return Fraction(str(fraction))


def size(fraction: float | None, parameters: int, last_layer: int) -> int:
    """Return k = floor(fraction x P) of a standard or random mask; for the fraction see `share`."""
    return math.floor(share(fraction, parameters, last_layer) * parameters)


def check_fraction(
    kind: MaskKind,
    fraction: float | None,
    parameters: int,
    last_layer: int,
    whole_last_layer: bool,
) -> None:
    """Raise ConfigError for a fraction that is out of range or too small to hold the last layer.

    The error gives the smallest fraction that works. parameters, last_layer: numbers of weights.
    """
    if kind == "relative" and fraction is not None:
        raise ConfigError(f"fraction={fraction}: should be null for a relative mask")
    least = last_layer if whole_last_layer else 1
    if kind in ("standard", "random") and size(fraction, parameters, last_layer) < least:
        decimals = 10 ** len(str(parameters))  # enough to tell a weight from the next
        smallest = math.ceil(Fraction(least * decimals, parameters)) / decimals
        what = "the whole last layer" if whole_last_layer else "a single weight"
        raise ConfigError(
            f"fraction={fraction}: should be at least {smallest}, to hold {what}, "
            f"{least:,} of {parameters:,}"
        )
