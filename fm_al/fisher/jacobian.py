"""Gradients of a network's logits for its parameters, image by image: their squares summed, for
the diagonal Fisher, and themselves at a mask of parameters.

The gradient of one image is, in every layer known here, a sum over positions t of the gradient
delta at the layer's output times a feature a of its input: for the weight of output o and column
k of a convolution sum_t delta[o, t] a[k, t], with a the unfolded input; for a norm's weight the
same with a the normalised input and k = o; for a bias with a = 1. So what is needed of a backward
pass is the gradients at the layers' outputs, and one pass gives them for every image of a batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge, saved_tensors_hooks
from torch.nn import functional

from fm_al.device import float64_device, full_precision
from fm_al.errors import RunError

# Bytes; smaller batches are faster on a CPU, whose cache holds more of them.
MEMORY_BUDGET = {"cpu": 2**28, "cuda": 2**32, "mps": 2**30}
KNOWN = (nn.Linear, nn.Conv2d, nn.BatchNorm2d, nn.LayerNorm)
# A product of matrices is about so many times faster, an entry, than a dot product for each.
PRODUCT_ADVANTAGE = 16


def layers(model: nn.Module) -> dict[str, nn.Module]:
    """The modules with parameters of their own by qualified name, in the model's order.

    Raises RunError for a module whose gradient is not known here (known are exactly Linear,
    Conv2d, BatchNorm2d and LayerNorm), for a parameter of two modules, and where a module is in
    training mode or a batch norm has no running statistics: then an image's logits depend on
    chance or on the other images of its batch.
    """
    found: dict[str, nn.Module] = {}
    owners: dict[Tensor, str] = {}
    for name, module in model.named_modules():
        described = _described(name, module)
        if module.training:
            raise RunError(f"{described} is in training mode; call eval() on the network first")
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise RunError(f"{described} has no running statistics; use track_running_stats=True")
        own = dict(module.named_parameters(recurse=False))
        if own and (type(module) not in KNOWN or not own.keys() <= {"weight", "bias"}):
            raise RunError(
                f"{described} has parameters ({', '.join(own)}) whose gradients are not known; "
                f"use {', '.join(known.__name__ for known in KNOWN)} as they are"
            )
        for parameter in own.values():
            if parameter in owners:
                raise RunError(f"{described} and {owners[parameter]} share a parameter")
            owners[parameter] = described
        if own:
            found[name] = module
    return found


def diagonal_fisher(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    memory_budget: int | None = None,
) -> dict[str, Tensor]:
    """Of every parameter by name, sum over images x and rows r of
    (sum_c seeds[x, r, c] dz_c/dtheta_i)^2: float64, of the parameter's shape.

    With seeds the rows of a square root of diag p - p p^T it is the diagonal of the images' Fisher
    information, summed over them. batches: images (n, ...) as the model takes them, all of one
    shape but for n, and their seeds (n, R, C). Batches are split so that about memory_budget bytes
    are enough, by default MEMORY_BUDGET. Raises RunError as `layers` does, and for a module called
    twice or on anything but a batch of images.
    """
    whole = {name: _Layer(name, module) for name, module in layers(model).items()}
    memory = _Memory(model, whole, memory_budget)
    sums = {
        name: torch.zeros(
            parameter.shape, dtype=torch.float64, device=float64_device(parameter.device)
        )
        for name, parameter in model.named_parameters()
    }
    for images, seeds in batches:
        with full_precision(images.device):
            parts = memory.parts(images)
            for some in zip(images.tensor_split(parts), seeds.tensor_split(parts), strict=True):
                for _, squares in _backward(model, whole, *some):
                    for name, square in squares.items():
                        sums[name] += square.view_as(sums[name]).to(sums[name].device)
    return sums


class MaskedGradients:
    """Gradients of weighted sums of the logits at chosen entries of the parameters.

    positions: flat indices into the parameters by name, int64, ascending; `size` is how many.
    Layers without any cost nothing, and the backward passes end at the earliest layer that has
    some. memory_budget: as for `diagonal_fisher`. Raises RunError as `layers` does, and ValueError
    for positions that are not there or not ascending.
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
        self._layers: dict[str, _Layer] = {}
        for name, module in layers(model).items():
            own = {
                kind: positions[_joined(name, kind)]
                for kind, _ in module.named_parameters(recurse=False)
                if len(positions.get(_joined(name, kind), ()))
            }
            if own:
                self._layers[name] = _MaskedLayer(name, module, own)
        self._memory = _Memory(model, self._layers, memory_budget)

    def memory(self, image: Tensor, images: int) -> int:
        """Bytes that a call on so many images like this one, (1, ...), needs beside the result."""
        with full_precision(image.device):
            one = self._memory.of_an_image(image)
        return max(one, min(self._memory.budget(image.device), images * one))

    def __call__(self, images: Tensor, seeds: Tensor) -> Tensor:
        """sum_c seeds[x, r, c] dz_c/dw: (n, R, m) in the images' dtype and on their device, columns
        in the positions' order. images: (n, ...). seeds: (n, R, C). Raises RunError for a module
        called twice or on anything but a batch of the images.
        """
        result = images.new_zeros(len(images), seeds.shape[1], self.size)
        if not self._layers:
            return result
        with full_precision(images.device):
            parts = self._memory.parts(images)
            split = (tensor.tensor_split(parts) for tensor in (images, seeds, result))
            for some_images, some_seeds, some in zip(*split, strict=True):
                for row, gradients in _backward(self.model, self._layers, some_images, some_seeds):
                    for name, gradient in gradients.items():
                        some[:, row, self._columns[name]] = gradient
        return result


class _Layer:
    """A module, of whose parameters all squared gradients are wanted."""

    def __init__(self, name: str, module: nn.Module) -> None:
        self.name = name
        self.module = module
        self.parameters = dict(module.named_parameters(recurse=False))
        self.work = sum(parameter.numel() for parameter in self.parameters.values())

    def features(self, inputs: Tensor) -> Tensor:
        """What the weight's gradient takes from the input: (n, features, T)."""
        return _features(self.module, inputs)

    def gradients(self, features: Tensor, deltas: Tensor) -> dict[str, Tensor]:
        """By parameter, what is wanted of its gradient. deltas: (n, outputs, T)."""
        squares = {}
        if "weight" in self.parameters:
            if isinstance(self.module, nn.Linear | nn.Conv2d):
                groups = getattr(self.module, "groups", 1)
                squares["weight"] = _sum_of_squares(
                    deltas.unflatten(1, (groups, -1)), features.unflatten(1, (groups, -1))
                )
            else:
                squares["weight"] = (deltas * features).sum(dim=2).square_().sum(dim=0)
        if "bias" in self.parameters:
            squares["bias"] = deltas.sum(dim=2).square_().sum(dim=0)
        return squares


class _MaskedLayer(_Layer):
    """A module, of whose parameters the gradients are wanted at these positions."""

    def __init__(self, name: str, module: nn.Module, positions: Mapping[str, Tensor]) -> None:
        super().__init__(name, module)
        self.parameters = {kind: self.parameters[kind] for kind in positions}
        self.positions = {
            kind: chosen.to(self.parameters[kind].device) for kind, chosen in positions.items()
        }
        self.work = 0
        if "weight" in positions:
            self.outputs, self.columns = _entries(module, self.positions["weight"])
            rows, self.row = self.outputs.unique(return_inverse=True)
            columns, self.column = self.columns.unique(return_inverse=True)
            self.by_product = len(rows) * len(columns) < PRODUCT_ADVANTAGE * len(self.outputs)
            if self.by_product:
                # To gather most outputs takes longer than to compute with all of them.
                self.gathered = 2 * len(rows) < len(self.parameters["weight"])
                self.row = self.row if self.gathered else self.outputs
                self.outputs, self.columns = rows, columns
                self.work = len(self.parameters["weight"]) * len(columns)

    def features(self, inputs: Tensor) -> Tensor:
        if "weight" not in self.positions:
            return inputs.new_empty(0)
        return _features(self.module, inputs, self.columns)

    def gradients(self, features: Tensor, deltas: Tensor) -> dict[str, Tensor]:
        gradients = {}
        if "weight" in self.positions:
            if self.by_product:
                outputs = deltas[:, self.outputs] if self.gathered else deltas
                gradients["weight"] = torch.bmm(outputs, features.mT)[:, self.row, self.column]
            else:
                gradients["weight"] = (deltas[:, self.outputs] * features).sum(dim=2)
        if "bias" in self.positions:
            gradients["bias"] = deltas[:, self.positions["bias"]].sum(dim=2)
        return gradients


def _sum_of_squares(deltas: Tensor, features: Tensor) -> Tensor:
    """sum_x (sum_t delta_x[g, o, t] a_x[g, k, t])^2: (g, o, k)."""
    if features.shape[-1] == 1:  # the square of a product is the product of squares
        outputs, inputs = deltas[..., 0].square(), features[..., 0].square()
        return torch.einsum("ngo,ngk->gok", outputs, inputs)
    return (deltas @ features.mT).square_().sum(dim=0)


def _entries(module: nn.Module, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Which output and which feature meet at an entry of the weight."""
    if not isinstance(module, nn.Linear | nn.Conv2d):
        return positions, positions
    fan_in = module.weight[0].numel()
    outputs, columns = positions // fan_in, positions % fan_in
    outputs_of_a_group = len(module.weight) // getattr(module, "groups", 1)
    return outputs, outputs // outputs_of_a_group * fan_in + columns


def _features(module: nn.Module, inputs: Tensor, columns: Tensor | None = None) -> Tensor:
    """What a weight's gradient takes from the layer's input, all or these: (n, features, T)."""
    if isinstance(module, nn.Conv2d):
        return _unfolded(module, inputs, columns)
    if isinstance(module, nn.BatchNorm2d):
        mean, var = module.running_mean, module.running_var
        inputs = functional.batch_norm(inputs, mean, var, eps=module.eps)
    elif isinstance(module, nn.LayerNorm):
        inputs = functional.layer_norm(inputs, module.normalized_shape, eps=module.eps)
    features = _by_position(module, inputs)
    return features if columns is None else features[:, columns]


def _by_position(module: nn.Module, tensor: Tensor) -> Tensor:
    """A layer's input or output as (n, features, T)."""
    if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
        return tensor.flatten(2)
    size = tensor.shape[-1]
    if isinstance(module, nn.LayerNorm):
        size = math.prod(module.normalized_shape)
    return tensor.reshape(len(tensor), math.prod(tensor.shape[1:]) // size, size).mT


def _unfolded(module: nn.Conv2d, inputs: Tensor, columns: Tensor | None) -> Tensor:
    """Columns of the unfolded input, numbered as the weight is by (channel, height, width)."""
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    windows = functional.pad(inputs, module._reversed_padding_repeated_twice, mode=mode)
    for axis, (size, stride, dilation) in enumerate(
        zip(module.kernel_size, module.stride, module.dilation, strict=True), start=2
    ):
        windows = windows.unfold(axis, (size - 1) * dilation + 1, stride)[..., ::dilation]
    if columns is None:
        return windows.permute(0, 1, 4, 5, 2, 3).flatten(1, 3).flatten(2)
    height, width = module.kernel_size
    channel, offset = columns // (height * width), columns % (height * width)
    chosen = windows[:, channel, :, :, offset // width, offset % width]
    return chosen.flatten(2).transpose(0, 1)


@contextmanager
def _requires_grad(model: nn.Module, chosen: Iterable[nn.Parameter]) -> Iterator[None]:
    """Only of these parameters, so that no graph is kept before the earliest of them."""
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


def _forward(
    model: nn.Module, traced: Mapping[str, _Layer], images: Tensor
) -> tuple[Tensor, dict[str, Tensor], dict[str, GradientEdge]]:
    """Logits, and the features and the output's edge of every traced layer that was called."""
    features: dict[str, Tensor] = {}
    edges: dict[str, GradientEdge] = {}

    def note(layer: _Layer, module: nn.Module, given: Any, named: Any, output: Tensor) -> None:
        inputs = given[0] if given else named["input"]
        described = _described(layer.name, module)
        if layer.name in edges:
            raise RunError(f"{described} is called more than once in a forward pass")
        if len(inputs) != len(images):
            raise RunError(
                f"{described} is called on {tuple(inputs.shape)} for a batch of {len(images)}; "
                "the first dimension must be the images"
            )
        # Now, before anything is done to the input or the output in place.
        with torch.no_grad():
            features[layer.name] = layer.features(inputs)
        edges[layer.name] = get_gradient_edge(output)

    chosen = [parameter for layer in traced.values() for parameter in layer.parameters.values()]
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(_requires_grad(model, chosen))
        for layer in traced.values():
            hook = partial(note, layer)
            stack.enter_context(
                layer.module.register_forward_hook(hook, prepend=True, with_kwargs=True)
            )
        # Strides as of one image cut out of a channels_last batch: there the backward pass of
        # torch's batch norm, in eval mode on a CPU, mixes the channels up (torch 2.15).
        logits = model(images.detach().contiguous() if len(images) == 1 else images.detach())
    return logits, features, edges


def _check_unused(
    traced: Mapping[str, _Layer], edges: Mapping[str, GradientEdge], logits: Tensor
) -> None:
    """A layer that was not called has no gradient, unless its parameters are used by others."""
    for name, layer in traced.items():
        if name not in edges and logits.requires_grad:
            used = torch.autograd.grad(
                logits.sum(), list(layer.parameters.values()), retain_graph=True, allow_unused=True
            )
            if any(gradient is not None for gradient in used):
                described = _described(name, layer.module)
                raise RunError(f"{described} has parameters that are used without calling it")


def _backward(
    model: nn.Module, traced: Mapping[str, _Layer], images: Tensor, seeds: Tensor
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """What the layers make of the gradients of sum_c seeds[x, r, c] z_c: row r of the seeds, and
    results by the parameters' full names."""
    logits, features, edges = _forward(model, traced, images)
    _check_unused(traced, edges, logits)
    if not (edges and logits.requires_grad):
        return
    rows = seeds.to(logits).unbind(dim=1)
    for row, seed in enumerate(rows):
        deltas = torch.autograd.grad(
            logits,
            list(edges.values()),
            seed,
            retain_graph=row + 1 < len(rows),
            allow_unused=True,
        )
        for name, delta in zip(edges, deltas, strict=True):
            if delta is not None:
                layer = traced[name]
                found = layer.gradients(features[name], _by_position(layer.module, delta))
                yield row, {_joined(name, kind): gradient for kind, gradient in found.items()}


class _Memory:
    """What passes over images take; the network is probed once for each kind of image."""

    def __init__(
        self, model: nn.Module, traced: Mapping[str, _Layer], memory_budget: int | None
    ) -> None:
        self._model = model
        self._traced = traced
        self._memory_budget = memory_budget
        self._probed: dict[tuple[torch.Size, torch.dtype, torch.device], int] = {}

    def budget(self, device: torch.device) -> int:
        """Bytes that a part of a batch may take."""
        return self._memory_budget or MEMORY_BUDGET[device.type]

    def parts(self, images: Tensor) -> int:
        """Into how many parts to split the images so that the budget is enough for each."""
        if not len(images):
            return 1
        needed = len(images) * self.of_an_image(images[:1])
        return max(1, min(len(images), math.ceil(needed / self.budget(images.device))))

    def of_an_image(self, image: Tensor) -> int:
        """Bytes: what the graph saves and as much for gradients, features, a layer's products."""
        kind = image.shape, image.dtype, image.device
        if kind not in self._probed:
            self._probed[kind] = self._probe(image)
        return self._probed[kind]

    def _probe(self, image: Tensor) -> int:
        saved: dict[int, Tensor] = {}
        parameters = {parameter.data_ptr() for parameter in self._model.parameters()}

        def note(tensor: Tensor) -> None:
            # The graph keeps nothing, since no backward pass follows: a tensor with its history
            # would keep the graph, which autograd then never frees. Here its values are kept, or
            # the next tensor might get its address.
            if tensor.data_ptr() not in parameters:
                saved[tensor.data_ptr()] = tensor.detach()

        with saved_tensors_hooks(note, lambda nothing: nothing):
            _, features, _ = _forward(self._model, self._traced, image)
        sizes = {name: tensor.numel() for name, tensor in features.items()}
        products = max(
            (2 * size + self._traced[name].work for name, size in sizes.items()), default=0
        )
        kept = sum(tensor.nbytes for tensor in saved.values())
        return 2 * kept + (sum(sizes.values()) + products) * image.element_size()


def _joined(module: str, parameter: str) -> str:
    return f"{module}.{parameter}" if module else parameter


def _described(name: str, module: nn.Module) -> str:
    return f"{name or 'the network'} ({type(module).__name__})"
