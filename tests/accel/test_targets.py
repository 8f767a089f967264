"""build_targets.yaml in both forms, and the command that builds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_models import tiny_depth, tiny_unet

from comfystream.accel.file_names import find_engine, name_of_engine, read_name
from comfystream.accel.model_specs import Ranges
from comfystream.accel.taesd import TaesdDecoder
from comfystream.accel.targets import load_targets
from comfystream.errors import AssetError, ConfigError
from comfystream_server.cli import main

safetensors = pytest.importorskip("safetensors.torch", reason="needs the package safetensors")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")


def write(path: Path, document: Any) -> Path:
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COMFYSTREAM_ENGINES", str(tmp_path / "engines"))
    folder = tmp_path / "workspace"
    (folder / "models").mkdir(parents=True)
    torch.manual_seed(0)
    safetensors.save_file(TaesdDecoder(8).layers.state_dict(), folder / "models/taesd_decoder.safetensors")
    return folder


TAESD = {"kind": "taesd", "model": "models/taesd_decoder.safetensors", "precision": "fp32", "height": 64, "width": 64}


def test_the_shipped_list_can_be_read(repository: Path) -> None:
    targets = {one.id: one for one in load_targets(repository / "configs/build_targets.yaml", repository)}
    assert len(targets) == 8
    for target in targets.values():
        if target.kind == "unet":  # the names that workflows say have to be of what is built
            named = read_name(Path(target.output).name)
            assert named is not None
            for sizes, wanted in (
                (named.batch, target.batch),
                (named.height, target.height),
                (named.width, target.width),
            ):
                assert set(sizes) == ({wanted} if isinstance(wanted, int) else set(wanted))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hight": 512}, "decoder: hight: Extra inputs are not permitted"),
        ({"kind": "vae"}, "decoder: kind: Input should be 'unet', "),
        ({"height": 510}, "height: 510 has to be a multiple of 8"),
        ({"width": [512, 384, 704]}, "is no range; write"),
        ({"model": ""}, "decoder: model: "),
    ],
)
def test_mistakes_are_told_with_their_place(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    file = write(tmp_path / "targets.yaml", {"targets": {"decoder": {**TAESD, **change}}})
    with pytest.raises(ConfigError) as caught:
        load_targets(file, tmp_path)
    assert str(file) in str(caught.value)
    assert said in str(caught.value)


def test_the_form_of_the_first_generation(tmp_path: Path) -> None:
    (tmp_path / "packs/sd/configs").mkdir(parents=True)
    pipeline = {
        "model_id": "models/sd-turbo",
        "t_index_list": [16, 32],
        "guidance_scale": 1.2,
        "cfg_type": "full",
        "width": 704,
        "height": 384,
        "use_controlnet": True,
        "controlnets": [{"model_id": "models/canny", "enabled": True}, {"model_id": "models/off", "enabled": False}],
        "prompt": "a fox",
    }
    write(tmp_path / "packs/sd/configs/multi.yaml", pipeline)
    body = {"script": "scripts/build_tensorrt_engines.py", "configs": ["configs/multi.yaml"], "folder": "packs/sd"}
    unet, control = load_targets(write(tmp_path / "t.yaml", {"streamdiffusion": body}), tmp_path)
    assert (unet.kind, unet.model, unet.batch, unet.width, unet.height) == ("unet", "models/sd-turbo", 4, 704, 384)
    assert (unet.backend, unet.precision) == ("tensorrt", "fp16")
    assert (control.kind, control.model, control.batch) == ("controlnet", "models/canny", 2)
    body["configs"] = ["configs/none.yaml"]
    with pytest.raises(ConfigError, match="streamdiffusion: there is no configs/none.yaml"):
        load_targets(write(tmp_path / "t.yaml", {"streamdiffusion": body}), tmp_path)
    write(tmp_path / "packs/sd/configs/multi.yaml", {**pipeline, "lora_dict": {"style": 0.8}})
    body["configs"] = ["configs/multi.yaml"]
    with pytest.raises(ConfigError, match="a UNet with LoRAs cannot be built ahead of time"):
        load_targets(write(tmp_path / "t.yaml", {"streamdiffusion": body}), tmp_path)


def run(*arguments: str) -> int:
    return main(["engines", *arguments])


@pytest.mark.slow
def test_build_list_prune(workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = {**TAESD, "backend": "onnxruntime", "output": "output/tensorrt/decoder.engine"}
    file = write(tmp_path / "targets.yaml", {"targets": {"decoder": body}})
    command = ("build", "--targets", str(file), "--workspace", str(workspace))
    assert run(*command) == 0
    said = capsys.readouterr().out
    assert "1/1 decoder: onnxruntime, " in said
    assert "built in " in said
    assert "-> output/tensorrt/decoder.engine" in said
    assert (workspace / "output/tensorrt/decoder.engine").is_file()
    assert run(*command) == 0
    assert ", there" in capsys.readouterr().out
    assert run("list") == 0
    assert "decoder" in (listed := capsys.readouterr().out)
    assert "1 engines" in listed
    assert run("prune", "--max-gb", "0") == 0
    assert "removed 1, 0 left" in capsys.readouterr().out


def test_one_that_fails_does_not_stop_the_others(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (workspace / "models/taesd_decoder.safetensors").read_bytes()
    (workspace / "models/cut.safetensors").write_bytes(whole[:-1000])
    targets = {
        "cut": {**TAESD, "backend": "onnxruntime", "model": "models/cut.safetensors"},
        "missing": {**TAESD, "backend": "onnxruntime", "model": "models/none.safetensors"},
        "eager": {**TAESD, "backend": "eager"},
        "absent": {**TAESD, "backend": "tensort"},
    }
    file = write(tmp_path / "targets.yaml", {"targets": targets})
    assert run("build", "--targets", str(file), "--workspace", str(workspace)) != 0
    said = capsys.readouterr()
    assert f"models/cut.safetensors: cut off: {len(whole) - 1000} bytes of {len(whole)}" in " ".join(said.err.split())
    assert "none.safetensors: No such file" in " ".join(said.err.split())
    assert "eager has no engines" in " ".join(said.err.split())
    assert 'did you mean "tensorrt"' in " ".join(said.err.split())
    assert "0 of 4 engines are there" in said.out


def test_backends_are_listed_with_their_reasons(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("backends") == 0
    said = capsys.readouterr().out
    assert "eager         runs" in said
    assert "auto chose " in said
    assert "\nframes: on " in said


def test_a_single_file_with_its_configuration(workspace: Path) -> None:
    pytest.importorskip("diffusers", reason="needs diffusers")
    from comfystream.accel.target_models import load_model
    from comfystream.accel.targets import BuildTarget

    unet = tiny_unet()
    file = workspace / "models/tiny.safetensors"
    safetensors.save_file(unet.state_dict(), file)
    target = BuildTarget(
        id="tiny", kind="unet", model="models/tiny.safetensors", precision="fp32", tokens=7, height=64, width=64
    )
    with pytest.raises(AssetError, match="tiny.safetensors needs its configuration"):
        load_model(target, workspace)
    file.with_suffix(".json").write_text(json.dumps(dict(unet.config)))
    module, spec = load_model(target, workspace)
    values = (torch.randn(1, 4, 8, 8), torch.tensor([5.0]), torch.randn(1, 7, 16))
    torch.testing.assert_close(module(*values), unet(*values, return_dict=False)[0])
    assert spec.shapes()["encoder_hidden_states"] == (1, 7, 16)
    folder = workspace / "models/diffusers/tiny"
    unet.save_pretrained(folder / "unet")
    loaded, _ = load_model(target.model_copy(update={"model": "tiny"}), workspace)
    torch.testing.assert_close(loaded(*values), module(*values))


NAMES = {
    "static-dreamshaper8_SD15_$stat-b-1-h-512-w-512_00001_.engine": ((1,), (512,), (512,)),
    "dynamic-dreamshaper8_SD15_$dyn-b-1-4-2-h-512-704-w-320-384-448_00001_.engine": (
        (1, 4, 2),
        (512, 704),
        (320, 384, 448),
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_file_names_of_existing_workflows(name: str) -> None:
    found = read_name(name)
    assert found is not None
    assert (found.batch, found.height, found.width) == NAMES[name]
    assert found.is_static == ("stat" in name.partition("$")[2])
    assert found.model.endswith("dreamshaper8_SD15")


def test_names_that_we_give() -> None:
    assert name_of_engine("a_SD15", Ranges()) == "a_SD15_$stat-b-1-h-512-w-512_00001_.engine"
    dynamic = name_of_engine("a", Ranges((1, 2, 4), 512, (320, 384, 448)))
    assert dynamic == "a_$dyn-b-1-4-2-h-512-512-512-w-320-448-384_00001_.engine"


def test_engines_are_found_by_the_names_in_workflows(tmp_path: Path) -> None:
    file = tmp_path / "output/tensorrt/sub/a_$stat-b-1-h-512-w-512_00001_.engine"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"")
    assert find_engine("sub\\a_$stat-b-1-h-512-w-512_00001_.engine", tmp_path) == file
    with pytest.raises(AssetError, match="there is no engine sub/a_.stat-b-1-h-512-w-768.*did you mean"):
        find_engine("sub/a_$stat-b-1-h-512-w-768_00001_.engine", tmp_path)
    for name in ("../../secret.engine", "/etc/passwd"):
        with pytest.raises(ConfigError):
            find_engine(name, tmp_path)


def target_of(**body: Any) -> Any:
    from comfystream.accel.targets import BuildTarget

    return BuildTarget.model_validate({"id": "it", "precision": "fp32", "height": 64, "width": 64, **body})


def test_an_upscaler_as_a_target(workspace: Path) -> None:
    from comfystream.accel.target_models import load_model
    from comfystream.accel.upscalers import Fsrcnn

    safetensors.save_file(Fsrcnn(8, 4, 1, 2).state_dict(), workspace / "models/fsrcnn.safetensors")
    module, spec = load_model(target_of(kind="upscaler", model="models/fsrcnn.safetensors", scale=2), workspace)
    assert module(torch.rand(spec.inputs[0].at("opt"))).shape == (1, 3, 128, 128)
    with pytest.raises(AssetError, match="stands in its name"):
        load_model(target_of(kind="upscaler", model="models/fsrcnn.safetensors"), workspace)


def test_a_depth_model_as_a_target(workspace: Path) -> None:
    pytest.importorskip("transformers", reason="needs transformers")
    from comfystream.accel.target_models import load_model

    tiny_depth().save_pretrained(workspace / "models/depth")
    module, spec = load_model(target_of(kind="depth", model="models/depth", side=56), workspace)
    assert spec.shapes() == {"images": (1, 3, 56, 56)}
    assert module(torch.rand(1, 3, 56, 56)).shape == (1, 1, 56, 56)
    with pytest.raises(ConfigError, match="a side of 57 is no multiple of the model's patches of 14"):
        load_model(target_of(kind="depth", model="models/depth", side=57), workspace)


XL = {
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 6 * 8 + 24,
}


@pytest.mark.parametrize("names", ["ours", "comfyui"])
@pytest.mark.parametrize("options", [{}, XL])
def test_a_unet_with_residuals_as_a_target(names: str, options: dict[str, Any], workspace: Path) -> None:
    pytest.importorskip("diffusers", reason="needs diffusers")
    from comfystream.accel.target_models import load_model

    tiny_unet(**options).save_pretrained(workspace / "models/unet")
    target = target_of(kind="unet", model="models/unet", tokens=7, names=names, controlnet=True)
    module, spec = load_model(target, workspace)
    given = [one.name for one in spec.inputs]
    assert given[-1] == "input_control_middle"
    assert ("y" in given) == (names == "comfyui" and bool(options))
    assert ("text_embeds" in given) == (names == "ours" and bool(options))
    with torch.no_grad():
        assert module(*(torch.rand(one.at("opt")) for one in spec.inputs)).shape == (1, 4, 8, 8)
