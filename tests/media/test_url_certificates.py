"""A server that cannot prove who it is gets to see nothing of what is asked of it."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from comfystream.errors import MediaError, NetworkError
from comfystream.media.url_source import UrlSource


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "camera")])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
    )
    made = builder.sign(key, hashes.SHA256())
    file = tmp_path_factory.mktemp("tls") / "camera.pem"
    plain = serialization.NoEncryption()
    key_text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    file.write_bytes(key_text + made.public_bytes(serialization.Encoding.PEM))
    return file


@contextlib.contextmanager
def _camera(certificate: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Its port, and what it was asked; it hangs up then."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    asked: list[bytes] = []

    def answer() -> None:
        with contextlib.suppress(OSError), server.accept()[0] as plain, context.wrap_socket(plain, True) as peer:
            asked.append(peer.recv(100))

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1], asked
        thread.join(10)


@pytest.mark.parametrize("scheme", ["rtsps", "rtmps", "https"])
def test_a_stranger_is_asked_nothing(certificate: Path, scheme: str) -> None:
    with _camera(certificate) as (port, asked), pytest.raises((NetworkError, MediaError)):
        UrlSource(f"{scheme}://127.0.0.1:{port}/a/b", "camera", lambda url: None)
    assert not any(asked)


@pytest.mark.parametrize("scheme", ["rtsps", "rtmps", "https"])
def test_one_whose_certificate_is_known_is(certificate: Path, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with _camera(certificate) as (port, asked), pytest.raises((NetworkError, MediaError)):
        UrlSource(f"{scheme}://127.0.0.1:{port}/a/b", "camera", lambda url: None)
    assert any(asked)
