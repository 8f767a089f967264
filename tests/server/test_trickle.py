"""`comfystream trickle` as people use it."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from small_disk import small_disk_at
from trickle_wire import Peer, RunningServer, running

from comfystream.errors import MediaError
from comfystream_server.cli import main
from comfystream_server.trickle_pieces import PACKET, TransportCutter


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running(auto_create=True, window=20) as server:
        yield server


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four key frames, half a second from each to the next."""
    path = tmp_path_factory.mktemp("clip") / "clip.ts"
    with av.open(str(path), "w", format="mpegts") as container:
        stream = container.add_stream("mpeg2video", rate=20)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 64, 48, "yuv420p", 10
        for number in range(40):
            picture = av.VideoFrame.from_ndarray(np.full((72, 64), 128, np.uint8), format="yuv420p")
            picture.pts = number
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return path


def pictures_in(data: bytes, tmp_path: Path) -> int:
    file = tmp_path / "segment.ts"
    file.write_bytes(data)
    with av.open(str(file)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_what_is_published_can_be_pulled(
    server: RunningServer, clip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url, copy = f"{server.url}/clip", tmp_path / "copy.ts"
    assert main(["trickle", "publish", "--fast", str(clip), url]) == 0
    assert re.search(r"segments: 4, bytes: \d+", capfd.readouterr().out)
    assert main(["trickle", "pull", url, "-o", str(copy), "--start", "0", "--count", "4"]) == 0
    assert "segments: 4" in capfd.readouterr().out
    assert pictures_in(copy.read_bytes(), tmp_path) == 40


def test_a_full_disk_is_said_and_what_fitted_is_kept(
    server: RunningServer, tmp_path: Path, small_disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url, copy, big = f"{server.url}/full", small_disk / "copy.bin", tmp_path / "big.bin"
    big.write_bytes(bytes(range(256)) * 12_000)
    assert main(["trickle", "publish", str(big), url, "--type", "application/octet-stream"]) == 0
    capfd.readouterr()
    assert main(["trickle", "pull", url, "-o", str(copy), "--start", "0", "--count", "1"]) == 2
    error = capfd.readouterr().err
    size = copy.stat().st_size
    assert error.count("\n") == 1, error
    assert f"No space left on device; {size} bytes are in it" in error
    assert 0 < size < big.stat().st_size
    assert copy.read_bytes() == big.read_bytes()[:size]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    with small_disk_at(tmp_path / "disk", "1m") as folder:
        yield folder


def test_a_file_keeps_what_is_in_it_until_something_comes(server: RunningServer, tmp_path: Path) -> None:
    there, new = tmp_path / "there", tmp_path / "new"
    there.write_bytes(b"an earlier recording")
    for file in (there, new):
        assert main(["trickle", "pull", f"{server.url}/nothing", "-o", str(file)]) == 2
    assert there.read_bytes() == b"an earlier recording"
    assert not new.exists()
    url, short = f"{server.url}/short", tmp_path / "short.bin"
    short.write_bytes(b"now this")
    assert main(["trickle", "publish", str(short), url, "--type", "text/plain"]) == 0
    assert main(["trickle", "pull", url, "-o", str(there), "--start", "0", "--count", "1"]) == 0
    assert there.read_bytes() == b"now this"


def test_each_segment_can_be_played_alone(server: RunningServer, clip: Path, tmp_path: Path) -> None:
    assert main(["trickle", "publish", "--fast", str(clip), f"{server.url}/alone"]) == 0
    for number in range(4):
        answer, body = Peer(server.url, "alone").get(number)
        assert answer["Content-Type"] == "video/MP2T"
        assert pictures_in(body, tmp_path) == 10


def test_it_is_sent_as_fast_as_it_plays(server: RunningServer, clip: Path) -> None:
    import time

    began = time.monotonic()
    assert main(["trickle", "publish", str(clip), f"{server.url}/paced"]) == 0
    assert time.monotonic() - began > 1.0


def test_watch_prints_a_line_per_segment(server: RunningServer, capfd: pytest.CaptureFixture[str]) -> None:
    peer = Peer(server.url, "watched").create("text/plain")
    for number in range(3):
        peer.write(number, "x" * (number + 1))
    assert main(["trickle", "watch", f"{server.url}/watched", "--start", "0", "--count", "3"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [["0", "1", "bytes"], ["1", "2", "bytes"], ["2", "3", "bytes"]]
    assert "text/plain" in lines[0]
    assert "Lp-Trickle-Seq=0" in lines[0]


def test_other_files_are_one_segment(server: RunningServer, tmp_path: Path) -> None:
    file = tmp_path / "order.json"
    file.write_text('{"a": 1}')
    url = f"{server.url}/order"
    assert main(["trickle", "publish", str(file), url, "--type", "application/json"]) == 0
    answer, body = Peer(server.url, "order").get(0)
    assert (answer["Content-Type"], body) == ("application/json", b'{"a": 1}')
    assert main(["trickle", "publish", "--resume", "--delete", str(file), url]) == 0
    assert Peer(server.url, "order").get(0)[0].status == 404


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["watch", "@/nothing"], "there is no channel at @/nothing (--wait 30"),
        (["pull", "@/nothing", "-o", "-"], "there is no channel"),
        (["pull", "@/nothing", "-o", "/nowhere/file"], "/nowhere/file cannot be written: No such file"),
        (["watch", "ftp://x/y"], '"ftp://x/y" is no URL of a trickle channel'),
        (["watch", "@/nothing", "--start", "-3"], "--start -3 is no segment"),
        (["publish", "/nowhere", "@/x"], "/nowhere cannot be read: No such file"),
        (["publish", "EMPTY", "@/x"], "is empty"),
        (["publish", "EMPTY", "http://127.0.0.1:CLOSED/x"], "cannot be written: Connection refused"),
        (["server", "--port", "TAKEN"], "cannot listen on 127.0.0.1:"),
        (["server", "--channel", "=x"], "a name is missing"),
    ],
)
def test_errors_are_one_line(
    server: RunningServer, tmp_path: Path, words: list[str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for name, value in {
            "@": server.url,
            "EMPTY": str(empty),
            "TAKEN": server.url.rsplit(":", 1)[1],
            "CLOSED": str(closed.getsockname()[1]),
        }.items():
            words = [word.replace(name, value) for word in words]
            said = said.replace(name, value)
        assert main(["trickle", *words]) == 2
    error = capfd.readouterr().err
    assert said in error
    assert error.count("\n") == 1, error


def test_the_server_starts_and_ends_with_ctrl_c() -> None:
    command = "import sys; from comfystream_server.cli import main; sys.exit(main())"
    words = [sys.executable, "-P", "-c", command, "trickle", "server", "--port", "0", "--channel", "cam=video/MP2T"]
    words += ["--base-path", "/ai/trickle"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        found = re.match(r"trickle server: (http://127.0.0.1:\d+/ai/trickle)/CHANNEL", process.stdout.readline())
        assert found
        with Peer(found[1], "cam").open("GET", 0) as waiting:
            assert waiting.is_waiting()
            process.send_signal(signal.SIGINT)
            assert waiting.head().is_closed
        assert process.wait(30) == 0
        assert process.stderr.read() == ""


def write_clip(path: Path, codec: str, frames: int) -> None:
    """Grey pictures of 64x48, 20 a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=20)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for at in range(frames):
            picture = av.VideoFrame.from_ndarray(np.full((72, 64), 128, np.uint8), format="yuv420p")
            picture.pts = at
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_both_ends_in_order(server: RunningServer, tmp_path: Path, number: signal.Signals) -> None:
    url, copy = f"{server.url}/signal{number}", tmp_path / "copy.ts"
    write_clip(tmp_path / "clip.mp4", "libx264", 40)

    def start(*words: str) -> subprocess.Popen[str]:
        command = "import sys; from comfystream_server.cli import main; sys.exit(main())"
        pipe, arguments = subprocess.PIPE, [sys.executable, "-P", "-c", command, "trickle", *words]
        return subprocess.Popen(arguments, stdout=pipe, stderr=pipe, text=True)

    def end(process: subprocess.Popen[str]) -> tuple[str, str]:
        process.send_signal(number)
        said = process.communicate(timeout=30)
        assert process.returncode == 0, said
        return said

    publisher = start("publish", str(tmp_path / "clip.mp4"), url, "--loop", "--delete")
    first, second = (start("pull", url, "-o", str(path), "--wait", "30") for path in (copy, tmp_path / "all.ts"))
    deadline = time.monotonic() + 30
    while not (copy.exists() and copy.stat().st_size > 20_000):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    said, errors = end(first)
    assert re.search(rf"copy.ts: segments: \d+, bytes: {copy.stat().st_size}\n", said)
    assert errors == "comfystream: stopped\n"
    _, errors = end(publisher)
    assert "lost" not in errors, "what was on its way arrives"
    assert second.wait(30) == 0, "the channel was ended"
    with av.open(str(tmp_path / "all.ts")) as container:
        assert sum(1 for _ in container.decode(video=0)) > 20


def test_damaged_packets_are_told() -> None:
    cutter = TransportCutter()
    with pytest.raises(MediaError) as caught:
        list(cutter.feed(b"\x47" + b"\0" * (PACKET - 1) + b"x" * PACKET))
    assert caught.value.code == "not_transport_stream"


def test_packets_may_come_in_any_pieces(clip: Path) -> None:
    data = clip.read_bytes()
    whole = list(TransportCutter().feed(data))
    cutter = TransportCutter()
    pieces = [piece for at in range(0, len(data), 77) for piece in cutter.feed(data[at : at + 77])]
    assert b"".join(piece.data for piece in pieces) == b"".join(piece.data for piece in whole)
    assert sum(piece.is_start for piece in pieces) == sum(piece.is_start for piece in whole) == 3


def test_a_clip_is_encoded_and_sent_as_it_plays(
    server: RunningServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    clip, copy = tmp_path / "clip.mp4", tmp_path / "copy.ts"
    write_clip(clip, "mpeg4", 30)
    url = f"{server.url}/encoded"
    assert main(["trickle", "publish", str(clip), url]) == 0
    assert "pictures: 30" in capfd.readouterr().out
    assert main(["trickle", "pull", url, "-o", str(copy), "--start", "0", "--count", "2"]) == 0
    assert pictures_in(copy.read_bytes(), tmp_path) >= 20
    assert main(["trickle", "publish", "--raw", "--fast", str(clip), f"{server.url}/raw"]) == 0
    assert f"segments: 1, bytes: {clip.stat().st_size}" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("none.mp4",), "No such file"),
        (("--fast", "CLIP"), "--raw"),
        (("--loop", "TEXT"), "--loop is for clips"),
    ],
)
def test_what_cannot_be_published_is_said_before_anything_is_sent(
    arguments: tuple[str, ...], words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = {"CLIP": tmp_path / "clip.mp4", "TEXT": tmp_path / "text.json"}
    for file in files.values():
        file.write_text("{}")
    given = [str(files.get(word, word)) for word in arguments]
    assert main(["trickle", "publish", *given, "http://127.0.0.1:1/nowhere"]) == 2
    assert words in capfd.readouterr().err
