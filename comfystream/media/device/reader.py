"""From a decoded picture to a tensor on the device: planes up in one copy, converted there."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import av
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from comfystream.media.colour import Colour, colour_of
from comfystream.media.device.backend import DeviceBackend, Event
from comfystream.media.device.convert import ToRgb
from comfystream.media.device.layout import FORMATS, Layout, PixelFormat, fill, layout_of, nearest
from comfystream.media.scale import Scaler

__all__ = ["DEPTH", "DeviceReader"]

_LOG = logging.getLogger(__name__)
DEPTH = 3  # pictures under way: one goes up, one is worked on, one comes down


@dataclass(slots=True)
class _Slot:
    """Room for one picture on its way up.

    Attributes:
        pinned, memory: the buffer as a tensor and as an array.
        planes: the same on the device.
        copied: after the copy, when `pinned` may be written again.
        converted: after the conversion, when `planes` may be.
    """

    pinned: Tensor
    planes: Tensor
    memory: NDArray[np.uint8] = field(init=False)
    copied: Event | None = None
    converted: Event | None = None

    def __post_init__(self) -> None:
        self.memory = self.pinned.numpy()


class DeviceReader:
    """Pictures to tensors on a device; the counterpart of `TensorReader`. Owned by one thread at a time.

    Args:
        backend: the device.
        dtype: of the tensors: float32, as ComfyUI's nodes expect, or float16.
    """

    def __init__(self, backend: DeviceBackend, dtype: torch.dtype = torch.float32) -> None:
        self._backend = backend
        self._dtype = dtype
        self._upward = backend.stream()
        self._slots: list[_Slot] = []
        self._size = 0
        self._turn = 0
        self._weights: dict[tuple[Colour, PixelFormat], ToRgb] = {}
        self._scaler = Scaler()
        self._told: set[str] = set()

    def read(self, image: av.VideoFrame) -> Tensor:
        """The picture as [1, H, W, 3], RGB, 0..1, on the device, in memory of its own; alpha is dropped.

        What is given to the current stream after this sees it; the calling thread does not wait for the device, except
        for the copy of `DEPTH` pictures ago.
        """
        image = self._known(image)
        layout = layout_of(image.format.name, image.width, image.height)
        slot = self._next_slot(layout)
        fill(slot.memory, image, layout)
        self._upload(slot, layout)
        compute = self._backend.compute()
        assert slot.copied is not None
        compute.wait_for(slot.copied)
        weights = self._weights_for(image, layout)
        rgb = self._backend.converter.to_rgb(slot.planes[: layout.size], layout, weights, self._dtype)
        slot.converted = compute.record(slot.converted)
        return rgb

    def _known(self, image: av.VideoFrame) -> av.VideoFrame:
        name = image.format.name
        if name in FORMATS:
            return image
        instead = nearest(image.format)
        if name not in self._told:
            self._told.add(name)
            _LOG.info("pictures come as %s, which is converted to %s on the processor before it goes up", name, instead)
        return self._scaler.convert(image, instead)

    def _next_slot(self, layout: Layout) -> _Slot:
        """A slot that nothing on the device reads any more."""
        if layout.size > self._size:
            self._grow(layout.size)
        self._turn = (self._turn + 1) % len(self._slots)
        slot = self._slots[self._turn]
        if slot.copied is not None and not slot.copied.is_done():
            slot.copied.wait()
        return slot

    def _grow(self, size: int) -> None:
        self.close()  # the old memory must not be given to others while copies go on
        backend = self._backend
        self._slots = [_Slot(backend.pinned(size), backend.empty(size)) for _ in range(DEPTH)]
        self._size = size
        self._upward.wait_for(backend.compute().record())

    def _upload(self, slot: _Slot, layout: Layout) -> None:
        if slot.converted is not None:
            self._upward.wait_for(slot.converted)
        with self._backend.on(self._upward):
            self._backend.copy(slot.planes[: layout.size], slot.pinned[: layout.size])
        slot.copied = self._upward.record(slot.copied)

    def _weights_for(self, image: av.VideoFrame, layout: Layout) -> ToRgb:
        key = (_colour(image), layout.format)
        found = self._weights.get(key)
        if found is None:
            found = self._weights[key] = ToRgb.of(*key, self._backend)
        return found

    def close(self) -> None:
        """Wait for the device and give its memory back. Idempotent; the reader can be used again."""
        if self._slots:
            self._backend.settle()
        self._slots, self._size = [], 0


def _colour(image: av.VideoFrame) -> Colour:
    """Full range for the formats that swscale takes as such whatever their tag says: both ways have to agree."""
    colour = colour_of(image)
    return Colour(colour.matrix, full=True) if image.format.name.startswith(("yuvj", "gray")) else colour
