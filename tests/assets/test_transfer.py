"""Files from a web server that breaks off, lies and asks for tokens."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from comfystream.assets.huggingface import folder_files
from comfystream.assets.transfer import Remote, Transfer
from comfystream.errors import AssetError

BODY = os.urandom(3_000_000)
SHA = hashlib.sha256(BODY).hexdigest()
Answer = Callable[["Handler"], None]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answers: dict[str, Answer] = {}
    asked: list[tuple[str, dict[str, str]]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        self.answers[self.path.split("?")[0]](self)

    def log_message(self, *args: object) -> None: ...

    def give(self, body: bytes, *, cut: int | None = None, status: int = 200, **headers: str) -> None:
        """All of it, or what Range asks for; `cut` breaks off after so many bytes."""
        begin = 0
        if status == 200 and (wanted := self.headers.get("Range")) and self.headers.get("If-Range") == '"v1"':
            begin, status = int(wanted.removeprefix("bytes=").rstrip("-")), 206
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) - begin))
        self.send_header("ETag", '"v1"')
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        part = body[begin:]
        self.wfile.write(part if cut is None else part[:cut])
        if cut is not None:
            self.close_connection = True


@pytest.fixture
def web() -> Iterator[str]:
    Handler.answers, Handler.asked = {}, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def transfer(**more: object) -> Transfer:
    return Transfer(environ={}, sleep=lambda seconds: None, **more)  # type: ignore[arg-type]


def test_a_file_comes_whole_with_its_checksum(web: str, tmp_path: Path) -> None:
    Handler.answers["/model.bin"] = lambda it: it.give(BODY)
    told: list[tuple[int, int | None]] = []
    target = tmp_path / "models/vae/model.bin"
    got = transfer().fetch(Remote(f"{web}/model.bin", SHA), target, lambda done, total: told.append((done, total)))
    assert got == SHA
    assert target.read_bytes() == BODY
    assert told[-1] == (len(BODY), len(BODY))
    assert [path.name for path in target.parent.iterdir()] == ["model.bin"]


def test_a_cut_connection_goes_on_where_it_was(web: str, tmp_path: Path) -> None:
    Handler.answers["/model.bin"] = lambda it: it.give(BODY, cut=1_100_000 if len(it.asked) < 3 else None)
    transfer().fetch(Remote(f"{web}/model.bin", SHA), tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == BODY
    assert [headers.get("range") for _, headers in Handler.asked] == [None, "bytes=1100000-", "bytes=2200000-"]


def test_another_run_goes_on_too(web: str, tmp_path: Path) -> None:
    Handler.answers["/model.bin"] = lambda it: it.give(BODY, cut=500_000 if len(it.asked) == 1 else 0)
    with pytest.raises(AssetError, match="goes on from here"):
        transfer().fetch(Remote(f"{web}/model.bin", SHA), tmp_path / "model.bin")
    assert not (tmp_path / "model.bin").exists()
    Handler.answers["/model.bin"] = lambda it: it.give(BODY)
    Handler.asked.clear()
    transfer().fetch(Remote(f"{web}/model.bin", SHA), tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == BODY
    assert Handler.asked[0][1]["range"] == "bytes=500000-"


def test_a_file_that_changed_meanwhile_is_begun_anew(web: str, tmp_path: Path) -> None:
    (tmp_path / ".model.bin.part").write_bytes(b"x" * 1000)
    (tmp_path / ".model.bin.part.tag").write_text('"v0"')
    Handler.answers["/model.bin"] = lambda it: it.give(BODY)
    transfer().fetch(Remote(f"{web}/model.bin", SHA), tmp_path / "model.bin")
    assert (tmp_path / "model.bin").read_bytes() == BODY


def test_a_busy_server_is_asked_again_when_it_says(web: str, tmp_path: Path) -> None:
    waits: list[float] = []
    Handler.answers["/model.bin"] = lambda it: (
        it.give(b"", status=503, Retry_After="7") if len(it.asked) == 1 else it.give(BODY)
    )
    Transfer(environ={}, sleep=waits.append).fetch(Remote(f"{web}/model.bin"), tmp_path / "model.bin")
    assert waits == [7.0]


@pytest.mark.parametrize(
    ("name", "body", "words"),
    [
        ("a.bin", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        ("a.bin", b"\n<!DOCTYPE html><html>log in</html>", "web page"),
        ("a.bin", BODY, "has SHA-256"),
        ("a.safetensors", b"not one at all" * 10, "not a safetensors file"),
        ("a.safetensors", struct.pack("<Q", 1 << 40) + b"{" + b" " * 100, "not a safetensors file"),
    ],
)
def test_what_is_not_the_file_is_thrown_away(web: str, tmp_path: Path, name: str, body: bytes, words: str) -> None:
    Handler.answers[f"/{name}"] = lambda it: it.give(body)
    wanted = "0" * 64 if words == "has SHA-256" else ""
    with pytest.raises(AssetError, match=words):
        transfer().fetch(Remote(f"{web}/{name}", wanted), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_gone_file_is_said_at_once(web: str, tmp_path: Path) -> None:
    Handler.answers["/model.bin"] = lambda it: it.give(b"", status=404)
    with pytest.raises(AssetError, match=r"status 404 \(it may have moved"):
        transfer().fetch(Remote(f"{web}/model.bin"), tmp_path / "model.bin")
    assert len(Handler.asked) == 1


def test_a_token_goes_to_its_host_only(web: str, tmp_path: Path) -> None:
    Handler.answers["/o/n/resolve/main/a.bin"] = lambda it: it.give(b"", status=302, Location=f"{web}/cdn/a.bin")
    Handler.answers["/cdn/a.bin"] = lambda it: it.give(BODY)
    one = Transfer(environ={"HF_TOKEN": "hush", "HF_ENDPOINT": web}, sleep=lambda seconds: None)
    one.fetch(Remote("https://huggingface.co/o/n/resolve/main/a.bin", SHA), tmp_path / "a.bin")
    assert [headers.get("authorization") for _, headers in Handler.asked] == ["Bearer hush", None]


def test_a_mirror_stands_in_for_the_web(tmp_path: Path) -> None:
    mirror = tmp_path / "mirror"
    (mirror / "example.org/models").mkdir(parents=True)
    (mirror / "example.org/models/a.bin").write_bytes(BODY)
    (mirror / "b.bin").write_bytes(b"b")
    one = transfer(mirror=mirror)
    assert one.fetch(Remote("https://example.org/models/a.bin?download=true", SHA), tmp_path / "a.bin") == SHA
    one.fetch(Remote("https://example.org/deep/b.bin"), tmp_path / "b.bin")
    with pytest.raises(AssetError, match="has no example.org/c.bin"):
        one.fetch(Remote("https://example.org/c.bin"), tmp_path / "c.bin")


def test_too_little_room_is_said_before(web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Handler.answers["/model.bin"] = lambda it: it.give(BODY)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(AssetError, match="has room for"):
        transfer().fetch(Remote(f"{web}/model.bin"), tmp_path / "model.bin")


def test_a_folder_is_listed_page_by_page(web: str) -> None:
    def listed(it: Handler) -> None:
        page = [{"type": "file", "path": "sub/b c.txt", "size": 3}]
        more = {}
        if "cursor" not in it.path:
            page = [
                {"type": "directory", "path": "sub/x"},
                {"type": "file", "path": "sub/a.safetensors", "size": 9, "lfs": {"oid": SHA}},
            ]
            more = {"Link": f'<{web}/api/models/o/n/tree/main/sub?recursive=true&cursor=2>; rel="next"'}
        it.give(json.dumps(page).encode(), **more)

    Handler.answers["/api/models/o/n/tree/main/sub"] = listed
    one = Transfer(environ={"HF_ENDPOINT": web}, sleep=lambda seconds: None)
    assert list(folder_files("https://huggingface.co/o/n/tree/main/sub", one)) == [
        ("a.safetensors", Remote("https://huggingface.co/o/n/resolve/main/sub/a.safetensors", SHA, 9)),
        ("b c.txt", Remote("https://huggingface.co/o/n/resolve/main/sub/b%20c.txt", "", 3)),
    ]
    with pytest.raises(AssetError, match="needs a folder on Hugging Face"):
        list(folder_files("https://example.org/o/n", one))
