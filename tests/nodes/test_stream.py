from __future__ import annotations

import math
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from comfystream import bus, tensor_cache
from comfystream.errors import ComfyStreamError
from comfystream.exceptions import ComfyStreamAudioBufferError, ComfyStreamInputTimeoutError

CONTRACT: dict[str, tuple[str, dict[str, Any], tuple[str, ...], bool, str]] = {
    "LoadTensor": (
        "ComfyStream/Loaders",
        {"optional": {"timeout_seconds": ("FLOAT", {"default": 1.0, "min": 0.1, "max": 30.0, "step": 0.1})}},
        ("IMAGE",),
        False,
        "execute",
    ),
    "SaveTensor": ("tensor_utils", {"required": {"images": ("IMAGE",)}}, (), True, "execute"),
    "SaveTextTensor": (
        "text_utils",
        {"required": {"data": ("STRING",)}, "optional": {"remove_linebreaks": ("BOOLEAN", {"default": True})}},
        (),
        True,
        "execute",
    ),
    "LoadAudioTensor": (
        "ComfyStream/Loaders",
        {
            "required": {"buffer_size": ("FLOAT", {"default": 500.0})},
            "optional": {"timeout_seconds": ("FLOAT", {"default": 1.0, "min": 0.1, "max": 30.0, "step": 0.1})},
        },
        ("AUDIO",),
        False,
        "execute",
    ),
    "SaveAudioTensor": ("audio_utils", {"required": {"audio": ("AUDIO",)}}, (), True, "execute"),
    "PitchShifter": (
        "audio_utils",
        {
            "required": {
                "audio": ("AUDIO",),
                "pitch_shift": ("FLOAT", {"default": 4.0, "min": 0.0, "max": 12.0, "step": 0.5}),
            }
        },
        ("AUDIO",),
        False,
        "execute",
    ),
    "ComfyStreamUIPreview": ("ComfyStream", {"required": {}}, (), False, "execute"),
}


@pytest.mark.parametrize("key", CONTRACT)
def test_contract(stream, key: str) -> None:
    cls = stream.NODE_CLASS_MAPPINGS[key]
    category, inputs, outputs, is_output, function = CONTRACT[key]
    assert (cls.CATEGORY, cls.INPUT_TYPES(), cls.RETURN_TYPES) == (category, inputs, outputs)
    assert (getattr(cls, "OUTPUT_NODE", False), cls.FUNCTION) == (is_output, function)
    if key != "ComfyStreamUIPreview":
        assert math.isnan(cls.IS_CHANGED(**dict.fromkeys(inputs.get("required", {}))))


def test_the_pack_has_the_eight_and_one_display_name(stream) -> None:
    assert set(stream.NODE_CLASS_MAPPINGS) == {*CONTRACT, "PrimaryInputLoadImage"}
    assert stream.NODE_DISPLAY_NAME_MAPPINGS == {"ComfyStreamUIPreview": "ComfyStream UI Preview"}
    assert stream.NODE_CLASS_MAPPINGS["LoadAudioTensor"].RETURN_NAMES == ("audio",)


def test_primary_input_is_load_image(stream, core) -> None:
    primary, plain = stream.NODE_CLASS_MAPPINGS["PrimaryInputLoadImage"], core.NODE_CLASS_MAPPINGS["LoadImage"]
    assert issubclass(primary, plain)
    assert (primary.FUNCTION, primary.CATEGORY, primary.RETURN_TYPES) == ("load_image", "image", ("IMAGE", "MASK"))
    assert primary.INPUT_TYPES() == plain.INPUT_TYPES()


def test_primary_input_is_the_load_image_of_the_comfyui_around_it(stream) -> None:
    from comfystream_nodes.stream import image

    host = types.ModuleType("nodes")
    host.LoadImage = type("LoadImage", (), {})  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "nodes", host)
        assert image._load_image() is host.LoadImage


def frame(value: Any, sample_rate: int = 0) -> types.SimpleNamespace:
    return types.SimpleNamespace(side_data=types.SimpleNamespace(input=value, skipped=True), sample_rate=sample_rate)


def test_load_tensor_takes_the_newest_frame_of_the_queue(stream) -> None:
    newest = frame(torch.rand(1, 4, 6, 3))
    tensor_cache.image_inputs.put(frame(torch.zeros(1, 4, 6, 3)))
    tensor_cache.image_inputs.put(newest)
    assert torch.equal(stream.NODE_CLASS_MAPPINGS["LoadTensor"]().execute()[0], newest.side_data.input)
    assert newest.side_data.skipped is False
    assert tensor_cache.image_inputs.dropped >= 1


def test_load_tensor_says_that_a_stream_has_stopped(stream) -> None:
    load = stream.NODE_CLASS_MAPPINGS["LoadTensor"]()
    tensor_cache.image_inputs.put(frame(torch.zeros(1, 2, 2, 3)))
    load.execute()
    with pytest.raises(ComfyStreamInputTimeoutError, match="no video input for 0.1 s"):
        load.execute(timeout_seconds=0.1)


def test_load_tensor_without_a_stream(stream) -> None:
    load = stream.NODE_CLASS_MAPPINGS["LoadTensor"]()
    said = load.execute()
    card = said["result"][0]
    assert said["ui"] == {"comfystream_note": ["no stream: test card"]}
    assert card.shape == (1, 512, 512, 3)
    assert len(card[0, 0].unique(dim=0)) == 7
    bus.inputs.put("video", np.full((3, 5, 3), 255, np.uint8))
    said = load.execute()
    last = said["result"][0]
    assert said["ui"] == {"comfystream_note": ["no stream: last live picture"]}
    assert last.shape == (1, 3, 5, 3)
    assert last.min() == 1.0


def test_save_tensor_shows_and_hands_on(stream, folders: Path) -> None:
    picture = torch.rand(1, 3, 4, 3)
    said = stream.NODE_CLASS_MAPPINGS["SaveTensor"]().execute(picture)["ui"]
    shown = said["images"]
    assert said["comfystream_note"] == ["preview; Go live shows the stream"]
    assert (folders / "temp" / shown[0]["filename"]).is_file()
    assert tensor_cache.image_outputs.get_nowait() is picture
    assert bus.outputs.get("video") is picture


def test_sound_is_cut_into_buffers_and_the_rest_is_kept(stream) -> None:
    load = stream.NODE_CLASS_MAPPINGS["LoadAudioTensor"]()
    for start in (0, 30, 60):
        tensor_cache.audio_inputs.put(frame(np.arange(start, start + 30, dtype=np.int16), 1000))
    first, second = (load.execute(buffer_size=40.0)[0] for _ in range(2))
    assert first["sample_rate"] == 1000
    assert first["waveform"].shape == (1, 1, 40)
    together = torch.cat([first["waveform"], second["waveform"]], dim=-1).flatten() * 32768
    assert together.tolist() == list(range(80))
    with pytest.raises(ComfyStreamAudioBufferError, match="10 of 40 samples"):
        load.execute(buffer_size=40.0, timeout_seconds=0.1)


def test_sound_that_never_comes_and_a_changed_rate(stream) -> None:
    load = stream.NODE_CLASS_MAPPINGS["LoadAudioTensor"]()
    tensor_cache.audio_inputs.put(frame(np.zeros(10, np.int16), 1000))
    tensor_cache.audio_inputs.put(frame(np.zeros(10, np.int16), 2000))
    with pytest.raises(ValueError, match="expected 1000 Hz, got 2000 Hz"):
        load.execute(buffer_size=20.0)
    with pytest.raises(ComfyStreamInputTimeoutError, match="no audio input"):
        stream.NODE_CLASS_MAPPINGS["LoadAudioTensor"]().execute(buffer_size=20.0, timeout_seconds=0.1)


def test_sound_without_a_stream_is_silence(stream) -> None:
    audio = stream.NODE_CLASS_MAPPINGS["LoadAudioTensor"]().execute(buffer_size=100.0)[0]
    assert audio["waveform"].shape == (1, 1, 4800)
    assert audio["waveform"].abs().sum() == 0


def test_saved_sound_is_sixteen_bit_and_never_wraps(stream, folders: Path) -> None:
    audio = {"waveform": torch.tensor([[[0.0, 0.5, 1.0, 2.0, -2.0]]]), "sample_rate": 8000}
    shown = stream.NODE_CLASS_MAPPINGS["SaveAudioTensor"]().execute(audio)["ui"]["audio"][0]
    assert (folders / "temp" / shown["filename"]).is_file()
    samples = tensor_cache.audio_outputs.get_nowait()
    assert samples.dtype == np.int16
    assert samples.tolist() == [0, 16383, 32767, 32767, -32768]


def test_text_goes_out_without_line_breaks(stream) -> None:
    save = stream.NODE_CLASS_MAPPINGS["SaveTextTensor"]()
    assert save.execute("a\r\nb")["ui"] == {"text": ("ab",)}
    save.execute("a\nb", remove_linebreaks=False)
    save.execute("")
    assert [tensor_cache.text_outputs.get_nowait() for _ in range(3)] == ["ab", "a\nb", ""]


def test_the_errors_belong_to_the_tree() -> None:
    error = ComfyStreamInputTimeoutError("video", 1.0)
    assert isinstance(error, ComfyStreamError)
    assert isinstance(error, TimeoutError)
    assert (error.input_type, error.timeout_seconds, error.code) == ("video", 1.0, "input_timeout")
