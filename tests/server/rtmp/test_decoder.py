"""A publisher's packets to frames: times that wrap, what is broken, too much at once."""

from __future__ import annotations

import threading
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
from engine_harness import grey, wait_for

from comfystream_server.rtmp import decoder as module
from comfystream_server.rtmp.decoder import Decoder
from comfystream_server.rtmp.protocol import Media


def packets(count: int) -> list[tuple[bool, bytes]]:
    """Pictures, brighter and brighter, a key frame in ten."""
    context: Any = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = 64, 48, "yuv420p"
    context.time_base, context.options = Fraction(1, 25), {"tune": "zerolatency", "preset": "ultrafast", "g": "10"}
    found = []
    for number in range(count):
        image = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 30 + number, np.uint8), "rgb24")
        image.pts, image.time_base = number, Fraction(1, 25)
        found += [(bool(packet.is_keyframe), bytes(packet)) for packet in context.encode(image)]
    return found


def body(is_key: bool, data: bytes) -> bytes:
    """Annex B straight from the encoder: without a configuration the decoder finds it in the packets."""
    return bytes([(1 if is_key else 2) << 4 | 7, 1, 0, 0, 0]) + data


def test_time_goes_on_where_32_bits_end() -> None:
    frames: list[Any] = []
    decoder = Decoder("test", frames.append)
    for number, (is_key, data) in enumerate(packets(5)):
        decoder.put(Media(True, (2**32 - 80 + 40 * number) % 2**32, body(is_key, data)))
    wait_for(lambda: len(frames) == 5, "all pictures")
    decoder.close()
    assert np.diff([frame.pts for frame in frames]).tolist() == [40] * 4
    assert grey(frames[-1]) == pytest.approx(34, abs=4)


def test_broken_packets_cost_only_themselves() -> None:
    frames: list[Any] = []
    decoder = Decoder("test", frames.append)
    encoded = packets(21)
    for number, (is_key, data) in enumerate(encoded):
        is_broken = number in (3, 4)
        decoder.put(Media(True, 40 * number, body(is_key, b"\xff" * 50 if is_broken else data)))
        decoder.put(Media(False, 40 * number, b"\xaf\x01" + bytes(number)))  # sound without its configuration
    for nonsense in (b"", b"\x17", b"\xff\xff\xff\xff\xff\xff", b"\x17\x00\x00\x00\x00\xff\xff"):
        decoder.put(Media(True, 900, nonsense))
    wait_for(lambda: frames and frames[-1].pts >= 790, "the pictures after")
    decoder.close()


def test_when_decoding_is_behind_the_newest_pictures_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 20)
    frames: list[Any] = []
    gate, entered = threading.Event(), threading.Event()

    def give(frame: Any) -> None:
        entered.set()
        gate.wait(30)
        frames.append(frame)

    decoder = Decoder("test", give)
    encoded = packets(100)
    decoder.put(Media(True, 0, body(*encoded[0])))
    assert entered.wait(30)
    for number, (is_key, data) in enumerate(encoded[1:], 1):
        decoder.put(Media(True, 40 * number, body(is_key, data)))
    gate.set()
    wait_for(lambda: frames and frames[-1].pts == 40 * 99, "the newest")
    decoder.close()
    assert decoder.dropped > 50
    assert frames[1].pts % 400 == 0  # from a key frame on, so that none is made of others that are missing
    assert grey(frames[-1]) == pytest.approx(129, abs=4)
