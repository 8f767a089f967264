"""What all runs of one engine share: node classes, kept results, and the thread set-up that nodes expect."""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from comfystream.catalog.comfyui.compat_running import (
    interruption,
    listen_to_messages,
    listen_to_progress,
    throw_if_interrupted,
)
from comfystream.catalog.registry import CatalogOptions, NodeCatalog, load_catalog
from comfystream.clock import Clock, SystemClock
from comfystream.engine.events import OnEvent, PackBroken, Progress
from comfystream.engine.pack_messages import PackMessages
from comfystream.engine.progress import PrepareProgress
from comfystream.engine.protocol import EngineOptions
from comfystream.engine.store import StaticStore
from comfystream.engine.values import blocker_type
from comfystream.media.convert import TensorReader
from comfystream.node_progress import listen

if TYPE_CHECKING:
    import av

    from comfystream.media.device.backend import DeviceBackend

__all__ = ["Host", "settle_memory"]

IsEnding = Callable[[], bool]

# How long a thread that runs Python lets another one wait. A tick lets go of the interpreter at each conversion and at
# each torch call; with Python's own 5 ms, a model that loaded beside it cost a gap of 200 ms at 30 fps, with this 60.
HANDOVER_S = 0.0005


_log = logging.getLogger(__name__)


def _backend(wanted: str) -> DeviceBackend | None:
    from comfystream.media.device.backend import open_backend, why_no_device

    found = open_backend(wanted)
    if found is not None:
        _log.info("frames are on %s, converted by %s", found.name, found.converter.name)
    elif wanted != "host":
        _log.info("frames are on the host: %s", why_no_device())
    return found


class Host:
    """Loads the node classes and sets torch up for running them.

    Args:
        options: what to load.
        clock, backend: injected for tests.

    Attributes:
        backend: the device that frames are on; None for the host.

    Raises:
        ConfigError: frames are to be on a device that is not there.
    """

    def __init__(
        self, options: EngineOptions, clock: Clock | None = None, backend: DeviceBackend | None = None
    ) -> None:
        import torch

        self.clock: Clock = clock or SystemClock()
        self.backend = backend or _backend(options.frames_on)
        self.catalog: NodeCatalog = load_catalog(
            CatalogOptions(
                pack_folders=options.pack_folders,
                packs=options.packs,
                allow=options.allow_packs,
                block=options.block_packs,
                folders=options.folders,
                comfyui=options.comfyui,
            )
        )
        self.blocker = blocker_type()
        self.store = StaticStore()
        self._thread = threading.local()
        sys.setswitchinterval(min(HANDOVER_S, sys.getswitchinterval()))
        if options.threads:
            torch.set_num_threads(options.threads)
        listen_to_progress(self._on_progress_bar)
        listen_to_messages(self._on_message)

    def read_once(self, image: av.VideoFrame) -> Any:
        """A picture as an IMAGE tensor where frames are."""
        if self.backend is None:
            return TensorReader().read(image)
        from comfystream.media.device.reader import DeviceReader

        reader = DeviceReader(self.backend)
        try:
            return reader.read(image)
        finally:
            reader.close()

    def broken_packs(self) -> tuple[PackBroken, ...]:
        """Packs that could not be loaded."""
        return tuple(
            PackBroken(broken.pack, broken.message, broken.hint, broken.trace, broken.key)
            for broken in self.catalog.broken()
        )

    def enter_thread(self, is_ending: IsEnding | None = None, on_event: OnEvent | None = None) -> None:
        """Set the calling thread up for running nodes: inference mode is per thread, and entering it once is enough.

        Args:
            is_ending: whether what runs on this thread is no longer wanted; asked at each step of a sampler.
            on_event: gets what nodes on this thread send to ComfyUI's editor.
        """
        import torch

        self._thread.is_ending, self._thread.on_event = is_ending, on_event
        self._thread.messages = PackMessages(self.clock)
        listen(self._on_report)
        mode = torch.inference_mode()
        mode.__enter__()
        self._thread.inference_mode = mode  # it ends when it is collected

    # --- progress bars and messages of nodes

    @contextlib.contextmanager
    def progress_goes_to(self, progress: PrepareProgress) -> Iterator[None]:
        """While this runs, progress bars moved on this thread, and what nodes say, are reported to `progress`."""
        self._thread.progress = progress
        try:
            yield
        finally:
            self._thread.progress = None

    def _on_progress_bar(
        self, value: float, total: float, preview: Any = None, prompt_id: Any = None, node_id: Any = None
    ) -> None:
        self._go_on()
        target: PrepareProgress | None = getattr(self._thread, "progress", None)
        if target is not None:
            target.steps(value, total, node_id)

    def _on_report(self, message: str, value: float, maximum: float) -> None:
        self._go_on()
        target: PrepareProgress | None = getattr(self._thread, "progress", None)
        on_event: OnEvent | None = getattr(self._thread, "on_event", None)
        if target is not None:
            target.steps(value, maximum, message=message)
        elif on_event is not None:  # in a tick: a node makes something ready beside the stream
            on_event(Progress(0, "warm", value=value, maximum=maximum, message=message))

    def _go_on(self) -> None:
        """Stop here what is no longer wanted."""
        throw_if_interrupted()
        is_ending: IsEnding | None = getattr(self._thread, "is_ending", None)
        if is_ending is not None and is_ending():
            raise interruption()

    def _on_message(self, name: Any, data: Any) -> None:
        on_event: OnEvent | None = getattr(self._thread, "on_event", None)
        if on_event is None:
            return
        event = self._thread.messages.event(name, data)
        if event is not None:
            on_event(event)


def settle_memory() -> None:
    """A full collection now, and short ones from here on: what loading made is never garbage, so it is set aside.

    Once: what is set aside later belongs to runs, and would never be given back when they end. The second collection
    counts what lives anew, so that the next one comes when little is new, not a quarter of what loading made.
    """
    gc.collect()
    if not gc.get_freeze_count():
        gc.freeze()
        gc.collect()
