from __future__ import annotations

import pytest

from comfystream.errors import ConfigError

torch = pytest.importorskip("torch")
from comfystream_server.bench.frame_path import bench_frame_path  # noqa: E402

METRICS = ["speed", "added latency, p50", "added latency, p95", "planes to tensor", "tensor to planes"]


def test_the_frame_path_is_measured_on_the_processor_too() -> None:
    rows = [*bench_frame_path(device="cpu", size=(64, 48), frames=20, seconds=0.2)]
    assert [row.metric for row in rows] == METRICS
    assert {row.case for row in rows} == {"cpu 64x48", "cpu 64x48, torch operations"}
    assert all(row.ours > 0 and row.ratio is not None for row in rows)
    assert [str(row.goal) for row in rows[:2]] == ["ours >= 1000", "ours < 1"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_no_figure_is_given() -> None:
    with pytest.raises(ConfigError, match="frames cannot be on a GPU"):
        next(bench_frame_path())


@pytest.mark.gpu
def test_the_frame_path_of_a_gpu() -> None:
    rows = [*bench_frame_path(frames=200, seconds=1.0)]
    assert [row.metric for row in rows] == METRICS
    assert rows[0].case.startswith("cuda:0")
