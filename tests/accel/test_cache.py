"""Engines on the disk: the key, whole or not at all, one build at a time, the oldest go first."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import PAIR, Pair

from comfystream.accel.backend import BuildOptions
from comfystream.accel.cache import EngineCache
from comfystream.accel.key import EngineKey, Lora, digest_of_module
from comfystream.accel.machine import Machine
from comfystream.accel.spec import Axis
from comfystream.errors import AssetError, BusyError

HERE = Machine("Linux", "x86_64", "2.13.0", gpu="NVIDIA L40S", compute_capability="8.9", driver="580", cuda="13.0")
KEY = EngineKey("tensorrt", "11.4.0", HERE, PAIR, BuildOptions(), "graph", "weights")


def plan_of(data: bytes = b"engine") -> object:
    def make(folder: Path) -> Path:
        (folder / "plan.engine").write_bytes(data)
        return folder / "plan.engine"

    return make


OTHERS = {
    "backend": replace(KEY, backend="tensorrt-rtx"),
    "version": replace(KEY, version="11.4.1"),
    "gpu": replace(KEY, machine=replace(HERE, gpu="NVIDIA H200")),
    "compute capability": replace(KEY, machine=replace(HERE, compute_capability="9.0")),
    "driver": replace(KEY, machine=replace(HERE, driver="590")),
    "torch": replace(KEY, machine=replace(HERE, torch="2.14.0")),
    "precision": replace(KEY, spec=replace(PAIR, precision="fp16")),
    "range": replace(
        KEY, spec=replace(PAIR, inputs=(replace(PAIR.inputs[0], shape=(Axis("batch", 1, 2, 8), 3, 8, 8)),))
    ),
    "level": replace(KEY, options=BuildOptions(level=5)),
    "flags": replace(KEY, options=BuildOptions(flags={"refit": "1"})),
    "graph": replace(KEY, graph="other"),
    "weights": replace(KEY, weights="other"),
    "lora": replace(KEY, loras=(Lora("style", "digest", 0.7),)),
    "lora scale": replace(KEY, loras=(Lora("style", "digest", 0.8),)),
}


def test_whatever_differs_is_another_engine() -> None:
    """Defect 1 of the known implementations: engines found by a file name that leaves most of this out."""
    digests = {KEY.digest, *(other.digest for other in OTHERS.values())}
    assert len(digests) == 1 + len(OTHERS)
    assert replace(KEY, options=BuildOptions(flags={})).digest == KEY.digest


def test_digests_of_modules() -> None:
    graph, weights = digest_of_module(Pair(0))
    assert digest_of_module(Pair(0)) == (graph, weights)
    other = digest_of_module(Pair(1))
    assert other[0] == graph
    assert other[1] != weights
    assert digest_of_module(Pair(0).half())[1] != weights


def test_built_once_and_found_again(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines")
    assert cache.find(KEY) is None
    entry = cache.build(KEY, plan_of(), "a pair")
    assert entry.plan.read_bytes() == b"engine"

    def never(folder: Path) -> Path:
        raise AssertionError("it is there")

    assert EngineCache(tmp_path / "engines").build(KEY, never).digest == entry.digest
    assert [one.label for one in cache.entries()] == ["a pair"]
    assert cache.find(OTHERS["lora scale"]) is None


@pytest.mark.parametrize("harm", ["cut", "changed", "no plan", "bad notes", "foreign notes"])
def test_a_broken_engine_is_built_again(harm: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = EngineCache(tmp_path)
    entry = cache.build(KEY, plan_of(b"0123456789"))
    if harm == "cut":
        entry.plan.write_bytes(b"01234")
    elif harm == "changed":
        entry.plan.write_bytes(b"0123456780")
    elif harm == "no plan":
        entry.plan.unlink()
    elif harm == "bad notes":
        (entry.folder / "meta.json").write_text("{")
    else:
        other = cache.build(OTHERS["gpu"], plan_of(b"0123456789"))
        (entry.folder / "meta.json").write_bytes((other.folder / "meta.json").read_bytes())
    assert cache.find(KEY) is None
    assert "broken and will be built again" in caplog.text
    assert cache.build(KEY, plan_of(b"new")).plan.read_bytes() == b"new"


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)

    def make(folder: Path) -> Path:
        (folder / "plan.engine").write_bytes(b"half")
        raise ValueError("the builder gave up")

    with pytest.raises(ValueError, match="gave up"):
        cache.build(KEY, make)
    assert cache.entries() == []
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert cache.build(KEY, plan_of()).plan.is_file()


def test_a_process_that_dies_while_building_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom pathlib import Path\n"
        "from comfystream.accel.cache import EngineCache\n"
        "from comfystream.accel.key import EngineKey\nfrom comfystream.accel.machine import Machine\n"
        "from comfystream.accel.spec import ModelSpec\nfrom comfystream.accel.backend import BuildOptions\n"
        "key = EngineKey('eager', '1', Machine('', '', ''), ModelSpec('m', (), ()), BuildOptions(), '', '')\n"
        "def make(folder):\n    (folder / 'plan.engine').write_bytes(b'half')\n    os._exit(9)\n"
        f"EngineCache(Path({str(tmp_path)!r})).build(key, make)\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], timeout=60, capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    assert list(tmp_path.glob(".building-*"))
    cache = EngineCache(tmp_path)
    assert cache.entries() == []
    cache.build(KEY, plan_of())
    assert not list(tmp_path.glob(".building-*"))


def _build_in_child(root: str, started: str) -> None:
    def make(folder: Path) -> Path:
        with Path(started).open("a") as file:
            file.write(f"{os.getpid()}\n")
        deadline = time.monotonic() + 1.0  # long enough for the others to come to the lock
        while time.monotonic() < deadline:
            time.sleep(0.02)
        (folder / "plan.engine").write_bytes(b"engine")
        return folder / "plan.engine"

    EngineCache(Path(root)).build(KEY, make)


def test_processes_build_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    started = tmp_path / "started"
    children = [
        context.Process(target=_build_in_child, args=(str(tmp_path / "engines"), str(started))) for _ in range(3)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert len(started.read_text().splitlines()) == 1


def test_who_waits_is_told_and_may_give_up(tmp_path: Path) -> None:
    cache, goes_on, inside, waited = EngineCache(tmp_path), threading.Event(), threading.Event(), []

    def slow(folder: Path) -> Path:
        inside.set()
        assert goes_on.wait(30)
        return plan_of()(folder)  # type: ignore[operator]

    thread = threading.Thread(target=cache.build, args=(KEY, slow))
    thread.start()
    assert inside.wait(30)
    with pytest.raises(BusyError):
        cache.build(OTHERS["gpu"], plan_of(), on_wait=lambda: waited.append(1), should_stop=lambda: len(waited) >= 2)
    goes_on.set()
    thread.join(30)
    assert cache.find(KEY) is not None


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    keys = [KEY, OTHERS["gpu"], OTHERS["lora"]]
    entries = [cache.build(key, plan_of(bytes(100_000)), str(n)) for n, key in enumerate(keys)]
    for age, entry in zip((300, 200, 100), entries, strict=True):
        os.utime(entry.folder / "used", (time.time() - age,) * 2)
    cache.find(keys[0])  # the oldest is used again
    assert [entry.label for entry in cache.entries()] == ["0", "2", "1"]
    assert [entry.label for entry in cache.prune(entries[0].size * 2 + 1000)] == ["1"]
    assert [entry.label for entry in cache.prune(0, keep=entries[0].digest)] == ["2"]
    assert [entry.label for entry in cache.entries()] == ["0"]


def test_the_size_cap_keeps_what_was_just_built(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path, max_gb=150_000 / (1 << 30))
    cache.build(KEY, plan_of(bytes(100_000)), "old")
    cache.build(OTHERS["gpu"], plan_of(bytes(200_000)), "new")
    assert [entry.label for entry in cache.entries()] == ["new"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AssetError) as caught:
        EngineCache(tmp_path / "file" / "engines").build(KEY, plan_of())
    assert caught.value.code == "engine_folder"
    assert str(tmp_path / "file") in str(caught.value)
