"""Batch norms in eval mode folded into the convolutions before them, for as long as it is wanted.

In eval mode a batch norm is an affine map of each channel, and a convolution followed by one is a
convolution: of weight s W and bias s (b - mean) + beta, s = gamma / sqrt(var + eps). Results differ
in rounding alone; what is saved is a pass over the feature maps, and another one backwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fm_al.errors import RunError


class Folded:
    """A convolution and the batch norm that alone reads its output, as one convolution.

    weight, bias: of that convolution. scale: s above, (outputs,). All are as the network is now.
    """

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        self.conv = conv
        self.norm = norm
        with torch.no_grad():
            weight, bias, scale = _normalising(conv, norm)
            if norm.weight is not None:
                weight = weight * norm.weight.view(-1, 1, 1, 1)
                bias, scale = bias * norm.weight, scale * norm.weight
            if norm.bias is not None:
                bias = bias + norm.bias
            self.weight, self.bias = _like(conv.weight, weight), bias.to(conv.weight.dtype)
            self.scale = scale.to(conv.weight.dtype)

    @torch.no_grad()
    def normalised(self, inputs: Tensor) -> Tensor:
        """What the norm multiplies with its weight, of the convolution's inputs."""
        weight, bias, _ = _normalising(self.conv, self.norm)
        weight, bias = _like(self.conv.weight, weight), bias.to(self.conv.weight.dtype)
        return self.conv._conv_forward(inputs, weight, bias)

    def normalised_dot(self, products: Tensor, sums: Tensor) -> Tensor:
        """sum_t delta[t] times what the norm multiplies with its weight, of numbers (..., outputs):
        sum_t delta[t] (W a[t]) and sum_t delta[t]."""
        _, shift, scale = _normalising(self.conv, self.norm)
        return products * scale.to(products.dtype) + sums * shift.to(sums.dtype)


def _normalising(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor, Tensor]:
    """Weight and bias of the convolution with normalised outputs, and 1 / sqrt(var + eps); in
    float64 where the device has it, so that they are rounded once."""
    precise = torch.float32 if conv.weight.device.type == "mps" else torch.float64
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.to(precise) + norm.eps).rsqrt()
    bias = -norm.running_mean.to(precise)
    if conv.bias is not None:
        bias = bias + conv.bias
    return conv.weight.to(precise) * scale.view(-1, 1, 1, 1), bias * scale, scale


def _like(weight: Tensor, folded: Tensor) -> Tensor:
    """In the weight's dtype and layout."""
    return torch.empty_like(weight).copy_(folded)


def foldable(
    network: nn.Module, images: Tensor, call: Callable[[Tensor], Any] | None = None
) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Convolutions with the batch norm that each is followed by, as a pass of these images shows.

    The network is in eval mode; nothing but the norm may read or change the convolution's output,
    neither module may have hooks, and both are called once. call: what is computed of the images,
    by default the network's output.
    """
    uses = _Uses()
    outputs: dict[nn.Conv2d, Tensor] = {}
    inputs: dict[nn.BatchNorm2d, tuple[Tensor, int]] = {}  # and how often it was used before
    after: dict[nn.Module, int] = {}  # and after
    calls: Counter[nn.Module] = Counter()

    def on_input(module: nn.Module, given: Any) -> None:
        if isinstance(module, nn.BatchNorm2d) and given:
            inputs[module] = given[0], uses.of(given[0])

    def on_output(module: nn.Module, _given: Any, output: Any) -> None:
        calls[module] += 1
        if isinstance(module, nn.Conv2d):
            outputs[module] = output
            uses.start(output)
        elif isinstance(module, nn.BatchNorm2d) and module in inputs:
            after[module] = uses.of(inputs[module][0])

    with ExitStack() as stack:
        for module in filter(_can_fold, network.modules()):
            stack.callback(module.register_forward_pre_hook(on_input).remove)
            stack.callback(module.register_forward_hook(on_output).remove)
        stack.enter_context(torch.no_grad())
        with uses:
            (call or network)(images)
    convs = {id(output): conv for conv, output in outputs.items()}
    return [
        (convs[id(given)], norm)
        for norm, (given, before) in inputs.items()
        if id(given) in convs
        and before == 0
        and after[norm] == uses.of(given)
        and calls[convs[id(given)]] == calls[norm] == 1
    ]


@contextmanager
def folding(pairs: Sequence[Folded]) -> Iterator[None]:
    """Within, a convolution gives what its norm gives, which passes it on; then all is as before.

    Raises RunError where a norm is given anything else: the network does not do the same with all
    images.
    """
    waiting: dict[nn.Module, Tensor] = {}

    def convolve(pair: Folded, inputs: Tensor) -> Tensor:
        output = pair.conv._conv_forward(inputs, pair.weight, pair.bias)
        waiting[pair.norm] = output
        return output

    def pass_on(pair: Folded, given: Tensor) -> Tensor:
        if waiting.pop(pair.norm, None) is not given:
            raise _changed()
        return given

    try:
        for pair in pairs:
            vars(pair.conv)["forward"] = _Bound(convolve, pair)
            vars(pair.norm)["forward"] = _Bound(pass_on, pair)
        yield
        if waiting:
            raise _changed()
    finally:
        for pair in pairs:
            for module in (pair.conv, pair.norm):
                vars(module).pop("forward", None)


@contextmanager
def folded(
    network: nn.Module, images: Tensor, call: Callable[[Tensor], Any] | None = None
) -> Iterator[None]:
    """`folding` of whatever can be folded; arguments as for `foldable`. In mixed precision nothing
    is: weights would be rounded after they are scaled, and predictions be others."""
    if torch.is_autocast_enabled(images.device.type):
        yield
        return
    with folding([Folded(*pair) for pair in foldable(network, images, call)]):
        yield


class _Bound:
    """A forward method in place of a module's own."""

    def __init__(self, forward: Callable[[Folded, Tensor], Tensor], pair: Folded) -> None:
        self.forward = forward
        self.pair = pair

    def __call__(self, input: Tensor) -> Tensor:  # the name that torch's modules give it
        return self.forward(self.pair, input)


class _Uses(TorchDispatchMode):
    """Counts the operations that take a tensor, or any view of it."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: Counter[int] = Counter()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: else newer versions of torch import the compiler here, for a second or more."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):
            if isinstance(leaf, Tensor):
                self._counts[_storage(leaf)] += 1
        return func(*args, **(kwargs or {}))

    def start(self, tensor: Tensor) -> None:
        self._counts[_storage(tensor)] = 0

    def of(self, tensor: Tensor) -> int:
        return self._counts[_storage(tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _can_fold(module: nn.Module) -> bool:
    if type(module) is nn.BatchNorm2d:
        fitting = not module.training and module.running_mean is not None
    else:
        fitting = type(module) is nn.Conv2d
    hooks = (
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    )
    return fitting and not any(hooks) and "forward" not in vars(module)


def _changed() -> RunError:
    return RunError(
        "the network passes some images from a convolution to its batch norm and others not; "
        "call the same modules for all images"
    )
