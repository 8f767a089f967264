"""Settings: where they come from, and what a wrong one says."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from comfystream.errors import ConfigError
from comfystream.settings import ServerSettings, load_settings


def _file(folder: Path, text: str) -> Path:
    path = folder / "settings.yaml"
    path.write_text(text)
    return path


def test_the_later_place_wins(tmp_path: Path) -> None:
    file = _file(tmp_path, "port: 1\nhost: 10.0.0.1\nmax_sessions: 2\n")
    environ = {"COMFYSTREAM_PORT": "2", "COMFYSTREAM_HOST": "10.0.0.2", "COMFYSTREAM_SOMETHING_ELSE": "x"}
    settings = load_settings(file, {"port": 3, "host": None}, environ)
    assert (settings.port, settings.host, settings.max_sessions) == (3, "10.0.0.2", 2)


def test_a_list_and_a_token_of_digits_from_the_environment() -> None:
    environ = {"COMFYSTREAM_ALLOWED_ORIGINS": "[https://a.example]", "COMFYSTREAM_TOKEN": "0123"}
    settings = load_settings(None, {}, environ)
    assert (settings.allowed_origins, settings.token) == (("https://a.example",), "0123")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot: 5", 'did you mean "port"'),
        ("port: many", "port: Input should be a valid integer"),
        ("port: 99999", "less than or equal to 65535"),
        ("- a", "name: value"),
        ("a: [", "not YAML"),
        ("ice_servers: [{url: x}]", "ice_servers.0"),
    ],
)
def test_a_wrong_one_says_where_and_what(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(_file(tmp_path, text), {}, {})
    assert words in str(caught.value)
    assert "settings.yaml" in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load_settings(tmp_path / "nothing.yaml", {}, {})


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("192.168.1.2", False), ("x", False)],
)
def test_loopback(host: str, is_loopback: bool) -> None:
    assert ServerSettings(host=host).is_loopback is is_loopback


def test_the_annotated_file_names_every_setting_with_its_default(repository: Path) -> None:
    text = (repository / "configs/comfystream.yaml").read_text("utf-8")
    assert load_settings(repository / "configs/comfystream.yaml", {}, {}) == ServerSettings()
    for name, field in ServerSettings.model_fields.items():
        line = next((line for line in text.splitlines() if line.startswith(f"# {name}:")), None)
        assert line is not None, f"{name} is not explained"
        if name not in ("ice_servers", "turn_services"):  # shown by examples
            written = yaml.safe_load(line.removeprefix("# "))[name]
            assert written == (list(field.default) if isinstance(field.default, tuple) else field.default)


def test_which_comfyui_and_what_of_it() -> None:
    given = {"COMFYSTREAM_COMFYUI": "/comfy", "COMFYSTREAM_API_NODES": "false", "COMFYSTREAM_BLOCK_PACKS": "[a, b]"}
    settings = load_settings(None, {"vram": "low"}, given)
    assert (settings.comfyui, settings.api_nodes, settings.vram) == ("/comfy", False, "low")
    assert settings.block_packs == ("a", "b")
    with pytest.raises(ConfigError, match="the command line: vram"):
        load_settings(None, {"vram": "lots"}, {})
