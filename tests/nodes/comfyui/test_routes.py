"""A ComfyUI loads this repository by path: what it gets, and what its routes do and refuse."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from comfyui_stub import StubComfyUI, embedded_python, make_checkout, until
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")]
OURS = {
    "AcceleratedControlNet",
    "AcceleratedDepth",
    "AcceleratedDepthLoader",
    "AcceleratedTAESDLoader",
    "AcceleratedUpscale",
    "AcceleratedUpscaleModelLoader",
    "AcceleratedVAE",
    "AcceleratedVAEDecode",
    "AcceleratedVAEEncode",
    "ComfyStreamUIPreview",
    "LoadAudioTensor",
    "LoadTensor",
    "PitchShifter",
    "PrimaryInputLoadImage",
    "SaveAudioTensor",
    "SaveTensor",
    "SaveTextTensor",
}


def _is_there(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_comfyui_gets_our_nodes_and_keeps_its_own(comfyui: Callable[..., StubComfyUI], checkout: Path) -> None:
    said = comfyui().said
    assert set(said["classes"]) == OURS | {"ImageInvert", "LoadImage"}
    assert (said["nodes"], said["server"], said["invert"]) == ("ComfyUI", "ComfyUI", "nodes")
    assert said["primary"], "PrimaryInputLoadImage has to be the LoadImage of the ComfyUI around it"
    pack = checkout / "custom_nodes" / "ComfyStream"
    assert said["web"] == {"ComfyStream": str(pack / "nodes" / "web")}
    assert all(Path(file).is_relative_to(pack) for file in said["files"])
    assert str(pack) not in said["path"], "our folders nodes and server would take ComfyUI's names"
    assert not [name for name in said["modules"] if name.startswith(("comfystream.engine", "comfystream_server"))]


def test_an_installed_comfystream_is_used_in_place_of_the_folder(checkout: Path, tmp_path: Path) -> None:
    host = StubComfyUI(Path(sys.executable), checkout, tmp_path)
    try:
        assert not [file for file in host.said["files"] if Path(file).is_relative_to(checkout)]
        assert set(host.said["classes"]) >= OURS
    finally:
        host.end()


def test_only_comfyuis_own_page_with_its_token_is_answered(comfyui: Callable[..., StubComfyUI]) -> None:
    host = comfyui()
    own = host.address.removeprefix("http://")
    info, status = "/comfystream/extension_info", "/comfystream/control"
    for headers in (
        {"Origin": "https://elsewhere.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "rebound.example", "Origin": "http://rebound.example"},
        {"Origin": "null"},
    ):
        assert host.request(info, headers=headers)[0] == 403, headers
    code, said = host.request(info, headers={"Origin": f"http://{own}", "Sec-Fetch-Site": "same-origin"})
    assert (code, said["extension_name"]) == (200, "ComfyStream")
    assert host.request(f"/api{info}")[1]["token"] == said["token"]

    asked = {"action": "status"}
    assert host.request(status, asked)[0] == 401
    assert host.request(status, asked, {"X-ComfyStream-Token": "wrong"})[0] == 401
    with_token = {"X-ComfyStream-Token": said["token"]}
    assert host.request(status, asked, {**with_token, "Origin": "https://elsewhere.example"})[0] == 403
    code, answer = host.request(status, asked, with_token)
    assert code == 200
    assert {key: answer["status"][key] for key in ("running", "port", "host", "pid", "type")} == {
        "running": False,
        "port": None,
        "host": None,
        "pid": None,
        "type": "local",
    }


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("control", {"action": "explode"}, "Invalid action"),
        ("control", [], "object"),
        ("control", b"{", "not JSON"),
        ("control", {"action": "status", "settings": {"port": 80}}, "port"),
        ("settings", {"port": "many"}, "port"),
        ("settings", {"host": "a b; rm"}, "host"),
        ("settings", {"token": "short"}, "token"),
        ("settings", {"size": "big"}, "size"),
        ("settings", {"turn_url": "http://elsewhere"}, "TURN"),
        ("settings", {"nonsense": 1}, "nonsense"),
        ("settings/configuration", {"action": "add", "name": "x"}, "host"),
        ("settings/configuration", {"action": "select", "index": 7}, "configuration 7"),
        ("settings/configuration", {"action": "other"}, "Invalid action"),
        ("offer", {"endpoint": "http://169.254.169.254", "offer": {}}, "no other endpoint"),
        ("sessions/..%2f..%2fhealth/control", {}, "session"),
        ("last_picture", b"no picture", "picture"),
    ],
)
def test_bad_input_is_refused_in_words(shared: StubComfyUI, path: str, body: object, words: str) -> None:
    code, answer = shared.call(path, body)
    assert code == 400, answer
    assert words in answer["error"]


@pytest.fixture(scope="module")
def shared(python: Path, checkout: Path, tmp_path_factory: pytest.TempPathFactory):
    host = StubComfyUI(python, checkout, tmp_path_factory.mktemp("home"))
    yield host
    host.end()


def test_settings_are_kept(shared: StubComfyUI) -> None:
    assert shared.call("settings")[1]["port"] == 8889
    changed = shared.call("settings", {"port": 9100, "turn_url": "turn:turn.example:3478"})[1]["settings"]
    assert (changed["port"], changed["turn_url"]) == (9100, "turn:turn.example:3478")
    for name, port in (("Here", 9101), ("There", 9102)):
        shared.call("settings/configuration", {"action": "add", "name": name, "host": "127.0.0.1", "port": port})
    chosen = shared.call("settings/configuration", {"action": "select", "index": 1})[1]["settings"]
    assert (chosen["port"], chosen["selectedConfigIndex"]) == (9102, 1)
    left = shared.call("settings/configuration", {"action": "remove", "index": 0})[1]["settings"]
    assert ([one["name"] for one in left["configurations"]], left["selectedConfigIndex"]) == (["There"], 0)


def test_the_last_live_picture_is_taken(shared: StubComfyUI) -> None:
    file = io.BytesIO()
    Image.new("RGB", (32, 24), "red").save(file, "JPEG")
    assert shared.call("last_picture", file.getvalue()) == (200, {"success": True})


def test_nothing_is_asked_of_a_server_that_does_not_run(shared: StubComfyUI) -> None:
    assert shared.call("config")[0] == 503
    assert shared.call("offer", {"offer": {"type": "offer", "sdp": "v=0"}})[0] == 503


def test_the_server_starts_restarts_and_stops(comfyui: Callable[..., StubComfyUI]) -> None:
    host = comfyui()
    taken = socket.create_server(("127.0.0.1", 0))  # the port of the settings is somebody else's
    port = taken.getsockname()[1]
    code, answer = host.call("control", {"action": "start", "settings": {"port": port}})
    assert code == 200, answer
    status = answer["status"]
    assert (status["running"], status["state"]) == (True, "running")
    assert status["port"] > port
    assert host.call("control", {"action": "start"})[1]["status"]["pid"] == status["pid"], "one server is enough"
    assert "ice_servers" in host.call("config")[1]
    code, answer = host.call(
        "offer", {"endpoint": f"http://127.0.0.1:{status['port']}", "offer": {"sdp": "no", "type": "offer"}}
    )
    assert code == 400, answer
    assert answer["error"]["code"]

    again = host.call("control", {"action": "restart"})[1]["status"]
    assert again["running"]
    assert again["pid"] != status["pid"]
    assert not _is_there(status["pid"])
    stopped = host.call("control", {"action": "stop"})[1]["status"]
    assert (stopped["running"], stopped["state"]) == (False, "stopped")
    assert not _is_there(again["pid"])
    log = "\n".join(host.call("log")[1]["lines"])
    assert "ComfyStream:" in log
    assert "token=" not in log + "\n".join(host.lines)
    taken.close()


def test_a_server_that_dies_is_started_again_and_that_is_told(comfyui: Callable[..., StubComfyUI]) -> None:
    host = comfyui()
    pid = host.call("control", {"action": "start"})[1]["status"]["pid"]
    os.kill(pid, signal.SIGKILL)
    status = until(lambda: (now := host.status())["state"] == "restarting" and now)
    assert (status["running"], status["exit_code"]) == (False, -signal.SIGKILL)
    assert "SIGKILL" in status["reason"]
    assert any("ComfyStream:" in line for line in status["lines"])
    status = until(lambda: (now := host.status())["running"] and now)
    assert status["pid"] != pid
    assert status["restarts"] == 1
    assert "SIGKILL" in status["last_end"]["reason"]
    assert any("ComfyStream:" in line for line in status["last_end"]["lines"])


def test_a_server_that_dies_is_told_with_its_last_lines(comfyui: Callable[..., StubComfyUI]) -> None:
    host = comfyui()
    assert host.call("settings", {"restart": False})[0] == 200
    pid = host.call("control", {"action": "start"})[1]["status"]["pid"]
    os.kill(pid, signal.SIGKILL)
    status = until(lambda: (now := host.status())["state"] == "failed" and now)
    assert (status["running"], status["exit_code"]) == (False, -signal.SIGKILL)
    assert any("ComfyStream:" in line for line in status["lines"])
    assert host.call("control", {"action": "start"})[1]["status"]["running"]


def test_a_server_that_cannot_start_says_why(comfyui: Callable[..., StubComfyUI]) -> None:
    host = comfyui(COMFYSTREAM_MAX_SESSIONS="none of them")
    code, answer = host.call("control", {"action": "start"})
    assert code == 500
    assert "max_sessions" in answer["error"]
    assert (answer["status"]["state"], answer["status"]["exit_code"]) == ("failed", 2)
    code, answer = host.call("control", {"action": "start", "settings": {"host": "203.0.113.9"}})
    assert code == 500
    assert "203.0.113.9" in answer["error"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_is_left_when_comfyui_ends(comfyui: Callable[..., StubComfyUI], number: int) -> None:
    host = comfyui()
    pid = host.call("control", {"action": "start"})[1]["status"]["pid"]
    until(lambda: psutil.Process(pid).children(recursive=True))  # the engine
    everyone = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    host.process.send_signal(number)
    until(lambda: not any(map(_is_there, everyone)))


def test_a_portable_build_with_its_embedded_python(tmp_path: Path) -> None:
    portable = tmp_path / "Meine portable Ausgabe für ä"
    checkout = make_checkout(portable)
    python = embedded_python(portable, checkout.name)
    installed = [str(python), "-s", str(checkout / "custom_nodes" / "ComfyStream" / "install.py")]
    done = subprocess.run(installed, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "nothing to do" in done.stdout) == (0, True), done.stdout + done.stderr
    host = StubComfyUI(python, checkout, tmp_path)
    try:
        assert set(host.said["classes"]) >= OURS
        status = host.call("control", {"action": "start"})[1]["status"]
        assert status["running"], status
        pid = status["pid"]
        said = until(lambda: [line for line in host.call("log")[1]["lines"] if "node classes" in line], 90)
        assert "engine" in said[0], "lines come while it runs, and the engine has found everything, too"
        everyone = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
        assert len(everyone) > 1
    finally:
        host.end()
    until(lambda: not any(map(_is_there, everyone)))


def test_installing_twice_does_nothing(python: Path, checkout: Path) -> None:
    command = [str(python), "-P", str(checkout / "custom_nodes" / "ComfyStream" / "install.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing to do" in done.stdout


def test_the_requirements_leave_torch_and_numpy_alone(repository: Path) -> None:
    lines = (repository / "requirements.txt").read_text("utf-8").splitlines()
    names = [line.split(">")[0].strip().lower() for line in lines if line and not line.startswith("#")]
    assert names
    assert not {"torch", "torchvision", "torchaudio", "numpy", "pillow"} & set(names)
    assert json.dumps(names) == json.dumps(sorted(names, key=str.lower))
