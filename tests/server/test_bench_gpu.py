"""`bench gpu`: every workload on tiny models, what is counted, the budget, and a run that is cut off."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from comfystream.catalog import standin
from comfystream.errors import ConfigError, EngineError
from comfystream_server.bench.app import app
from comfystream_server.cli import main

pytest.importorskip("diffusers", reason="needs diffusers")
pytest.importorskip("transformers", reason="needs transformers")


@pytest.fixture(autouse=True, scope="module")
def _names_of_comfyui() -> Iterator[None]:
    standin.install(standin.Folders())
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def said() -> list[str]:
    return []


def options(**changes: Any) -> Any:
    from comfystream_server.bench.gpu.measure import Amounts
    from comfystream_server.bench.gpu.run import Options
    from comfystream_server.bench.gpu.scale import TINY

    amounts = Amounts(warm_up=1, ticks=4, paced_s=0.2, paces=(20.0,))
    return replace(Options(scale=TINY, precision="fp32", backends=("eager",), amounts=amounts), **changes)


def run(said: list[str], file: Path | None = None, **changes: Any) -> dict[str, Any]:
    from comfystream_server.bench.gpu.run import run_bench

    journal = run_bench(options(**changes), said.append, file, device="cpu")
    return {case["workload"]: case for case in journal.cases}


KEYS = (
    "sd-turbo",
    "sd15-lcm4",
    "sdxl-turbo",
    "sd15-depth",
    "depth-small",
    "srvgg-x4",
    "fsrcnn-x2",
    "sd15-rcfg",
    "sd-turbo-txt2img",
    "sd-turbo-style",
    "sdxl-turbo-1024",
    "video-wan",
    "video-tae",
    "video-wide",
    "whisper-tiny",
    "whisper-base",
    "depth-large",
)


@pytest.mark.parametrize("key", KEYS)
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


REAL_GFLOP = {  # counted on diffusers' and transformers' own architectures, batch 1
    "sd21 unet": (804, 1732),
    "sd15 unet": (803, 1719),
    "sdxl unet": (1589, 5135),
    "depth small": (115, 50),
    "depth large": (1304, 671),
    "srvgg": (325, 1.2),
    "fsrcnn": (6.5, 0),
    "wan": (3005, 2838),
    "whisper tiny": (36.9, 16),
    "whisper base": (87.4, 41),
}


@pytest.mark.parametrize("name", list(REAL_GFLOP))
def test_the_architectures_are_the_published_ones(name: str) -> None:
    """Against the golden table of arithmetic and weights, on no memory at all."""
    import diffusers
    import transformers

    from comfystream.accel.upscalers import Fsrcnn, SrvggNet
    from comfystream_server.bench.gpu.cost import count
    from comfystream_server.bench.gpu.scale import REAL

    kind, _, size = name.partition(" ")
    with torch.device("meta"), torch.no_grad():
        if size == "unet":
            net = diffusers.UNet2DConditionModel(**REAL.unets[kind]).half()
            width = net.config.cross_attention_dim
            added = {"text_embeds": torch.zeros(1, 1280).half(), "time_ids": torch.zeros(1, 6).half()}
            arguments = (torch.zeros(1, 4, 64, 64).half(), torch.zeros(1), torch.zeros(1, 77, width).half())
            more = {"added_cond_kwargs": added} if kind == "sdxl" else {}
        elif kind == "depth":
            given = REAL.depths[size]
            inner = transformers.Dinov2Config(
                patch_size=14, image_size=518, reshape_hidden_states=False, **given["inner"]
            )
            config = transformers.DepthAnythingConfig(backbone_config=inner, patch_size=14, **given["outer"])
            net = transformers.DepthAnythingForDepthEstimation(config).half()
            arguments, more = (torch.zeros(1, 3, 518, 518).half(),), {}
        elif kind == "wan":
            net = diffusers.WanTransformer3DModel(**REAL.video).half()
            arguments = torch.zeros(1, 16, 1, 64, 64).half(), torch.zeros(1), torch.zeros(1, 512, 4096).half()
            more = {}
        elif kind == "whisper":
            net = transformers.WhisperModel(transformers.WhisperConfig(**REAL.whispers[size])).encoder.half()
            arguments, more = (torch.zeros(1, 80, 3000).half(),), {}
        else:
            net = (SrvggNet(64, 16, 4) if kind == "srvgg" else Fsrcnn()).half()
            arguments, more = (torch.zeros(1, 3, 512, 512).half(),), {}
        cost = count(lambda: net(*arguments, **more), [net])
    flops, weights = REAL_GFLOP[name]
    assert cost.flops / 1e9 == pytest.approx(flops, rel=0.03)
    assert cost.weight_bytes / 1e6 == pytest.approx(weights, rel=0.03, abs=0.1)


def test_the_limit_is_the_larger_of_arithmetic_and_weights() -> None:
    from comfystream_server.bench.gpu.cost import Cost, Hardware

    gpu = Hardware(tflops=100.0, tb_per_s=1.0)
    assert Cost(1e12, 1e9, 0).limit_fps(gpu, 1) == pytest.approx(100)
    assert Cost(1e12, 1e9, 0).limit_fps(gpu, 4) == pytest.approx(400)
    assert Cost(1e9, 1e11, 0).limit_fps(gpu, 1) == pytest.approx(10)


def test_a_part_within_a_part_is_counted_once() -> None:
    import time

    from comfystream_server.bench.gpu.stages import Stages

    stages = Stages("cpu")
    inner = stages.timed("inner", lambda: time.sleep(0.02))
    outer = stages.timed("outer", lambda: (inner(), inner()))
    outer()
    found = stages.table(1)
    assert found["inner"] >= 40
    assert 0 <= found["outer"] < found["inner"]


def test_a_goal_in_milliseconds_is_judged_by_the_slow_ticks() -> None:
    from comfystream_server.bench.gpu.report import case_lines

    tick = {"p50": 5.0, "p95": 24.0, "p99": 90.0, "max": 99.0}
    found = {"fps": 200.0, "ticks": 9, "warm_up": 1, "tick_ms": tick, "skipped": 0, "tflop_per_picture": 1.0}
    found |= {"tflops": 1.0, "weights_gb_per_s": 1.0, "unfused_gb_per_s": 2.0, "peak_vram_mb": None, "rss_mb": 1.0}
    case = {"title": "t", "rows": 1, "backend": "b", "version": "1", "flat_out": {**found, "gpu": None}}

    def verdict(most_ms: float) -> str:
        target = {"limit": 5000.0, "goal": 40.0, "goal_p95_ms": most_ms}
        return [*case_lines({**case, "target": target})][-1]

    assert verdict(25.0) == "  H200: limit 0.2 ms, goal p95 25 ms: met"
    assert verdict(20.0).endswith("goal p95 20 ms: missed")


def test_quantiles_are_values_that_occurred() -> None:
    from comfystream_server.bench.gpu.measure import quantile

    values = [float(number) for number in range(1, 101)]
    assert [quantile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert quantile([3.0], 0.01) == 3


def test_a_camera_that_is_faster_loses_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    from comfystream_server.bench.gpu import measure

    clock = [0.0]

    class Time:
        perf_counter = staticmethod(lambda: clock[0])

        @staticmethod
        def sleep(seconds: float) -> None:
            clock[0] += seconds

    class Made:
        pictures = torch.rand(1, 4, 4, 3)

        @staticmethod
        def tick(given: torch.Tensor) -> torch.Tensor:
            clock[0] += 0.1
            return given

    monkeypatch.setattr(measure, "time", Time)
    slow: Any = measure.paced(Made, 20.0, 1.0, "cpu")  # type: ignore[arg-type]
    assert slow["ticks"] + slow["dropped"] == 20
    assert slow["ticks"] == pytest.approx(10, abs=1)
    assert slow["latency_ms"]["p50"] < 160, "the newest picture wins: what waits does not add up"
    quick: Any = measure.paced(Made, 5.0, 1.0, "cpu")  # type: ignore[arg-type]
    assert (quick["ticks"], quick["dropped"]) == (5, 0)
    assert quick["latency_ms"]["p99"] == pytest.approx(100)


def test_what_does_not_fit_the_budget_is_left_out_and_told(said: list[str], tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    run(said, file, budget_s=10.0, only=("sd-turbo", "sdxl-turbo"), rows=(1,))
    document = json.loads(file.read_text())
    assert document["is_complete"]
    assert document["cases"] == []
    assert [one["workload"] for one in document["not_run"]] == ["sd-turbo", "sdxl-turbo"]
    assert any(line.startswith("NOT MEASURED: sd-turbo, 1 rows, eager: it takes about 28 s, and 10 s") for line in said)


def order_of(monkeypatch: pytest.MonkeyPatch, fps: dict[str, float], **changes: Any) -> list[tuple[str, int, str]]:
    """What is measured, in order, where these backends work and are so fast."""
    from comfystream.accel.backend import Capability
    from comfystream_server.bench.gpu import run as running
    from comfystream_server.bench.gpu.gauges import Gauges
    from comfystream_server.bench.gpu.journal import Journal
    from comfystream_server.bench.gpu.workloads import WORKLOADS

    done: list[tuple[str, int, str]] = []

    def case(self: Any, workload: Any, rows: int, backend: str) -> None:
        done.append((workload.key, rows, backend))
        self._journal.add({"backend": backend, "flat_out": {"fps": fps[backend]}})

    monkeypatch.setattr(running._Run, "_case", case)
    monkeypatch.setattr(running._Run, "_frame_path", lambda self: None)
    capable = {name: Capability(name, "1", True, True, "") for name in fps}
    chosen = options(backends=(), **changes)
    running._Run(chosen, print, Journal(None, {}), Gauges(), capable, "cpu").all(WORKLOADS)
    return done


def test_every_workload_has_a_figure_before_some_get_a_better_one(monkeypatch: pytest.MonkeyPatch) -> None:
    done = order_of(monkeypatch, {"cuda-graph": 150.0, "inductor": 200.0, "eager": 50.0})
    assert done[:3] == [("sd-turbo", 1, name) for name in ("cuda-graph", "inductor", "eager")]
    quick, best = done[3:21], done[21:]
    assert {backend for *_, backend in quick} == {"cuda-graph"}
    assert {backend for *_, backend in best} == {"inductor"}
    assert [case[:2] for case in quick] == [case[:2] for case in best]
    assert quick[0][:2] == ("sd-turbo", 4)
    assert quick[-1][:2] == ("sd-turbo", 2), "what is least important comes last"
    assert {key for key, *_ in quick} == set(KEYS)


def test_the_fastest_backend_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    done = order_of(monkeypatch, {"cuda-graph": 200.0, "eager": 50.0})
    assert len(done) == 2 + 18
    assert len(order_of(monkeypatch, {"cuda-graph": 200.0, "eager": 50.0}, is_everything=True)) == 2 + 2 * 18


def test_a_run_that_is_cut_off_still_says_something(
    said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from comfystream_server.bench.gpu import run as running

    real, calls = running.flat_out, []

    def cut_off(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(running, "flat_out", cut_off)
    file = tmp_path / "found.json"
    with pytest.raises(KeyboardInterrupt):
        run(said, file, only=("srvgg-x4", "fsrcnn-x2"))
    document = json.loads(file.read_text())
    assert not document["is_complete"]
    first, second = document["cases"]
    assert first["flat_out"]["fps"] > 0
    assert second["workload"] == "fsrcnn-x2"
    assert "flat_out" not in second
    assert second["cold_s"] > 0


def test_a_case_that_fails_is_told_and_the_others_go_on(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from comfystream_server.bench.gpu.pictures import UpscaleCase

    real = UpscaleCase.prepare

    def fails(self: Any, *arguments: Any) -> Any:
        if self.kind == "srvgg":
            raise EngineError("the device is full", code="out_of_memory", hint="use a smaller size")
        return real(self, *arguments)

    monkeypatch.setattr(UpscaleCase, "prepare", fails)
    found = run(said, only=("srvgg-x4", "fsrcnn-x2"))
    assert found["srvgg-x4"]["failed"] == "the device is full (use a smaller size)"
    assert found["fsrcnn-x2"]["flat_out"]["fps"] > 0
    assert any("NOT MEASURED: srvgg-x4, 1 rows, eager: it failed: the device is full" in line for line in said)


def test_pictures_that_are_no_numbers_are_no_result(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from comfystream_server.bench.gpu import pictures

    monkeypatch.setattr(
        pictures, "random_weights", lambda module, seed=0: module.requires_grad_(False).apply(_overflowing)
    )
    case = run(said, only=("srvgg-x4",))["srvgg-x4"]
    assert "flat_out" not in case
    assert "not finite" in case["failed"]


def _overflowing(module: Any) -> None:
    for parameter in module.parameters():
        parameter.fill_(float("inf"))


def test_the_file_says_on_what_it_was_measured(said: list[str], tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    run(said, file, only=("fsrcnn-x2",))
    about = json.loads(file.read_text())["machine"]
    assert {"gpu", "driver", "cuda", "torch", "processor", "cores", "revision", "backends", "at_start"} <= set(about)
    assert about["backends"]["eager"].startswith(torch.__version__)


def test_options_that_are_wrong_are_told(said: list[str]) -> None:
    with pytest.raises(ConfigError, match="there is no workload sd-trubo"):
        run(said, only=("sd-trubo",))
    with pytest.raises(ConfigError, match="the backend nonsense cannot be measured here: there is none"):
        run(said, backends=("nonsense",))
    outcome = CliRunner().invoke(app, ["gpu", "--precision", "fp4"])
    assert outcome.exit_code == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_command_begins_by_itself(tmp_path: Path) -> None:
    """In a process of its own, where nobody has put up ComfyUI's names before."""
    code = "from comfystream_server.cli import main; raise SystemExit(main(['bench', 'gpu', '--quick']))"
    command = [sys.executable, "-P", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 2, done.stderr
    assert "nothing was measured: " in " ".join(done.stderr.split())
    assert "defect" not in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_it_prints_no_number(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    assert main(["bench", "gpu", "--quick", "--json", str(file)]) == 2
    said = capsys.readouterr()
    assert "nothing was measured: " in said.err
    assert "fps" not in said.out
    assert not file.exists()


def test_whether_a_tick_is_one_launch_is_said(said: list[str]) -> None:
    case = run(said, only=("sd-turbo",), rows=(1,))["sd-turbo"]
    assert case["proof"]["tick_graph"] == "no: each network is launched by itself"
    assert case["proof"]["launches"] == {}, "there is no GPU whose launches could be counted"
    assert "  whole-tick graph: no: each network is launched by itself" in said


def test_launches_are_counted_by_kind() -> None:
    from types import SimpleNamespace

    from comfystream_server.bench.gpu.launches import counted
    from comfystream_server.bench.gpu.report import case_lines

    calls = {"cudaGraphLaunch": 5, "cudaLaunchKernel": 6, "cuLaunchKernelEx": 4, "cudaMemcpyAsync": 10, "aten::add": 99}
    found = counted([SimpleNamespace(key=key, count=count) for key, count in calls.items()], ticks=5)
    assert found == {"graphs": 1.0, "kernels": 2.0, "copies": 2.0}
    proof = {"networks": ["unet"], "graph": True, "tick_graph": "yes", "engines": {}, "launches": found}
    lines = [*case_lines({"title": "t", "rows": 1, "backend": "b", "version": "1", "proof": proof})]
    assert "  whole-tick graph: yes; launched per tick: 1 graphs, 2 kernels, 2 copies" in lines


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "cuda-graph", "inductor"])
def test_on_a_gpu(backend: str, said: list[str]) -> None:
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
