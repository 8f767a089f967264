"""What a picture in Annex B form begins with (H.264: ISO/IEC 14496-10, 7.3; HEVC: ISO/IEC 23008-2, 7.3)."""

from __future__ import annotations

from collections.abc import Iterator

from comfystream.media.mpegts.unit import StreamCodec

__all__ = ["begins_stream", "nal_types", "with_delimiter"]

_START = b"\x00\x00\x01"
_DELIMITER = b"\x00\x00\x00\x01\x09\xf0"
_H264_SLICES, _H264_IDR, _H264_SPS, _H264_DELIMITER = range(1, 6), 5, 7, 9
_HEVC_SLICES, _HEVC_ENTRIES = range(32), range(16, 24)


def nal_types(codec: StreamCodec, data: bytes) -> Iterator[int]:
    """Types of the NAL units up to the first slice, that one included."""
    is_hevc = codec is StreamCodec.HEVC
    slices = _HEVC_SLICES if is_hevc else _H264_SLICES
    at, end = data.find(_START), len(data)
    while 0 <= at < end - 3:
        kind = data[at + 3] >> 1 & 0x3F if is_hevc else data[at + 3] & 0x1F
        yield kind
        if kind in slices:
            return
        at = data.find(_START, at + 3)


def begins_stream(codec: StreamCodec, data: bytes) -> bool:
    """Whether a decoder can begin with this picture.

    That is an IDR picture, for HEVC any random access picture, and for H.264 also one that comes with a sequence
    parameter set: encoders that refresh bit by bit or use open groups of pictures repeat it where one can enter.
    """
    if codec is StreamCodec.HEVC:
        return any(kind in _HEVC_ENTRIES for kind in nal_types(codec, data))
    return any(kind in (_H264_IDR, _H264_SPS) for kind in nal_types(codec, data))


def with_delimiter(data: bytes) -> bytes:
    """An H.264 picture with the access unit delimiter that transport streams ask for (ISO/IEC 13818-1, 2.14.1)."""
    return data if next(nal_types(StreamCodec.H264, data), None) == _H264_DELIMITER else _DELIMITER + data
