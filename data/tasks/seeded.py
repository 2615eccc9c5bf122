"""The base of sources that draw an item at random when it is asked for."""

import abc
from typing import Any

import numpy as np


class SeededSource(abc.ABC):
    """Random access to items that draw() makes. Item i depends only on the seed, i and draw().

    Args:
      seed: the random seed, 0 <= seed < 2**63.
      size: the number of items. An item is made when it is asked for.
    """

    def __init__(self, seed: int, size: int):
        self.seed, self.size = seed, size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        """Item `index`. Raises IndexError outside 0..size-1."""
        if not 0 <= index < self.size:
            raise IndexError(f"item {index} of a source of {self.size}")
        return self.draw(np.random.Generator(np.random.Philox(key=[self.seed, int(index)])))

    @abc.abstractmethod
    def draw(self, rng: np.random.Generator) -> Any:
        """Makes an item with this generator as the only source of chance."""
