"""Devices, memory and the interrupt flag, as nodes without models use them."""

from __future__ import annotations

import gc
import threading
from enum import Enum
from typing import Any

import torch

from comfystream.gpu_turns import device_wide


class VRAMState(Enum):
    """How models share the GPU's memory."""

    DISABLED = 0
    NO_VRAM = 1
    LOW_VRAM = 2
    NORMAL_VRAM = 3
    HIGH_VRAM = 4
    SHARED = 5


class CPUState(Enum):
    """What does the work."""

    GPU = 0
    CPU = 1
    MPS = 2


OOM_EXCEPTION = torch.OutOfMemoryError
XFORMERS_IS_AVAILABLE = False
current_loaded_models: list[Any] = []


class InterruptProcessingException(BaseException):
    """The run was interrupted; not an Exception, so that nodes which catch everything let it through."""


_interrupt = threading.Event()


def interrupt_current_processing(value: bool = True) -> None:
    """Ask the running nodes to stop, or take that back."""
    if value:
        _interrupt.set()
    else:
        _interrupt.clear()


def processing_interrupted() -> bool:
    """Whether somebody asked to stop."""
    return _interrupt.is_set()


def throw_exception_if_processing_interrupted() -> None:
    """Stop here if somebody asked; the flag is cleared.

    Raises:
        InterruptProcessingException: somebody asked.
    """
    if _interrupt.is_set():
        _interrupt.clear()
        raise InterruptProcessingException


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


_device = _best_device()
_cpu = torch.device("cpu")
cpu_state = {"cuda": CPUState.GPU, "mps": CPUState.MPS}.get(_device.type, CPUState.CPU)
vram_state = VRAMState.DISABLED if _device.type == "cpu" else VRAMState.NORMAL_VRAM


def get_torch_device() -> torch.device:
    """Where nodes compute."""
    return _device


def get_torch_device_name(device: torch.device) -> str:
    """For people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def intermediate_device() -> torch.device:
    """Where pictures lie between nodes: where they are computed, so that a frame crosses once each way."""
    return _device


def intermediate_dtype() -> torch.dtype:
    """In which precision pictures lie between nodes."""
    return torch.float32


def unet_offload_device() -> torch.device:
    """Where a model waits."""
    return _cpu


def vae_device() -> torch.device:
    """Where a VAE computes."""
    return _device


def vae_offload_device() -> torch.device:
    """Where a VAE waits."""
    return _cpu


def vae_dtype(device: Any = None, allowed_dtypes: Any = ()) -> torch.dtype:
    """In which precision a VAE computes."""
    return torch.float32


def text_encoder_device() -> torch.device:
    """Where a text encoder computes."""
    return _device


def text_encoder_offload_device() -> torch.device:
    """Where a text encoder waits."""
    return _cpu


def is_device_type(device: Any, type: str) -> bool:
    """Whether a device is of that type."""
    return torch.device(device).type == type


def is_device_cpu(device: Any) -> bool:
    """Whether it is the CPU."""
    return is_device_type(device, "cpu")


def is_device_cuda(device: Any) -> bool:
    """Whether it is a CUDA device."""
    return is_device_type(device, "cuda")


def is_device_mps(device: Any) -> bool:
    """Whether it is Apple's GPU."""
    return is_device_type(device, "mps")


def cpu_mode() -> bool:
    """Whether the CPU does the work."""
    return cpu_state is CPUState.CPU


def mps_mode() -> bool:
    """Whether Apple's GPU does the work."""
    return cpu_state is CPUState.MPS


def is_nvidia() -> bool:
    """Whether it is an NVIDIA GPU."""
    return _device.type == "cuda" and torch.version.hip is None


def is_oom(e: BaseException) -> bool:
    """Whether an exception says that memory ran out."""
    return isinstance(e, OOM_EXCEPTION)


def should_use_fp16(device: Any = None, **_: Any) -> bool:
    """Whether half precision pays there."""
    return torch.device(device or _device).type == "cuda"


def should_use_bf16(device: Any = None, **_: Any) -> bool:
    """Whether bfloat16 pays there."""
    return torch.device(device or _device).type == "cuda" and torch.cuda.is_bf16_supported()


def dtype_size(dtype: torch.dtype) -> int:
    """Bytes per value."""
    return dtype.itemsize


def module_size(module: torch.nn.Module) -> int:
    """Bytes of a module's weights."""
    return sum(value.nelement() * value.element_size() for value in module.state_dict().values())


def device_supports_non_blocking(device: Any) -> bool:
    """Whether copies to it can run beside the program."""
    return is_device_cuda(device)


def cast_to_device(tensor: torch.Tensor, device: Any, dtype: torch.dtype, copy: bool = False) -> torch.Tensor:
    """The tensor there, in that precision."""
    return tensor.to(device=device, dtype=dtype, copy=copy, non_blocking=device_supports_non_blocking(device))


def get_total_memory(dev: Any = None, torch_total_too: bool = False) -> Any:
    """Bytes of memory that the device has."""
    device = torch.device(dev or _device)
    total = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else _ram()[0]
    return (total, total) if torch_total_too else total


def get_free_memory(dev: Any = None, torch_free_too: bool = False) -> Any:
    """Bytes of memory that are free there."""
    device = torch.device(dev or _device)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _ram()[1]
    return (free, free) if torch_free_too else free


def _ram() -> tuple[int, int]:
    import os

    page = os.sysconf("SC_PAGE_SIZE")
    return page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")


def soft_empty_cache(force: bool = False) -> None:
    """Give cached GPU memory back."""
    if _device.type == "cuda":
        with device_wide():
            torch.cuda.empty_cache()
    elif _device.type == "mps":
        torch.mps.empty_cache()


def cleanup_models_gc() -> None:
    """Nothing to do: no models are kept here."""


def unload_all_models() -> None:
    """Drop what nobody holds."""
    gc.collect()
    soft_empty_cache()


def free_memory(memory_required: int, device: Any, keep_loaded: Any = (), **_: Any) -> list[Any]:
    """Give cached memory back; nothing is kept here that could be unloaded."""
    soft_empty_cache()
    return []
