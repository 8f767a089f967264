"""Pictures on a GPU: the decoder's planes go up, are converted there, and come back as planes.

`backend` has the memory, streams and events, `layout` where planes lie in one buffer, `convert` the arithmetic,
`kernels` the same as one launch, `converter` which of the two runs, `reader` and `writer` the two ways. Everything here
imports torch, so only an engine that has a device imports it.
"""
