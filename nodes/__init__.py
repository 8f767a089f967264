"""ComfyUI nodes of ComfyStream. Loaded by our engine as packs, or by ComfyUI by path."""
