from __future__ import annotations

import gc
import threading
import weakref

import av
import numpy as np
import pytest

from comfystream.channels import Closed
from comfystream.errors import MediaError
from comfystream.media.colour import Colour, Matrix, colour_of
from comfystream.media.image_writer import ImageWriter
from comfystream.media.planes import byte_planes

torch = pytest.importorskip("torch")
from fake_device import FakeBackend, on_device  # noqa: E402

from comfystream.media.device.backend import CudaBackend, HostBackend  # noqa: E402
from comfystream.media.device.reader import DEPTH  # noqa: E402
from comfystream.media.device.writer import DeviceWriter  # noqa: E402

COLOURS = [Colour(matrix, full) for matrix in Matrix for full in (False, True)]
SIZES = [(64, 48), (33, 21), (34, 21), (33, 22), (2, 2), (1, 1)]


def tagged(size: tuple[int, int], colour: Colour) -> av.VideoFrame:
    image = av.VideoFrame(*size, "yuv420p")
    image.colorspace, image.color_range = colour.tags
    return image


def apart(one: av.VideoFrame, other: av.VideoFrame) -> int:
    planes = zip(byte_planes(one), byte_planes(other), strict=True)
    return max(int(np.abs(first.astype(int) - second).max()) for first, second in planes)


def grey(value: float) -> torch.Tensor:
    return torch.full((1, 16, 16, 3), value)


@pytest.mark.parametrize("colour", COLOURS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_both_writers_agree(size: tuple[int, int], colour: Colour) -> None:
    tensor = torch.rand((1, size[1], size[0], 3), generator=torch.Generator().manual_seed(2)) * 1.4 - 0.2
    like = tagged(size, colour)
    ours = DeviceWriter(HostBackend()).start(tensor, like).image()
    assert apart(ours, ImageWriter().write(tensor, like)) <= 2
    assert colour_of(ours) == colour


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.uint8])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_any_dtype_and_channel_count(dtype: torch.dtype, channels: int) -> None:
    one = 255 if dtype == torch.uint8 else 1.0
    tensor = torch.full((2, 6, 8, channels), one, dtype=dtype)
    tensor[1] = 0
    if channels == 4:
        tensor[..., 3] = 0
    luma, cb, cr = byte_planes(DeviceWriter(HostBackend()).start(tensor).image())
    assert (luma == 235).all()
    assert (cb == 128).all()
    assert (cr == 128).all()


def test_values_out_of_range_are_clamped_and_nan_is_black() -> None:
    row = [float("nan"), -0.5, -1e30, float("-inf"), 2.0, 1e30, float("inf"), 1.002]
    tensor = torch.tensor(row)[None, None, :, None].expand(1, 4, len(row), 3)
    before = tensor.clone()
    luma = byte_planes(DeviceWriter(HostBackend()).start(tensor).image())[0]
    assert luma[0].tolist() == [16, 16, 16, 16, 235, 235, 235, 235]
    assert torch.equal(torch.nan_to_num(tensor), torch.nan_to_num(before))


def test_strong_colours_do_not_wrap_around() -> None:
    blue = torch.tensor([0.0, 0.0, 1.0]).expand(1, 4, 4, 3)
    cb = byte_planes(DeviceWriter(HostBackend()).start(blue, tagged((4, 4), Colour(Matrix.BT601, full=True))).image())[
        1
    ]
    assert (cb == 255).all()


def test_time_and_tags_are_carried_over() -> None:
    like = tagged((16, 16), Colour(Matrix.BT2020))
    like.pts = 77
    image = DeviceWriter(HostBackend()).start(grey(0.5), like).image()
    assert (image.pts, image.time_base) == (77, like.time_base)
    assert (int(image.colorspace), int(image.color_range)) == Colour(Matrix.BT2020).tags


@pytest.mark.parametrize("shape", [(4, 4), (1, 4, 4, 2), (0, 4, 4, 3), (1, 0, 4, 3), (1, 1, 4, 4, 3)])
def test_what_is_no_picture_is_refused_and_keeps_no_room(shape: tuple[int, ...]) -> None:
    writer = DeviceWriter(HostBackend())
    for _ in range(DEPTH + 1):
        with pytest.raises(MediaError, match="a picture must be"):
            writer.start(torch.zeros(shape))
    assert writer.start(grey(1.0)).image().width == 16


# --- streams


def test_each_picture_is_its_own_however_late_its_copy_is_made() -> None:
    writer = DeviceWriter(FakeBackend())
    downloads = [writer.start(on_device(grey(value))) for value in (0.0, 0.5, 1.0)]
    assert [int(byte_planes(one.image())[0][0, 0]) for one in downloads] == [16, 126, 235]


def test_a_tensor_may_be_written_again_at_once() -> None:
    writer, tensor = DeviceWriter(FakeBackend()), on_device(grey(1.0))
    download = writer.start(tensor)
    tensor.zero_()
    assert int(byte_planes(download.image())[0][0, 0]) == 235


def test_nothing_is_waited_for_and_nothing_taken_once_it_runs() -> None:
    backend = FakeBackend()
    writer = DeviceWriter(backend)
    for turn in range(5 * DEPTH):
        download = writer.start(on_device(grey(0.5)))
        if turn == DEPTH:
            made, settled = backend.made, len(backend.settled)
        assert backend.waits == []
        download.image()
        backend.waits.clear()
    assert (backend.made, len(backend.settled)) == (made, settled)


def test_the_ring_holds_back_who_is_too_fast() -> None:
    writer = DeviceWriter(FakeBackend())
    downloads = [writer.start(on_device(grey(0.1))) for _ in range(DEPTH)]
    started = threading.Event()

    def one_more() -> None:
        writer.start(on_device(grey(0.2)))
        started.set()

    thread = threading.Thread(target=one_more)
    thread.start()
    assert not started.wait(0.1)
    downloads[0].drop()
    assert started.wait(10)
    thread.join()


def test_closing_waits_for_what_was_dropped_unseen() -> None:
    """Who discards what is queued forgets downloads; their memory must not be given to others meanwhile."""
    backend = FakeBackend()
    writer = DeviceWriter(backend)
    memory = weakref.ref(writer.start(on_device(torch.rand(1, 16, 32, 3)))._slot.planes)
    gc.collect()
    assert memory() is not None
    writer.close()
    assert len(backend.settled) == 2, "the first was for its larger memory"


def test_closing_wakes_who_waits_for_room() -> None:
    writer = DeviceWriter(FakeBackend())
    for _ in range(DEPTH):
        writer.start(on_device(grey(0.1)))
    ended: list[BaseException] = []

    def wait() -> None:
        try:
            writer.wait_for_room()
        except Closed as error:
            ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    writer.close()
    thread.join(10)
    assert len(ended) == 1
    with pytest.raises(Closed):
        writer.start(on_device(grey(0.1)))


@pytest.mark.gpu
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_gpu_gives_what_the_processor_gives(size: tuple[int, int]) -> None:
    writer, other = DeviceWriter(CudaBackend()), DeviceWriter(HostBackend())
    for _ in range(3 * DEPTH):
        tensor = torch.rand(1, size[1], size[0], 3)
        assert apart(writer.start(tensor.cuda()).image(), other.start(tensor).image()) <= 1
