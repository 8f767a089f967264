"""A worker between pytrickle's ends: its publisher sends the camera, and its subscriber reads what comes out."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import peer_env
import pytest
from on_loop import on_loop, until
from worker_harness import Invert, orchestrator, play, serving

PROGRAM = Path(peer_env.__file__).with_name("peer_pytrickle.py")
pytestmark = [pytest.mark.peers, pytest.mark.slow, pytest.mark.timeout(700)]


@pytest.fixture(scope="module")
def pytrickle() -> Path:
    """The Python of its environment."""
    return peer_env.pytrickle_python("3.13.2")


@pytest.fixture
def camera_files(tmp_path: Path) -> Path:
    """Eight segments of a second, grey 60, as a gateway cuts them."""
    program = shutil.which("ffmpeg")
    if program is None:
        pytest.skip("NEEDS ffmpeg: apt-get install ffmpeg")
    folder = tmp_path / "camera"
    folder.mkdir()
    grey = ("-f", "lavfi", "-i", "color=c=0x3c3c3c:s=64x48:r=20:d=8")
    codec = ("-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "20", "-pix_fmt", "yuv420p")
    cut = ("-f", "segment", "-segment_time", "1", "-segment_format", "mpegts", str(folder / "%03d.ts"))
    subprocess.run([program, "-v", "error", *grey, *codec, *cut], check=True)
    assert len(list(folder.iterdir())) == 8
    return folder


@on_loop
async def test_pytrickle_sends_to_a_worker_and_reads_what_it_makes(
    pytrickle: Path, camera_files: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    processor = Invert()
    async with orchestrator() as orch, serving(processor) as worker:
        body = orch.stream()
        assert (await worker.call("POST", "/stream/start", body))[0] == 200

        async def run(word: str, url: str, folder: Path) -> asyncio.subprocess.Process:
            words = [str(pytrickle), "-P", str(PROGRAM), word, url, str(folder)]
            return await asyncio.create_subprocess_exec(*words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

        keeping = await run("keep", body["publish_url"], kept)
        sending = await run("send", body["subscribe_url"], camera_files)
        _, errors = await sending.communicate()
        assert sending.returncode == 0, errors.decode()
        await until(lambda: len(list(kept.iterdir())) >= 3, "segments that came out")
        orch.end()
        _, errors = await keeping.communicate()
        assert keeping.returncode == 0, errors.decode()
        await worker.until_idle()
    assert processor.pictures > 60, "most of the 160 pictures"
    played = [play(file.read_bytes()) for file in sorted(kept.iterdir())]
    whole = [one for one in played if one.keys]
    assert all(one.keys[0] and not one.has_b and one.codecs["video"] == "h264" for one in whole)
    assert any(abs(luma - 195) < 12 for one in whole for luma in one.luma), "the inverted picture"
