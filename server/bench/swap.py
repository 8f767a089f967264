"""`bench swap`: how long viewers wait while a workflow that takes seconds to load is put in."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from comfystream.engine.protocol import Engine, EngineOptions, RunnerOptions
from comfystream.workflow.api_format import parse_api
from comfystream.workflow.model import Workflow

from .camera import Arrivals, Camera
from .engines import KINDS, opened
from .graphs import live
from .pictures import picture
from .rows import Goal, Row

__all__ = ["bench_swap"]

FPS = 30
GOAL = Goal("ours", 66.7)
LOADS = {"load that waits (a disk)": "time.sleep(seconds)", "load that computes in Python": "compute(seconds)"}
PACK = """
import time


def compute(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(i * i for i in range(1000))


class SlowLoad:
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "load"
    CATEGORY = "bench"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"seconds": ("FLOAT", {"default": 5.0, "min": 0.0, "max": 60.0})}}

    def load(self, seconds):
        %s
        return (1.0,)


class SlowApply:
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "bench"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "model": ("MODEL",)}}

    def run(self, image, model):
        return (model - image,)


NODE_CLASS_MAPPINGS = {"SlowLoad": SlowLoad, "SlowApply": SlowApply}
"""


def bench_swap(*, load_s: float = 5.0, steady_s: float = 3.0) -> Iterator[Row]:
    """The longest gap between outputs at 30 frames per second, from the order until a second after the switch.

    Args:
        load_s: how long the new workflow's static node takes.
        steady_s: how long the baseline, the same run left alone, is watched.
    """
    with tempfile.TemporaryDirectory(prefix="comfystream-bench-") as folder:
        for case, code in LOADS.items():
            pack = Path(folder) / f"slow_{code.partition('(')[0].replace('.', '_')}.py"
            pack.write_text(PACK % code, encoding="utf-8")
            for kind in KINDS:
                with opened(kind, EngineOptions(packs=(str(pack),), threads=1)) as engine:
                    yield _measure(engine, f"{case}, {kind}", load_s, steady_s)


def _measure(engine: Engine, case: str, load_s: float, steady_s: float) -> Row:
    arrivals = Arrivals()
    runner = engine.open(RunnerOptions(live=True), arrivals, lambda event: None)
    runner.activate(runner.prepare(live(("ImageInvert", {}))).result())
    with Camera(runner, picture(512, 512), FPS):
        time.sleep(1)
        began = time.monotonic_ns()
        time.sleep(steady_s)
        ordered = time.monotonic_ns()
        revision = runner.prepare(_slow(load_s)).result()
        runner.activate(revision).result()
        time.sleep(1)
        ended = time.monotonic_ns()
    runner.close()
    assert revision.prepare_ms >= load_s * 1000
    quiet = arrivals.longest_gap_ms(began, ordered)
    return Row("swap", case, "longest gap", "ms", arrivals.longest_gap_ms(ordered, ended), quiet, "no swap", GOAL)


def _slow(load_s: float) -> Workflow:
    return parse_api(
        {
            "in": {"class_type": "LoadTensor", "inputs": {}},
            "model": {"class_type": "SlowLoad", "inputs": {"seconds": load_s}},
            "apply": {"class_type": "SlowApply", "inputs": {"image": ["in", 0], "model": ["model", 0]}},
            "out": {"class_type": "SaveTensor", "inputs": {"images": ["apply", 0]}},
        },
        source="bench",
    )
