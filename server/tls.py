"""HTTPS and WSS: a certificate from files, or one that signs itself."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import socket
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from comfystream.errors import ConfigError
from comfystream.settings import ServerSettings

__all__ = ["Tls", "tls_of"]

DAYS = 365
RENEW = datetime.timedelta(days=14)
FILE = "self-signed.pem"


@dataclass(frozen=True, slots=True)
class Tls:
    """What sockets are wrapped in.

    Attributes:
        context: for the server's sockets.
        fingerprint: SHA-256 of a certificate that signs itself, as browsers show it; empty for one from files.
    """

    context: ssl.SSLContext
    fingerprint: str = ""


def tls_of(settings: ServerSettings) -> Tls | None:
    """What the settings ask for; None for plain HTTP.

    Raises:
        ConfigError: files that are missing, wrong, of different keys or out of date.
    """
    if bool(settings.tls_cert) != bool(settings.tls_key):
        missing = "tls_key" if settings.tls_cert else "tls_cert"
        raise ConfigError(f"TLS takes a certificate and its key: {missing} is not set", code="bad_tls")
    if settings.tls_cert:
        if settings.tls:
            raise ConfigError("give either tls or tls_cert and tls_key", code="bad_tls")
        return _from_files(Path(settings.tls_cert).expanduser(), Path(settings.tls_key).expanduser())
    return _self_signed(settings.host) if settings.tls else None


def _from_files(cert: Path, key: Path) -> Tls:
    pem = _read(cert, "tls_cert")
    _read(key, "tls_key")
    try:
        first = x509.load_pem_x509_certificates(pem)[0]
    except ValueError as error:
        hint = "the file begins with -----BEGIN CERTIFICATE-----"
        raise ConfigError(f"tls_cert {cert}: this is no certificate in PEM form", code="bad_tls", hint=hint) from error
    _in_date(first, cert)
    return Tls(_context(cert, key))


def _read(file: Path, setting: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{setting} {file}: {error.strerror or error}", code="bad_tls") from error


def _in_date(certificate: x509.Certificate, cert: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    if certificate.not_valid_after_utc < now:
        ended = certificate.not_valid_after_utc.date()
        raise ConfigError(f"tls_cert {cert}: it has expired on {ended}", code="bad_tls", hint="renew it")
    if certificate.not_valid_before_utc > now:
        begins = certificate.not_valid_before_utc.date()
        hint = "is this machine's clock right?"
        raise ConfigError(f"tls_cert {cert}: it is valid from {begins} on", code="bad_tls", hint=hint)


def _context(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            words = f"tls_key {key}: it is not the key of {cert}"
        else:
            words = f"tls_key {key}: this is no private key in PEM form that can be used"
        raise ConfigError(words, code="bad_tls") from error
    return context


def _no_password() -> str:
    """A server that starts by itself cannot ask for one."""
    raise ConfigError("tls_key: it is locked by a password", code="bad_tls", hint="openssl pkey -in KEY -out OPEN_KEY")


# --- one that signs itself


def _self_signed(host: str) -> Tls:
    """The one of the last start while it is good, so that browsers need to be told only once; otherwise a new one."""
    names = _names(host)
    with _state_folder() as folder:
        file = folder / FILE
        certificate = _kept(file, names)
        if certificate is None:
            certificate = _make(file, names)
        digest = certificate.fingerprint(hashes.SHA256()).hex(":").upper()
        return Tls(_context(file, file), digest)


@contextlib.contextmanager
def _state_folder() -> Iterator[Path]:
    """A folder of this user alone; one that goes again where there is none to be had."""
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    folder = base / "comfystream" / "tls"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        is_ours = os.access(folder, os.W_OK)
    except OSError:
        is_ours = False
    if is_ours:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="comfystream-tls-") as passing:
        yield Path(passing)


def _names(host: str) -> x509.SubjectAlternativeName:
    """What browsers may call this machine."""
    wanted = dict.fromkeys(("localhost", "127.0.0.1", "::1", host, socket.gethostname()))
    names: list[x509.GeneralName] = []
    for name in wanted:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            with contextlib.suppress(ValueError):  # a name that is no DNS name cannot stand in a certificate
                names.append(x509.DNSName(name))
    return x509.SubjectAlternativeName(names)


def _kept(file: Path, names: x509.SubjectAlternativeName) -> x509.Certificate | None:
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
        theirs = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return None
    is_fresh = certificate.not_valid_after_utc - datetime.datetime.now(datetime.UTC) > RENEW
    return certificate if is_fresh and theirs == names else None


def _make(file: Path, names: x509.SubjectAlternativeName) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ComfyStream, signed by itself")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write_for_us_alone(
        file,
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )
    return certificate


def _write_for_us_alone(file: Path, content: bytes) -> None:
    """Whole or not at all, and never readable by others."""
    handle, name = tempfile.mkstemp(dir=file.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
        os.replace(name, file)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise ConfigError(f"{file}: {error.strerror or error}", code="bad_tls") from error
