"""Vectors of passages, kept while they are likely to be asked for again."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float16]
"""(H,) for a pooled passage, (T tokens, H) for late interaction; rounding costs 1e-4 of a cosine."""


class VectorCache:
    """Half-precision vectors by key, the least recently used dropped beyond `limit` bytes."""

    def __init__(self, limit: int = 256 << 20) -> None:
        self.limit = limit
        self.size = 0  # bytes held
        self._held: OrderedDict[str, Vector] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: str) -> Vector | None:
        """The vector of that key, which then is the most recently used; None when it is not held."""
        vector = self._held.get(key)
        if vector is not None:
            self._held.move_to_end(key)
        return vector

    def put(self, key: str, vector: Vector) -> None:
        """Keep the vector, dropping older ones if need be."""
        replaced = self._held.pop(key, None)
        if replaced is not None:
            self.size -= replaced.nbytes
        self._held[key] = vector
        self.size += vector.nbytes
        while self.size > self.limit:
            _, dropped = self._held.popitem(last=False)
            self.size -= dropped.nbytes
