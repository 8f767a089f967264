"""Single runs beside the live ones: in turn, on a thread of their own that yields to the lanes."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from comfystream.engine.events import OnEvent
from comfystream.engine.host import Host
from comfystream.engine.once import OnceResult, OnceRunner
from comfystream.engine.once_job import OnceDone, OnceJob, OnceStopped, Result, ResultKind
from comfystream.engine.plan import Output
from comfystream.engine.progress import PrepareProgress, Withdrawn
from comfystream.errors import ComfyStreamError, WorkflowError
from comfystream.workflow.bind import INPUTS, OUTPUT_INPUT, OUTPUTS, PRIMARY, STILL, Bindings, LiveInput, LiveOutput
from comfystream.workflow.model import Workflow

__all__ = ["OnceService"]

SOUND_FILE = "LoadAudio"  # fed like the live input of sound
NICENESS = 5  # a third of the processor's time where a lane wants all of it; more would hold the interpreter up
SHOWN: Mapping[str, ResultKind] = {
    ".png": "image",
    ".jpg": "image",
    ".jpeg": "image",
    ".webp": "image",
    ".gif": "image",
}
SHOWN_TOO: Mapping[str, ResultKind] = {".mp4": "video", ".webm": "video", ".wav": "audio", ".mp3": "audio"}
MIMES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".mp4": "video/mp4",
    ".webm": "video/webm",
    ".wav": "audio/wav",
    ".mp3": "audio/mpeg",
}


class OnceService:
    """Runs jobs one after the other.

    Args:
        host: node classes and kept results, shared with the live runs.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._runner = OnceRunner(host, self._enter)
        self._lock = threading.Lock()
        self._watched: dict[int, PrepareProgress] = {}

    def _enter(self) -> None:
        self._host.enter_thread()
        if sys.platform == "linux":  # there a thread can be nice by itself; those that torch starts for it are, too
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)

    def run(self, id: int, job: OnceJob, on_event: OnEvent) -> Future[OnceDone]:
        """See `engine.protocol.Engine.run_once`."""
        watched = PrepareProgress(0, on_event)
        with self._lock:
            self._watched[id] = watched
        future = self._runner.submit(lambda: self._run(job, watched))
        future.add_done_callback(lambda done: self._watched.pop(id, None))
        return future

    def stop(self, id: int) -> None:
        """See `engine.protocol.Engine.stop_once`."""
        watched = self._watched.get(id)
        if watched is not None:
            watched.withdraw()

    def _run(self, job: OnceJob, watched: PrepareProgress) -> OnceDone:
        from comfystream.engine.once_files import picture_value, sound_value  # torch and codecs: only when it is used

        try:
            watched.check()
            workflow = _fed_by_live_nodes(job)
            bindings = _bindings(workflow, job)
            fed: dict[str, tuple[Any, ...]] = {}
            for live in bindings.inputs:
                path = Path(job.folder, job.given[live.node_id])
                fed[live.node_id] = picture_value(path, job.size) if live.modality == "video" else (sound_value(path),)
            watched.phase("run", len(workflow.nodes) - len(bindings.inputs) - len(bindings.outputs))
            with self._host.progress_goes_to(watched):
                done = self._runner.run_here(workflow, None, bindings, fed, watched, keep_shown=False)
            watched.check()
            watched.phase("write")
            return OnceDone(tuple(_Writer(job).write(done)), done.ran)
        except Withdrawn:
            raise OnceStopped("the run was stopped") from None

    def close(self) -> None:
        """Stop what runs and let go of what is kept. Idempotent."""
        with self._lock:
            for watched in self._watched.values():
                watched.withdraw()
        self._runner.close()


def _fed_by_live_nodes(job: OnceJob) -> Workflow:
    """Nodes that load a sound file which is given stand for the live sound, so that nobody looks for their file."""
    nodes = dict(job.workflow.nodes)
    for id in job.given:
        if nodes[id].class_type == SOUND_FILE:
            nodes[id] = replace(nodes[id], class_type="LoadAudioTensor", inputs={"buffer_size": 500.0})
    return replace(job.workflow, nodes=nodes)


def _bindings(workflow: Workflow, job: OnceJob) -> Bindings:
    nodes = workflow.nodes.values()
    inputs = [
        LiveInput(node.id, node.class_type, INPUTS[node.class_type], node.class_type in (PRIMARY, STILL))
        for node in nodes
        if node.id in job.given
    ]
    outputs = [
        LiveOutput(node.id, node.class_type, OUTPUTS[node.class_type], OUTPUT_INPUT[node.class_type])
        for node in nodes
        if node.class_type in OUTPUTS
    ]
    return Bindings(tuple(inputs), tuple(outputs))


class _Writer:
    """Puts what a run gave into the job's folder."""

    def __init__(self, job: OnceJob) -> None:
        self._job = job
        self._folder = Path(job.folder)
        self._bytes = self._count = 0

    def _take(self, size: int, node_id: str) -> None:
        """Count a result.

        Raises:
            WorkflowError: `result_too_large`, that is more than is wanted.
        """
        wanted = self._job.wanted
        self._bytes += size
        self._count += 1
        if wanted.most_bytes and self._bytes > wanted.most_bytes:
            words = f"the results are larger than {wanted.most_bytes >> 20} MiB"
        elif wanted.most_results and self._count > wanted.most_results:
            words = f"there are more than {wanted.most_results} results"
        else:
            return
        hint = "fewer or smaller pictures, JPEG or WebP for PNG, or MP4 for many"
        raise WorkflowError(words, code="result_too_large", node_id=node_id, hint=hint)

    def write(self, done: OnceResult) -> list[Result]:
        """All results, in the order of the workflow's nodes.

        Raises:
            MediaError: `disk_full`, or a result cannot be written.
        """
        from comfystream.media.container import output_error

        try:
            return self._all(done)
        except ComfyStreamError:
            raise
        except OSError as error:
            raise output_error(Path("the result"), error) from error

    def _all(self, done: OnceResult) -> list[Result]:
        found: list[Result] = []
        sound = next((value for output, value in done.read.values() if output.modality == "audio"), None)
        is_joined = self._job.wanted.as_video and any(o.modality == "video" for o, _ in done.read.values())
        for id in self._job.workflow.nodes:
            if id in done.read:
                output, value = done.read[id]
                if not (is_joined and output.modality == "audio"):
                    found += self._read(output, value, sound)
            elif id in done.outputs:
                found += self._shown(id, done.outputs[id])
        return found

    def _read(self, output: Output, value: Any, sound: Any) -> list[Result]:
        from comfystream.engine.once_files import MIME, pixels_of, write_pictures, write_sound, write_video

        id, wanted = output.node_id, self._job.wanted
        stem = self._folder / f"out-{len(list(self._folder.iterdir()))}"
        if _is_blocked(value):
            return []
        if output.modality == "text":
            return [self._text(id, text) for text in _texts(value)]
        if output.modality == "audio":
            path = stem.with_name(f"{stem.name}.wav")
            write_sound(value, path, id)
            self._take(path.stat().st_size, id)
            return [Result("audio", id, path.name, "audio/wav")]
        pixels = pixels_of(value, id)
        height, width = pixels.shape[1:3]
        if wanted.as_video:
            path = stem.with_name(f"{stem.name}.mp4")
            write_video(pixels, sound if isinstance(sound, dict) else None, path, wanted.fps)
            self._take(path.stat().st_size, id)
            return [Result("video", id, path.name, "video/mp4", width=width, height=height)]
        paths = write_pictures(pixels, stem, wanted, lambda path: self._take(path.stat().st_size, id))
        return [Result("image", id, path.name, MIME[wanted.image], width=width, height=height) for path in paths]

    def _shown(self, id: str, ui: Mapping[str, Any]) -> list[Result]:
        """Files and texts that an output node shows in the editor."""
        found: list[Result] = []
        for items in ui.values():
            for item in items if isinstance(items, list | tuple) else ():
                if isinstance(item, Mapping):
                    found += self._taken(id, item)
                elif isinstance(item, str):
                    found.append(self._text(id, item))
        return found

    def _text(self, id: str, text: str) -> Result:
        self._take(len(text.encode()), id)
        return Result("text", id, text=text)

    def _taken(self, id: str, item: Mapping[str, Any]) -> list[Result]:
        import folder_paths  # a module of the host

        base = folder_paths.get_directory_by_type(str(item.get("type", "")))
        name = str(item.get("filename") or "")
        kind = {**SHOWN, **SHOWN_TOO}.get(Path(name).suffix.lower())
        if base is None or kind is None:
            return []
        source = Path(base, str(item.get("subfolder") or ""), name)
        if not folder_paths.is_within_directory(base, str(source)) or not source.is_file():
            return []
        self._take(source.stat().st_size, id)
        target = self._folder / f"out-{len(list(self._folder.iterdir()))}{source.suffix.lower()}"
        shutil.copyfile(source, target)
        if item.get("type") == "temp":
            source.unlink(missing_ok=True)
        return [Result(kind, id, target.name, MIMES[source.suffix.lower()])]


def _is_blocked(value: Any) -> bool:
    return value is None or type(value).__name__ == "ExecutionBlocker"


def _texts(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]
