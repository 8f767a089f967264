"""MPEG-TS in and out, a picture at a time: each is handed on with its last packet, not when the next one begins."""
