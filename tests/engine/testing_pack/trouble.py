"""Nodes that raise, build for very long, or end their process."""

import ctypes
import os
import signal
import tempfile
import time
from pathlib import Path

from .base import V1


class Fail(V1):
    """Raises on the calls whose number is in `on` ("all", or "3,4")."""

    def __init__(self):
        self.calls = 0

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*",), "on": ("STRING", {"default": "all"})}}

    def run(self, value, on):
        self.calls += 1
        if on == "all" or str(self.calls) in on.split(","):
            raise ValueError("the test asked for this")
        return (value,)


class Builds(V1):
    """Builds engines that take very long, by the builder's own code; one of the rude nodes that catch everything."""

    RETURN_TYPES = ("FLOAT",)

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"engines": ("INT", {"default": 0}), "number": ("FLOAT", {"default": 1.0})},
            "optional": {"steps": ("INT", {"default": 100_000, "max": 100_000})},
        }

    def run(self, engines, number, steps=100_000):
        from comfystream.accel.backend import BuildOptions
        from comfystream.accel.build import EngineJob, build_all
        from comfystream.accel.cache import EngineCache
        from comfystream.accel.key import EngineKey
        from comfystream.accel.machine import Machine
        from comfystream.accel.spec import ModelSpec
        from comfystream.node_progress import report

        def make(folder, on_step):
            for step in range(steps):
                on_step("building", step / steps)
                time.sleep(0.01)
            (folder / "plan").write_bytes(b"an engine")
            return folder / "plan"

        def job(index):
            spec = ModelSpec(f"fake {index}", (), ("y",))
            return EngineJob("fake", EngineKey("fake", "1", Machine("", "", ""), spec, BuildOptions(), "", ""), make)

        try:
            with tempfile.TemporaryDirectory() as folder:
                cache = EngineCache(Path(folder))
                build_all([job(index) for index in range(engines)], cache, lambda told: report(str(told)))
        except Exception:  # noqa: BLE001 - what such nodes do
            return (0.0,)
        return (number,)


class Die(V1):
    """Ends its process: by SIGKILL, or as a broken extension module would."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"value": ("*",), "how": (["never", "kill", "segfault"],), "on": ("INT", {"default": 1})}}

    def __init__(self):
        self.calls = 0

    def run(self, value, how, on):
        self.calls += 1
        if how != "never" and self.calls >= on:
            if how == "segfault":
                ctypes.string_at(0)
            os.kill(os.getpid(), signal.SIGKILL)
        return (value,)


NODES = (Fail, Builds, Die)
