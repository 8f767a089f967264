"""Which codecs a file name stands for, and their settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from comfystream.errors import MediaError

__all__ = ["CONTAINERS", "ContainerKind", "EncodeOptions", "kind_of", "video_settings"]


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """How pictures and sound are encoded; None takes the default of the container or codec.

    Attributes:
        codec: "libx264", "libvpx-vp9" or "libvpx".
        crf: quality, lower is better; 20 for H.264, 31 for VP9, 10 for VP8.
        preset: libx264's speed; "veryfast".
        threads: 0 = as many as the codec likes.
        audio_bitrate: bits per second.
    """

    codec: str | None = None
    crf: int | None = None
    preset: str | None = None
    threads: int = 0
    audio_bitrate: int = 160_000


@dataclass(frozen=True, slots=True)
class ContainerKind:
    """What goes into a container.

    Attributes:
        video: encoders, the default first; empty for sound only.
        audio: encoder for sound.
        holds: sound codecs that can be copied into it as they are.
        options: for the muxer.
    """

    video: tuple[str, ...]
    audio: str
    holds: frozenset[str]
    options: Mapping[str, str]


_MP4_SOUND = frozenset({"aac", "mp3", "mp3float", "ac3", "eac3", "alac", "opus", "flac"})
_MOV_SOUND = frozenset({"aac", "mp3", "mp3float", "ac3", "eac3", "alac", "pcm_s16le", "pcm_s24le", "pcm_s16be"})
_MKV_SOUND = _MP4_SOUND | _MOV_SOUND | {"vorbis", "dca", "truehd", "pcm_f32le", "mp2", "mp2float"}
_FRONT_INDEX = {"movflags": "+faststart"}  # browsers start to play before they have it all

CONTAINERS: Mapping[str, ContainerKind] = {
    ".mp4": ContainerKind(("libx264",), "aac", _MP4_SOUND, _FRONT_INDEX),
    ".m4v": ContainerKind(("libx264",), "aac", _MP4_SOUND, _FRONT_INDEX),
    ".mov": ContainerKind(("libx264",), "aac", _MOV_SOUND, _FRONT_INDEX),
    ".mkv": ContainerKind(("libx264", "libvpx-vp9", "libvpx"), "aac", _MKV_SOUND, {}),
    ".webm": ContainerKind(("libvpx-vp9", "libvpx"), "libopus", frozenset({"opus", "libopus", "vorbis"}), {}),
    ".m4a": ContainerKind((), "aac", _MP4_SOUND, {}),
    ".wav": ContainerKind((), "pcm_s16le", frozenset({"pcm_s16le"}), {}),
}


def kind_of(path: Path) -> ContainerKind:
    """The container that a file name's ending asks for.

    Raises:
        MediaError: the ending is none of `CONTAINERS`.
    """
    kind = CONTAINERS.get(path.suffix.lower())
    if kind is None:
        known = ", ".join(sorted(CONTAINERS))
        raise MediaError(
            f'{path}: cannot write "{path.suffix}" files' if path.suffix else f"{path} has no file name ending",
            code="unknown_container",
            hint=f"use one of {known}, or a pattern like out_%05d.png",
        )
    return kind


def video_settings(path: Path, kind: ContainerKind, options: EncodeOptions) -> tuple[str, dict[str, str]]:
    """Encoder and its options for `path`.

    Raises:
        MediaError: the container cannot hold the codec.
    """
    codec = options.codec or next(iter(kind.video), "")
    if codec not in kind.video:
        held = ", ".join(kind.video) or "no pictures"
        raise MediaError(f"{path}: {codec or 'video'} does not go into {path.suffix}", hint=f"it holds {held}")
    if codec == "libx264":
        return codec, {"preset": options.preset or "veryfast", "crf": str(20 if options.crf is None else options.crf)}
    speed = {"deadline": "good", "cpu-used": "5", "auto-alt-ref": "0"}
    if codec == "libvpx":  # its crf is a floor below a bit rate
        return codec, {**speed, "crf": str(10 if options.crf is None else options.crf), "b": "6M"}
    return codec, {**speed, "row-mt": "1", "crf": str(31 if options.crf is None else options.crf), "b": "0"}
