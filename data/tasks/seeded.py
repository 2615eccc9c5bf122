"""Sources whose items are drawn when they are asked for."""

import abc
from typing import Any

import numpy as np


class SeededSource(abc.ABC):
    """Random-access source; item i depends on (seed, i) and on what draw() knows only.

    Args:
      seed: the stream's seed, 0 <= seed < 2**63.
      size: number of items; nothing is generated before it is asked for.
    """

    def __init__(self, seed: int, size: int):
        self.seed, self.size = seed, size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        """What draw() makes; raises IndexError outside 0..size-1."""
        if not 0 <= index < self.size:
            raise IndexError(f"item {index} of a source of {self.size}")
        return self.draw(np.random.Generator(np.random.Philox(key=[self.seed, int(index)])))

    @abc.abstractmethod
    def draw(self, rng: np.random.Generator) -> Any:
        """An item, by this generator's numbers alone."""
