"""Skip frames that look like the last one that was worked on, by chance, so that a still scene costs little.

From "StreamDiffusion" (arXiv 2312.12491), section 3.4. The comparison runs on a 64 x 64 copy. On a GPU its result is
read when it is there, one frame late, so that no frame waits for it.
"""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, cosine_similarity

__all__ = ["SimilarityFilter", "skip_probability"]

SIDE = 64


def skip_probability(cosine: float, threshold: float) -> float:
    """How likely a frame is skipped: 0 at the threshold and below, 1 for the same picture."""
    return 0.0 if threshold >= 1 else max(0.0, 1 - (1 - cosine) / (1 - threshold))


class SimilarityFilter:
    """Decides per frame. Used by one thread.

    Args:
        seed: of the chance.
    """

    def __init__(self, seed: int = 0) -> None:
        self._chance = random.Random(seed)
        self._last: Tensor | None = None
        self._skipped = 0
        self._cosine = 0.0
        self._pending: tuple[Tensor, Any] | None = None

    def reset(self) -> None:
        """The next frame is worked on."""
        self._last, self._skipped, self._pending, self._cosine = None, 0, None, 0.0

    def should_skip(self, picture: Tensor, threshold: float, most_in_a_row: int) -> bool:
        """Whether the picture of before will do.

        Args:
            picture: float [frames, 3, height, width] of 0..1. Compared as -1..1, so that the thresholds of existing
                workflows mean what they did, and a black scene is still, too.
            threshold: cosine similarity from which on frames may be skipped, 0..1.
            most_in_a_row: after so many skipped ones, one is worked on.
        """
        small = adaptive_avg_pool2d(picture.float(), SIDE).mul_(2).sub_(1).flatten()
        if self._last is None or self._last.shape != small.shape or self._last.device != small.device:
            return self._take(small)
        self._measure(small)
        if self._skipped >= most_in_a_row or skip_probability(self._cosine, threshold) < self._chance.random():
            return self._take(small)
        self._skipped += 1
        return True

    def _take(self, small: Tensor) -> bool:
        self._last, self._skipped = small, 0
        return False

    def _measure(self, small: Tensor) -> None:
        cosine = cosine_similarity(small, self._last, dim=0)
        if cosine.device.type != "cuda":
            self._cosine = float(cosine)
            return
        if self._pending is not None and self._pending[1].query():
            self._cosine, self._pending = float(self._pending[0]), None
        if self._pending is None:
            landing = torch.empty((), dtype=cosine.dtype, pin_memory=True)
            landing.copy_(cosine, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record(torch.cuda.current_stream(cosine.device))
            self._pending = (landing, arrived)
