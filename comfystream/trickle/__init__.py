"""The trickle protocol: numbered segments over plain HTTP, read while they are written.

`reader` and `writer` are the two ends of a channel, `messages` is JSON over them, `server` a server for both.
"""
