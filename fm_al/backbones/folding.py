"""Temporarily folds batch norms in eval mode into the convolutions before them.

In eval mode a batch norm is an affine map per channel. A convolution followed by one is again a
convolution, with weight s W and bias s (b - mean) + beta, where s = gamma / sqrt(var + eps). This
saves a pass over the feature maps, forwards and backwards. Results differ by rounding only.
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
    """A convolution and the batch norm behind it, as one convolution.

    All tensors are computed when it is made; later changes of the network do not show.

    Attributes:
        weight: Of the one convolution.
        bias: Of the one convolution, (outputs,).
        scale: s above, (outputs,).
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
        """Compute what the norm multiplies by its weight, from the convolution's inputs."""
        weight, bias, _ = _normalising(self.conv, self.norm)
        weight, bias = _like(self.conv.weight, weight), bias.to(self.conv.weight.dtype)
        return self.conv._conv_forward(inputs, weight, bias)

    def normalised_dot(self, products: Tensor, sums: Tensor) -> Tensor:
        """Compute sum_t delta[t] x[t], where x is what the norm multiplies by its weight.

        Args:
            products: sum_t delta[t] (W a[t]), (..., outputs).
            sums: sum_t delta[t], (..., outputs).
        """
        _, shift, scale = _normalising(self.conv, self.norm)
        return products * scale.to(products.dtype) + sums * shift.to(sums.dtype)


def _normalising(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor, Tensor]:
    """Weight and bias of the convolution with normalised outputs, and 1 / sqrt(var + eps).

    In float64 if the device has it, so that they are rounded only once.
    """
    precise = torch.float32 if conv.weight.device.type == "mps" else torch.float64
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var.to(precise) + norm.eps).rsqrt()
    bias = -norm.running_mean.to(precise)
    if conv.bias is not None:
        bias = bias + conv.bias
    return conv.weight.to(precise) * scale.view(-1, 1, 1, 1), bias * scale, scale


def _like(weight: Tensor, folded: Tensor) -> Tensor:
    """Cast to the weight's dtype and layout."""
    return torch.empty_like(weight).copy_(folded)


def foldable(
    network: nn.Module, images: Tensor, call: Callable[[Tensor], Any] | None = None
) -> list[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    """Find convolutions whose output is read by a batch norm alone, by a pass of some images.

    Neither module may have hooks, and both must be called once.

    Args:
        network: In eval mode.
        images: A batch for the pass; one image is enough.
        call: What is computed from the images; by default the network's output.

    Returns:
        The pairs that can be folded.
    """
    uses = _Uses()
    outputs: dict[nn.Conv2d, Tensor] = {}
    inputs: dict[nn.BatchNorm2d, tuple[Tensor, int]] = {}  # and its uses before the norm
    after: dict[nn.Module, int] = {}  # its uses after the norm
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
    """Make each convolution compute its norm's output, and the norm pass it on; then undo that.

    Raises RunError if a norm gets any other input: the network then treats images differently.
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
    """Fold whatever can be folded, as `foldable` finds it with the same arguments.

    Nothing is folded in mixed precision: scaled weights would be rounded, and predictions change.
    """
    if torch.is_autocast_enabled(images.device.type):
        yield
        return
    with folding([Folded(*pair) for pair in foldable(network, images, call)]):
        yield


class _Bound:
    """A forward method that replaces a module's own."""

    def __init__(self, forward: Callable[[Folded, Tensor], Tensor], pair: Folded) -> None:
        self.forward = forward
        self.pair = pair

    def __call__(self, input: Tensor) -> Tensor:  # named as in torch's modules
        return self.forward(self.pair, input)


class _Uses(TorchDispatchMode):
    """Counts the operations that read a tensor or a view of it."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: Counter[int] = Counter()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False, or newer versions of torch import the compiler here, for a second or more."""
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
