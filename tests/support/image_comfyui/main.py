"""Stands for ComfyUI in the image: it takes its flags, is slow to come up, and answers where health is asked."""

import argparse
import json
import os
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import tomli_w

parser = argparse.ArgumentParser()
parser.add_argument("--listen", required=True)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--cpu", action="store_true")
flags = parser.parse_args()
time.sleep(float(os.environ.get("STUB_WARM_S", "0")))


class Answer(BaseHTTPRequestHandler):
    """Of `/system_stats`."""

    def do_GET(self):
        has_secret = "ORCH_SECRET" in os.environ
        said = {"cpu": flags.cpu, "user": os.getuid(), "secret": has_secret, "packages": tomli_w.__name__}
        self.send_response(200 if self.path == "/system_stats" else 404)
        self.end_headers()
        self.wfile.write(json.dumps(said).encode())

    def log_message(self, *arguments):
        """Nothing."""


HTTPServer((flags.listen, flags.port), Answer).serve_forever()
