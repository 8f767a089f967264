"""The stand-in describes nodes exactly as the ComfyUI in COMFYUI_PATH does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from comfystream.catalog.comfyui.checkout import version_of

DESCRIBED_AS = "0.33"
SCRIPT = Path(__file__).with_name("described_nodes.py")


def described(*args: str, python: str = sys.executable) -> dict:
    done = subprocess.run([python, str(SCRIPT), *args], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_the_stand_in_describes_every_kind_of_input() -> None:
    info = described()["info"]
    required = info["input"]["required"]
    assert required["plain_Image"] == ["IMAGE", {}]
    assert required["plain_AnyType"] == ["*", {}]
    assert info["input"]["optional"]["custom"] == [
        "MY_TYPE",
        {"display_name": "Mine", "tooltip": "t", "lazy": True},
    ]
    assert required["slider"] == ["INT", {"display": "slider", "forceInput": True}]
    assert required["extra"] == ["STRING", {"multiline": False, "mine": 1}]
    assert required["remote"][1]["remote"] == {
        "route": "/models",
        "refresh_button": True,
        "control_after_refresh": "first",
        "timeout": 5,
    }
    assert info["input"]["optional"]["widget"] == [
        "FLOAT,INT,IMAGE",
        {"default": 1.0, "tooltip": "w", "widgetType": "FLOAT"},
    ]
    assert required["curve"][1]["default"] == {
        "points": [[0.0, 0.0], [1.0, 1.0]],
        "interpolation": "monotone_cubic",
    }
    assert list(info["input"]["hidden"]) == [
        "unique_id",
        "auth_token_comfy_org",
        "api_key_comfy_org",
        "comfy_usage_source",
        "prompt",
        "extra_pnginfo",
    ]


@pytest.mark.comfyui
def test_the_same_nodes_under_a_real_comfyui() -> None:
    folder = os.environ.get("COMFYUI_PATH")
    if not folder:
        pytest.skip("COMFYUI_PATH is not set: the stand-in is not compared with a real ComfyUI")
    version = version_of(Path(folder))
    if not version.startswith(DESCRIBED_AS):
        pytest.skip(f"the stand-in describes nodes as ComfyUI {DESCRIBED_AS} does: NOT compared with {version}")
    real, ours = described(folder, python=os.environ.get("COMFYUI_PYTHON", sys.executable)), described()
    assert ours["info"] == real["info"]
