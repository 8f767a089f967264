"""The ComfyStream engine behind the protocol of orchestrators."""
