"""AMF0, the values of RTMP's commands (Adobe, "Action Message Format -- AMF 0", 2007)."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from comfystream.errors import NetworkError

__all__ = ["Value", "decode_all", "encode"]

Value: TypeAlias = "float | bool | str | None | dict[str, Value] | list[Value]"

_NUMBER, _BOOLEAN, _STRING, _OBJECT, _NULL, _UNDEFINED = 0, 1, 2, 3, 5, 6
_MAP, _END, _LIST, _DATE, _LONG_STRING = 8, 9, 10, 11, 12
_MOST_VALUES, _MOST_DEPTH = 1000, 16


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._count = 0

    @property
    def is_done(self) -> bool:
        return self._at >= len(self._data)

    def _take(self, length: int) -> bytes:
        part = self._data[self._at : self._at + length]
        if len(part) < length:
            raise NetworkError("an AMF value is cut off", code="bad_amf")
        self._at += length
        return part

    def _number(self, length: int) -> int:
        return int.from_bytes(self._take(length), "big")

    def _text(self, length: int) -> str:
        return self._take(length).decode("utf-8", "replace")

    def value(self, depth: int = 0) -> Value:
        self._count += 1
        if depth > _MOST_DEPTH or self._count > _MOST_VALUES:
            raise NetworkError("an AMF value is nested too deeply or too long", code="bad_amf")
        kind = self._number(1)
        match kind:
            case 0:
                return float(struct.unpack(">d", self._take(8))[0])
            case 1:
                return self._number(1) != 0
            case 2:
                return self._text(self._number(2))
            case 3:
                return self._object(depth)
            case 5 | 6:
                return None
            case 8:
                self._take(4)  # a count that need not be true
                return self._object(depth)
            case 10:
                return [self.value(depth + 1) for _ in range(min(self._number(4), _MOST_VALUES + 1))]
            case 11:
                return float(struct.unpack(">d2x", self._take(10))[0])
            case 12:
                return self._text(self._number(4))
        raise NetworkError(f"there is no AMF type {kind}", code="bad_amf")

    def _object(self, depth: int) -> dict[str, Value]:
        found: dict[str, Value] = {}
        while True:
            name = self._text(self._number(2))
            if not name and self._data[self._at : self._at + 1] == bytes([_END]):
                self._at += 1
                return found
            found[name] = self.value(depth + 1)


def decode_all(data: bytes) -> list[Value]:
    """All values of a message.

    Raises:
        NetworkError: they cannot be read.
    """
    reader, values = _Reader(data), list[Value]()
    while not reader.is_done:
        values.append(reader.value())
    return values


def encode(*values: object) -> bytes:
    """Values one after the other: numbers, truth values, texts, None, mappings, sequences."""
    return b"".join(_encoded(value) for value in values)


def _encoded(value: object) -> bytes:
    match value:
        case None:
            return bytes([_NULL])
        case bool():
            return bytes([_BOOLEAN, value])
        case int() | float():
            return bytes([_NUMBER]) + struct.pack(">d", value)
        case str():
            data = value.encode()
            if len(data) > 0xFFFF:
                return bytes([_LONG_STRING]) + len(data).to_bytes(4, "big") + data
            return bytes([_STRING]) + len(data).to_bytes(2, "big") + data
        case Mapping():
            pairs = b"".join(_encoded(str(name))[1:] + _encoded(one) for name, one in value.items())
            return bytes([_OBJECT]) + pairs + bytes([0, 0, _END])
        case Sequence():
            return bytes([_LIST]) + len(value).to_bytes(4, "big") + encode(*value)
    raise TypeError(f"AMF0 has no {type(value).__name__}")
