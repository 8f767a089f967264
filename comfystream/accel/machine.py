"""What an engine depends on that is not in the model: GPU, driver, system, versions."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Machine", "machine", "version_of"]


@dataclass(frozen=True, slots=True)
class Machine:
    """This machine. `gpu` is empty when there is none that torch can use; `why_no_gpu` says why."""

    system: str
    processor: str
    torch: str
    gpu: str = ""
    compute_capability: str = ""
    driver: str = ""
    cuda: str = ""
    why_no_gpu: str = ""

    @property
    def device(self) -> str:
        """Where models run here: "cuda" or "cpu"."""
        return "cuda" if self.gpu else "cpu"

    def to_json(self) -> dict[str, Any]:
        """The part that engines depend on."""
        return {name: value for name, value in asdict(self).items() if name != "why_no_gpu"}


def version_of(package: str) -> str:
    """Version of an installed package, or an empty text."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


@functools.lru_cache(maxsize=16)
def machine(device: str = "cuda") -> Machine:
    """This machine with one of its GPUs, looked at once.

    Args:
        device: "cuda" is the current one, "cuda:1" the second; of another kind of device, the current GPU is told.
    """
    gpu = device if device.startswith("cuda") else "cuda"
    system, processor = platform.system(), platform.machine()
    try:
        import torch
    except ImportError:
        return Machine(system, processor, "", why_no_gpu="torch is not installed")
    if torch.version.cuda is None:
        return Machine(system, _processor(), torch.__version__, why_no_gpu="this torch is built without CUDA")
    if not torch.cuda.is_available():
        return Machine(system, _processor(), torch.__version__, why_no_gpu="torch sees no CUDA device")
    major, minor = torch.cuda.get_device_capability(gpu)
    return Machine(
        system,
        _processor(),
        torch.__version__,
        gpu=torch.cuda.get_device_name(gpu),
        compute_capability=f"{major}.{minor}",
        driver=_driver(),
        cuda=str(torch.version.cuda),
    )


def _processor() -> str:
    """Compiled code of the Inductor uses what the processor has, AVX2 or AVX-512, for a GPU too: that makes another."""
    from torch.backends import cpu

    return f"{platform.machine()} {cpu.get_cpu_capability()}"


def _driver() -> str:
    """Major version of the driver; engines outlive its small updates."""
    try:
        import pynvml
    except ImportError:
        return ""
    try:
        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion()).partition(".")[0]
    except pynvml.NVMLError:
        return ""
