"""Who converts pictures on a device: one kernel each way where Triton works, else torch's operations. Both say so."""

from __future__ import annotations

import importlib.util
import subprocess
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from comfystream.media.colour import Colour, Matrix
from comfystream.media.device import convert
from comfystream.media.device.convert import FromRgb, ToRgb
from comfystream.media.device.layout import Layout, layout_of

if TYPE_CHECKING:
    from comfystream.media.device.backend import DeviceBackend

__all__ = ["Converter", "TorchConverter", "TritonConverter", "best_converter"]

PROBE_SIZE = (33, 21)  # odd, and no multiple of any block


class Converter(Protocol):
    """Planes to a tensor and back."""

    @property
    def name(self) -> str:
        """For people: what it is, and why where it is not the fast one."""
        ...

    def to_rgb(self, buffer: Tensor, layout: Layout, weights: ToRgb, dtype: torch.dtype) -> Tensor:
        """See `convert.planes_to_rgb`."""
        ...

    def to_planes(self, picture: Tensor, buffer: Tensor, layout: Layout, weights: FromRgb) -> None:
        """See `convert.rgb_to_planes`."""
        ...


class TorchConverter:
    """Operations of torch, about 6 on the way up and 12 on the way down.

    Args:
        reason: why it is this one.
    """

    def __init__(self, reason: str = "") -> None:
        self.name = f"torch operations ({reason})" if reason else "torch operations"

    def to_rgb(self, buffer: Tensor, layout: Layout, weights: ToRgb, dtype: torch.dtype) -> Tensor:
        """See `Converter.to_rgb`."""
        return convert.planes_to_rgb(buffer, layout, weights, dtype)

    def to_planes(self, picture: Tensor, buffer: Tensor, layout: Layout, weights: FromRgb) -> None:
        """See `Converter.to_planes`."""
        convert.rgb_to_planes(picture, buffer, layout, weights)


class TritonConverter:
    """A kernel each way.

    Args:
        kernels: the module of that name.
        version: of Triton.
    """

    def __init__(self, kernels: ModuleType, version: str) -> None:
        self._kernels = kernels
        self.name = f"one Triton {version} kernel each way"

    def to_rgb(self, buffer: Tensor, layout: Layout, weights: ToRgb, dtype: torch.dtype) -> Tensor:
        """See `Converter.to_rgb`."""
        rgb: Tensor = self._kernels.planes_to_rgb(buffer, layout, weights, dtype)
        return rgb

    def to_planes(self, picture: Tensor, buffer: Tensor, layout: Layout, weights: FromRgb) -> None:
        """See `Converter.to_planes`."""
        self._kernels.rgb_to_planes(picture, buffer, layout, weights)


def best_converter(backend: DeviceBackend) -> Converter:
    """The kernels if they compile and give what torch gives, proved on a small picture; else torch, with the reason.

    It compiles, which takes seconds: call it before the first frame, once per device.
    """
    if importlib.util.find_spec("triton") is None:
        return TorchConverter("Triton is not installed")
    try:
        import triton

        from comfystream.media.device import kernels
    except (ImportError, OSError, AttributeError) as error:
        return TorchConverter(f"Triton cannot be imported: {_first_line(error)}")
    made = TritonConverter(kernels, triton.__version__)
    reason = why_wrong(made, backend)
    return TorchConverter(reason) if reason else made


def why_wrong(converter: Converter, backend: DeviceBackend) -> str:
    """Empty when a converter gives what torch gives on this device; waits for the device."""
    from triton.errors import TritonError

    try:
        apart = max(_apart_up(converter, backend), _apart_down(converter, backend))
    except (RuntimeError, ValueError, TypeError, AttributeError, ImportError, OSError) as error:
        return f"Triton does not work here: {_first_line(error)}"
    except (TritonError, AssertionError, subprocess.SubprocessError) as error:
        return f"Triton does not compile here: {_first_line(error)}"
    return f"Triton's results are off by {apart:g} of 255" if not apart <= 1 else ""


def _apart_up(converter: Converter, backend: DeviceBackend) -> float:
    """How far both are apart at most, in steps of 255."""
    layout, colour = layout_of("yuv420p", *PROBE_SIZE), Colour(Matrix.BT709)
    planes = backend.empty(layout.size)
    planes.copy_(torch.arange(layout.size).mul_(37).remainder_(256).to(torch.uint8))
    weights = ToRgb.of(colour, layout.format, backend)
    ours = converter.to_rgb(planes, layout, weights, torch.float32)
    theirs = convert.planes_to_rgb(planes, layout, weights)
    return float((ours - theirs).abs().max()) * 255


def _apart_down(converter: Converter, backend: DeviceBackend) -> float:
    layout, colour = layout_of("yuv420p", *PROBE_SIZE), Colour(Matrix.BT709)
    ours, theirs = backend.empty(layout.size), backend.empty(layout.size)
    values = torch.arange(layout.width * layout.height * 3, dtype=torch.float32).mul_(0.013).remainder_(1.2).sub_(0.1)
    picture = backend.to_device(values.view(layout.height, layout.width, 3))
    weights = FromRgb.of(colour, backend)
    converter.to_planes(picture, ours, layout, weights)
    convert.rgb_to_planes(picture, theirs, layout, weights)
    return float((ours.to(torch.int32) - theirs.to(torch.int32)).abs().max())


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:160]
