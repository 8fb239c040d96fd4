"""Per-image gradients of a layer's parameters, from its input and the gradients at its output.

In every supported layer the gradient of one image is a sum over positions t: the gradient delta at
the layer's output times a feature a of its input. For the weight of output o and column k of a
convolution it is sum_t delta[o, t] a[k, t], with a the unfolded input. For a norm's weight a is the
normalised input and k = o; for a bias a = 1. A backward pass therefore only has to give the
gradients at the layers' outputs, and one pass gives them for all images of a batch.

If a batch norm is folded into the convolution before it (`fm_al.backbones.folding`), the gradients
are known at the norm's output only. At the convolution's output they are s delta, with s the norm's
scale. The normalised input is that convolution with its weights divided by sqrt(var + eps).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fm_al.backbones.folding import Folded
from fm_al.errors import RunError
from fm_al.fisher.weight_gradients import Grouped, Module, Product, Way, by_channel, columns

KNOWN = (nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.LayerNorm)
# Costs on a CPU, in multiplications of a matrix product: a multiplication in a dot product, one in
# a grouped convolution, and writing a number of the unfolded input.
ENTRY_COST = 16.0
GROUPED_COST = 0.6
UNFOLDED_COST = 24.0
BY_WEIGHT_POSITIONS = 128  # from which a norm's gradient is taken from the weight's gradients
# Gradients squared together: they fit into a CPU's cache, or keep a GPU busy.
SQUARED_NUMBERS = {"cpu": 2**19, "cuda": 2**25, "mps": 2**25}

Kind = Literal["weight", "bias", "norm weight", "norm bias"]
Cheapest = Literal["grouped", "product", "entries"]


def layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules with parameters of their own, by qualified name, in the model's order.

    Supported are exactly Linear, Conv2d, BatchNorm2d and LayerNorm.

    Raises:
        RunError: A module with parameters is not supported, or two modules share a parameter. A
            module is in training mode, or a batch norm has no running statistics: an image's logits
            would depend on chance or on the rest of its batch.
    """
    found: dict[str, nn.Module] = {}
    owners: dict[Tensor, str] = {}
    for name, module in model.named_modules():
        what = described(name, module)
        if module.training:
            raise RunError(f"{what} is in training mode; call eval() on the network first")
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise RunError(f"{what} has no running statistics; use track_running_stats=True")
        own = dict(module.named_parameters(recurse=False))
        if own and (type(module) not in KNOWN or not own.keys() <= {"weight", "bias"}):
            raise RunError(
                f"{what} has parameters ({', '.join(own)}) whose gradients are not known; "
                f"use {', '.join(known.__name__ for known in KNOWN)} as they are"
            )
        for parameter in own.values():
            if parameter in owners:
                raise RunError(f"{what} and {owners[parameter]} share a parameter")
            owners[parameter] = what
        if own:
            found[name] = module
    return found


def described(name: str, module: nn.Module) -> str:
    return f"{name or 'the network'} ({type(module).__name__})"


@dataclass(frozen=True)
class Features:
    """What gradients need of a layer's input.

    Attributes:
        weight: For the layer's weight, (n, ...).
        way: How its gradients are computed; None if every output has a feature of its own.
        norm: For the weight of a folded norm, (n, features, T).
    """

    weight: Tensor | None = None
    way: Way | None = None
    norm: Tensor | None = None

    @property
    def numel(self) -> int:
        return sum(each.numel() for each in (self.weight, self.norm) if each is not None)


class Layer:
    """A module whose gradients are wanted, for its own parameters or a folded norm's.

    Attributes:
        names: Full names of these parameters by kind.
        folded: The convolution and its norm, with their present weights; None if no norm is folded.
    """

    folded: Folded | None = None

    def __init__(self, name: str, module: nn.Module, names: Mapping[Kind, str]) -> None:
        self.name = name
        self.module = module
        self.names = names

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The wanted parameters that are the module's own."""
        return [getattr(self.module, kind) for kind in self.names if kind in ("weight", "bias")]

    def features(self, inputs: Tensor, output: Tensor) -> Features:
        """Return what `gradients` needs of the layer's input."""
        raise NotImplementedError

    def gradients(self, features: Features, deltas: Sequence[Tensor]) -> dict[Kind, Tensor]:
        """Return the wanted values by kind. deltas: gradients at the output, one tensor per row."""
        raise NotImplementedError

    def work(self, features: Features, rows: int) -> int:
        """Numbers per image that `gradients` computes, beside copies of features and deltas."""
        raise NotImplementedError


def squares(name: str, module: nn.Module, names: Mapping[Kind, str]) -> Layer:
    """Build the layer that sums squared gradients over images and rows, for all parameters."""
    of_kind: type[Layer] = _Squares if isinstance(module, nn.Linear | nn.Conv2d) else _NormSquares
    return of_kind(name, module, names)


class _NormSquares(Layer):
    """Squared gradients of a norm that is not folded."""

    def features(self, inputs: Tensor, output: Tensor) -> Features:
        return Features(_normalised(self.module, inputs))

    def work(self, features: Features, rows: int) -> int:
        return 0

    def gradients(self, features: Features, deltas: Sequence[Tensor]) -> dict[Kind, Tensor]:
        assert features.weight is not None
        stacked = torch.stack([by_channel(self.module, delta) for delta in deltas], dim=1)
        dots = (stacked * features.weight[:, None]).sum(dim=3)
        found: dict[Kind, Tensor] = {"weight": dots, "bias": stacked.sum(dim=3)}
        return {kind: _sum_of_squares(found[kind]) for kind in self.names}


class _Squares(Layer):
    """Squared gradients of a linear or convolutional layer, and of a norm folded into it."""

    module: Module

    def features(self, inputs: Tensor, output: Tensor) -> Features:
        norm = None
        if self.folded is not None and not self._norm_by_weight(output):
            norm = self.folded.normalised(inputs).flatten(2)
        way: Way = Product(self.module)
        if isinstance(self.module, nn.Conv2d) and Grouped.fits(self.module, output):
            way = Grouped(self.module)
        return Features(way.features(inputs), way, norm)

    def _norm_by_weight(self, output: Tensor) -> bool:
        """Whether to compute the gradient of the norm's weight from the convolution's gradients.

        sum_t delta[t] (W a[t]) equals W sum_t delta[t] a[t]. With few positions W a is cheaper.
        """
        return output[0, 0].numel() >= BY_WEIGHT_POSITIONS

    def work(self, features: Features, rows: int) -> int:
        assert features.weight is not None
        # On a CPU few are computed together. Else a copy, or a product with the weight, and a sum
        # may be there beside them.
        copies = 1 if features.weight.device.type == "cpu" else 3
        return copies * rows * self.module.weight.numel()

    def gradients(self, features: Features, deltas: Sequence[Tensor]) -> dict[Kind, Tensor]:
        way, folded = features.way, self.folded
        assert way is not None
        assert features.weight is not None
        stacked = way.stacked(deltas)
        sums = way.sum(stacked)
        products: list[Tensor] = []
        squares = way.squares(features.weight, stacked)
        if squares is None:
            through = products if folded is not None and features.norm is None else None
            squares = self._of_weight(way, features.weight, stacked, len(deltas), through)
        weight = way.unflattened(squares)
        if folded is None:
            found: dict[Kind, Tensor] = {"weight": weight, "bias": _sum_of_squares(sums)}
            return {kind: found[kind] for kind in self.names}
        if features.norm is None:
            dots = folded.normalised_dot(torch.cat(products), sums)
        else:
            dots = way.dot(stacked, features.norm)
        found = {
            "weight": weight * folded.scale.square().view(-1, 1, 1, 1),
            "bias": _sum_of_squares(sums * folded.scale),
            "norm weight": _sum_of_squares(dots),
            "norm bias": _sum_of_squares(sums),
        }
        return {kind: found[kind] for kind in self.names}

    def _of_weight(
        self,
        way: Way,
        features: Tensor,
        stacked: Tensor,
        rows: int,
        products: list[Tensor] | None,
    ) -> Tensor:
        """Return the squared gradients of the weight, (O, K) in the way's order.

        products: If given, the gradients times the weight, summed over K, are appended: (n, R, O)
            for some images at a time.
        """
        weight = way.flattened()
        total = weight.new_zeros(rows, *weight.shape)
        at_once = min(len(features), max(1, SQUARED_NUMBERS[total.device.type] // total.numel()))
        buffer = total.new_empty(at_once * total.numel())
        for some in zip(features.split(at_once), stacked.split(at_once), strict=True):
            gradients = way.gradients(*some, buffer)
            if products is not None:
                products.append((gradients * weight).sum(dim=3))
            _add_squares(total, gradients)
        return total.sum(dim=0)


class Masked(Layer):
    """Gradients at chosen entries, (n, R, number of entries)."""

    def __init__(
        self,
        name: str,
        module: nn.Module,
        names: Mapping[Kind, str],
        positions: Mapping[Kind, Tensor],
    ) -> None:
        """positions: flat indices into the parameters, by kind."""
        super().__init__(name, module, names)
        self.positions = positions
        if "weight" in positions:
            self.outputs, self.columns = _entries(module, positions["weight"])
            self.rows, self.row = self.outputs.unique(return_inverse=True)
            self.unique_columns, self.column = self.columns.unique(return_inverse=True)

    def features(self, inputs: Tensor, output: Tensor) -> Features:
        norm, module = None, self.module
        if "norm weight" in self.names:
            assert self.folded is not None
            norm = self.folded.normalised(inputs).flatten(2)[:, self.positions["norm weight"]]
        if "weight" not in self.names:
            return Features(norm=norm)
        if not isinstance(module, nn.Linear | nn.Conv2d):
            return Features(_normalised(module, inputs)[:, self.columns])
        cheapest = self._cheapest(module, output)
        if cheapest == "entries":
            return Features(columns(module, inputs, self.columns), None, norm)
        if cheapest == "product":
            return Features(columns(module, inputs, self.unique_columns), Product(module), norm)
        assert isinstance(module, nn.Conv2d)
        way = Grouped(module)
        return Features(way.features(inputs), way, norm)

    def _cheapest(self, module: Module, output: Tensor) -> Cheapest:
        """Return the cheapest way to the weight's gradients."""
        costs: dict[Cheapest, float] = {
            "entries": (ENTRY_COST + UNFOLDED_COST) * len(self.columns),
            "product": (len(self.rows) + UNFOLDED_COST) * len(self.unique_columns),
        }
        if Grouped.fits(module, output):
            costs["grouped"] = GROUPED_COST * module.weight.numel()
        return min(costs, key=lambda way: costs[way])

    def work(self, features: Features, rows: int) -> int:
        if isinstance(features.way, Grouped):
            return rows * features.way.module.weight.numel()
        if isinstance(features.way, Product):
            return rows * len(features.way.module.weight) * len(self.unique_columns)
        return 0

    def gradients(self, features: Features, deltas: Sequence[Tensor]) -> dict[Kind, Tensor]:
        found: dict[Kind, Tensor] = {}
        if features.weight is not None:
            weight = self._of_weight(features.way, features.weight, deltas)
            found["weight"] = self._scaled(weight, self.outputs)
        if "bias" in self.names:
            found["bias"] = self._scaled(self._sums(deltas, "bias"), self.positions["bias"])
        if features.norm is not None:
            found["norm weight"] = self._dots(deltas, self.positions["norm weight"], features.norm)
        if "norm bias" in self.names:
            found["norm bias"] = self._sums(deltas, "norm bias")
        return found

    def _scaled(self, gradients: Tensor, outputs: Tensor) -> Tensor:
        """Turn gradients of the folded module into the module's own, at these outputs."""
        return gradients if self.folded is None else gradients * self.folded.scale[outputs]

    def _of_weight(self, way: Way | None, features: Tensor, deltas: Sequence[Tensor]) -> Tensor:
        if way is None:
            return self._dots(deltas, self.outputs, features)
        if isinstance(way, Grouped):
            gradients = way.gradients(features, way.stacked(deltas))
            return gradients.flatten(2)[:, :, self.positions["weight"]]
        if 2 * len(self.rows) < len(way.flattened()):
            rows = torch.stack([by_channel(self.module, each)[:, self.rows] for each in deltas], 1)
            row = self.row
        else:  # gathering most outputs takes longer than computing with all of them
            rows = way.stacked(deltas).permute(0, 2, 3, 1)
            row = self.outputs
        products = torch.bmm(features, rows.flatten(1, 2).mT)
        return products.mT.unflatten(1, (len(deltas), -1))[:, :, row, self.column]

    def _dots(self, deltas: Sequence[Tensor], outputs: Tensor, features: Tensor) -> Tensor:
        rows = (by_channel(self.module, delta)[:, outputs] * features for delta in deltas)
        return torch.stack([row.sum(dim=2) for row in rows], dim=1)

    def _sums(self, deltas: Sequence[Tensor], kind: Kind) -> Tensor:
        chosen = self.positions[kind]
        rows = (by_channel(self.module, delta)[:, chosen] for delta in deltas)
        return torch.stack([row.sum(dim=2) for row in rows], dim=1)


def _entries(module: nn.Module, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output and the feature that meet at each of these entries of the weight."""
    if not isinstance(module, nn.Linear | nn.Conv2d):
        return positions, positions
    fan_in = module.weight[0].numel()
    outputs, columns = positions // fan_in, positions % fan_in
    outputs_of_a_group = len(module.weight) // getattr(module, "groups", 1)
    return outputs, outputs // outputs_of_a_group * fan_in + columns


def _normalised(module: nn.Module, inputs: Tensor) -> Tensor:
    """Return what a norm multiplies by its weight, (n, features, T)."""
    if isinstance(module, nn.BatchNorm2d):
        mean, var = module.running_mean, module.running_var
        inputs = functional.batch_norm(inputs, mean, var, eps=module.eps)
    elif isinstance(module, nn.LayerNorm):
        inputs = functional.layer_norm(inputs, module.normalized_shape, eps=module.eps)
    return by_channel(module, inputs)


def _sum_of_squares(gradients: Tensor) -> Tensor:
    """Sum the squares of (n, R, ...) over images and rows."""
    return gradients.square().sum(dim=(0, 1))


def _add_squares(total: Tensor, gradients: Tensor) -> None:
    """Add the squares of (n, R, O, K) over images to (R, O, K); the gradients are overwritten.

    A CPU takes one image after the other while they are in its cache. A GPU takes all at once,
    since starting a kernel for each image takes longer than adding it.
    """
    if total.device.type == "cpu":
        for gradient in gradients:
            total.addcmul_(gradient, gradient)
    else:
        total += gradients.square_().sum(dim=0)
