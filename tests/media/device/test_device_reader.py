from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from comfystream.media.colour import Colour, Matrix, yuv_matrix
from comfystream.media.planes import byte_planes, lines
from comfystream.media.tensor_reader import TensorReader

torch = pytest.importorskip("torch")
from fake_device import FakeBackend  # noqa: E402

from comfystream.media.device.backend import CudaBackend, HostBackend  # noqa: E402
from comfystream.media.device.layout import FORMATS, layout_of, nearest  # noqa: E402
from comfystream.media.device.reader import DEPTH, DeviceReader  # noqa: E402

BT601 = Colour(Matrix.BT601)
COLOURS = [Colour(matrix, full) for matrix in Matrix for full in (False, True)]
SIZES = [(64, 48), (33, 21), (34, 21), (33, 22), (2, 2), (1, 1)]
CASES = [  # yuvj formats are full range by name
    (name, colour)
    for name, format in FORMATS.items()
    for colour in COLOURS
    if format.chroma and (colour.full or not name.startswith("yuvj"))
]
OTHERS = ["bgr24", "rgba", "gbrp", "yuva420p", "yuv420p12le", "gray10le", "gbrp10le"]


def noise(name: str, size: tuple[int, int], colour: Colour = BT601) -> av.VideoFrame:
    """A picture whose samples are random, within the range of its colour; RGB is not tagged."""
    image = av.VideoFrame(*size, name)
    image.colorspace, image.color_range = colour.tags
    layout, format = layout_of(name, *size), FORMATS[name]
    low, high = (0, 256) if colour.full or format.channels == 3 else (16, 236)
    scale = 2 ** (format.bits - 8) * format.unit
    rng = np.random.default_rng(3)
    for plane, spot in zip(image.planes, layout.spots, strict=True):
        dtype = np.uint8 if format.sample_bytes == 1 else np.uint16
        values = rng.integers(low * scale, high * scale, (spot.rows, spot.row_bytes // format.sample_bytes))
        values = values // format.unit * format.unit
        lines(plane, spot.rows)[:, : spot.row_bytes] = values.astype(dtype).view(np.uint8)
    return image


def by_the_book(image: av.VideoFrame, colour: Colour) -> NDArray[np.float64]:
    """ITU-T H.273 in float64: each chroma sample stands for its block, values are cut off at 0 and 1."""
    layout, format = layout_of(image.format.name, image.width, image.height), FORMATS[image.format.name]
    dtype = np.uint8 if format.sample_bytes == 1 else np.uint16
    planes = [
        np.ascontiguousarray(lines(plane, spot.rows)[:, : spot.row_bytes]).view(dtype).astype(np.float64) / format.unit
        for plane, spot in zip(image.planes, layout.spots, strict=True)
    ]
    if format.chroma == 1:
        planes = [planes[0], planes[1][:, 0::2], planes[1][:, 1::2]]
    across, down = format.step
    full = [planes[0], *(p.repeat(down, 0).repeat(across, 1)[: image.height, : image.width] for p in planes[1:])]
    weights = yuv_matrix(Colour(colour.matrix, full=True)).astype(np.float64)[:, :3]
    top = 2**format.bits - 1
    step = 2 ** (format.bits - 8)
    y = full[0] / top if colour.full else (full[0] - 16 * step) / (219 * step)
    c = [(p - 128 * step) / (top if colour.full else 224 * step) for p in full[1:]]
    return np.clip(np.stack([y, *c], -1) @ np.linalg.inv(weights).T, 0, 1)


@pytest.mark.parametrize(("name", "colour"), CASES, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_format_is_converted_by_the_book(name: str, size: tuple[int, int], colour: Colour) -> None:
    image = noise(name, size, colour)
    tensor = DeviceReader(HostBackend()).read(image)
    assert tensor.shape == (1, size[1], size[0], 3)
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    assert np.abs(tensor[0].numpy() - by_the_book(image, colour)).max() < 1e-5


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", ["rgb24", "rgb48le", "gray", "yuv444p", "yuv444p10le"])
def test_without_subsampling_both_readers_agree(name: str, size: tuple[int, int]) -> None:
    image = noise(name, size)
    ours, theirs = DeviceReader(HostBackend()).read(image), TensorReader().read(image)
    assert np.abs(ours.numpy() - theirs.numpy()).max() <= 1 / 255


@pytest.mark.parametrize("is_odd", [False, True])
@pytest.mark.parametrize("name", [*FORMATS, *OTHERS])
def test_inside_areas_of_one_colour_both_readers_agree(name: str, is_odd: bool) -> None:
    """Where chroma does not change, where its samples sit makes no difference; swscale's tables are off by up to 4."""
    size = (127, 95) if is_odd else (128, 96)
    small = np.random.default_rng(1).integers(40, 216, (-(-size[1] // 16), -(-size[0] // 16), 3), np.uint8)
    rgb = small.repeat(16, 0).repeat(16, 1)[: size[1], : size[0]]
    image = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24").reformat(format=name)
    ours, theirs = DeviceReader(HostBackend()).read(image), TensorReader().read(image)
    apart = np.abs(ours.numpy() - theirs.numpy())[0]
    inner = (np.arange(size[1])[:, None] % 16 > 3) & (np.arange(size[1])[:, None] % 16 < 12)
    inner = inner & (np.arange(size[0])[None] % 16 > 3) & (np.arange(size[0])[None] % 16 < 12)
    assert apart[inner].max() <= 4 / 255
    assert apart[inner].mean() <= 1.5 / 255


def test_a_decoded_film_looks_the_same_by_both(repository: Path) -> None:
    clip = repository / "workflows" / "assets" / "demo.mp4"
    with av.open(str(clip)) as container:
        for _, image in zip(range(5), container.decode(video=0), strict=False):
            apart = np.abs(DeviceReader(HostBackend()).read(image).numpy() - TensorReader().read(image).numpy())
            assert apart.mean() <= 1.5 / 255
            assert np.quantile(apart, 0.99) <= 8 / 255


def test_8_bit_rgb_survives_exactly() -> None:
    values = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    tensor = DeviceReader(HostBackend()).read(av.VideoFrame.from_ndarray(values, "rgb24"))
    assert np.array_equal(tensor[0].numpy(), values.astype(np.float32) / np.float32(255))


def test_half_precision_by_option() -> None:
    image = noise("nv12", (34, 22))
    half = DeviceReader(HostBackend(), torch.float16).read(image)
    assert half.dtype == torch.float16
    assert torch.allclose(half.float(), DeviceReader(HostBackend()).read(image), atol=5e-4)


def test_tensors_do_not_share_memory() -> None:
    reader = DeviceReader(HostBackend())
    first = reader.read(noise("yuv420p", (16, 16)))
    kept = first.clone()
    for _ in range(2 * DEPTH):
        image = av.VideoFrame(16, 16, "yuv420p")
        for plane in byte_planes(image):
            plane[...] = 90
        reader.read(image)
    assert torch.equal(first, kept)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("yuva420p", "yuv420p"), ("yuv411p", "yuv422p"), ("yuv422p12le", "yuv422p10le"), ("bgr0", "rgb24")]
    + [("gbrp12le", "rgb48le"), ("pal8", "rgb24"), ("yuv444p16le", "yuv444p10le"), ("nv12", "nv12")],
)
def test_the_nearest_format_keeps_subsampling_and_depth(name: str, expected: str) -> None:
    assert nearest(av.VideoFormat(name)) == expected


def test_a_format_that_goes_by_swscale_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    image = noise("rgb24", (16, 16)).reformat(format="rgba")
    reader = DeviceReader(HostBackend())
    with caplog.at_level("INFO"):
        for _ in range(3):
            reader.read(image)
    assert [record.message for record in caplog.records] == [
        "pictures come as rgba, which is converted to rgb24 on the processor before it goes up"
    ]


# --- streams: the fake does copies as late as it may, so what is not waited for is wrong or missing


def test_a_picture_goes_up_in_one_copy_that_the_conversion_waits_for() -> None:
    backend, image = FakeBackend(), noise("yuv420p", (32, 32))
    tensor = DeviceReader(backend).read(image)
    assert backend.is_here(tensor)
    assert np.abs(tensor.cpu().numpy() - DeviceReader(HostBackend()).read(image).numpy()).max() == 0
    assert ("compute", "waits for", "side 1") in backend.log


def test_memory_is_written_again_only_after_its_conversion() -> None:
    backend, image = FakeBackend(), noise("yuv420p", (32, 32))
    reader = DeviceReader(backend)
    for _ in range(DEPTH):
        reader.read(image)
    backend.log.clear()
    reader.read(image)
    assert backend.log == [("side 1", "waits for", "compute"), ("compute", "waits for", "side 1")]


def test_nothing_is_waited_for_and_nothing_taken_once_it_runs() -> None:
    backend, image = FakeBackend(), noise("nv12", (32, 32))
    reader = DeviceReader(backend)
    reader.read(image)
    made = backend.made
    for _ in range(4 * DEPTH):
        reader.read(image)
    assert (backend.waits, backend.settled, backend.made) == ([], [], made)


def test_a_larger_picture_waits_for_the_device_once_and_a_smaller_one_never() -> None:
    backend = FakeBackend()
    reader = DeviceReader(backend)
    for size in [(16, 16), (64, 64), (32, 32), (64, 64), (16, 16)]:
        image = noise("yuv420p", size)
        expected = DeviceReader(HostBackend()).read(image)
        assert torch.equal(reader.read(image).cpu(), expected)
    assert len(backend.settled) == 1


@pytest.mark.gpu
@pytest.mark.parametrize("name", list(FORMATS))
def test_a_gpu_gives_what_the_processor_gives(name: str) -> None:
    reader, other = DeviceReader(CudaBackend()), DeviceReader(HostBackend())
    for size in [(64, 48), (33, 21), (512, 512), (33, 21)]:
        image = noise(name, size)
        assert torch.allclose(reader.read(image).cpu(), other.read(image), atol=1e-5)
