"""A real ComfyUI with this repository in its `custom_nodes`: it starts, lists our nodes, and goes live."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from comfyui_stub import put_pack, until
from editor_page import BLEND, CHROMIUM, NEWEST, OLDEST, editor, frontend

pytestmark = [
    pytest.mark.comfyui,
    pytest.mark.browser,
    pytest.mark.peers,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"needs Chromium at {CHROMIUM}, or CHROMIUM_PATH"),
]
SITE = Path(__file__).parents[2] / "support" / "comfyui_site"
# No dialog of the first start lies over the editor, and it asks nobody for news.
CALM = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Notification.ShowVersionUpdates": False,
    "Comfy.Workflow.ShowMissingNodesWarning": False,
    "Comfy.Workflow.ShowMissingModelsWarning": False,
    "Comfy.UseNewMenu": "Top",
}
# A pack that only this base folder has: our server has to load what ComfyUI itself was started with.
PACK = """
class TestFromBase:
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"
    @classmethod
    def INPUT_TYPES(cls): return {"required": {"image": ("IMAGE",)}}
    def run(self, image): return (image,)
NODE_CLASS_MAPPINGS = {"TestFromBase": TestFromBase}
"""
FROM_BASE = {"class_type": "TestFromBase", "inputs": {"image": ["1", 0]}}
INVERT = {"class_type": "ImageInvert", "inputs": {"image": ["5", 0]}}
OURS = ("LoadTensor", "SaveTensor", "LoadAudioTensor", "SaveAudioTensor", "SaveTextTensor", "ComfyStreamUIPreview")


def _version(checkout: Path) -> tuple[int, ...]:
    text = (checkout / "comfyui_version.py").read_text("utf-8")
    return tuple(int(part) for part in text.partition('__version__ = "')[2].partition('"')[0].split(".")[:3])


@contextlib.contextmanager
def _comfyui(checkout: Path, folder: Path) -> Iterator[str]:
    base = folder / "base folder"
    pack = put_pack(base / "custom_nodes")
    (base / "custom_nodes" / "from_base.py").write_text(PACK)
    (base / "user" / "default").mkdir(parents=True)
    (base / "user" / "default" / "comfy.settings.json").write_text(json.dumps(CALM))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    words = [os.environ.get("COMFYUI_PYTHON", sys.executable), str(checkout / "main.py"), "--cpu", "--port", str(port)]
    words += [
        "--base-directory",
        str(base),
        "--database-url",
        f"sqlite:///{base / 'comfyui.db'}",
        "--disable-api-nodes",
    ]
    words += ["--front-end-root", str(frontend(OLDEST if _version(checkout) < (0, 3, 65) else NEWEST))]
    environ = {**os.environ, "PYTHONPATH": str(SITE), "PIP_NO_INDEX": "1", "COMFYSTREAM_ICE_LOOPBACK": "true"}
    with (folder / "comfyui.log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, cwd=folder, env=environ)
        try:
            address = f"http://127.0.0.1:{port}"
            until(lambda: process.poll() is not None or _answers(address), 240)
            assert process.poll() is None, (folder / "comfyui.log").read_text()[-3000:]
            yield address
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            shutil.rmtree(pack, ignore_errors=True)


def _answers(address: str) -> bool:
    with contextlib.suppress(OSError):
        return bool(urllib.request.urlopen(f"{address}/system_stats", timeout=5).read())
    return False


def test_it_starts_with_our_nodes_and_a_drag_changes_the_live_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout = Path(os.environ["COMFYUI_PATH"]).resolve()
    with _comfyui(checkout, tmp_path) as address:
        with urllib.request.urlopen(f"{address}/object_info", timeout=120) as answer:
            classes = json.loads(answer.read())
        assert set(OURS) <= set(classes)
        assert "nodes" in classes["ImageInvert"]["python_module"], "ComfyUI's own classes are its own"
        modules = {classes[name]["python_module"] for name in OURS}
        assert modules == {"custom_nodes.ComfyStream"}
        with editor(address, tmp_path) as editing:
            editing.page.set_default_timeout(120_000)  # all of its node classes are loaded before the first picture
            editing.load({**BLEND, "3": INVERT, "5": FROM_BASE})
            editing.open_panel()
            editing.go_live()
            editing.wait_red("< 90")
            x, y = editing.hold(2, "blend_factor")
            for step in range(45):
                editing.page.mouse.move(x + step * 4, y)
                editing.page.wait_for_timeout(20)
            editing.wait_red("> 150")  # while the button is down
            editing.page.mouse.up()
            stats = editing.page.evaluate("comfystream.stats")
        with capsys.disabled():
            print(f"\n  ComfyUI {'.'.join(map(str, _version(checkout)))}: {len(classes)} node classes, live at")
            print(f"  {stats['fps_out']:.0f} fps out of {stats['fps_in']:.0f}")
