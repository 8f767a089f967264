"""From a node's tensor on the device to a picture that encoders take: converted there, planes down in one copy."""

from __future__ import annotations

import queue
from dataclasses import dataclass, field

import av
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from comfystream.channels import Closed
from comfystream.media.colour import Colour, colour_like, copy_tags, tag
from comfystream.media.device.backend import DeviceBackend, Event
from comfystream.media.device.convert import FromRgb
from comfystream.media.device.layout import Layout, layout_of, spill
from comfystream.media.device.reader import DEPTH
from comfystream.media.image_writer import first_picture

__all__ = ["DeviceWriter", "Download"]


@dataclass(slots=True, eq=False)
class _Slot:
    """Room for one picture on its way down: the planes on the device, and on the host as a tensor and as an array."""

    pinned: Tensor
    planes: Tensor
    memory: NDArray[np.uint8] = field(init=False)
    converted: Event | None = None
    arrived: Event | None = None

    def __post_init__(self) -> None:
        self.memory = self.pinned.numpy()


class Download:
    """A picture on its way down. `image` or `drop` has to be called once, by any thread: it gives the room back."""

    def __init__(self, writer: DeviceWriter, slot: _Slot, layout: Layout, colour: Colour, arrived: Event) -> None:
        self._writer = writer
        self._slot = slot
        self._layout = layout
        self._colour = colour
        self._arrived = arrived
        self.like: av.VideoFrame | None = None

    def wait(self) -> None:
        """Wait until it has arrived."""
        self._arrived.wait()

    def image(self) -> av.VideoFrame:
        """Wait until it has arrived, and make the picture, with its colour and the time of the input."""
        try:
            self._arrived.wait()
            image = av.VideoFrame(self._layout.width, self._layout.height, self._layout.name)
            spill(self._slot.memory, image, self._layout)
        finally:
            self._writer.free(self._slot)
        if self.like is not None:
            copy_tags(self.like, image)
        tag(image, self._colour)
        return image

    def drop(self) -> None:
        """Nobody wants it: wait until it has arrived, as its memory is written until then."""
        try:
            self._arrived.wait()
        finally:
            self._writer.free(self._slot)


class DeviceWriter:
    """Tensors on a device to pictures; the counterpart of `ImageWriter`. `start` is called by one thread at a time.

    At most `DEPTH` downloads are under way: `start` waits until one of them is made a picture or dropped.
    """

    def __init__(self, backend: DeviceBackend) -> None:
        self._backend = backend
        self._downward = backend.stream()
        self._free: queue.SimpleQueue[_Slot | None] = queue.SimpleQueue()
        self._weights: dict[Colour, FromRgb] = {}
        self._is_closed = False
        self._slots = [_Slot(backend.pinned(0), backend.empty(0)) for _ in range(DEPTH)]  # a dropped one's, too
        for slot in self._slots:
            self._free.put(slot)

    def start(self, tensor: Tensor, like: av.VideoFrame | None = None) -> Download:
        """Give the conversion and the copy of the first picture of a batch to the device.

        Args:
            tensor: on the device, else as for `ImageWriter.write`. May be written again by what is given to the current
                stream after this.
            like: the input picture, as for `ImageWriter.write`.

        Raises:
            MediaError: it is no picture.
            Closed: the writer was closed while this waited.
        """
        picture = first_picture(tensor)
        height, width = picture.shape[:2]
        layout = layout_of("yuv420p", width, height)
        colour = colour_like(like, width, height)
        slot = self._take(layout.size)
        try:
            arrived = self._give(slot, picture, layout, colour)
        except BaseException:
            self.free(slot)
            raise
        download = Download(self, slot, layout, colour, arrived)
        download.like = like
        return download

    def _give(self, slot: _Slot, picture: Tensor, layout: Layout, colour: Colour) -> Event:
        planes, weights = slot.planes[: layout.size], self._weights_for(colour)
        self._backend.converter.to_planes(picture, planes, layout, weights)
        slot.converted = self._backend.compute().record(slot.converted)
        self._downward.wait_for(slot.converted)
        with self._backend.on(self._downward):
            self._backend.copy(slot.pinned[: layout.size], slot.planes[: layout.size])
        slot.arrived = self._downward.record(slot.arrived)
        return slot.arrived

    def wait_for_room(self) -> None:
        """Wait until a download can start at once, so that what is read next is as new as can be.

        Raises:
            Closed: the writer is closed.
        """
        self.free(self._take(0))

    def _take(self, size: int) -> _Slot:
        """A slot that nobody reads any more; waits for one."""
        slot = None if self._is_closed else self._free.get()
        if slot is None:
            self._free.put(None)
            raise Closed
        if slot.pinned.numel() >= size:
            return slot
        self._backend.settle()
        larger = _Slot(self._backend.pinned(size), self._backend.empty(size))
        self._slots[self._slots.index(slot)] = larger
        return larger

    def free(self, slot: _Slot) -> None:
        """A slot that was taken can be taken again."""
        self._free.put(slot)

    def _weights_for(self, colour: Colour) -> FromRgb:
        found = self._weights.get(colour)
        if found is None:
            found = self._weights[colour] = FromRgb.of(colour, self._backend)
        return found

    def close(self) -> None:
        """No more downloads; who waits for room hears it. Its memory goes once the device is done. Idempotent."""
        self._is_closed = True
        self._free.put(None)
        self._backend.settle()
