"""The compose files, resolved as compose resolves them: variables, `extends`, one file laid over another."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

DOCKER = Path(__file__).resolve().parents[2] / "docker"
SPEC = importlib.util.spec_from_file_location("compose_entrypoint", DOCKER / "entrypoint.py")
assert SPEC is not None
assert SPEC.loader is not None
entrypoint = sys.modules[SPEC.name] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(entrypoint)
FILES = sorted(path.name for path in DOCKER.glob("*.yaml") if path.name != "cpu.yaml")
GIVEN = {
    "ORCH_URL": "https://orchestrator:8935",
    "ORCH_SECRET": "s3cret",
    "ETH_URL": "https://rpc.example.org",
    "SERVICE_ADDR": "orch.example.org:8935",
    "ETH_PASSWORD_FILE": "./password",
}
# What the Compose Specification lets stand in a service; of it, what these files use.
SERVICE_KEYS = set(
    ("build", "command", "depends_on", "deploy", "environment", "extends", "image", "ports")
    + ("restart", "secrets", "stop_grace_period", "ulimits", "volumes")
)
GO_LIVEPEER = set(  # its cmd/livepeer/starter/flags.go
    ("orchestrator", "network", "ethUrl", "ethPassword", "pricePerUnit", "serviceAddr", "orchSecret")
    + ("liveAITrickleHostForRunner", "dataDir", "v", "useLiveRunners", "liveRunnerAddr", "liveRunnerConfig")
)
VARIABLE = re.compile(r"\$\{(\w+)(?:(:-|:\?)([^}]*))?\}")


class Loader(yaml.SafeLoader):
    """Knows compose's own tag for taking something away."""


class Reset:
    """Takes away what the file below has."""


Loader.add_constructor("!reset", lambda loader, node: Reset())


def filled(value: Any, given: dict[str, str]) -> Any:
    """With its variables; one that is needed and missing raises KeyError with the words of the file."""
    if isinstance(value, dict):
        return {key: filled(inner, given) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, given) for inner in value]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        name, how, rest = match.groups()
        if given.get(name) or how is None:
            return given.get(name, "")
        if how == ":?":
            raise KeyError(f"{name}: {rest}")
        return str(rest)

    assert "$" not in VARIABLE.sub("", value), f"{value}: compose does not understand that"
    return VARIABLE.sub(fill, value)


def merged(below: Any, above: Any) -> Any:
    """Maps key by key; anything else is replaced."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    both = {**below, **{key: merged(below.get(key), value) for key, value in above.items()}}
    return {key: value for key, value in both.items() if not isinstance(value, Reset)}


def read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.load((DOCKER / name).read_text("utf-8"), Loader)
    for key, service in document["services"].items():
        if "extends" in service:
            base = read(service["extends"]["file"])["services"][service["extends"]["service"]]
            document["services"][key] = merged(base, {k: v for k, v in service.items() if k != "extends"})
    return document


@pytest.mark.parametrize("has_gpu", [True, False], ids=["gpu", "cpu"])
@pytest.mark.parametrize("name", FILES)
def test_what_compose_makes_of_it_can_run(name: str, has_gpu: bool) -> None:
    document = read(name)
    if not has_gpu:
        document = merged(document, read("cpu.yaml"))
    document = filled(document, GIVEN)
    assert set(document) <= {"services", "volumes", "secrets"}
    for key, service in document["services"].items():
        assert set(service) <= SERVICE_KEYS, key
        assert service["image"]
        check_references(service, document)
        check_values(service)
        check_command(service)
    worker = document["services"]["worker"]
    devices = worker.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices", [])
    assert [one["driver"] for one in devices] == (["nvidia"] if has_gpu else [])
    assert worker["build"]["dockerfile"] == "docker/Dockerfile"
    assert (DOCKER.parent / worker["build"]["dockerfile"]).is_file()
    assert worker["build"].get("args", {}).get("BASE_IMAGE") == (None if has_gpu else "debian:12")


def check_references(service: dict[str, Any], document: dict[str, Any]) -> None:
    assert set(service.get("depends_on", ())) <= set(document["services"])
    assert set(service.get("secrets", ())) <= set(document.get("secrets", ()))
    for volume in service.get("volumes", ()):
        source, place = volume.split(":")[:2]
        assert source in document["volumes"] or source.startswith((".", "/"))
        assert place.startswith("/")


def check_values(service: dict[str, Any]) -> None:
    for port in service.get("ports", ()):
        assert re.fullmatch(r"([\d.]+:)?\d+(-\d+)?:\d+(-\d+)?(/udp)?", port)
    for variable, value in service.get("environment", {}).items():
        assert re.fullmatch(r"[A-Z][A-Z0-9_]*", variable)
        assert isinstance(value, str), f"{variable}: compose takes texts, and a bare true or no is none"
    assert service.get("restart", "no") in ("no", "always", "on-failure", "unless-stopped")
    assert re.fullmatch(r"\d+s", service.get("stop_grace_period", "10s"))
    for limit, value in service.get("ulimits", {}).items():
        assert (limit, value) == ("nice", 20), "up to the usual niceness, and no further"


def check_command(service: dict[str, Any]) -> None:
    command = service.get("command", ["--byoc"])
    assert all(isinstance(word, str) for word in command)
    if "livepeer" in service["image"]:
        flags = {word.lstrip("-").partition("=")[0] for word in command if word.startswith("-")}
        assert flags <= GO_LIVEPEER
    elif command[0] != "comfystream":
        assert entrypoint.parse(command).services


@pytest.mark.parametrize("name", FILES)
def test_what_an_operator_has_to_give_is_asked_for_by_name(name: str) -> None:
    needed = set()
    given: dict[str, str] = {}
    while True:
        try:
            filled(read(name), given)
            break
        except KeyError as error:
            variable, _, words = str(error.args[0]).partition(": ")
            assert len(words) > 5, f"{variable}: says nothing"
            needed.add(variable)
            given[variable] = "x"
    assert needed <= set(GIVEN)


def test_our_own_commands_in_them_take_their_flags(comfystream_help: Any) -> None:
    for name in FILES:
        for service in filled(read(name), GIVEN)["services"].values():
            command = service.get("command", ["--byoc"])
            if command[0] == "comfystream":
                known = comfystream_help(command[1])
                assert all(word in known for word in command if word.startswith("--")), command
