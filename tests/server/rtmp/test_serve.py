"""The program with its RTMP port: it says the address, takes connections, and ends in order."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

PROGRAM = [sys.executable, "-P", "-c", "import sys; from comfystream_server.cli import main; sys.exit(main())", "serve"]


def test_the_program_says_where_to_publish_and_ends_with_a_publisher_there() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*PROGRAM, "--port", "0", "--rtmp-port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert server.stdout is not None
        said = next(line for line in server.stdout if "rtmp://" in line)
        assert f"rtmp://localhost:{port}/live/NAME" in said
        with socket.create_connection(("127.0.0.1", port), 10) as publisher:
            publisher.sendall(b"\x03" + bytes(1536))
            assert publisher.recv(1) == b"\x03"
            taken = subprocess.run(command, capture_output=True, text=True, timeout=60)
            assert taken.returncode == 2
            assert f"cannot listen for RTMP on 127.0.0.1:{port}" in taken.stderr
            server.send_signal(signal.SIGTERM)
            assert server.wait(30) == 0
        assert "Traceback" not in server.stdout.read()
    finally:
        server.kill()
        server.wait()
