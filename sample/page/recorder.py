"""Gathers the records of a command's answers, in both modes."""

import dataclasses
from collections.abc import Callable, Hashable
from typing import NamedTuple

import jax
import numpy as np

from data.text.tokenizer import Tokenizer
from sample.generation import Generation
from sample.page.record import CANDIDATES, About, LeftToRight, Record, make_record, token_texts
from sample.step import SamplerConfig

MOST = 64  # answers that are kept; a page has room for about so many short ones


class _Recorded(NamedTuple):
    """What make_record gets for an answer. The generation has one row."""

    out: Generation
    config: SamplerConfig
    about: About
    kept: np.ndarray | None
    seconds: float | None


class Recorder:
    """Keeps the first MOST generations until the page is written.

    Each answer has a key, by which its other mode is found.

    Attributes:
      left_out: number of answers that came when there was no more room.

    Args:
      tokenizer: the model's tokenizer.
      candidates: number of candidates of each position.
      model: the name of the model, for answers that come without one.
    """

    def __init__(self, tokenizer: Tokenizer, candidates: int = CANDIDATES, model: str = ""):
        self._text_of: Callable[[int], str] = token_texts(tokenizer)
        self._candidates, self._model = candidates, model
        self._answers: dict[Hashable, _Recorded] = {}
        self._others: dict[Hashable, LeftToRight] = {}
        self.left_out = 0

    @property
    def full(self) -> bool:
        """Whether there is no more room, so that no answer need be recorded."""
        return len(self._answers) >= MOST

    def settings(self, config: SamplerConfig) -> SamplerConfig:
        """The sampler's settings with all that a record needs."""
        return dataclasses.replace(config, trajectory=True, candidates=self._candidates)

    def add(
        self,
        key: Hashable,
        out: Generation,
        row: int,
        config: SamplerConfig,
        about: About,
        kept: np.ndarray | None,
        seconds: float,
    ) -> None:
        """Adds a row that was denoised, if there is room.

        Args:
          key: names the answer.
          out: a generation. It has a trajectory, if there is room.
          row: the row, from 0.
          config: the sampler's settings.
          about: what the page says of the answer.
          kept: [n] bool, kept positions; None for none.
          seconds: the time after the prefill of a run of the batch that recorded nothing.
        """
        if self.full:
            self.left_out += 1
            return
        share = out.steps[row].sum() / max(out.rounds, 1) if out.starts is None else 1.0
        about = about._replace(model=about.model or self._model)
        alone = jax.tree.map(lambda x: x[row : row + 1].copy(), out)  # lets go of the other rows
        self._answers[key] = _Recorded(alone, config, about, kept, round(seconds * share, 4))

    def add_left_to_right(
        self, key: Hashable, tokens: np.ndarray, longest: int, seconds: float
    ) -> None:
        """Adds an answer of the same weights left to right. It is shown beside the denoised one.

        Args:
          key: names the answer.
          tokens: [n] int32, up to and with the stop token.
          longest: number of tokens of the longest answer of the batch.
          seconds: the time after the prefill, of the batch.
        """
        if key in self._answers:
            taken = round(seconds * len(tokens) / max(longest, 1), 4)
            self._others[key] = LeftToRight(tokens, taken)

    def records(self) -> list[Record]:
        """The records of the answers that were denoised, in their order."""
        return [
            make_record(
                each.out,
                0,
                self._text_of,
                each.config,
                each.about,
                kept=each.kept,
                seconds=each.seconds,
                left_to_right=self._others.get(key),
            )
            for key, each in self._answers.items()
        ]
