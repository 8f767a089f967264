"""Programs that send streams: ffmpeg, and an RTSP camera by GStreamer. Tests that need one that is missing say so."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SYSTEM_PYTHON = "/usr/bin/python3"
CAMERA = Path(__file__).with_name("rtsp_camera.py")
TEST_PICTURE = ("-re", "-f", "lavfi", "-i", "testsrc=size=160x120:rate=25", "-f", "lavfi", "-i", "sine")
ENCODED = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25", "-pix_fmt", "yuv420p")


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port of the loopback that nobody has."""
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextlib.contextmanager
def ffmpeg_sender(*output: str) -> Iterator[subprocess.Popen[bytes]]:
    """`ffmpeg` that sends a test picture with sound, as fast as it is shown."""
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("there is no ffmpeg program (apt-get install ffmpeg): the real sender is not tested")
    command = [program, "-nostdin", "-v", "error", *TEST_PICTURE, *ENCODED, "-c:a", "aac", *output]
    process = subprocess.Popen(command)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def rtsp_camera(port: int = 0) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A camera at rtsp://127.0.0.1:PORT/camera; its process, and the port."""
    needed = "import gi; gi.require_version('GstRtspServer', '1.0')"
    try:
        subprocess.run([SYSTEM_PYTHON, "-c", needed], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("there is no GStreamer RTSP server (gir1.2-gst-rtsp-server-1.0): RTSP is not tested")
    process = subprocess.Popen([SYSTEM_PYTHON, str(CAMERA), str(port)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
