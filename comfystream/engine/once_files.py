"""Between the files of a single run's folder and node values: pictures, sound, video."""

from __future__ import annotations

import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from comfystream.engine.lane_io import empty_mask
from comfystream.engine.once_job import Wanted
from comfystream.errors import EngineError, WorkflowError
from comfystream.frames import AudioFrame, VideoFrame
from comfystream.media.audio_track import AudioEncode
from comfystream.media.convert import to_image
from comfystream.media.file_sink import FileSink

__all__ = ["picture_value", "pixels_of", "sound_value", "write_pictures", "write_sound", "write_video"]

MIME = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"}
TO_FILE: dict[str, dict[str, Any]] = {"png": {"compress_level": 4}, "jpeg": {"subsampling": 0}, "webp": {"method": 3}}
MOST_SOUND_S = 600.0


def picture_value(path: Path, size: tuple[int, int] | None) -> tuple[torch.Tensor, torch.Tensor]:
    """A picture file as LoadImage gives it: IMAGE [1, h, w, 3] and MASK [1, h, w] (64x64 zeros without transparency).

    Args:
        path: the file; of a moving picture the first counts.
        size: what it is brought to, cropped in the middle where the shape differs.

    Raises:
        WorkflowError: it cannot be read.
    """
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            has_alpha = "A" in picture.getbands() or "transparency" in picture.info
            picture = picture.convert("RGBA" if has_alpha else "RGB")
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise WorkflowError(f"the picture cannot be read: {error}"[:200], code="bad_image") from None
    if size is not None and picture.size != size:
        picture = ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255.0)
    mask = 1.0 - pixels[None, ..., 3] if has_alpha else empty_mask()
    return pixels[None, ..., :3].contiguous(), mask


def sound_value(path: Path) -> dict[str, Any]:
    """The first sound of a file as an AUDIO value: float32 [1, channels, samples].

    Raises:
        WorkflowError: there is none, it is too long, or it cannot be read.
    """
    try:
        with av.open(str(path)) as file:
            if not file.streams.audio:
                raise WorkflowError("the file has no sound", code="bad_audio")
            stream = file.streams.audio[0]
            rate = stream.codec_context.sample_rate
            to_float = av.AudioResampler(format="fltp")
            blocks: list[np.ndarray[Any, Any]] = []
            samples = 0
            for frame in file.decode(stream):
                blocks += [block.to_ndarray() for block in to_float.resample(frame)]
                samples += frame.samples
                if samples > MOST_SOUND_S * rate:
                    raise WorkflowError(f"the sound is longer than {MOST_SOUND_S:.0f} s", code="too_long")
            blocks += [block.to_ndarray() for block in to_float.resample(None)]
    except (av.error.FFmpegError, ValueError) as error:
        if isinstance(error, WorkflowError):
            raise
        raise WorkflowError(f"the sound cannot be read: {error}"[:200], code="bad_audio") from None
    if not blocks:
        raise WorkflowError("the file has no sound", code="bad_audio")
    return {"waveform": torch.from_numpy(np.concatenate(blocks, axis=1))[None], "sample_rate": rate}


def pixels_of(value: Any, node_id: str) -> np.ndarray[Any, Any]:
    """An IMAGE value, or a list of them, as uint8 [n, h, w, 1, 3 or 4].

    Raises:
        EngineError: it is none.
    """
    batches = value if isinstance(value, list) else [value]
    found = []
    for batch in batches:
        if not isinstance(batch, torch.Tensor) or batch.dim() not in (3, 4) or batch.shape[-1] not in (1, 3, 4):
            raise EngineError(f"gave {type(batch).__name__} where a picture was expected", node_id=node_id)
        batch = batch if batch.dim() == 4 else batch[None]
        found.append((batch.detach().float() * 255.0).round().clamp(0, 255).to(torch.uint8).cpu().numpy())
    if len({pixels.shape[1:] for pixels in found}) > 1:
        raise EngineError("gave pictures of different sizes at once", node_id=node_id, hint="save them one by one")
    return np.concatenate(found)


def write_pictures(
    pixels: np.ndarray[Any, Any], stem: Path, wanted: Wanted, written: Callable[[Path], None]
) -> list[Path]:
    """Each picture as a file of the wanted format; `written` is told of each, and may raise to end it."""
    made = []
    for index, one in enumerate(pixels):
        picture = Image.fromarray(one[..., 0] if one.shape[-1] == 1 else one)
        if wanted.image == "jpeg":
            picture = picture.convert("RGB")
        path = stem.with_name(f"{stem.name}-{index}.{wanted.image}")
        quality = {} if wanted.image == "png" else {"quality": wanted.quality}
        picture.save(path, wanted.image.upper(), **TO_FILE[wanted.image], **quality)
        written(path)
        made.append(path)
    return made


def write_video(pixels: np.ndarray[Any, Any], sound: dict[str, Any] | None, path: Path, fps: float) -> None:
    """An MP4 of the pictures, one after the other.

    Raises:
        MediaError: it cannot be written.
    """
    rate = Fraction(fps).limit_denominator(1001)
    sink = FileSink(path, audio=AudioEncode(int(sound["sample_rate"])) if sound else None, fps=rate)
    try:
        if sound is not None:
            samples, sample_rate = _samples(sound)
            sink.write(AudioFrame(0, 0, Fraction(1, sample_rate), samples, sample_rate))
        for index, one in enumerate(pixels):
            tensor = torch.from_numpy(one[None, ..., :3] if one.shape[-1] > 1 else np.repeat(one[None], 3, -1))
            sink.write(VideoFrame(index, index, 1 / rate, to_image(tensor.float() / 255.0)))
        sink.finish()
    finally:
        sink.abort()


def write_sound(value: Any, path: Path, node_id: str) -> None:
    """A 16-bit WAV of an AUDIO value.

    Raises:
        EngineError: it is none.
    """
    if not isinstance(value, dict) or not isinstance(value.get("waveform"), torch.Tensor):
        raise EngineError(f"gave {type(value).__name__} where sound was expected", node_id=node_id)
    samples, rate = _samples(value)
    with wave.open(str(path), "wb") as file:
        file.setparams((samples.shape[0], 2, rate, samples.shape[1], "NONE", ""))
        file.writeframes((samples.T * 32767.0).clip(-32768, 32767).astype("<i2").tobytes())


def _samples(value: dict[str, Any]) -> tuple[np.ndarray[Any, Any], int]:
    """float32 [1 or 2 channels, samples] and the sample rate."""
    waveform = value["waveform"].detach().float().cpu().numpy()
    return waveform.reshape(-1, waveform.shape[-1])[:2], int(value["sample_rate"])
