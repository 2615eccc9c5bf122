"""What is asked of a model, and what it answers."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from data.images.patches import Patches
from data.text.chat import ModelTurn
from sample.command.checkpoint_id import UNNAMED, CheckpointId
from sample.command.fill import Outline
from sample.command.turn_end import FinishReason
from sample.generation import Generation


class Request(NamedTuple):
    """A prompt as tokens.

    Attributes:
      number: the row's number.
      tokens: the tokens of the prompt.
      checksum: a hash of all that the answer depends on, except for the number of the sample.
      checkpoint: the checkpoint that is asked.
      sample: number of the sample, from 0. Each draws noise of its own.
      repeat: number of earlier rows with the same checksum. Equal rows get an answer each.
      place: the row's place in its file in words; "" if it is not from a file.
      outline: the text to fill in or edit, as tokens; None for an answer of the model's own.
      demand: the regular expression that the answer must match; None for no demand.
      images: the patches of the prompt's images, in the order of their tokens.
    """

    number: int | None
    tokens: list[int]
    checksum: str
    checkpoint: CheckpointId = UNNAMED
    sample: int = 0
    repeat: int = 0
    place: str = ""
    outline: Outline | None = None
    demand: str | None = None
    images: tuple[Patches, ...] = ()

    @property
    def room(self) -> int | None:
        """The number of tokens to generate if there is an outline. A batch has one room."""
        return None if self.outline is None else self.outline.room


class Answer(NamedTuple):
    """The model's answer to a request.

    Attributes:
      request: what was asked.
      turn: the text, split into answer, thoughts and tool calls.
      steps: number of steps of each canvas that was begun, those of all its starts together, and
        the passes that the choice of the lengths of holes took. In the mode "ar", the answer is one
        canvas.
      valid_tokens: number of valid tokens in each of these canvases. Of a text that is filled in
        or edited, only the tokens in holes and spans count.
      finish_reason: how the answer ended (turn_end.py).
      drafts: for each canvas and each step of the start that was taken {"text", "entropy" (mean,
        nats), "accepted" (number of tokens)}; None if the sampler did not record them.
      before: the text that was edited; None if there was none.
    """

    request: Request
    turn: ModelTurn
    steps: list[int]
    valid_tokens: list[int]
    finish_reason: FinishReason
    drafts: list[list[dict[str, Any]]] | None = None
    before: str | None = None

    @property
    def generated_tokens(self) -> int:
        """Number of generated tokens, those after a stop text included."""
        return sum(self.valid_tokens)


def drafts(
    out: Generation, row: int, text_of: Callable[[np.ndarray], str]
) -> list[list[dict[str, Any]]]:
    """The steps of a row of a generation with a trajectory, as Answer.drafts has them."""
    return [
        [
            {
                "text": text_of(out.best[row, k, n]),
                "entropy": float(out.entropy[row, k, n].mean()),
                "accepted": int(out.accepted[row, k, n].sum()),
            }
            for n in range(steps)
        ]
        for k, steps in enumerate(out.recorded_steps[row])
        if steps
    ]
