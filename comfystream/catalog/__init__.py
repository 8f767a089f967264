"""Where node classes come from: bundled, folders of packs, a ComfyUI checkout."""
