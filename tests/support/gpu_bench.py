"""`bench gpu` on tiny models and the processor, in seconds. Who imports it is skipped without diffusers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("diffusers", reason="needs diffusers")
pytest.importorskip("transformers", reason="needs transformers")

KEYS = (
    "sd-turbo",
    "sd15-lcm4",
    "sdxl-turbo",
    "sd15-depth",
    "depth-small",
    "srvgg-x4",
    "fsrcnn-x2",
    "sd15-rcfg",
    "sd-turbo-txt2img",
    "sd-turbo-style",
    "sdxl-turbo-1024",
    "video-wan",
    "video-tae",
    "video-wide",
    "whisper-tiny",
    "whisper-base",
    "depth-large",
)


def options(**changes: Any) -> Any:
    from comfystream_server.bench.gpu.measure import Amounts
    from comfystream_server.bench.gpu.run import Options
    from comfystream_server.bench.gpu.scale import TINY

    amounts = Amounts(warm_up=1, ticks=4, paced_s=0.2, paces=(20.0,))
    return replace(Options(scale=TINY, precision="fp32", backends=("eager",), amounts=amounts), **changes)


def run(said: list[str], file: Path | None = None, **changes: Any) -> dict[str, Any]:
    from comfystream_server.bench.gpu.run import run_bench

    journal = run_bench(options(**changes), said.append, file, device="cpu")
    return {case["workload"]: case for case in journal.cases}
