"""Every workload of `bench gpu` on tiny models: it runs, and what is said of it is so."""

from __future__ import annotations

import pytest
from backends_here import need_backend
from gpu_bench import KEYS, options, run


@pytest.mark.parametrize(
    "key", [pytest.param(key, marks=pytest.mark.long) if key == "video-wide" else key for key in KEYS]
)
def test_every_workload_runs_in_small(key: str, said: list[str]) -> None:
    case = run(said, only=(key,), rows=(1,))[key]
    assert "failed" not in case
    assert case["is_finite"]
    found = case["flat_out"]
    assert found["fps"] > 0
    tick = found["tick_ms"]
    assert 0 < tick["p50"] <= tick["p95"] <= tick["p99"] <= tick["max"]
    assert found["tflop_per_picture"] > 0
    assert found["unfused_gb_per_s"] > found["weights_gb_per_s"] > 0
    assert all("(eager)" in name for name in case["proof"]["networks"])
    assert min(case["cold_s"], case["cached_s"]) > 0
    assert {"upload", "download"} < set(case["parts_ms"])
    assert all(ms >= 0 for ms in case["parts_ms"].values())
    per_tick = case["facts"].get("pictures_per_tick", 1)
    assert case["paced"][0]["ticks"] * per_tick + case["paced"][0]["dropped"] == 4
    assert case["target"] is None, "there are goals for one kind of GPU only"
    assert any(" fps over 4 ticks after 1" in line for line in said)


def test_the_frame_path_alone(said: list[str]) -> None:
    case = run(said, only=("frame-path",))["frame-path"]
    assert {row["metric"] for row in case["figures"]} >= {"speed", "added latency, p50"}
    assert all(row["ours"] > 0 for row in case["figures"])
    assert any(line.startswith("frame path 64², speed: ") for line in said)


def test_the_parts_are_those_of_the_workload(said: list[str]) -> None:
    parts = run(said, only=("sd15-depth",))["sd15-depth"]["parts_ms"]
    assert {"VAE encode", "depth", "ControlNet", "UNet", "VAE decode"} < set(parts)
    parts = run(said, only=("sd-turbo-txt2img",))["sd-turbo-txt2img"]["parts_ms"]
    assert "VAE encode" not in parts


def test_rows_and_steps_are_what_they_say(said: list[str]) -> None:
    assert run(said, only=("sd15-lcm4",))["sd15-lcm4"]["facts"]["unet_rows"] == 4
    facts = run(said, only=("sd15-rcfg",))["sd15-rcfg"]["facts"]
    assert (facts["cfg"], facts["unet_rows"], facts["steps"]) == ("self", 2, [32, 45])


def test_whether_a_tick_is_one_launch_is_said(said: list[str]) -> None:
    case = run(said, only=("sd-turbo",), rows=(1,))["sd-turbo"]
    assert case["proof"]["tick_graph"] == "no: each network is launched by itself"
    assert case["proof"]["launches"] == {}, "there is no GPU whose launches could be counted"
    assert "  whole-tick graph: no: each network is launched by itself" in said


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.long
def test_engines_prove_that_they_ran(said: list[str]) -> None:
    from comfystream.accel.registry import probe_all

    if not {one.backend: one.can_build for one in probe_all()}["onnxruntime"]:
        pytest.skip("needs onnxruntime")
    case = run(said, only=("sd-turbo",), rows=(1,), backends=("onnxruntime",))["sd-turbo"]
    assert "failed" not in case, case["failed"]
    assert any(name == "unet (onnxruntime)" for name in case["proof"]["networks"])
    assert "unet" in case["proof"]["engines"].values()
    assert all(len(digest) == 16 for digest in case["proof"]["engines"])


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "cuda-graph", "inductor"])
def test_on_a_gpu(backend: str, said: list[str]) -> None:
    need_backend(backend)
    from comfystream_server.bench.gpu.run import run_bench

    journal = run_bench(
        options(backends=(backend,), precision="fp16", only=("sd-turbo", "sd15-depth")), said.append, device="cuda"
    )
    for case in journal.cases:
        assert "failed" not in case, case["failed"]
        assert case["proof"]["graph"] == (backend != "eager")
        assert (case["proof"]["tick_graph"] == "yes") == (backend != "eager")
        launched = case["proof"]["launches"]
        assert launched["graphs"] == (0 if backend == "eager" else 2 if case["workload"] == "sd15-depth" else 1)
        assert case["flat_out"]["peak_vram_mb"] > 0
