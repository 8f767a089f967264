"""The node that a live picture goes through."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from comfystream.errors import ConfigError

from .control import Control
from .core import check_steps, parse_steps
from .handover import Handover
from .model import StreamModel
from .settings import Similarity, StreamSettings, Style
from .stream import Stream
from .text import Embedding

__all__ = ["NODES", "StreamDiffusionSampler"]


class StreamDiffusionSampler:
    """Frames through a model, a bit behind. Keeps one stream from frame to frame."""

    CATEGORY, FUNCTION, RETURN_TYPES = "StreamDiffusion", "sample", ("IMAGE",)
    BUILDS_ON_FIRST_CALL = True
    DESCRIPTION = (
        "Denoises a live picture with a stream batch: one model call per frame, and as many frames of delay as "
        "there are steps but one. Every input may change while it runs."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        def number(default: float, low: float, high: float) -> tuple[str, dict[str, Any]]:
            return ("FLOAT", {"default": default, "min": low, "max": high, "step": 0.01})

        def count(default: int, low: int, high: int) -> tuple[str, dict[str, Any]]:
            return ("INT", {"default": default, "min": low, "max": high})

        return {
            "required": {
                "model": ("STREAM_MODEL",),
                "image": ("IMAGE",),
                "prompt": ("STREAM_PROMPT",),
                "t_index_list": ("STRING", {"default": "32,45"}),
                "num_inference_steps": count(50, 1, 100),
                "cfg_type": (["self", "none", "full", "initialize"],),
                "guidance_scale": number(1.1, 0.0, 20.0),
                "delta": number(1.0, 0.0, 3.0),
                "seed": count(2, 0, 0xFFFF_FFFF),
            },
            "optional": {
                "negative": ("STREAM_PROMPT",),
                "controls": ("STREAM_CONTROLS",),
                "style": ("STREAM_STYLE",),
                "second_seed": count(3, 0, 0xFFFF_FFFF),
                "second_seed_weight": number(0.0, 0.0, 1.0),
                "seed_interpolation_method": (["linear", "slerp"],),
                "transition_frames": count(0, 0, 1000),
                "transition_method": (["linear", "slerp"],),
                "frame_buffer_size": count(1, 1, 16),
                "use_denoising_batch": ("BOOLEAN", {"default": True}),
                "do_add_noise": ("BOOLEAN", {"default": True}),
                "schedule": (["auto", "lcm", "turbo"],),
                "skip_similar": ("BOOLEAN", {"default": False}),
                "similar_threshold": number(0.98, 0.0, 1.0),
                "similar_max_skip": count(10, 0, 100),
                "width": count(0, 0, 2048),
                "height": count(0, 0, 2048),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, t_index_list: str, num_inference_steps: int) -> bool | str:
        """An edit with a step out of range is refused before it reaches the running stream."""
        if not isinstance(t_index_list, str) or not isinstance(num_inference_steps, int):
            return True  # linked: known when it runs
        try:
            check_steps(parse_steps(t_index_list), num_inference_steps)
        except ConfigError as error:
            return str(error)
        return True

    def __init__(self) -> None:
        self._handover = Handover()
        self._given: tuple[Any, ...] = ((), ())

    def __copy__(self) -> StreamDiffusionSampler:
        """For a rehearsal beside the running stream: a stream of its own, whose frame is not among the live ones."""
        return type(self)()

    def sample(self, model: StreamModel, image: Tensor, prompt: Embedding, **inputs: Any) -> tuple[Tensor]:
        controls = inputs.pop("controls", None) or ()
        given = (model, prompt, inputs.get("negative"), inputs.get("style"), controls)
        rest = {name: value for name, value in inputs.items() if name not in ("negative", "style")}
        key = (*map(id, given[:4]), tuple(map(id, controls)), tuple(sorted(rest.items())))
        stream = self._handover.to(model, lambda: Stream(model, _settings(model, prompt, controls, inputs)), image)
        if stream.model is model and key != self._given[0]:
            stream.settings = _settings(model, prompt, controls, inputs).checked()
            self._given = (key, given)  # what is compared by identity is held, so that no id is used twice
        return (stream.process(image),)


def _settings(
    model: StreamModel, prompt: Embedding, controls: tuple[Control, ...], inputs: dict[str, Any]
) -> StreamSettings:
    get = inputs.get
    second: float = get("second_seed_weight", 0.0)
    seeds = ((get("seed", 2), 1 - second), (get("second_seed", 3), second))
    style: Style | None = get("style")
    width, height = get("width", 0), get("height", 0)
    is_sieved = get("skip_similar", False)
    return StreamSettings(
        prompt=prompt,
        negative=get("negative"),
        steps=parse_steps(get("t_index_list", "32,45")),
        schedule=model.schedule_of(get("num_inference_steps", 50), get("schedule", "auto")),
        guidance=model.guidance(get("cfg_type", "self"), get("guidance_scale", 1.1), get("delta", 1.0)),
        seeds=tuple(pair for pair in seeds if pair[1] > 0),
        seed_method=get("seed_interpolation_method", "linear"),
        transition_frames=get("transition_frames", 0),
        transition_method=get("transition_method", "linear"),
        frames=get("frame_buffer_size", 1),
        adds_noise=get("do_add_noise", True),
        is_batched=get("use_denoising_batch", True),
        similarity=Similarity(get("similar_threshold", 0.98), get("similar_max_skip", 10)) if is_sieved else None,
        controls=controls,
        style=style,
        size=(width, height) if width and height else None,
    )


NODES: dict[str, tuple[type, str]] = {"StreamDiffusionSampler": (StreamDiffusionSampler, "Stream Diffusion")}
