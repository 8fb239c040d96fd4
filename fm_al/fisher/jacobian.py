"""Per-image gradients of a network's logits with respect to its parameters.

`diagonal_fisher` sums their squares. `MaskedGradients` returns them at chosen parameters. This
module runs the forward and backward passes. `fm_al.fisher.layers` turns each layer's input and the
gradient at its output into gradients of its parameters.

Batch norms are folded into the convolutions before them, which shortens the passes. The gradients
are still those of the network's own parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge, saved_tensors_hooks

from fm_al.backbones.folding import Folded, foldable, folding
from fm_al.device import float64_device, full_precision
from fm_al.errors import RunError
from fm_al.fisher.layers import Features, Kind, Layer, Masked, described, layers, squares

# Bytes. On a CPU smaller batches are faster: more of them fits into the cache.
MEMORY_BUDGET = {"cpu": 2**28, "cuda": 2**32, "mps": 2**30}
ROWS = 4  # cotangents per image that are pulled back before their gradients are used


def diagonal_fisher(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    memory_budget: int | None = None,
) -> dict[str, Tensor]:
    """Sum of squared gradients for every parameter, over images x and cotangent rows r.

    The entry of parameter i is the sum of (sum_c cotangents[x, r, c] dz_c/dtheta_i)^2. If the rows
    of the cotangents are a square root of diag p - p p^T, as `fisher_factors` gives them, this is
    the diagonal of the Fisher information, summed over the images.

    Args:
        model: The network, in eval mode.
        batches: Pairs of images (n, ...), as the model takes them, and cotangents (n, R, C). All
            images have the same shape.
        memory_budget: Batches are split to need about this many bytes; by default `MEMORY_BUDGET`.

    Returns:
        The sums by parameter name: float64, in the parameter's shape.

    Raises:
        RunError: A layer is not supported (see `layers`), is called twice, or is called on
            something other than a batch of images.
    """
    passes = _Passes(model, squares, memory_budget)
    sums = {
        name: torch.zeros(
            parameter.shape, dtype=torch.float64, device=float64_device(parameter.device)
        )
        for name, parameter in model.named_parameters()
    }
    for images, cotangents in batches:
        with full_precision(images.device):
            for _, _, found in passes(images, cotangents):
                for name, square in found.items():
                    sums[name] += square.view_as(sums[name]).to(sums[name].device)
    return sums


class MaskedGradients:
    """Per-image gradients of weighted sums of the logits, at chosen entries of the parameters.

    Layers without chosen entries cost nothing. The backward passes end at the earliest layer that
    has some.

    Args:
        model: The network, in eval mode.
        positions: Flat indices into each parameter by its name, int64, ascending.
        memory_budget: As for `diagonal_fisher`.

    Attributes:
        size: How many entries are chosen.

    Raises:
        RunError: A layer is not supported, see `layers`.
        ValueError: A position does not exist, or positions are not ascending.
    """

    def __init__(
        self,
        model: nn.Module,
        positions: Mapping[str, Tensor],
        memory_budget: int | None = None,
    ) -> None:
        parameters = dict(model.named_parameters())
        for name, chosen in positions.items():
            if name not in parameters:
                raise ValueError(f"positions of {name}: no such parameter")
            inside = (chosen >= 0) & (chosen < parameters[name].numel())
            if not bool(inside.all()) or not bool((chosen.diff() > 0).all()):
                raise ValueError(
                    f"positions of {name}: should be ascending, below {parameters[name].numel():,}"
                )
        self.model = model
        bounds = pairwise(accumulate(map(len, positions.values()), initial=0))
        self._columns = {name: slice(*bound) for name, bound in zip(positions, bounds, strict=True)}
        self.size = sum(map(len, positions.values()))
        wanted = {
            name: indices.to(parameters[name].device)
            for name, indices in positions.items()
            if len(indices)
        }

        def layer(name: str, module: nn.Module, names: Mapping[Kind, str]) -> Layer | None:
            own = {kind: full for kind, full in names.items() if full in wanted}
            at = {kind: wanted[full] for kind, full in own.items()}
            return Masked(name, module, own, at) if own else None

        self._passes = _Passes(model, layer, memory_budget)

    def memory(self, image: Tensor, images: int) -> int:
        """Bytes that a call on this many such images, (1, ...), needs beside the result."""
        with full_precision(image.device):
            return self._passes.memory(image, images)

    def __call__(self, images: Tensor, cotangents: Tensor) -> Tensor:
        """Return sum_c cotangents[x, r, c] dz_c/dw for every chosen entry w.

        Args:
            images: (n, ...), as the model takes them.
            cotangents: (n, R, C).

        Returns:
            (n, R, size) in the images' dtype and on their device, columns in the positions' order.

        Raises:
            RunError: A module is called twice, or on something other than a batch of the images.
        """
        result = images.new_zeros(len(images), cotangents.shape[1], self.size)
        if self.size:
            with full_precision(images.device):
                for some, rows, found in self._passes(images, cotangents):
                    for name, gradients in found.items():
                        result[some, rows, self._columns[name]] = gradients
        return result


class _Passes:
    """Forward and backward passes through a network, for the layers whose gradients are wanted.

    make: Builds the layer of a module from the module's name, the module and its parameters' full
        names, including those of a norm folded into it. Returns None if no gradient is wanted.
    """

    def __init__(
        self,
        model: nn.Module,
        make: Callable[[str, nn.Module, Mapping[Kind, str]], Layer | None],
        memory_budget: int | None,
    ) -> None:
        self._model = model
        self._make = make
        self._modules = layers(model)
        self._memory_budget = memory_budget
        self._pairs: dict[nn.Conv2d, nn.BatchNorm2d] = {}
        self._folded: list[Folded] = []
        self._built = False
        self._layers: dict[str, Layer] = {}
        self._probed: dict[tuple[torch.Size, torch.dtype, torch.device], int] = {}

    def __call__(
        self, images: Tensor, cotangents: Tensor
    ) -> Iterator[tuple[slice, slice, dict[str, Tensor]]]:
        """Yield what the layers compute, by parameter, for some of the images and of the rows.

        A parameter that is missing has no gradient.
        """
        if not len(images):
            return
        parts = math.ceil(len(images) * self._of_an_image(images[:1]) / self._budget(images.device))
        self._fold()
        first = 0
        for some in images.tensor_split(max(1, min(len(images), parts))):
            chosen = slice(first, first + len(some))
            for rows, found in self._backward(some, cotangents[chosen]):
                yield chosen, rows, found
            first += len(some)

    def memory(self, image: Tensor, images: int) -> int:
        """Bytes that this many such images, (1, ...), need."""
        one = self._of_an_image(image)
        return max(one, min(self._budget(image.device), images * one))

    def _budget(self, device: torch.device) -> int:
        """Bytes that a part of a batch may take."""
        return self._memory_budget or MEMORY_BUDGET[device.type]

    def _of_an_image(self, image: Tensor) -> int:
        """Bytes that one image needs. The network is probed once per kind of image.

        Counted are what the graph saves and as much for gradients, the layers' features, the
        gradients at their outputs, and what the largest layer computes from them.
        """
        kind = image.shape, image.dtype, image.device
        if kind not in self._probed:
            self._probed[kind] = self._probe(image)
        return self._probed[kind]

    def _probe(self, image: Tensor) -> int:
        if not self._built:
            self._build(image)
            self._built = True
        self._fold()
        saved: dict[int, Tensor] = {}
        weights = [*self._model.parameters(), *(pair.weight for pair in self._folded)]
        there = {weight.data_ptr() for weight in weights}

        def note(tensor: Tensor) -> None:
            # Keep the values, or the next tensor might get the same address. Keep them detached:
            # a tensor with its history would keep the graph alive, and no backward pass frees it.
            if tensor.data_ptr() not in there:
                saved[tensor.data_ptr()] = tensor.detach()

        with saved_tensors_hooks(note, lambda nothing: nothing):
            called = self._forward(image)[1]
        kept = 2 * sum(tensor.nbytes for tensor in saved.values())
        features = sum(each.features.numel for each in called.values())
        deltas = ROWS * sum(each.outputs for each in called.values())
        copies = max(
            (
                2 * (each.features.numel + ROWS * each.outputs)
                + self._layers[name].work(each.features, ROWS)
                for name, each in called.items()
            ),
            default=0,
        )
        return kept + (features + deltas + copies) * image.element_size()

    def _build(self, image: Tensor) -> None:
        """Set up the layers, with norms folded into convolutions where possible."""
        names = {module: name for name, module in self._modules.items()}
        self._pairs = dict(foldable(self._model, image))
        norms = set(self._pairs.values())
        for name, module in self._modules.items():
            if module not in norms:
                own = _names(name, module)
                norm = self._pairs.get(module) if isinstance(module, nn.Conv2d) else None
                if norm is not None and norm in names:
                    of_norm = _names(names[norm], norm)
                    own |= {_OF_NORM[kind]: full for kind, full in of_norm.items()}
                if (layer := self._make(name, module, own)) is not None:
                    self._layers[name] = layer

    def _fold(self) -> None:
        """Fold the norms, with the network's present weights."""
        folded: dict[nn.Module, Folded] = {
            conv: Folded(conv, norm) for conv, norm in self._pairs.items()
        }
        for layer in self._layers.values():
            layer.folded = folded.get(layer.module)
            if layer.folded is not None:
                layer.folded.weight.requires_grad_()
        self._folded = list(folded.values())

    def _forward(self, images: Tensor) -> tuple[Tensor, dict[str, _Called]]:
        """Return the logits, and what every called layer keeps for its gradients."""
        called: dict[str, _Called] = {}

        def note(layer: Layer, module: nn.Module, given: Any, named: Any, output: Tensor) -> None:
            inputs = given[0] if given else named["input"]
            if layer.name in called:
                raise RunError(
                    f"{described(layer.name, module)} is called more than once in a forward pass"
                )
            if len(inputs) != len(images):
                raise RunError(
                    f"{described(layer.name, module)} is called on {tuple(inputs.shape)} for a "
                    f"batch of {len(images)}; the first dimension must be the images"
                )
            # Read them now: a later module may change the input or the output in place.
            features = layer.features(inputs.detach(), output.detach())
            called[layer.name] = _Called(features, get_gradient_edge(output), output[0].numel())

        chosen = [parameter for layer in self._layers.values() for parameter in layer.parameters]
        with ExitStack() as stack:
            stack.enter_context(torch.enable_grad())
            stack.enter_context(_requires_grad(self._model, chosen))
            stack.enter_context(folding(self._folded))
            for layer in self._layers.values():
                stack.enter_context(_hook(layer.module, partial(note, layer)))
            # A single image cut out of a channels_last batch has strides for which the backward
            # pass of torch's batch norm, in eval mode on a CPU, mixes up channels (torch 2.15).
            logits = self._model(
                images.detach().contiguous() if len(images) == 1 else images.detach()
            )
        return logits, called

    def _backward(
        self, images: Tensor, cotangents: Tensor
    ) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        """Yield what the layers compute, a few rows at a time."""
        logits, called = self._forward(images)
        self._check_unused(called, logits)
        if not (called and logits.requires_grad and cotangents.shape[1]):
            return
        last = cotangents.shape[1]
        first = 0
        for some in cotangents.to(logits).tensor_split(math.ceil(last / ROWS), dim=1):
            rows = slice(first, first + some.shape[1])
            first = rows.stop
            yield rows, self._of_rows(logits, called, some, retain_graph=first < last)

    def _of_rows(
        self, logits: Tensor, called: Mapping[str, _Called], cotangents: Tensor, retain_graph: bool
    ) -> dict[str, Tensor]:
        edges = [each.edge for each in called.values()]
        last = cotangents.shape[1] - 1
        by_row = [
            torch.autograd.grad(
                logits, edges, cotangent, retain_graph=retain_graph or row < last, allow_unused=True
            )
            for row, cotangent in enumerate(cotangents.unbind(dim=1))
        ]
        found: dict[str, Tensor] = {}
        for (name, each), deltas in zip(called.items(), zip(*by_row, strict=True), strict=True):
            there = [delta for delta in deltas if delta is not None]
            if there:  # in every row or in none: the graph is the same
                layer = self._layers[name]
                with torch.no_grad():
                    of_kinds = layer.gradients(each.features, there)
                found |= {layer.names[kind]: values for kind, values in of_kinds.items()}
        return found

    def _check_unused(self, called: Mapping[str, _Called], logits: Tensor) -> None:
        """Raise RunError if another module uses the parameters of a layer that was not called."""
        for name, layer in self._layers.items():
            if name not in called and logits.requires_grad:
                used = torch.autograd.grad(
                    logits.sum(), layer.parameters, retain_graph=True, allow_unused=True
                )
                if any(gradient is not None for gradient in used):
                    raise RunError(
                        f"{described(name, layer.module)} has parameters that are used without "
                        "calling it"
                    )


class _Called(NamedTuple):
    """What a layer keeps of its call; `outputs` counts the numbers of one image's output."""

    features: Features
    edge: GradientEdge
    outputs: int


_OF_NORM: dict[Kind, Kind] = {"weight": "norm weight", "bias": "norm bias"}


def _names(name: str, module: nn.Module) -> dict[Kind, str]:
    """The full names of a module's own parameters."""
    prefix = f"{name}." if name else ""
    kinds: tuple[Kind, ...] = ("weight", "bias")
    return {kind: prefix + kind for kind in kinds if getattr(module, kind) is not None}


@contextmanager
def _hook(module: nn.Module, note: Callable[..., None]) -> Iterator[None]:
    handle = module.register_forward_hook(note, prepend=True, with_kwargs=True)
    with handle:
        yield


@contextmanager
def _requires_grad(model: nn.Module, chosen: Iterable[nn.Parameter]) -> Iterator[None]:
    """Require gradients of these parameters alone: the graph then starts at the earliest."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        for parameter, _ in before:
            parameter.requires_grad_(False)
        for parameter in chosen:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)
