"""A pretended CUDA device: values are computed on the CPU, devices are checked as CUDA would.

Fake tensors cannot show whether code that looks at values would run on a GPU: they have none, and
`nonzero`, `item` and masks fail. Here every tensor has its values. A tensor is on the pretended
device if its storage was made there: by `device=cuda`, by `to`, or by an operation on such tensors.
`tensor.device` says so, and an operation that mixes devices in a way that CUDA refuses raises
MixedDevices.

What CUDA allows: a CPU tensor without dimensions among operands on the GPU, indices on the CPU in
`x[indices]`, and `copy_` and `to` between devices.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock, patch

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

CPU = torch.device("cpu")
CUDA = torch.device("cuda", 0)  # as tensors name it: not equal to torch.device("cuda")

aten = torch.ops.aten
BETWEEN_DEVICES = {aten.copy_, aten._to_copy, aten._copy_from, aten._copy_from_and_resize}
WITH_INDICES = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
# Their operands have to be on one device even without dimensions.
STRICT = {aten.index_select, aten.gather, aten.scatter, aten.scatter_, aten.cat, aten.stack}
WAIT_FOR_VALUES = {
    *(aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.is_nonzero),
    *(
        aten._unique2,
        aten.unique_dim,
        aten.unique_consecutive,
        aten.bincount,
        aten.repeat_interleave,
    ),
}
REAL_GENERATOR = torch.Generator


class MixedDevices(RuntimeError):
    """An operation that CUDA would refuse, because its tensors are on different devices."""


class PretendedGenerator(REAL_GENERATOR):
    """A generator that says it is on the device that it was made for."""

    def __new__(cls, device: Any = "cpu") -> PretendedGenerator:
        made = super().__new__(cls, "cpu")
        made.pretended = CUDA if torch.device(device).type == "cuda" else CPU
        return made

    def __init__(self, device: Any = "cpu") -> None:
        pass


class Storages:
    """Which storages are on the pretended device.

    A weak reference keeps the address of a storage from being used again, so none is mistaken.
    """

    def __init__(self) -> None:
        self._there: dict[int, StorageWeakRef] = {}

    def __contains__(self, tensor: Tensor) -> bool:
        return tensor.layout == torch.strided and tensor.untyped_storage()._cdata in self._there

    def add(self, tensor: Tensor) -> None:
        """Put a tensor on the device."""
        storage = tensor.untyped_storage()
        self._there[storage._cdata] = StorageWeakRef(storage)

    def remove(self, tensor: Tensor) -> None:
        """Put a tensor on the CPU."""
        self._there.pop(tensor.untyped_storage()._cdata, None)


class _Operations(TorchDispatchMode):
    """Checks every operation, and puts its results on the device of its operands."""

    def __init__(self, storages: Storages) -> None:
        super().__init__()
        self.there = storages
        self.factories_there = False
        self.synchronisations: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        tensors = _tensors((args, kwargs))
        before = [tensor in self.there for tensor in tensors]
        on_gpu = any(before) or (not tensors and self.factories_there)
        if packet not in BETWEEN_DEVICES:
            self._check(func, packet, args, kwargs, on_gpu)
        self._note_waiting(packet, args, before)
        result = func(*args, **kwargs)
        if packet not in BETWEEN_DEVICES or packet is aten._to_copy:
            for made in _tensors(result):
                if on_gpu and made not in self.there:
                    self.there.add(made)
        return result

    def _check(self, func: Any, packet: Any, args: Any, kwargs: Any, on_gpu: bool) -> None:
        operands, indices = (args, kwargs), []
        if packet in WITH_INDICES:
            indices = _tensors(args[1])
            operands = (args[0], args[2:], kwargs)
        there = [tensor in self.there for tensor in _tensors(operands)]
        gpu = any(there)
        if any(index in self.there for index in indices) and not gpu:
            raise MixedDevices(f"{func}: indices on cuda:0 into a tensor on the CPU")
        written = {id(tensor) for tensor in _written(func, args, kwargs)}
        for tensor, is_there in zip(_tensors(operands), there, strict=True):
            free = tensor.dim() == 0 and packet not in STRICT and id(tensor) not in written
            if gpu and not is_there and not free:
                shapes = ", ".join(
                    f"{tuple(each.shape)} on {'cuda:0' if each in self.there else 'cpu'}"
                    for each in _tensors(operands)
                )
                raise MixedDevices(f"{func}: {shapes}")

    def _note_waiting(self, packet: Any, args: Any, there: list[bool]) -> None:
        """Count what makes the CPU wait for a GPU."""
        waits = any(there) and packet in WAIT_FOR_VALUES
        if packet in WITH_INDICES and any(there):
            waits = any(index.dtype == torch.bool for index in _tensors(args[1]))
            waits = waits or any(index not in self.there for index in _tensors(args[1]))
        if packet is aten.copy_ and len(there) == 2:
            waits = there[0] != there[1]
        if waits:
            self.synchronisations[str(packet)] += 1


class PretendedCuda(TorchFunctionMode):
    """The context in which `cuda` is a device.

    Attributes:
        synchronisations: How often the CPU would have waited for the GPU, by operation.
    """

    def __init__(self) -> None:
        super().__init__()
        self._there = Storages()
        self._operations = _Operations(self._there)
        self._stack = contextlib.ExitStack()

    @property
    def synchronisations(self) -> Counter[str]:
        return self._operations.synchronisations

    def __enter__(self) -> PretendedCuda:
        self._stack.enter_context(self._operations)
        for name, stand_in in _stand_ins().items():
            if not name.startswith("torch.accelerator") or hasattr(torch, "accelerator"):
                self._stack.enter_context(patch(name, stand_in))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._stack.close()

    def is_there(self, tensor: Tensor) -> bool:
        """Whether a tensor is on the pretended device."""
        return tensor in self._there

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func == Tensor.device.__get__:
            return CUDA if args[0] in self._there else func(*args)
        if func == Tensor.is_cuda.__get__:
            return args[0] in self._there
        if func == Tensor.is_cpu.__get__:
            return args[0] not in self._there and func(*args)
        if func in (Tensor.numpy, Tensor.__array__) and args[0] in self._there:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        if func is Tensor.tolist and args[0] in self._there:
            self._operations.synchronisations["tolist"] += 1
        if func in (torch.device, torch._C._nn._parse_to):  # they only read what is named
            return func(*args, **kwargs)
        kwargs.pop("pin_memory", None)
        moved = func in (Tensor.to, Tensor.cpu, Tensor.cuda, torch.as_tensor, torch.asarray)
        if moved and args and isinstance(args[0], Tensor):
            return self._moved(func, args, kwargs)
        return self._called(func, args, kwargs)

    def _called(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Call a function with the CPU for the pretended device, and tag its results."""
        target = _device_in(args, kwargs)
        outer = self._operations.factories_there
        generator = kwargs.get("generator")
        there = any(tensor in self._there for tensor in _tensors((args, kwargs)))
        if generator is not None:
            of, wanted = getattr(generator, "pretended", CPU), target or (CUDA if there else CPU)
            if of != wanted:
                raise MixedDevices(
                    f"{func.__name__}: expected a generator on {wanted}, not on {of}"
                )
        self._operations.factories_there = outer or there if target is None else target == CUDA
        try:
            result = func(*_on_cpu(args), **_on_cpu(kwargs))
        finally:
            self._operations.factories_there = outer
        if target is not None:
            for made in _tensors(result):
                (self._there.add if target == CUDA else self._there.remove)(made)
        return result

    def _moved(self, func: Any, args: Any, kwargs: Any) -> Any:
        tensor, rest = args[0], args[1:]
        source = CUDA if tensor in self._there else CPU
        target = {Tensor.cpu: CPU, Tensor.cuda: CUDA}.get(func) or _device_in(rest, kwargs)
        for other in _tensors(rest):
            target = CUDA if other in self._there else CPU
        target = target or source
        waits = not kwargs.pop("non_blocking", False)
        plain = [each for each in _on_cpu(rest) if not isinstance(each, bool)]
        result = func(tensor, *plain, **_on_cpu(kwargs)) if func is not Tensor.cuda else tensor
        if target == source:
            return result
        if waits or target == CPU:
            self._operations.synchronisations["to"] += 1
        if result.untyped_storage()._cdata == tensor.untyped_storage()._cdata:
            result = result.clone()
        (self._there.add if target == CUDA else self._there.remove)(result)
        return result


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def _written(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """The operands that an operation writes to."""
    written = []
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[position] if position < len(args) else kwargs.get(argument.name)
            written += _tensors(given)
    return written


def _is_device(value: Any) -> bool:
    return isinstance(value, torch.device) or (
        isinstance(value, str) and value.split(":")[0] in ("cpu", "cuda")
    )


def _device_in(args: Any, kwargs: Any) -> torch.device | None:
    """The device that a call names, as a tensor would name it."""
    named = [value for value in (*args, kwargs.get("device")) if _is_device(value)]
    kinds = [torch.device(value).type for value in named]
    return {"cuda": CUDA, "cpu": CPU}.get(kinds[0]) if kinds else None


def _on_cpu(values: Any) -> Any:
    def replaced(value: Any) -> Any:
        return CPU if _is_device(value) and torch.device(value).type == "cuda" else value

    return tree_map(replaced, values)


def _stand_ins() -> dict[str, Any]:
    """Functions of torch.cuda that need a driver, by name."""

    @contextlib.contextmanager
    def device(_: Any) -> Iterator[None]:
        yield

    stream = MagicMock()
    return {
        "torch.Generator": PretendedGenerator,
        "torch.Tensor.record_stream": lambda tensor, stream: None,
        "torch.cuda.Stream": lambda device=None: stream,
        "torch.cuda.stream": device,
        "torch.cuda.current_stream": lambda device=None: stream,
        "torch.cuda.is_available": lambda: True,
        "torch.cuda.is_bf16_supported": lambda *_: True,
        "torch.cuda.device_count": lambda: 1,
        "torch.cuda.current_device": lambda: 0,
        "torch.cuda.device": device,
        "torch.cuda.manual_seed": lambda seed: None,
        "torch.cuda.get_rng_state": lambda device=None: torch.get_rng_state(),
        "torch.cuda.set_rng_state": lambda state, device=None: None,
        "torch.cuda.synchronize": lambda device=None: None,
        "torch.cuda.mem_get_info": lambda device=None: (2**34, 2**34),
        "torch.cuda.memory_reserved": lambda device=None: 0,
        "torch.cuda.memory_allocated": lambda device=None: 0,
        # Optimizers ask whether a graph is being captured, by one or the other.
        "torch.cuda.is_current_stream_capturing": lambda: False,
        "torch.accelerator.is_available": lambda: False,
    }
