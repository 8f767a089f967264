"""Workflows inside pictures, as ComfyUI writes them: PNG text chunks, WebP EXIF tags. No picture is decoded."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

__all__ = ["embedded_texts", "is_picture"]

_PNG = b"\x89PNG\r\n\x1a\n"
_TEXT_LIMIT = 64 * 1024 * 1024  # a compressed chunk may not unpack to more
_EXIF_ASCII = 2


def is_picture(data: bytes) -> bool:
    """Whether `data` is a PNG or a WebP file."""
    return data.startswith(_PNG) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")


def embedded_texts(data: bytes) -> dict[str, str]:
    """The texts in a PNG or WebP by name ("prompt", "workflow"); damaged parts are left out.

    ComfyUI writes PNG text chunks, the private chunk "comf" of animated PNGs, and in WebP the EXIF tags from 0x0110
    downwards, each holding "name:text".
    """
    pairs = _png_texts(data) if data.startswith(_PNG) else _webp_texts(data)
    texts: dict[str, str] = {}
    for name, text in pairs:
        texts.setdefault(name, text)
    return texts


def _png_texts(data: bytes) -> Iterator[tuple[str, str]]:
    position = len(_PNG)
    while position + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind = data[position + 4 : position + 8]
        body = data[position + 8 : position + 8 + length]
        position += 12 + length
        text = _png_text(kind, body)
        if text is not None:
            yield text


def _png_text(kind: bytes, body: bytes) -> tuple[str, str] | None:
    name, _, rest = body.partition(b"\0")
    if kind in (b"tEXt", b"comf"):
        raw: bytes | None = rest
    elif kind == b"zTXt":
        raw = _unpack(rest[1:])
    elif kind == b"iTXt":
        compressed, tail = rest[:1] == b"\1", rest[2:].split(b"\0", 2)
        raw = tail[2] if len(tail) == 3 else None
        raw = _unpack(raw) if compressed and raw is not None else raw
    else:
        return None
    return None if raw is None else (name.decode("latin-1"), _decode(raw))


def _unpack(packed: bytes) -> bytes | None:
    try:
        return zlib.decompressobj().decompress(packed, _TEXT_LIMIT)
    except zlib.error:
        return None


def _decode(raw: bytes) -> str:
    """UTF-8 if it is, else Latin-1, which is what the PNG standard has for plain text chunks."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _webp_texts(data: bytes) -> Iterator[tuple[str, str]]:
    position = 12
    while position + 8 <= len(data):
        kind, length = data[position : position + 4], struct.unpack_from("<I", data, position + 4)[0]
        if kind == b"EXIF":
            yield from _exif_texts(data[position + 8 : position + 8 + length].removeprefix(b"Exif\0\0"))
        position += 8 + length + length % 2


def _exif_texts(tiff: bytes) -> Iterator[tuple[str, str]]:
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for index in range(count):
            _, kind, length, offset = struct.unpack_from(f"{order}HHII", tiff, start + 2 + 12 * index)
            if kind == _EXIF_ASCII and length > 4:
                name, colon, text = _decode(tiff[offset : offset + length].rstrip(b"\0")).partition(":")
                if colon:
                    yield name.lower(), text
    except struct.error:
        return
