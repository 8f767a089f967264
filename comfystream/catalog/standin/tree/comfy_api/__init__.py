"""Stand-in for ComfyUI's public node API."""
