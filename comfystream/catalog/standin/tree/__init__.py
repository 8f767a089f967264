"""The modules themselves, laid out as in ComfyUI; run under ComfyUI's names by the finder, never imported from here."""
