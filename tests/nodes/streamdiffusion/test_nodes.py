"""The nodes as the engine runs them: a graph on live frames, edits while it runs, and bad edits that stop nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fake_backends import only_absent
from frames import picture
from live_graph import Live, graph_of

pytest.importorskip("diffusers")
pytest.importorskip("transformers")

import tiny

from comfystream.errors import AssetError, ComfyStreamError, ConfigError, EngineError
from comfystream_nodes.streamdiffusion import NODE_CLASS_MAPPINGS
from comfystream_nodes.streamdiffusion.config import config_of, read_config_file
from comfystream_nodes.streamdiffusion.depth_node import depth_of, load_depth

EXISTING = (
    "ControlNetTRTConfig",
    "ControlNetTRTModelLoader",
    "ControlNetTRTEngineCreator",
    "ControlNetTRTStreamingSampler",
)


def test_a_graph_runs_and_every_edit_holds(tmp_path, model_folders) -> None:
    live = Live(graph_of(model_folders["sd15"], t_index_list="10", cfg_type="none"), tmp_path)
    live.send(1)
    for change in ({"prompt": {"text": "a dog"}}, {"stream": {"t_index_list": "30"}}, {"stream": {"seed": 9}}):
        live.edit(**change)
        live.send(1)
    pictures = live.end()
    assert (len(pictures), live.failed) == (4, 0)
    assert all(one.shape == (64, 64, 3) for one in pictures)
    assert len({one.tobytes() for one in pictures}) == 4


def test_a_bad_edit_is_refused_and_the_stream_goes_on(tmp_path, model_folders, monkeypatch) -> None:
    monkeypatch.setattr("comfystream.accel.registry.backends", only_absent)
    live = Live(graph_of(model_folders["sd15"]), tmp_path)
    live.send(1)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(b"\x08\0\0\0\0\0\0\0{}")
    foreign = tiny.write_lora(tmp_path / "xl.safetensors", layer="down_blocks_9_attentions_0")
    for change, said in (
        ({"stream": {"t_index_list": "20,70"}}, "t_index_list holds 70, which is out of range"),
        ({"model": {"model": str(cut)}}, "cut.safetensors"),
        ({"model": {"model": "nothing/there"}}, "'nothing/there' is not there"),
        ({"model": {"unet": "nothing/there"}}, "'nothing/there' is not there.*diffusion_models"),
        ({"stream": {"cfg_type": "some"}}, "cfg_type"),
        ({"model": {"acceleration": "tensorrt"}}, "the backend tensorrt does not work here.*pip install tensorrt"),
    ):
        before = live.graph
        with pytest.raises(ComfyStreamError, match=said) as raised:
            live.edit(**change)
        assert raised.value.node_id == next(iter(change))
        live.graph = before
    with_lora = {**live.graph}
    with_lora["lora"] = {
        "class_type": "StreamDiffusionLoRA",
        "inputs": {"model": ["model", 0], "lora": str(foreign), "strength": 1.0},
    }
    live.graph = with_lora
    with pytest.raises(ComfyStreamError, match="LoRA xl.safetensors is for another architecture") as raised:
        live.edit(stream={"model": ["lora", 0]}, prompt={"model": ["lora", 0]})
    assert raised.value.node_id == "lora"
    live.send(2)
    assert len(live.end()) == 3
    assert live.failed == 0


def test_the_keys_and_sockets_of_existing_sets() -> None:
    assert set(EXISTING) <= set(NODE_CLASS_MAPPINGS)
    config, loader, creator, sampler = (NODE_CLASS_MAPPINGS[key] for key in EXISTING)
    declared = config.INPUT_TYPES()["required"]
    assert len(declared) == 39
    assert declared["t_index_list"] == ("STRING", {"default": "20,35,45", "multiline": False})
    assert declared["delta"][1] == {"default": 0.7, "min": 0.0, "max": 3.0, "step": 0.01}
    assert declared["style_image"] == ("IMAGE",)
    assert (config.RETURN_TYPES, loader.RETURN_TYPES, sampler.RETURN_TYPES) == (
        ("MULTICONTROL_CONFIG",),
        ("MODEL",),
        ("IMAGE",),
    )
    assert creator.OUTPUT_NODE
    assert [config.FUNCTION, loader.FUNCTION, creator.FUNCTION, sampler.FUNCTION] == [
        "build_config",
        "load_model",
        "create_engine",
        "generate",
    ]
    assert set(sampler.INPUT_TYPES()["required"]) == {"model", "input_image"}
    assert len(sampler.INPUT_TYPES()["optional"]) == 40


def existing_config(folder: Path, tmp_path: Path, **changes) -> dict:
    cls = NODE_CLASS_MAPPINGS["ControlNetTRTConfig"]
    tiny.controlnet().save_pretrained(tmp_path / "net")
    tiny.write_ip_adapter(tmp_path / "adapter.safetensors", tiny.unet("sd15"))
    tiny.image_encoder().save_pretrained(tmp_path / "encoder")
    given = {
        name: declared[1]["default"]
        for name, declared in cls.INPUT_TYPES()["required"].items()
        if name != "style_image"
    }
    given |= {"model_id": str(folder), "controlnet_model_id": str(tmp_path / "net"), "acceleration": "none"}
    given |= {"use_lcm_lora": False, "height": 64, "width": 64, "style_image": torch.rand(1, 32, 32, 3)}
    given |= {
        "ipadapter_model_path": str(tmp_path / "adapter.safetensors"),
        "image_encoder_path": str(tmp_path / "encoder"),
    }
    return cls().build_config(**given | changes)[0]


def test_the_nodes_of_existing_sets_run(folders, tmp_path, model_folders) -> None:
    config = existing_config(model_folders["sd15"], tmp_path, ipadapter_enabled=True, prompt="a cat")
    model = NODE_CLASS_MAPPINGS["ControlNetTRTModelLoader"]().load_model(config)[0]
    assert model[2] == (64, 64)
    sampler = NODE_CLASS_MAPPINGS["ControlNetTRTStreamingSampler"]()

    def generate(seed: int, **changes) -> torch.Tensor:
        return sampler.generate(model, picture(seed), **changes)[0]

    first = generate(0)
    assert first.shape == (1, 64, 64, 3)
    for changes in (
        {"prompt": "a dog", "t_index_list": "[16, 45]"},
        {"controlnet_enabled": False, "ipadapter_enabled": False},
        {"preprocessor": "soft_edge", "conditioning_scale": 1.0, "ipadapter_scale": 1.5, "guidance_scale": 2.0},
        {"image_postprocessing_config": "sharpen", "preprocessor": "canny", "canny_low_threshold": 20},
    ):
        assert torch.isfinite(generate(1, **changes)).all()
    with pytest.raises(ConfigError, match="t_index_list holds 49, which is out of range: num_inference_steps is 4"):
        generate(2, t_index_list="49", num_inference_steps=4)
    assert torch.isfinite(generate(2)).all()
    NODE_CLASS_MAPPINGS["ControlNetTRTEngineCreator"]().create_engine({**config, "ipadapters": []})


def test_existing_sets_with_a_backend_that_is_not_there_say_so(folders, tmp_path, model_folders, monkeypatch) -> None:
    monkeypatch.setattr("comfystream.accel.registry.backends", only_absent)
    config = existing_config(model_folders["sd15"], tmp_path, acceleration="tensorrt")
    with pytest.raises(EngineError, match="the backend tensorrt does not work here"):
        NODE_CLASS_MAPPINGS["ControlNetTRTModelLoader"]().load_model(config)


def test_their_yaml_files_are_read(tmp_path) -> None:
    file = tmp_path / "sd15.yaml"
    file.write_text(
        "model_id: some/model\nt_index_list: [16, 32]\nwidth: 512\nheight: 512\nuse_taesd: true\n"
        "prompt_blending:\n  prompt_list: [[a cat, 0.5], [a dog, 0.5]]\n  interpolation_method: slerp\n"
        "use_controlnet: true\n"
        "controlnets:\n- {model_id: x, conditioning_scale: 0.3, preprocessor: canny, enabled: true}\n"
    )
    config = read_config_file(file)
    assert (config["t_index_list"], config["use_tiny_vae"], len(config["controlnets"])) == ([16, 32], True, 1)
    file.write_text("modell: x\n")
    with pytest.raises(ConfigError, match="sd15.yaml: unknown key 'modell'"):
        read_config_file(file)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"t_index_list": "a"}, "no list of whole numbers"),
        ({"width": 500}, "width is 500"),
        ({"lora_dict": "{"}, "no table of names and weights"),
    ],
)
def test_bad_configurations_say_what_is_wrong(given, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        config_of(given)


def test_depth(tmp_path) -> None:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=56,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone, reassemble_hidden_size=32, neck_hidden_sizes=[8, 8, 8, 8], fusion_hidden_size=8
    )
    DepthAnythingForDepthEstimation(config).save_pretrained(tmp_path / "depth")
    module = load_depth(tmp_path / "depth", torch.device("cpu"))
    depth = depth_of(module, picture(1), 56)
    assert depth.shape == (1, 64, 64, 3)
    assert 0 <= depth.min() <= depth.max() <= 1
    with pytest.raises(AssetError, match="holds no depth model"):
        load_depth(tmp_path, torch.device("cpu"))
