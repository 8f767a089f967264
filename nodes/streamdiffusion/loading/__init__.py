"""From files to models: diffusers' folders, single files in the original layout, ComfyUI's loaded models."""
