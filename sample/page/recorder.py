"""Gathers the records of a command's answers, in both modes."""

import dataclasses
from collections.abc import Callable, Hashable
from typing import NamedTuple

import numpy as np

from data.text.tokenizer import Tokenizer
from sample.generation import Generation
from sample.page.record import CANDIDATES, About, LeftToRight, Record, make_record, token_texts
from sample.step import SamplerConfig


class _Recorded(NamedTuple):
    """What make_record gets for an answer."""

    out: Generation
    row: int
    config: SamplerConfig
    about: About
    kept: np.ndarray | None
    seconds: float | None


class Recorder:
    """Keeps generations until the page is written.

    Each answer has a key, by which its other mode is found.

    Args:
      tokenizer: the model's.
      candidates: number of candidates of each position.
      model: the name of the model, for answers that come without one.
    """

    def __init__(self, tokenizer: Tokenizer, candidates: int = CANDIDATES, model: str = ""):
        self._text_of: Callable[[int], str] = token_texts(tokenizer)
        self._candidates, self._model = candidates, model
        self._answers: dict[Hashable, _Recorded] = {}
        self._others: dict[Hashable, LeftToRight] = {}

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
        """Adds a row that was denoised.

        Args:
          key: the answer's.
          out: a generation with a trajectory.
          row: the row, from 0.
          config: the sampler's settings.
          about: what the page says of it.
          kept: [n] bool, kept positions; None for none.
          seconds: the time after the prefill of a run of the batch that recorded nothing.
        """
        share = out.steps[row].sum() / max(out.rounds, 1) if out.starts is None else 1.0
        about = about._replace(model=about.model or self._model)
        self._answers[key] = _Recorded(out, row, config, about, kept, round(seconds * share, 4))

    def add_left_to_right(
        self, key: Hashable, tokens: np.ndarray, longest: int, seconds: float
    ) -> None:
        """Adds an answer of the same weights left to right.

        Args:
          key: the answer's.
          tokens: [n] int32, up to and with the stop token.
          longest: number of tokens of the longest answer of the batch.
          seconds: the time after the prefill, of the batch.
        """
        taken = round(seconds * len(tokens) / max(longest, 1), 4)
        self._others[key] = LeftToRight(tokens, taken)

    def records(self) -> list[Record]:
        """The records of the answers that were denoised, in their order."""
        return [
            make_record(
                each.out,
                each.row,
                self._text_of,
                each.config,
                each.about,
                kept=each.kept,
                seconds=each.seconds,
                left_to_right=self._others.get(key),
            )
            for key, each in self._answers.items()
        ]
