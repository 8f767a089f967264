"""What all runs of one engine share: node classes, kept results, and the thread set-up that nodes expect."""

from __future__ import annotations

import contextlib
import importlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

from comfystream.catalog.registry import CatalogOptions, NodeCatalog, load_catalog
from comfystream.clock import Clock, SystemClock
from comfystream.engine.progress import PrepareProgress
from comfystream.engine.protocol import EngineOptions, PackBroken
from comfystream.engine.store import StaticStore
from comfystream.engine.values import blocker_type

__all__ = ["Host"]

# How long a thread that runs Python lets another one wait. A tick lets go of the interpreter at each conversion and at
# each torch call; with Python's own 5 ms, a model that loaded beside it cost a gap of 200 ms at 30 fps, with this 60.
HANDOVER_S = 0.0005


class Host:
    """Loads the node classes and sets torch up for running them.

    Args:
        options: what to load.
        clock: injected for tests.
    """

    def __init__(self, options: EngineOptions, clock: Clock | None = None) -> None:
        import torch

        self.clock: Clock = clock or SystemClock()
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
        self._listen_to_progress_bars()

    def broken_packs(self) -> tuple[PackBroken, ...]:
        """Packs that could not be loaded."""
        return tuple(
            PackBroken(broken.pack, broken.message, broken.hint, broken.trace, broken.key)
            for broken in self.catalog.broken()
        )

    def enter_thread(self) -> None:
        """Set the calling thread up for running nodes: inference mode is per thread, and entering it once is enough."""
        import torch

        mode = torch.inference_mode()
        mode.__enter__()
        self._thread.inference_mode = mode  # it ends when it is collected

    # --- progress bars of nodes

    @contextlib.contextmanager
    def progress_goes_to(self, progress: PrepareProgress) -> Iterator[None]:
        """While this runs, progress bars moved on this thread are reported to `progress`."""
        self._thread.progress = progress
        try:
            yield
        finally:
            self._thread.progress = None

    def _listen_to_progress_bars(self) -> None:
        utils: Any = importlib.import_module("comfy.utils")
        utils.set_progress_bar_global_hook(self._on_progress_bar)

    def _on_progress_bar(
        self, value: float, total: float, preview: Any = None, prompt_id: Any = None, node_id: Any = None
    ) -> None:
        target: PrepareProgress | None = getattr(self._thread, "progress", None)
        if target is not None:
            target.steps(value, total, node_id)
