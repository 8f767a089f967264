"""What the container does: prepare, then run one service or several until one ends or the container is stopped.

Prepare:
  --nodes CONFIG        install the node packs of a list (configs/nodes.yaml, or a file or name of yours)
  --download-models     fetch the models of configs/models.yaml, or of --models CONFIG
  --models CONFIG       another list of models
  --build-engines       build the TensorRT engines of configs/build_targets.yaml
  --use-volume          keep models and output in /app/storage, as images of the first generation did

Run (several may be given):
  --byoc                the Livepeer worker, port 8000 (the default when nothing is asked for)
  --serve, --api        the live server with its page, port 8889
  --comfyui, --server   ComfyUI and its editor, port 8188

Options may stand in any order. What follows -- goes to the service that was named last. Anything that does not
begin with - is run as a command in place of all this: docker run -it comfystream bash
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SERVICES = {
    "--byoc": "byoc",
    "--serve": "serve",
    "--api": "serve",
    "--ui": "serve",
    "--comfyui": "comfyui",
    "--server": "comfyui",
}
FLAGS = {"--download-models", "--build-engines", "--use-volume"}
VALUES = {"--nodes", "--models"}
PORTS = {"byoc": "8000", "serve": "8889", "comfyui": "8188"}
HEALTH = {"byoc": "/health", "serve": "/health", "comfyui": "/system_stats"}
END_S = 25.0
LOOK_S = 0.2
USAGE = 64
SECRETS = ("ORCH_SECRET", "CAPABILITY_TOKEN")  # of the worker: no other process gets to see them


class Refused(Exception):
    """Something that the person who started the container has to know."""


@dataclass
class Wanted:
    """What the arguments ask for."""

    services: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    values: dict[str, str] = field(default_factory=dict)
    extra: dict[str, list[str]] = field(default_factory=dict)


def parse(arguments: Sequence[str]) -> Wanted:
    """Read the arguments.

    Raises:
        Refused: one of them is not known, or lacks its value.
    """
    wanted = Wanted()
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, _, value = word.partition("=")
        if word == "--":
            if not wanted.services:
                raise Refused("-- hands arguments to a service: name one before it (--byoc, --serve, --comfyui)")
            wanted.extra[wanted.services[-1]] = rest
            break
        if name in SERVICES and not value:
            if SERVICES[name] not in wanted.services:
                wanted.services.append(SERVICES[name])
        elif name in FLAGS and not value:
            wanted.flags.add(name)
        elif name in VALUES:
            if not value and (not rest or rest[0].startswith("-")):
                raise Refused(f"{name} needs a value")
            wanted.values[name] = value or rest.pop(0)
        else:
            raise Refused(f"there is no option {word}; there are {', '.join([*SERVICES, *sorted(FLAGS | VALUES)])}")
    if not wanted.services and not wanted.flags and not wanted.values:
        wanted.services.append("byoc")
    return wanted


def preparations(wanted: Wanted) -> list[list[str]]:
    """The commands that come first, in the order that they need: packs bring requirements, engines need models."""
    commands = []
    if nodes := wanted.values.get("--nodes"):
        commands.append(["comfystream", "fetch", "nodes", "--config", nodes])
    if "--download-models" in wanted.flags or "--models" in wanted.values:
        models = wanted.values.get("--models", "models.yaml")
        commands.append(["comfystream", "fetch", "models", "--config", models])
    if "--build-engines" in wanted.flags:
        commands.append(["comfystream", "engines", "build", "--targets", "build_targets.yaml"])
    return commands


def command_of(service: str, environ: Mapping[str, str], extra: Sequence[str]) -> list[str]:
    """How a service is started.

    Raises:
        Refused: ComfyUI is asked for and not in the image.
    """
    port = port_of(service, environ)
    if service == "byoc":
        return ["comfystream", "byoc", "--host", "0.0.0.0", "--port", port, *extra]
    if service == "serve":
        media = environ.get("COMFYSTREAM_MEDIA_PORTS", "5678-5680")
        return ["comfystream", "serve", "--host", "0.0.0.0", "--port", port, "--media-ports", media, *extra]
    folder = Path(environ.get("COMFYUI_PATH", "/workspace/ComfyUI"))
    if not (folder / "main.py").is_file():
        raise Refused(f"there is no ComfyUI in {folder}: build the image with --build-arg COMFYUI_REF=v0.3.76")
    return [sys.executable, str(folder / "main.py"), "--listen", "0.0.0.0", "--port", port, *extra]


def port_of(service: str, environ: Mapping[str, str]) -> str:
    """Its port: COMFYSTREAM_BYOC_PORT, COMFYSTREAM_SERVE_PORT, COMFYSTREAM_COMFYUI_PORT, or the usual one."""
    return environ.get(f"COMFYSTREAM_{service.upper()}_PORT") or PORTS[service]


def use_volume(storage: Path, workspace: Path) -> None:
    """Make models and output of the workspace lead into the volume, where the first generation kept them.

    Raises:
        Refused: the volume is not mounted, or not ours to write to.
    """
    if not storage.is_dir():
        raise Refused(f"--use-volume needs a volume at {storage}: docker run -v NAME:{storage} ...")
    for name in ("models", "output"):
        kept, here = storage / f"ComfyUI--{name}", workspace / name
        try:
            kept.mkdir(exist_ok=True)
            if not here.is_symlink() and not os.path.ismount(here) and not any(here.iterdir()):
                here.rmdir()
                here.symlink_to(kept)
        except OSError as error:
            raise Refused(f"--use-volume: {kept}: {error.strerror}; it must belong to user 1000") from error


def environment_of(service: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What a service gets to see."""
    return {name: value for name, value in environ.items() if service == "byoc" or name not in SECRETS}


def run_all(commands: Mapping[str, list[str]]) -> int:
    """Run services side by side; when one ends, all end. Its exit code, or 0 when the container was stopped."""
    stopped: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda got, _: stopped.append(got))
    running: dict[str, subprocess.Popen[bytes]] = {}
    code = 0
    try:
        for name, command in commands.items():
            running[name] = subprocess.Popen(command, env=environment_of(name, os.environ))
        while not stopped:
            ended = {name: child.poll() for name, child in running.items() if child.poll() is not None}
            if ended:
                name, status = next(iter(ended.items()))
                code = status if status and status > 0 else 1
                say(f"{name} has ended with status {status}; the others are stopped")
                break
            time.sleep(LOOK_S)
    finally:
        for child in running.values():
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        end = time.monotonic() + END_S
        for child in running.values():
            try:
                child.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
    return code


def say(text: str) -> None:
    """One line, at once."""
    print(f"entrypoint: {text}", file=sys.stderr, flush=True)


def start(wanted: Wanted, environ: Mapping[str, str]) -> int:
    """Prepare, then run what was asked for; a single service takes this process's place.

    Raises:
        Refused: something cannot be done.
    """
    if "--use-volume" in wanted.flags:
        use_volume(Path("/app/storage"), Path(environ.get("COMFYSTREAM_WORKSPACE", "/workspace")))
    commands = {name: command_of(name, environ, wanted.extra.get(name, ())) for name in wanted.services}
    for command in preparations(wanted):
        say(" ".join(command))
        if status := subprocess.run(command, env=environment_of("fetch", environ)).returncode:
            raise Refused(f"`{' '.join(command)}` ended with status {status}; nothing was started")
    if not commands:
        return 0
    folder = Path(environ.get("COMFYSTREAM_RUN_FOLDER", "/run/comfystream"))
    addresses = [f"http://127.0.0.1:{port_of(name, environ)}{HEALTH[name]}" for name in commands]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "health").write_text("\n".join(addresses), "utf-8")
    except OSError as error:
        raise Refused(f"{folder}: {error.strerror}; the health check needs to write there") from error
    if len(commands) == 1:
        service, command = next(iter(commands.items()))
        os.execvpe(command[0], command, environment_of(service, environ))
    return run_all(commands)


def main(arguments: Sequence[str]) -> int:
    """Exit code of the container."""
    if arguments and not arguments[0].startswith("-"):
        try:
            os.execvp(arguments[0], list(arguments))
        except OSError as error:
            say(f"{arguments[0]}: {error.strerror}")
            return 127
    if any(word in ("-h", "--help") for word in arguments[: [*arguments, "--"].index("--")]):
        print((__doc__ or "").strip())
        return 0
    try:
        return start(parse(arguments), os.environ)
    except Refused as refused:
        say(str(refused))
        return USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
