"""Autoencoders by a backend, in the place of ComfyUI's VAE object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from backends_here import need_backend
from fake_comfy_models import FakeTinyVae, FakeVae

from comfystream.accel.registry import probe_all
from comfystream.accel.taesd import TaesdDecoder, TaesdEncoder
from comfystream.errors import AssetError, ComfyStreamError, EngineError

safetensors = pytest.importorskip("safetensors.torch", reason="needs the package safetensors")
CAN = {one.backend: one.can_run and one.can_build for one in probe_all()}
BACKENDS = [
    "eager",
    "auto",
    pytest.param("onnxruntime", marks=pytest.mark.skipif(not CAN["onnxruntime"], reason="needs onnxruntime")),
    pytest.param(
        "inductor", marks=[pytest.mark.long, pytest.mark.skipif(not CAN["inductor"], reason="needs a C++ compiler")]
    ),
]
SIZE = {"width": 64, "height": 32, "precision": "fp32"}


def weights_to(folder: Path, name: str = "taesd", encoder: bool = True) -> tuple[TaesdEncoder, TaesdDecoder]:
    torch.manual_seed(3)
    halves = TaesdEncoder(8).eval(), TaesdDecoder(8).eval()
    (folder / "models/vae_approx").mkdir(parents=True, exist_ok=True)
    for half, module in zip(("encoder", "decoder"), halves, strict=True):
        if half == "decoder" or encoder:
            safetensors.save_file(module.layers.state_dict(), folder / f"models/vae_approx/{name}_{half}.safetensors")
    return halves


@pytest.mark.timeout(300)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", [FakeVae, FakeTinyVae])
def test_a_vae_gives_what_it_gave_before(backend: str, kind: type[FakeVae], call: Any) -> None:
    vae, picture, latent = kind(), torch.rand(2, 32, 64, 3), torch.randn(2, 4, 4, 8)
    fast = call("AcceleratedVAE", vae=vae, backend=backend, **SIZE)
    torch.testing.assert_close(fast.encode(picture), vae.encode(picture), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(fast.decode(latent), vae.decode(latent), atol=1e-5, rtol=1e-4)
    assert (len(fast.engines) == 2) == (backend in ("onnxruntime", "inductor"))


def test_a_still_picture_is_a_still_latent_that_nobody_overwrites(call: Any) -> None:
    fast = call("AcceleratedVAE", vae=FakeVae(), backend="eager", **SIZE)
    picture = torch.rand(1, 32, 64, 3)
    first = fast.encode(picture)
    kept = first.clone()
    fast.encode(torch.rand(1, 32, 64, 3))
    assert torch.equal(first, kept)
    assert torch.equal(fast.encode(picture), kept)


def test_the_vae_that_was_given_stays_as_it_is(call: Any) -> None:
    vae = FakeVae()
    call("AcceleratedVAE", vae=vae, backend="eager", width=64, height=32, precision="bf16")
    assert {one.dtype for one in vae.first_stage_model.parameters()} == {torch.float32}


def test_an_autoencoder_of_diffusers(call: Any) -> None:
    diffusers = pytest.importorskip("diffusers", reason="needs diffusers")
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 16, 16, 16),
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    ).eval()
    fast = call("AcceleratedVAE", vae=vae, backend="eager", **SIZE)
    picture = torch.rand(1, 32, 64, 3)
    latent = vae.encode(picture.movedim(-1, 1) * 2 - 1).latent_dist.mode()
    torch.testing.assert_close(fast.encode(picture), latent)
    back = (vae.decode(latent).sample / 2 + 0.5).clamp(0, 1).movedim(1, -1)
    torch.testing.assert_close(fast.decode(latent), back)


@pytest.mark.parametrize(("name", "scale"), [("taesd", 0.18215), ("taesdxl", 0.13025)])
def test_a_taesd_speaks_the_latents_of_the_large_autoencoder(
    name: str, scale: float, call: Any, tmp_path: Path
) -> None:
    encoder, decoder = weights_to(tmp_path, name)
    fast = call("AcceleratedTAESDLoader", taesd=name, backend="eager", **SIZE)
    picture = torch.rand(1, 32, 64, 3)
    latent = encoder(picture.movedim(-1, 1)) / scale
    torch.testing.assert_close(fast.encode(picture), latent)
    torch.testing.assert_close(fast.decode(latent), decoder(latent * scale).clamp(0, 1).movedim(1, -1))


def test_own_nodes_for_both_ways(call: Any, tmp_path: Path) -> None:
    weights_to(tmp_path)
    fast = call("AcceleratedTAESDLoader", taesd="taesd", backend="eager", **SIZE)
    picture = torch.rand(1, 35, 70, 3)  # what fills no latent value is cut off at both sides, as ComfyUI does
    latent = call("AcceleratedVAEEncode", pixels=picture, vae=fast)
    torch.testing.assert_close(latent["samples"], fast.encode(picture[:, 1:33, 3:67]))
    assert call("AcceleratedVAEDecode", samples=latent, vae=fast).shape == (1, 32, 64, 3)


def test_backends_without_engines_take_any_size(call: Any, tmp_path: Path) -> None:
    weights_to(tmp_path)
    fast = call("AcceleratedTAESDLoader", taesd="taesd", backend="eager", **SIZE)
    for size in ((32, 64), (64, 32), (128, 128)):
        assert fast.decode(fast.encode(torch.rand(1, *size, 3))).shape == (1, *size, 3)


@pytest.mark.skipif(not CAN["onnxruntime"], reason="needs onnxruntime")
def test_an_engine_has_one_size_and_says_so(call: Any, tmp_path: Path) -> None:
    weights_to(tmp_path)
    fast = call("AcceleratedTAESDLoader", taesd="taesd", backend="onnxruntime", **SIZE)
    with pytest.raises(EngineError) as caught:
        call("AcceleratedVAEEncode", pixels=torch.rand(1, 64, 64, 3), vae=fast)
    assert str(caught.value).startswith("AcceleratedVAEEncode: vae_encoder: input images is [1, 3, 64, 64], but it was")
    assert "build an engine for this one" in caught.value.hint


def test_bad_input_is_told_with_the_node(call: Any, tmp_path: Path) -> None:
    def said(key: str, **inputs: Any) -> str:
        with pytest.raises(ComfyStreamError) as caught:
            call(key, **{**SIZE, "backend": "eager", **inputs})
        return str(caught.value)

    assert "AcceleratedTAESDLoader: there is no taesd_encoder.safetensors" in said(
        "AcceleratedTAESDLoader", taesd="taesd"
    )
    weights_to(tmp_path)
    file = tmp_path / "models/vae_approx/taesd_decoder.safetensors"
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    assert "AcceleratedTAESDLoader: " in (text := said("AcceleratedTAESDLoader", taesd="taesd"))
    assert "taesd_decoder.safetensors: cut off" in text
    safetensors.save_file({"model.weight": torch.zeros(3)}, file)
    assert "these are not the weights of a TAESD" in said("AcceleratedTAESDLoader", taesd="taesd")
    assert "AcceleratedVAE: there is no autoencoder in a dict" in said("AcceleratedVAE", vae={})


@pytest.mark.skipif(CAN["tensorrt"], reason="TensorRT is installed here")
def test_a_named_backend_that_is_missing_is_no_other_one(call: Any) -> None:
    with pytest.raises(EngineError, match="^AcceleratedVAE: the backend tensorrt does not work here: ") as caught:
        call("AcceleratedVAE", vae=FakeVae(), backend="tensorrt", **SIZE)
    assert caught.value.code == "backend_missing"


def test_half_an_autoencoder(nodes: dict[str, Any]) -> None:
    from comfystream_nodes.accel.vae import AcceleratedVae

    with pytest.raises(EngineError, match="has no encoder"):
        AcceleratedVae(None, None, 4).encode(torch.rand(1, 8, 8, 3))
    with pytest.raises(EngineError, match="has no decoder"):
        AcceleratedVae(None, None, 4).decode(torch.rand(1, 4, 1, 1))


def test_swapped_files(call: Any, tmp_path: Path) -> None:
    weights_to(tmp_path)
    folder = tmp_path / "models/vae_approx"
    (folder / "taesd_decoder.safetensors").write_bytes((folder / "taesd_encoder.safetensors").read_bytes())
    with pytest.raises(AssetError, match="in each other's place"):
        call("AcceleratedTAESDLoader", taesd="taesd", backend="eager", **SIZE)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "cuda-graph", "inductor", "auto"])
def test_on_a_gpu_it_stays_there(backend: str, call: Any) -> None:
    need_backend(backend)
    vae, picture = FakeVae(), torch.rand(1, 32, 64, 3, device="cuda")
    fast = call("AcceleratedVAE", vae=vae, backend=backend, **SIZE)
    latent = fast.encode(picture)
    assert latent.is_cuda
    torch.testing.assert_close(latent.cpu(), vae.encode(picture.cpu()), atol=1e-2, rtol=1e-2)


def test_auto_precision_is_single_where_the_processor_works_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy, which ONNX Runtime's buffers are, has no bfloat16."""
    from comfystream.accel import machine as place
    from comfystream_nodes.accel.ready import resolved_precision

    monkeypatch.setattr(place, "machine", lambda: place.Machine("Linux", "x86_64", "2.13.0", gpu="NVIDIA GPU"))
    assert resolved_precision("auto", "onnxruntime", "bf16") == "fp32"
    assert resolved_precision("auto", "cuda-graph", "bf16") == "bf16"
    assert resolved_precision("fp16", "onnxruntime") == "fp16"
