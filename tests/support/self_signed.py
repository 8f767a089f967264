"""A certificate that nobody has signed, such as orchestrators make at each start."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


def server_context(folder: Path) -> ssl.SSLContext:
    """For a server on 127.0.0.1; made by the openssl program."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "1", "-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
