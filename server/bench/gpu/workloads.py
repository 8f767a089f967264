"""The workloads by importance, with limit and goal of an H200 (one GPU, half precision, nothing quantised)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from comfystream.errors import ConfigError
from comfystream_nodes.streamdiffusion.core import Guidance, ScheduleKind
from comfystream_nodes.streamdiffusion.core.guidance import GuidanceMode

from .pictures import DepthCase, UpscaleCase
from .prepared import Prepared
from .scale import Scale
from .sound import WhisperCase
from .streams import StreamCase
from .video import VideoCase

__all__ = ["FRAME_PATH", "WORKLOADS", "Case", "Target", "Workload", "chosen"]

FRAME_PATH = "frame-path"
"""Pictures up, through one node, and down again; no model, so no backend."""


class Case(Protocol):
    """Something that can be made ready."""

    def prepare(self, scale: Scale, rows: int, backend: str, device: str, precision: str) -> Prepared:
        """Make the models, count, accelerate, build."""


@dataclass(frozen=True, slots=True)
class Target:
    """Pictures per second of an H200.

    Attributes:
        limit: what its arithmetic allows.
        goal: what is to be reached.
        goal_p95_ms: where it is a time that counts: most milliseconds of all ticks but the slowest twentieth.
    """

    limit: float
    goal: float
    goal_p95_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Workload:
    """One row of the table of goals.

    Attributes:
        key: for `--only`.
        title: for people.
        case: what is made.
        targets: by rows; the first one is what is measured when nothing else is asked for.
        weight: how long it takes to build, by SD-Turbo's.
    """

    key: str
    title: str
    case: Case
    targets: dict[int, Target]
    weight: float = 1.0


TURBO = StreamCase("sd21", (0,), ScheduleKind.TURBO)
WORKLOADS: tuple[Workload, ...] = (
    Workload(
        "sd-turbo",
        "SD-Turbo img2img 512², 1 step, TAESD",
        TURBO,
        {1: Target(740, 150), 4: Target(740, 220), 2: Target(740, 150)},
    ),
    Workload(
        "sd15-lcm4",
        "SD1.5 LCM img2img 512², 4 steps in one stream batch",
        StreamCase("sd15", (16, 24, 32, 40)),
        {1: Target(227, 60)},
    ),
    Workload(
        "sdxl-turbo",
        "SDXL-Turbo img2img 512², 1 step, TAESD-XL",
        StreamCase("sdxl", (0,), ScheduleKind.TURBO),
        {1: Target(426, 80)},
        2.0,
    ),
    Workload(
        "sd15-depth",
        "SD1.5 512², 1 step, ControlNet, depth small",
        StreamCase("sd15", (32,), has_depth=True),
        {1: Target(539, 100)},
        1.6,
    ),
    Workload("depth-small", "Depth Anything V2 small 518²", DepthCase("small"), {1: Target(5600, 500)}, 0.2),
    Workload("srvgg-x4", "SRVGG x4, 512² to 2048²", UpscaleCase("srvgg", 4), {1: Target(1800, 300)}, 0.1),
    Workload("fsrcnn-x2", "FSRCNN x2, 512² to 1024²", UpscaleCase("fsrcnn", 2), {1: Target(11700, 1000)}, 0.1),
    Workload(
        "sd15-rcfg",
        "SD1.5 LCM 512², 2 steps, residual guidance self",
        StreamCase("sd15", (32, 45), guidance=Guidance(GuidanceMode.SELF, 1.2, 1.0)),
        {1: Target(422, 100)},
    ),
    Workload(
        "sd-turbo-txt2img",
        "SD-Turbo txt2img 512², 1 step",
        StreamCase("sd21", (0,), ScheduleKind.TURBO, is_from_noise=True),
        {1: Target(835, 170)},
    ),
    Workload(
        "sd-turbo-style",
        "SD-Turbo img2img 512², 1 step, IP-Adapter with a fixed style (goal: 95 % of the one without)",
        StreamCase("sd21", (0,), ScheduleKind.TURBO, has_style=True),
        {1: Target(735, 142.5)},
    ),
    Workload(
        "sdxl-turbo-1024",
        "SDXL-Turbo img2img 1024², 1 step, TAESD-XL",
        StreamCase("sdxl", (0,), ScheduleKind.TURBO, is_large=True),
        {1: Target(101, 30)},
        2.5,
    ),
    Workload(
        "video-wan",
        "StreamDiffusionV2 1.3B 512², 2 steps, Wan VAE",
        VideoCase("wan"),
        {1: Target(123, 30)},
        2.0,
    ),
    Workload("video-tae", "StreamDiffusionV2 1.3B 512², 2 steps, TAE", VideoCase("tae"), {1: Target(263, 50)}, 1.6),
    Workload(
        "video-wide",
        "StreamDiffusionV2 1.3B 832x480, 2 steps, Wan VAE",
        VideoCase("wan", is_wide=True),
        {1: Target(75, 20)},
        2.2,
    ),
    Workload("whisper-tiny", "Whisper tiny, 10 tokens per hop", WhisperCase("tiny"), {1: Target(5000, 40, 25.0)}, 0.3),
    Workload("whisper-base", "Whisper base, 10 tokens per hop", WhisperCase("base"), {1: Target(2500, 25, 40.0)}, 0.3),
    Workload("depth-large", "Depth Anything V2 large 518²", DepthCase("large"), {1: Target(606, 120)}, 0.4),
)


def chosen(only: Sequence[str]) -> tuple[Workload, ...]:
    """Workloads by key, in their order; all when none is named.

    Raises:
        ConfigError: there is none of this name.
    """
    known = [*(one.key for one in WORKLOADS), FRAME_PATH]
    if wrong := [key for key in only if key not in known]:
        raise ConfigError(
            f"there is no workload {wrong[0]}", code="unknown_workload", hint=f"there are: {', '.join(known)}"
        )
    return tuple(one for one in WORKLOADS if not only or one.key in only)
