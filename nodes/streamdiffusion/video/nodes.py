"""The nodes for video: load a model, add a LoRA, encode a prompt, and the sampler that a live picture goes through."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

from torch import Tensor

from comfystream.errors import ComfyStreamError, ConfigError
from comfystream.model_files import model_input

from ..loading.entry import TOKENIZERS, device_of, find
from ..text import Embedding
from .causal import ACCELERATIONS, how_of
from .loading import load_video_model, placed, video_dtype_of
from .lora import with_video_lora
from .model import VideoModel
from .pipelines import PIPELINES, check_size, pipeline_of
from .settings import VideoSettings
from .stream import VideoStream

__all__ = ["NODES", "StreamVideoSampler"]

CATEGORY = "StreamDiffusion/video"
# Kinds of model folders, the usual one first
MODELS, AUTOENCODERS = ("diffusion_models", "diffusers", "checkpoints"), ("vae", "vae_approx")
TEXTS = ("text_encoders", "clip")


def _text(hint: str = "", is_long: bool = False, default: str = "") -> tuple[str, dict[str, Any]]:
    return ("STRING", {"default": default, "multiline": is_long, "tooltip": hint})


class StreamVideoLoadModel:
    """A causal video model from folders or files."""

    CATEGORY, FUNCTION = CATEGORY, "load"
    RETURN_TYPES, RETURN_NAMES = ("STREAM_VIDEO_MODEL",), ("model",)
    DESCRIPTION = (
        "Loads a causal Wan transformer with its autoencoder and text encoder, for StreamDiffusionV2 and its kin."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "pipeline": (list(PIPELINES), {"tooltip": "how the model was distilled: chunks, window and steps"}),
                "model": model_input("a folder of diffusers or a weight file: a path, or a name", *MODELS),
                "vae": model_input("the autoencoder; empty for the one in the model's folder", *AUTOENCODERS),
                "vae_type": (
                    ["wan", "tae"],
                    {"tooltip": "Wan's own, pruned ones too; or a tiny one, much cheaper"},
                ),
            },
            "optional": {
                "text_encoder": model_input("UMT5; empty for the one in the model's folder, if any", *TEXTS),
                "tokenizer": model_input("its folder; empty for the one beside the text encoder", *TOKENIZERS),
                "dtype": (["auto", "bfloat16", "float16", "float32"],),
                "device": ("STRING", {"default": "auto"}),
                "acceleration": (list(ACCELERATIONS),),
            },
        }

    def load(
        self,
        pipeline: str,
        model: str,
        vae: str,
        vae_type: str,
        text_encoder: str = "",
        tokenizer: str = "",
        dtype: str = "auto",
        device: str = "auto",
        acceleration: str = "none",
    ) -> tuple[VideoModel]:
        place = device_of(device)
        how_of(acceleration, place)
        path = find(model, *MODELS)
        autoencoder = find(vae, *AUTOENCODERS) if vae else path
        text = find(text_encoder, *TEXTS) if text_encoder else _inside(path, "text_encoder")
        words = find(tokenizer, *TOKENIZERS) if tokenizer else _words(path, text)
        loaded = load_video_model(pipeline_of(pipeline), path, autoencoder, vae_type, text, words)
        made = placed(loaded, place, video_dtype_of(dtype, place))
        return (made.with_parts(acceleration=acceleration),)


def _inside(folder: Path, name: str) -> Path | None:
    return folder / name if (folder / name).is_dir() else None


def _words(model: Path, text: Path | None) -> Path | None:
    """The tokenizer in the model's folder, or beside or in the text encoder's."""
    if text is None:
        return _inside(model, "tokenizer")
    beside = text.parent if text.is_file() else text
    here = beside if any((beside / name).is_file() for name in ("tokenizer.json", "spiece.model")) else None
    return _inside(model, "tokenizer") or _inside(beside, "tokenizer") or _inside(beside.parent, "tokenizer") or here


class StreamVideoLoRA:
    """A video model with a LoRA."""

    CATEGORY, FUNCTION = CATEGORY, "apply"
    RETURN_TYPES, RETURN_NAMES = ("STREAM_VIDEO_MODEL",), ("model",)
    DESCRIPTION = "Adds a LoRA to a video model's weights. Several in a row add up; LongLive's own is one of them."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        strength = ("FLOAT", {"default": 1.0, "min": -10.0, "max": 10.0, "step": 0.01})
        return {"required": {"model": ("STREAM_VIDEO_MODEL",), "lora": model_input("", "loras"), "strength": strength}}

    def apply(self, model: VideoModel, lora: str, strength: float) -> tuple[VideoModel]:
        return (with_video_lora(model, find(lora, "loras"), strength) if strength else model,)


class StreamVideoPrompt:
    """A text as a video model reads it."""

    CATEGORY, FUNCTION = CATEGORY, "encode"
    RETURN_TYPES, RETURN_NAMES = ("STREAM_PROMPT",), ("prompt",)
    DESCRIPTION = "Encodes a text once; each text is encoded beside the running stream."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"model": ("STREAM_VIDEO_MODEL",), "text": _text(is_long=True)}}

    def encode(self, model: VideoModel, text: str) -> tuple[Embedding]:
        return (model.text.encode(text),)


class StreamVideoSampler:
    """Live video through a causal model, or video of a prompt alone. Keeps one stream from frame to frame."""

    CATEGORY, FUNCTION = CATEGORY, "sample"
    RETURN_TYPES, RETURN_NAMES = ("IMAGE", "INT"), ("image", "delay_frames")
    DESCRIPTION = (
        "Makes video chunk by chunk, and looks back at what it made. One frame out per frame in, delay_frames later; "
        "without a picture, one frame per tick of the clock. Every input may change while it runs."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        def number(default: float, hint: str) -> tuple[str, dict[str, Any]]:
            return ("FLOAT", {"default": default, "min": 0.0, "max": 1.0, "step": 0.01, "tooltip": hint})

        def count(default: int, high: int, hint: str = "", step: int = 1) -> tuple[str, dict[str, Any]]:
            return ("INT", {"default": default, "min": 0, "max": high, "step": step, "tooltip": hint})

        return {
            "required": {
                "model": ("STREAM_VIDEO_MODEL",),
                "prompt": ("STREAM_PROMPT",),
                "denoising_steps": _text("falling, such as 750,250; empty for the pipeline's own"),
                "noise_scale": number(0.7, "how much of the picture is replaced by noise"),
                "seed": count(42, 0xFFFF_FFFF),
            },
            "optional": {
                "image": ("IMAGE",),
                "noise_controller": ("BOOLEAN", {"default": False, "tooltip": "less noise where much moves"}),
                "transition_chunks": count(0, 1000, "over how many chunks another prompt comes in"),
                "transition_method": (["linear", "slerp"],),
                "kv_cache_attention_bias": number(0.0, "weight of remembered frames; 0 is the pipeline's own"),
                "manage_cache": ("BOOLEAN", {"default": True, "tooltip": "begin anew where memory no longer fits"}),
                "reset": count(0, 0xFFFF_FFFF, "another number begins anew"),
                "work_ahead": (
                    "BOOLEAN",
                    {"default": False, "tooltip": "make a chunk while the next comes in: an even flow, more delay"},
                ),
                "width": count(0, 2048, "0 is the pipeline's own", 16),
                "height": count(0, 2048, "0 is the pipeline's own", 16),
            },
        }

    @classmethod
    def VALIDATE_INPUTS(cls, denoising_steps: str = "", width: int = 0, height: int = 0) -> bool | str:
        """What could never run is refused before it reaches the running stream."""
        try:
            if isinstance(denoising_steps, str):
                VideoSettings(_NO_PROMPT, steps=_steps(denoising_steps)).checked()
            if isinstance(width, int) and isinstance(height, int):
                _size(width, height)
        except ComfyStreamError as error:
            return f"{error} ({error.hint})" if error.hint else str(error)
        return True

    @classmethod
    def IS_CHANGED(cls, **inputs: Any) -> float:
        """Without a live picture it runs by the clock."""
        return math.nan

    def __init__(self) -> None:
        self._stream: VideoStream | None = None
        self._given: tuple[Any, ...] = ()

    def __copy__(self) -> StreamVideoSampler:
        """For a rehearsal beside the running stream: a stream of its own, whose frame is not among the live ones."""
        return type(self)()

    def sample(
        self, model: VideoModel, prompt: Embedding, image: Tensor | None = None, **inputs: Any
    ) -> tuple[Any, int]:
        given = (model, prompt, tuple(sorted(inputs.items())))
        if self._stream is None or self._stream.model is not model:
            self._stream, self._given = VideoStream(model, _settings(prompt, inputs)), given
        elif prompt is not self._given[1] or given[2] != self._given[2]:
            self._stream.settings = _settings(prompt, inputs).checked()
            self._given = given
        made = self._stream.process(image)
        delay = self._stream.delay_frames if image is not None else 0
        return (_nothing_yet() if made is None else made), delay


_NO_PROMPT: Any = None


def _nothing_yet() -> Any:
    """ComfyUI's word for an output that has no value: what follows does not run, and the picture is held."""
    return importlib.import_module("comfy_execution.graph_utils").ExecutionBlocker(None)


def _steps(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.strip().strip("[]").split(",") if part.strip())
    except ValueError as error:
        raise ConfigError(f"denoising_steps {text!r} is no list of whole numbers", hint="such as 750,250") from error


def _size(width: int, height: int) -> tuple[int, int] | None:
    return check_size(width, height) if width or height else None


def _settings(prompt: Embedding, inputs: dict[str, Any]) -> VideoSettings:
    get = inputs.get
    return VideoSettings(
        prompt=prompt,
        steps=_steps(get("denoising_steps", "")),
        noise_scale=get("noise_scale", 0.7),
        follows_motion=get("noise_controller", False),
        seed=get("seed", 42),
        transition_chunks=get("transition_chunks", 0),
        transition_method=get("transition_method", "linear"),
        attention_bias=get("kv_cache_attention_bias", 0.0) or None,
        manages_cache=get("manage_cache", True),
        size=_size(get("width", 0), get("height", 0)),
        resets=get("reset", 0),
        works_ahead=get("work_ahead", False),
    )


NODES: dict[str, tuple[type, str]] = {
    "StreamVideoLoadModel": (StreamVideoLoadModel, "Stream Video Model: Load"),
    "StreamVideoLoRA": (StreamVideoLoRA, "Stream Video Model: Add LoRA"),
    "StreamVideoPrompt": (StreamVideoPrompt, "Stream Video Prompt"),
    "StreamVideoSampler": (StreamVideoSampler, "Stream Video"),
}
