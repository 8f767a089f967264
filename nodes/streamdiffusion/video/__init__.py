"""Video by causal Wan transformers, chunk by chunk: StreamDiffusionV2, LongLive and their kin.

`transformer` and `cache` are the network with its remembered keys and values, `autoencoder`, `wan_vae` and `tae` turn
frames into latents and back as they come, `text` reads prompts, `loading` files, and `stream` is all of it for one
stream. The algorithm itself is `core.video`.
"""
