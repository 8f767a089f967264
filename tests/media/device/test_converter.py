from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import peer_env
import pytest

torch = pytest.importorskip("torch")

from comfystream.media.device import converter  # noqa: E402
from comfystream.media.device.backend import CudaBackend, HostBackend  # noqa: E402
from comfystream.media.device.converter import TorchConverter, TritonConverter, best_converter  # noqa: E402

CASES = Path(__file__).with_name("kernel_cases.py")


@pytest.fixture(scope="module")
def triton() -> str:
    """Where it lies: apart from everything else, for it takes 700 MB and only CUDA builds of torch bring it."""
    if importlib.util.find_spec("triton") is not None:
        return ""
    python = peer_env.peer_python("triton", "triton==3.7.1", with_dependencies=False)
    return str(next(python.parents[1].glob("lib/python*/site-packages")))


def run_python(*words: str, **more: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", *words], env=os.environ | more, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def run_cases(**more: str) -> str:
    told = run_python("-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(CASES), **more)
    assert "skipped" not in told
    return told


@pytest.mark.peers
@pytest.mark.long
@pytest.mark.timeout(700)
def test_the_kernels_give_what_torch_gives_by_tritons_interpreter(triton: str) -> None:
    assert " passed" in run_cases(TRITON_INTERPRET="1", PYTHONPATH=triton)


@pytest.mark.gpu(simulated=False)
def test_the_kernels_give_what_torch_gives_on_a_gpu() -> None:
    assert " passed" in run_cases()


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.timeout(700)
@pytest.mark.parametrize("arch", [80, 90])
def test_the_kernels_compile_to_machine_code_for_gpus_that_are_not_here(arch: int, triton: str) -> None:
    """Triton brings NVIDIA's assembler; only loading what it makes takes a GPU."""
    code = f"""
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from comfystream.media.device import kernels

def made(kernel, types, compiled_in):
    signature = {{name: types.get(name, "constexpr" if name in compiled_in else "i32") for name in kernel.arg_names}}
    places = {{(kernel.arg_names.index(name),): value for name, value in compiled_in.items()}}
    return triton.compile(ASTSource(kernel, signature, places), target=GPUTarget("cuda", {arch}, 32))

codes = []
pointers = {{"weights": "*fp32", "top": "fp32", "luma_offset": "fp32", "chroma_offset": "fp32"}}
for samples, channels, chroma in (("*u8", 1, 2), ("*u8", 1, 1), ("*u16", 1, 1), ("*u8", 1, 0), ("*u16", 3, 0)):
    for rgb in ("*fp32", "*fp16"):
        compiled_in = {{"CHANNELS": channels, "CHROMA": chroma, "ACROSS": 2, "DOWN": 2, "BLOCK": kernels.UP_BLOCK}}
        codes.append(made(kernels._up, pointers | {{"rgb": rgb, "planes": samples}}, compiled_in).asm["cubin"])
for picture in ("*fp32", "*fp16", "*bf16", "*fp64", "*u8"):
    compiled_in = {{"IS_FLOAT": picture != "*u8", "ACROSS": 2, "DOWN": 2, "BLOCK": kernels.DOWN_BLOCK}}
    codes.append(made(kernels._down, pointers | {{"picture": picture, "planes": "*u8"}}, compiled_in).asm["cubin"])
print(len(set(filter(None, codes))), "kernels")
"""
    assert "15 kernels" in run_python("-c", code, PYTHONPATH=triton)


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.timeout(700)
def test_a_kernel_is_compiled_per_kind_of_format_and_not_per_size(triton: str) -> None:
    """By Triton's own way of a call, up to the launch; the driver stands for that of a GPU."""
    code = """
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver, jit

class FakeDriver:
    def get_current_device(self): return 0
    def get_current_stream(self, device=0): return 0
    def get_current_target(self): return GPUTarget("cuda", 90, 32)

driver.set_active(FakeDriver())
call, compiled = jit.JITFunction.run, []

def without_launch(self, *given, grid, warmup, **more):
    compiled.append(call(self, *given, grid=grid, warmup=True, **more))
    return compiled[-1]

jit.JITFunction.run = without_launch
from comfystream.media.colour import Colour, Matrix
from comfystream.media.device import kernels
from comfystream.media.device.backend import HostBackend
from comfystream.media.device.convert import FromRgb, ToRgb
from comfystream.media.device.layout import layout_of

backend, sizes, colour = HostBackend(), [(512, 512), (33, 21), (1, 1), (1920, 1080)], Colour(Matrix.BT709)
for name in ("yuv420p", "nv12", "p010le", "rgb24", "gray"):
    for size in sizes:
        layout = layout_of(name, *size)
        weights = ToRgb.of(colour, layout.format, backend)
        kernels.planes_to_rgb(backend.empty(layout.size), layout, weights, torch.float32)
for width, height in sizes:
    layout = layout_of("yuv420p", width, height)
    picture = torch.zeros(height, width, 3)
    kernels.rgb_to_planes(picture, backend.empty(layout.size), layout, FromRgb.of(colour, backend))
print(len(compiled), "calls", len({id(one) for one in compiled}), "kernels")
"""
    assert run_python("-c", code, PYTHONPATH=triton).split() == ["24", "calls", "6", "kernels"]


def test_without_triton_it_is_torch_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converter.importlib.util, "find_spec", lambda name: None)
    found = best_converter(HostBackend())
    assert isinstance(found, TorchConverter)
    assert found.name == "torch operations (Triton is not installed)"


@pytest.mark.peers
@pytest.mark.slow
@pytest.mark.timeout(700)
def test_where_triton_cannot_compile_it_is_torch_with_the_reason(triton: str) -> None:
    """Without its interpreter Triton takes no tensor of the processor."""
    code = """
from comfystream.media.device.backend import HostBackend
from comfystream.media.device.converter import best_converter
print(best_converter(HostBackend()).name)
"""
    assert run_python("-c", code, PYTHONPATH=triton).startswith("torch operations (Triton does not work here: ")


@pytest.mark.gpu(simulated=False)
def test_a_gpu_that_has_triton_uses_it_and_launches_one_kernel_each_way() -> None:
    from comfystream.media.colour import Colour, Matrix
    from comfystream.media.device.convert import FromRgb, ToRgb
    from comfystream.media.device.layout import layout_of

    backend = CudaBackend()
    assert isinstance(backend.converter, TritonConverter), backend.converter.name
    layout, colour = layout_of("yuv420p", 512, 512), Colour(Matrix.BT709)
    up, down, planes = ToRgb.of(colour, layout.format, backend), FromRgb.of(colour, backend), backend.empty(layout.size)
    rgb = backend.converter.to_rgb(planes, layout, up, torch.float32)
    for run in (
        lambda: backend.converter.to_rgb(planes, layout, up, torch.float32),
        lambda: backend.converter.to_planes(rgb[0], planes, layout, down),
    ):
        run()
        torch.cuda.synchronize()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            run()
            torch.cuda.synchronize()
        assert sum(event.count for event in profile.key_averages() if event.device_time_total) == 1
