"""Upscalers: their architecture is found in their weights, and what they compute is what their papers say."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from comfystream.accel.backend import BuildOptions
from comfystream.accel.export import export_onnx
from comfystream.accel.model_specs import Ranges
from comfystream.accel.nvidia import tensorrt_rtx
from comfystream.accel.onnx_runtime import verify_onnx
from comfystream.accel.upscaler_files import load_upscaler, upscaler_spec
from comfystream.accel.upscalers import Fsrcnn, RrdbNet, SrvggNet, upscaler_of
from comfystream.errors import AssetError

safetensors = pytest.importorskip("safetensors.torch", reason="needs the package safetensors")
LEGACY = BuildOptions(exporter="legacy")


def models() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "srvgg x2": SrvggNet(8, 3, 2),
        "srvgg x4": SrvggNet(8, 16, 4),
        "rrdb x4": RrdbNet(8, 4, 2, 2),
        "rrdb x2, folded": RrdbNet(8, 4, 2, 2, unshuffle=2),
        "rrdb x2": RrdbNet(8, 4, 1, 1),
        "fsrcnn x2": Fsrcnn(16, 6, 4, 2),
        "fsrcnn x3": Fsrcnn(16, 6, 1, 3),
    }


@pytest.mark.parametrize("name", list(models()))
def test_the_architecture_is_found_in_the_weights(name: str) -> None:
    module, picture = models()[name].eval(), torch.rand(2, 3, 16, 12)
    found = upscaler_of(module.state_dict(), f"{name.split()[0]}_{name.split()[1][:2]}.pth")
    assert type(found) is type(module)
    assert found.scale == int(name.split()[1][1])
    with torch.no_grad():
        larger = found(picture)
        assert torch.equal(larger, module(picture))
    assert larger.shape == (2, 3, 16 * found.scale, 12 * found.scale)


@pytest.mark.parametrize("name", list(models()))
def test_a_graph_gives_what_torch_gives(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    module = models()[name]
    spec = upscaler_spec(Ranges((1, 2, 2), (16, 24, 32), (16, 16, 32), step=8))
    assert verify_onnx(export_onnx(module, spec, tmp_path / "graph.onnx", LEGACY), module, spec) < 1e-4


@pytest.mark.slow
@pytest.mark.skipif(not tensorrt_rtx().probe().can_build, reason="TensorRT-RTX NOT RUN: it is not installed")
@pytest.mark.parametrize("name", ["srvgg x4", "rrdb x2, folded", "fsrcnn x2"])
def test_the_real_builder_takes_them(name: str, tmp_path: Path) -> None:
    backend, spec = tensorrt_rtx(), upscaler_spec(Ranges(1, 64, 64), "fp16")
    source = backend.export(models()[name].half(), spec, tmp_path, LEGACY)
    plan = backend.build(source, spec, tmp_path, BuildOptions(), lambda step, share: None)
    assert plan.stat().st_size > 10_000


def test_what_surrounds_the_weights_in_published_files_is_taken_off() -> None:
    plain = models()["srvgg x4"].state_dict()
    for prefix in ("params_ema.", "params.", "module."):
        assert upscaler_of({prefix + name: value for name, value in plain.items()}, "a.pth").scale == 4


def older_names(module: RrdbNet) -> dict[str, Tensor]:
    """As ESRGAN's first files name them."""
    blocks = len(module.body)
    places = {"conv_first": "model.0", "conv_body": f"model.1.sub.{blocks}"}
    places |= {f"conv_up{number}": f"model.{3 * number}" for number in range(1, module.doublings + 1)}
    end = 3 * module.doublings + 2
    places |= {"conv_hr": f"model.{end}", "conv_last": f"model.{end + 2}"}
    named = {}
    for name, value in module.state_dict().items():
        first, *rest = name.split(".")
        if first == "body":
            block, dense, conv, leaf = rest
            named[f"model.1.sub.{block}.RDB{dense[3]}.{conv}.0.{leaf}"] = value
        else:
            named[f"{places[first]}.{rest[0]}"] = value
    return named


@pytest.mark.parametrize("doublings", [1, 2, 3])
def test_the_older_names_of_esrgan(doublings: int) -> None:
    module, picture = RrdbNet(8, 4, 2, doublings).eval(), torch.rand(1, 3, 8, 8)
    found = upscaler_of(older_names(module), "4x-something.pth")
    with torch.no_grad():
        assert torch.equal(found(picture), module(picture))


def test_an_srvgg_step_by_step() -> None:
    module, picture = models()["srvgg x2"].eval(), torch.rand(1, 3, 6, 5)
    weights = module.state_dict()
    x = picture
    for number in range(0, 8, 2):
        x = functional.conv2d(x, weights[f"body.{number}.weight"], weights[f"body.{number}.bias"], padding=1)
        x = torch.where(x > 0, x, x * weights[f"body.{number + 1}.weight"][None, :, None, None])
    x = functional.conv2d(x, weights["body.8.weight"], weights["body.8.bias"], padding=1)
    near = picture.repeat_interleave(2, 2).repeat_interleave(2, 3)
    with torch.no_grad():
        torch.testing.assert_close(module(picture), functional.pixel_shuffle(x, 2) + near)


def test_an_fsrcnn_leaves_grey_grey() -> None:
    module = models()["fsrcnn x2"].eval()
    with torch.no_grad():
        larger = module(torch.rand(1, 1, 8, 8).expand(1, 3, 8, 8))
    torch.testing.assert_close(larger[:, 0], larger[:, 1], atol=1e-5, rtol=0)
    torch.testing.assert_close(larger[:, 0], larger[:, 2], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"layer.weight": torch.zeros(1)}, "a.pth: neither SRVGGNetCompact nor RRDBNet"),
        ({**models()["fsrcnn x2"].state_dict()}, "stands in its name, and this one does not say"),
        ({"body.0.weight": torch.zeros(8, 3, 3, 3), "body.1.weight": torch.zeros(8)}, "a.pth: gives or takes"),
        (
            {**models()["srvgg x2"].state_dict(), "body.2.weight": torch.zeros(9, 9, 3, 3)},
            "a.pth: its weights do not make an upscaler: .*size mismatch",
        ),
    ],
)
def test_other_weights_are_refused_in_words(weights: dict[str, Tensor], said: str) -> None:
    with pytest.raises(AssetError, match=said):
        upscaler_of(weights, "a.pth")


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_file(ending: str, tmp_path: Path) -> None:
    module, path = models()["rrdb x4"], tmp_path / f"net.{ending}"
    if ending == "pth":
        torch.save({"params_ema": module.state_dict()}, path)
    else:
        safetensors.save_file(module.state_dict(), path)
    assert load_upscaler(path).scale == 4
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(AssetError, match=f"net.{ending}: .*cut off"):
        load_upscaler(path)
    path.unlink()
    with pytest.raises(AssetError, match=f"net.{ending}: No such file"):
        load_upscaler(path)


def test_code_in_a_file_is_never_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"params": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(AssetError, match=r"trap\.pth: "):
        load_upscaler(tmp_path / "trap.pth")
    assert not (tmp_path / "ran").exists()


def test_what_only_spandrel_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "swin.safetensors"
    safetensors.save_file({"layers.0.weight": torch.zeros(2, 2)}, path)
    monkeypatch.setitem(sys.modules, "spandrel", None)
    with pytest.raises(AssetError, match="neither SRVGGNetCompact nor") as caught:
        load_upscaler(path)
    assert "spandrel" in caught.value.hint

    class Descriptor:
        input_channels, scale, model = 3, 3, nn.Upsample(scale_factor=3)

    class Loader:
        def __init__(self, device: str) -> None:
            pass

        def load_from_state_dict(self, weights: dict[str, Tensor]) -> Descriptor:
            assert set(weights) == {"layers.0.weight"}
            return Descriptor()

    fake = types.SimpleNamespace(
        ModelLoader=Loader, ImageModelDescriptor=Descriptor, UnsupportedModelError=type("No", (Exception,), {})
    )
    monkeypatch.setitem(sys.modules, "spandrel", fake)
    assert load_upscaler(path).scale == 3
