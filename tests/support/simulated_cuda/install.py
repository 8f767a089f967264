"""Put the simulated device where torch has its own."""

from __future__ import annotations

import contextlib
from collections import Counter
from types import SimpleNamespace
from typing import Any

import torch
import torch.profiler
import torch.utils._device
from torch import Tensor

from .graphs import Graph, GraphContext, recording
from .guard import load_guard
from .memory import MEMORY
from .streams import Event, Stream, StreamContext, calls, current, default_stream, set_stream, settle, sync_debug_mode
from .tensor import Generator, on_device

__all__ = ["install", "is_installed"]

NAME = "Simulated GPU"
FACTORIES = ("arange", "arange.start", "arange.start_step", "linspace", "eye", "eye.m", "randperm")
_kept: list[Any] = []
_pinned: dict[int, int] = {}


def is_installed() -> bool:
    """Whether this process has the simulated device."""
    return bool(_kept)


def install() -> None:
    """Once per process; there is no way back.

    Raises:
        RuntimeError: there is no C++ compiler, or this torch is built for real devices.
    """
    if is_installed():
        return
    if torch.version.cuda or torch.version.hip:
        raise RuntimeError("the simulated GPU is for a torch that is built without CUDA")
    load_guard()
    library = torch.library.Library("aten", "IMPL")
    library.impl("empty.memory_format", _empty, "CUDA")
    library.impl("empty_strided", _empty_strided, "CUDA")
    for name in FACTORIES:
        library.impl(name, _factory(getattr(torch.ops.aten, name.split(".")[0]), name), "CUDA")
    _kept.append(library)
    _patch_memory_of_the_host()
    _patch_cuda()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # a parameter here cannot become one there


def _empty(size: Any, *, dtype: Any = None, memory_format: Any = None, pin_memory: bool = False, **_: Any) -> Tensor:
    if pin_memory:
        raise RuntimeError("Only dense CPU tensors can be pinned")
    return on_device(torch.empty(size, dtype=dtype, memory_format=memory_format or torch.contiguous_format))


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> Tensor:
    return on_device(torch.empty_strided(size, stride, dtype=dtype))


def _factory(packet: Any, name: str) -> Any:
    """One that grows its result, which a tensor of the simulated device cannot."""
    function = getattr(packet, name.split(".")[1] if "." in name else "default")

    def made(*args: Any, device: Any = None, pin_memory: Any = None, layout: Any = None, **kwargs: Any) -> Tensor:
        return on_device(function(*args, device="cpu", **kwargs))

    return made


def _patch_memory_of_the_host() -> None:
    torch.utils._device._device_constructors()  # it remembers the functions as they are: `with device` looks for these
    torch.Generator = Generator  # type: ignore[misc]
    torch.empty, torch.zeros = _pinnable(torch.empty), _pinnable(torch.zeros)
    torch.tensor, torch.as_tensor = _moved(torch.tensor), _moved(torch.as_tensor)
    Tensor.new_tensor = _new_tensor  # type: ignore[method-assign]
    Tensor.pin_memory = lambda self, device=None: _pin(self.clone())  # type: ignore[method-assign]
    Tensor.is_pinned = _is_pinned  # type: ignore[method-assign]


def _pinnable(make: Any) -> Any:
    def made(*args: Any, pin_memory: bool = False, **kwargs: Any) -> Tensor:
        return _pin(make(*args, **kwargs)) if pin_memory else make(*args, **kwargs)

    return made


def _moved(make: Any) -> Any:
    empty = torch.empty  # asks whether there is a `with device` around; torch.get_default_device() comes here itself

    def made(data: Any, *, device: Any = None, dtype: Any = None, **kwargs: Any) -> Tensor:
        if isinstance(data, Tensor):
            return make(data, device=device or data.device, dtype=dtype, **kwargs)
        wanted = torch.device(device or empty(0).device)
        found = make(data, device="cpu" if wanted.type == "cuda" else wanted, dtype=dtype, **kwargs)
        return found.to(wanted)

    return made


def _new_tensor(self: Tensor, data: Any, *, dtype: Any = None, device: Any = None, **kwargs: Any) -> Tensor:
    return torch.tensor(data, dtype=dtype or self.dtype, device=device or self.device, **kwargs)


def _pin(tensor: Tensor) -> Tensor:
    if tensor.is_cuda:
        raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
    _pinned[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
    return tensor


def _is_pinned(tensor: Tensor, device: Any = None) -> bool:
    return not tensor.is_cuda and tensor.untyped_storage().data_ptr() in _pinned


def _patch_cuda() -> None:
    properties = SimpleNamespace(name=NAME, major=9, minor=0, total_memory=MEMORY.total, multi_processor_count=132)
    replaced: dict[str, Any] = {
        "_lazy_init": lambda: None,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "init": lambda: None,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda device: None,
        "get_device_name": lambda device=None: NAME,
        "get_device_capability": lambda device=None: (9, 0),
        "get_device_properties": lambda device=None: properties,
        "is_bf16_supported": lambda *_: True,
        "Stream": Stream,
        "Event": Event,
        "stream": StreamContext,
        "set_stream": set_stream,
        "device": lambda device: contextlib.nullcontext(),
        "current_stream": current,
        "default_stream": default_stream,
        "synchronize": settle,
        "set_sync_debug_mode": sync_debug_mode,
        "CUDAGraph": Graph,
        "graph": GraphContext,
        "graph_pool_handle": lambda: (0, 0),
        "is_current_stream_capturing": lambda: recording() is not None,
        "memory_stats": lambda device=None: {"allocation.all.allocated": MEMORY.taken},
        "memory_allocated": lambda device=None: MEMORY.used,
        "memory_reserved": lambda device=None: MEMORY.used,
        "max_memory_allocated": lambda device=None: MEMORY.peak,
        "reset_peak_memory_stats": _reset_peak,
        "mem_get_info": lambda device=None: (MEMORY.total - MEMORY.used, MEMORY.total),
        "set_per_process_memory_fraction": _limit,
        "empty_cache": lambda: None,
        "ipc_collect": lambda: None,
    }
    for name, value in replaced.items():
        setattr(torch.cuda, name, value)
    torch.version.cuda = "13.0"
    torch.profiler.profile = Profile  # type: ignore[misc, assignment]


class Profile:
    """See torch.profiler.profile: it knows the calls of the CUDA runtime."""

    def __init__(self, **_: Any) -> None:
        self._before: Counter[str] = Counter()
        self._after: Counter[str] = Counter()

    def __enter__(self) -> Profile:
        self._before = calls.copy()
        return self

    def __exit__(self, *_: object) -> None:
        self._after = calls.copy()

    def key_averages(self) -> list[Any]:
        """What was called meanwhile."""
        return [SimpleNamespace(key=key, count=count) for key, count in (self._after - self._before).items()]


def _reset_peak(device: Any = None) -> None:
    MEMORY.peak = MEMORY.used


def _limit(fraction: float, device: Any = None) -> None:
    MEMORY.limit = int(MEMORY.total * fraction)
