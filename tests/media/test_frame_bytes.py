from __future__ import annotations

import pickle
from fractions import Fraction
from multiprocessing.shared_memory import SharedMemory

import av
import numpy as np
import pytest

from comfystream.media.frame_bytes import pack, packed_size, unpack
from comfystream.media.pattern import draw_pattern

FORMATS = [
    "yuv420p",
    "yuvj420p",
    "yuv422p",
    "yuv444p",
    "yuv411p",
    "nv12",
    "nv21",
    "yuyv422",
    "gray",
    "gray10le",
    "gray16le",
    "rgb24",
    "bgr24",
    "rgba",
    "bgr0",
    "gbrp",
    "yuv420p10le",
    "yuv422p10le",
    "yuv444p12le",
    "p010le",
    "gbrp10le",
    "yuva420p",
    "rgb48le",
    "gbrpf32le",
]


@pytest.mark.parametrize("size", [(64, 48), (33, 21), (1, 1), (640, 360)], ids=str)
@pytest.mark.parametrize("format", FORMATS)
def test_there_and_back_bit_for_bit(format: str, size: tuple[int, int]) -> None:
    image = draw_pattern(*size, 5).reformat(format=format)
    image.pts, image.time_base, image.colorspace, image.color_range = 42, Fraction(1, 600), 1, 2
    buffer = bytearray(packed_size(format, *size))
    packed = pickle.loads(pickle.dumps(pack(image, buffer)))
    buffer_copy = bytes(buffer)
    back = unpack(packed, buffer)
    buffer[:] = bytes(len(buffer))  # the picture does not live in the buffer
    assert (back.format.name, back.width, back.height) == (format, *size)
    assert (back.pts, back.time_base, int(back.colorspace), int(back.color_range)) == (42, Fraction(1, 600), 1, 2)
    again = bytearray(len(buffer))
    pack(back, again)
    assert again == buffer_copy
    if format != "gbrpf32le":
        assert np.array_equal(back.reformat(format="rgb24").to_ndarray(), image.reformat(format="rgb24").to_ndarray())


def test_a_decoded_picture_with_padded_lines(talk: str) -> None:
    with av.open(str(talk)) as container:
        image = next(container.decode(video=0))
    buffer = bytearray(packed_size("yuv420p", image.width, image.height) + 100)
    back = unpack(pack(image, buffer), buffer)
    assert np.array_equal(back.to_ndarray(), image.to_ndarray())


def test_a_palette_is_resolved() -> None:
    palette = np.zeros((256, 4), np.uint8)
    palette[7] = 255, 200, 100, 50  # alpha, red, green, blue
    image = av.VideoFrame.from_ndarray((np.full((48, 64), 7, np.uint8), palette), "pal8")
    buffer = bytearray(packed_size("pal8", 64, 48))
    back = unpack(pack(image, buffer), buffer)
    assert back.format.name == "rgba"
    assert back.to_ndarray()[5, 5].tolist() == [200, 100, 50, 255]


def test_shared_memory() -> None:
    image = draw_pattern(128, 96, 9)
    memory = SharedMemory(create=True, size=packed_size("yuv420p", 128, 96))
    try:
        packed = pack(image, memory.buf)
        assert np.array_equal(unpack(packed, memory.buf).to_ndarray(), image.to_ndarray())
    finally:
        memory.close()
        memory.unlink()


def test_a_buffer_that_is_too_small() -> None:
    with pytest.raises(ValueError, match="a yuv420p picture of 64x48 needs 4608 bytes, got 10"):
        pack(draw_pattern(64, 48, 0), bytearray(10))
