"""Stand-in for the parts of ComfyUI's library that need no models."""
