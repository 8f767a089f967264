"""Stand-in for the parts of ComfyUI's executor that nodes touch."""
