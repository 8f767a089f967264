"""Program tables (ISO/IEC 13818-1, 2.4.4): which packets belong to which stream; read and written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from comfystream.media.mpegts.unit import StreamCodec, StreamInfo

__all__ = ["PAT_PID", "SectionReader", "pat_section", "pmt_section", "read_pat", "read_pmt"]

PAT_PID = 0
_PAT_TABLE, _PMT_TABLE = 0x00, 0x02
_MOST_SECTION = 1024 + 3
_PRIVATE = 0x06
_TYPES = {
    0x1B: StreamCodec.H264,
    0x24: StreamCodec.HEVC,
    0x0F: StreamCodec.AAC,
    0x03: StreamCodec.MP2,
    0x04: StreamCodec.MP2,
    0x81: StreamCodec.AC3,
}
_REGISTERED = {b"Opus": StreamCodec.OPUS, b"AC-3": StreamCodec.AC3, b"HEVC": StreamCodec.HEVC}
_REGISTRATION, _DVB_AC3, _EXTENSION, _OPUS_EXTENSION = 0x05, 0x6A, 0x7F, 0x80


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte << 24
        for _ in range(8):
            crc = (crc << 1) ^ (0x04C11DB7 if crc & 0x80000000 else 0)
        table.append(crc & 0xFFFFFFFF)
    return tuple(table)


_CRC = _crc_table()


def _crc32(data: bytes) -> int:
    """The CRC of Annex A; 0 over a section with its own CRC at the end."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc << 8 & 0xFFFFFFFF) ^ _CRC[crc >> 24 ^ byte]
    return crc


class SectionReader:
    """Joins the payloads of one table's packets to sections."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._is_open = False

    def push(self, payload: bytes, is_start: bool) -> list[bytes]:
        """Whole sections whose checksum is right."""
        if is_start:
            pointer = payload[0] if payload else 0
            done = self._take(payload[1 : 1 + pointer]) if self._is_open else []
            self._held, self._is_open = bytearray(), True
            return done + self._take(payload[1 + pointer :])
        return self._take(payload) if self._is_open else []

    def _take(self, payload: bytes) -> list[bytes]:
        self._held += payload
        done: list[bytes] = []
        while len(self._held) >= 3 and self._held[0] != 0xFF:
            size = 3 + ((self._held[1] & 0x0F) << 8 | self._held[2])
            if size > _MOST_SECTION:
                self._is_open = False
                return done
            if len(self._held) < size:
                return done
            section = bytes(self._held[:size])
            del self._held[:size]
            if _crc32(section) == 0:
                done.append(section)
        if self._held[:1] == b"\xff":  # stuffing to the end of the packet
            self._held, self._is_open = bytearray(), False
        return done


def read_pat(section: bytes) -> dict[int, int]:
    """Program numbers and where their maps are; empty when it is no such table."""
    if section[0] != _PAT_TABLE or len(section) < 12:
        return {}
    entries = section[8:-4]
    pairs = (entries[at : at + 4] for at in range(0, len(entries) - 3, 4))
    programs = ((entry[0] << 8 | entry[1], (entry[2] & 0x1F) << 8 | entry[3]) for entry in pairs)
    return {number: pid for number, pid in programs if number}


def read_pmt(section: bytes) -> tuple[int, list[StreamInfo]] | None:
    """Program number and its streams; None when it is no program map."""
    if section[0] != _PMT_TABLE or len(section) < 16:
        return None
    at = 12 + ((section[10] & 0x0F) << 8 | section[11])
    end = len(section) - 4
    streams = []
    while at + 5 <= end:
        kind, pid = section[at], (section[at + 1] & 0x1F) << 8 | section[at + 2]
        size = (section[at + 3] & 0x0F) << 8 | section[at + 4]
        streams.append(_stream(kind, pid, section[at + 5 : min(at + 5 + size, end)]))
        at += 5 + size
    return section[3] << 8 | section[4], streams


def _stream(kind: int, pid: int, descriptors: bytes) -> StreamInfo:
    codec, channels = _TYPES.get(kind), 0
    for tag, body in _descriptors(descriptors):
        if tag == _REGISTRATION and kind == _PRIVATE:
            codec = _REGISTERED.get(body[:4], codec)
        elif tag == _DVB_AC3 and kind == _PRIVATE:
            codec = StreamCodec.AC3
        elif tag == _EXTENSION and len(body) >= 2 and body[0] == _OPUS_EXTENSION:
            channels = body[1] if body[1] <= 8 else 0
    return StreamInfo(pid, codec, channels)


def _descriptors(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 2 <= len(data):
        size = data[at + 1]
        yield data[at], data[at + 2 : at + 2 + size]
        at += 2 + size


def pat_section(program: int, pmt_pid: int) -> bytes:
    """The table that names one program."""
    entry = program.to_bytes(2, "big") + (0xE000 | pmt_pid).to_bytes(2, "big")
    return _section(_PAT_TABLE, 1, 0, entry)


def pmt_section(program: int, version: int, streams: Sequence[StreamInfo], pcr_pid: int) -> bytes:
    """The map of a program with H.264 and Opus streams."""
    body = (0xE000 | pcr_pid).to_bytes(2, "big") + b"\xf0\x00"
    for stream in streams:
        is_opus = stream.codec is StreamCodec.OPUS
        opus = bytes((_REGISTRATION, 4)) + b"Opus" + bytes((_EXTENSION, 2, _OPUS_EXTENSION, stream.channels))
        descriptors = opus if is_opus else b""
        body += bytes((_PRIVATE if is_opus else 0x1B,)) + (0xE000 | stream.pid).to_bytes(2, "big")
        body += (0xF000 | len(descriptors)).to_bytes(2, "big") + descriptors
    return _section(_PMT_TABLE, program, version, body)


def _section(table: int, number: int, version: int, body: bytes) -> bytes:
    size = 5 + len(body) + 4
    head = bytes((table,)) + (0xB000 | size).to_bytes(2, "big") + number.to_bytes(2, "big")
    section = head + bytes((0xC1 | (version & 0x1F) << 1, 0, 0)) + body
    return section + _crc32(section).to_bytes(4, "big")
