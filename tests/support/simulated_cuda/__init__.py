"""A CUDA device for machines without one: what is right or wrong on a GPU, without its speed.

`install()` makes this process believe that there is one GPU, "Simulated GPU". Tensors on it are real ones in the host's
memory, which say that they are on cuda:0 and behave so where programs go wrong:

- mixed with tensors of the host, or taken for numpy, they raise what CUDA raises (`tensor.py`);
- streams order work only as far as events and waits say it: two that touch the same memory without that order are a
  race, and memory that is given back while another stream still uses it is one too (`streams.py`);
- copies to the host that do not wait are done when somebody waits for them, and until then hold garbage;
- a graph hears nothing of Python: it repeats operations on the memory that it was recorded with, and what waits for the
  device cannot be recorded (`graphs.py`);
- `torch.cuda.set_sync_debug_mode("error")` raises where the host would wait;
- memory is counted, and is full at some point.

It shows nothing of kernels, of their precision, of speed, of Triton, of Inductor and of TensorRT.
"""

from __future__ import annotations

from .install import install, is_installed
from .streams import hazards
from .tensor import DeviceTensor

__all__ = ["DeviceTensor", "hazards", "install", "is_installed"]
