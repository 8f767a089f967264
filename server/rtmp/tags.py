"""The bodies of FLV tags: which codec, its configuration, and its packets.

Adobe, "Video File Format Specification 10", annex E.4.2 and E.4.3; Veovera, "Enhanced RTMP" v2 for four-letter codecs.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Tag", "read_audio", "read_video"]

_VIDEO_OLD = {7: "h264", 12: "hevc"}
_VIDEO_NEW = {b"avc1": "h264", b"hvc1": "hevc", b"av01": "libdav1d", b"vp09": "vp9"}
_WITH_OFFSET = (b"avc1", b"hvc1")
_AUDIO_NEW = {b"mp4a": "aac", b"Opus": "opus"}
_AAC, _MP3, _NEW_AUDIO = 10, 2, 9
_KEY = 1


@dataclass(frozen=True, slots=True)
class Tag:
    """What a body says.

    Attributes:
        codec: FFmpeg's name of the decoder; empty for one that is not known here.
        is_config: `data` is for the decoder's set-up, otherwise it is a packet.
        is_key: decoding may begin here.
        offset_ms: the picture is shown so much after the packet's time.
    """

    codec: str
    is_config: bool
    is_key: bool
    offset_ms: int
    data: bytes


def read_video(body: bytes) -> Tag | None:
    """A picture's body; None for what there is nothing to do with."""
    if len(body) < 5:
        return None
    is_key = (body[0] >> 4 & 7) == _KEY
    if body[0] & 0x80:
        return _read_new_video(body, is_key)
    codec = _VIDEO_OLD.get(body[0] & 15, "")
    if body[1] > 1 and codec:
        return None  # the end of a sequence
    return Tag(codec, body[1] == 0, is_key, _signed(body[2:5]), body[5:])


def _read_new_video(body: bytes, is_key: bool) -> Tag | None:
    kind, name = body[0] & 15, body[1:5]
    codec = _VIDEO_NEW.get(name, "")
    if kind == 0:
        return Tag(codec, True, is_key, 0, body[5:])
    if kind == 1 and name in _WITH_OFFSET:
        return Tag(codec, False, is_key, _signed(body[5:8]), body[8:]) if len(body) >= 8 else None
    if kind in (1, 3):
        return Tag(codec, False, is_key, 0, body[5:])
    return None


def read_audio(body: bytes) -> Tag | None:
    """A sound's body; None for what there is nothing to do with."""
    if len(body) < 2:
        return None
    kind = body[0] >> 4
    if kind == _AAC:
        return Tag("aac", body[1] == 0, True, 0, body[2:])
    if kind == _MP3:
        return Tag("mp3float", False, True, 0, body[1:])
    if kind == _NEW_AUDIO:
        if body[0] & 15 > 1 or len(body) < 5:
            return None  # the order of channels, the end of a sequence
        return Tag(_AUDIO_NEW.get(body[1:5], ""), body[0] & 15 == 0, True, 0, body[5:])
    return Tag("", False, True, 0, b"")


def _signed(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)
