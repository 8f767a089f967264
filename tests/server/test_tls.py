"""HTTPS and WSS by flag; what is wrong with the files is one line before the server starts."""

from __future__ import annotations

import datetime
import json
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from on_loop import on_loop

from comfystream.errors import ConfigError
from comfystream.session.live_options import LiveOptions
from comfystream.settings import ServerSettings
from comfystream_server.app import make_app, parts_key
from comfystream_server.tls import tls_of

LOCKED = b"a password"


def write_pair(
    folder: Path, name: str, *, days: tuple[int, int] = (-1, 30), password: bytes = b""
) -> tuple[Path, Path]:
    """A certificate for localhost and its key, valid from and until so many days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder(called, called, key.public_key(), x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    lock = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    cert_file, key_file = folder / f"{name}.crt", folder / f"{name}.key"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pkcs8 = serialization.PrivateFormat.PKCS8
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, lock))
    return cert_file, key_file


def asked(cert: Path | str, key: Path | str, **more: Any) -> ServerSettings:
    return ServerSettings(tls_cert=str(cert), tls_key=str(key), **more)


@on_loop
async def test_a_request_and_a_control_socket_over_tls(tmp_path: Path) -> None:
    cert, key = write_pair(tmp_path, "mine")
    settings = asked(cert, key)
    tls = tls_of(settings)
    assert tls is not None
    app = make_app(settings, lambda: pytest.fail("the engine is not needed"))
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "localhost", 0, ssl_context=tls.context)
    await site.start()
    session = await app[parts_key].sessions.create(LiveOptions())
    try:
        trusting = ssl.create_default_context(cafile=str(cert))
        base = f"https://localhost:{runner.addresses[0][1]}"
        connector = aiohttp.TCPConnector(ssl=trusting)
        async with aiohttp.ClientSession(connector=connector) as client:
            async with client.get(f"{base}/health") as response:
                assert (response.status, await response.text()) == (200, "OK")
            path = f"{base}/api/v1/sessions/{session.id}/control"
            async with client.ws_connect(path, headers={"Origin": base}) as socket:
                assert json.loads((await socket.receive()).data)["info"]["session"] == session.id
        async with aiohttp.ClientSession() as strict:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await strict.get(f"{base}/health")
    finally:
        await runner.cleanup()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def test_one_that_signs_itself_is_kept_and_only_for_us(home: Path) -> None:
    first, second = tls_of(ServerSettings(tls="self-signed")), tls_of(ServerSettings(tls="self-signed"))
    assert first is not None
    assert second is not None
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint.split(":")) == 32
    (kept,) = home.rglob("*.pem")
    assert kept.stat().st_mode & 0o077 == 0
    certificate = x509.load_pem_x509_certificate(kept.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    other = tls_of(ServerSettings(tls="self-signed", host="studio.example.org"))
    assert other is not None
    assert other.fingerprint != first.fingerprint  # it has another name in it


def test_one_that_signs_itself_needs_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    tls = tls_of(ServerSettings(tls="self-signed"))
    assert tls is not None
    assert tls.fingerprint


def test_a_kept_file_that_is_broken_is_made_anew(home: Path) -> None:
    before = tls_of(ServerSettings(tls="self-signed"))
    (kept,) = home.rglob("*.pem")
    kept.write_bytes(b"nothing")
    after = tls_of(ServerSettings(tls="self-signed"))
    assert before is not None
    assert after is not None
    assert before.fingerprint != after.fingerprint


def test_without_the_settings_there_is_no_tls() -> None:
    assert tls_of(ServerSettings()) is None


def test_what_is_wrong_with_the_files_is_said_in_one_line(tmp_path: Path) -> None:
    cert, key = write_pair(tmp_path, "good")
    _, other_key = write_pair(tmp_path, "other")
    old, old_key = write_pair(tmp_path, "old", days=(-30, -1))
    early, early_key = write_pair(tmp_path, "early", days=(5, 30))
    locked, locked_key = write_pair(tmp_path, "locked", password=LOCKED)
    text = tmp_path / "text"
    text.write_text("hello")
    for settings, words in (
        (asked(cert, ""), "tls_key is not set"),
        (asked("", key), "tls_cert is not set"),
        (asked(cert, key, tls="self-signed"), "either"),
        (asked(tmp_path / "nothing", key), "nothing: No such file"),
        (asked(cert, tmp_path), "Is a directory"),
        (asked(text, key), "no certificate"),
        (asked(cert, text), "no private key"),
        (asked(cert, other_key), "not the key of"),
        (asked(old, old_key), "expired"),
        (asked(early, early_key), "valid from"),
        (asked(locked, locked_key), "password"),
    ):
        with pytest.raises(ConfigError) as caught:
            tls_of(settings)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
