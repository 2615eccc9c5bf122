"""The text of an answer while it grows, canvas by canvas.

Only what stays as it is can be sent. So an end is held back if what follows could change it: bytes
that are no whole character yet, the beginning of a stop text, and a thought that is not closed.
"""

from collections.abc import Sequence

import numpy as np

from data.text.tokenizer import Tokenizer
from sample.command.turn_end import read_turn

THOUGHTS = ("<think>", "<thinking>")  # as they stand at the beginning of an answer (thoughts.py)
BROKEN = "\ufffd"  # what bytes that are no whole character are decoded to


class SoFar:
    """What is new in an answer after each canvas.

    Args:
      tokenizer: the model's.
      stop_ids: tokens that end a generation.
      stop_texts: texts that end an answer.
      obeys: whether the answer obeys an expression. It has no thoughts and no calls then.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop_ids: Sequence[int],
        stop_texts: Sequence[str],
        obeys: bool,
    ):
        self._tokenizer, self._stop_ids = tokenizer, stop_ids
        self._stop_texts, self._obeys = stop_texts, obeys
        self._sent = ["", ""]

    def grown(self, tokens: np.ndarray) -> tuple[str, str]:
        """(new text of the answer, new text of its thoughts), both without what may still change.

        Args:
          tokens: [n] int32, all tokens so far, without a stop token.
        """
        if self._obeys:
            text = self._tokenizer.decode(tokens, skip_special=False)
            return self.rest(text.rstrip(BROKEN), "")
        turn, _ = read_turn(tokens, self._tokenizer, self._stop_ids, self._stop_texts)
        return self.rest(certain(turn.answer, self._stop_texts), turn.thoughts.rstrip(BROKEN))

    def rest(self, answer: str, thoughts: str) -> tuple[str, str]:
        """What was not sent yet of an answer and of its thoughts."""
        news = []
        for i, text in enumerate((answer, thoughts)):
            grows = text.startswith(self._sent[i])
            news.append(text[len(self._sent[i]) :] if grows else "")
            self._sent[i] = text if grows else self._sent[i]
        return news[0], news[1]


def certain(answer: str, stop_texts: Sequence[str]) -> str:
    """The beginning of an answer that stays, whatever the model writes next."""
    begun = answer.lstrip()
    if any(begun.startswith(tag) or tag.startswith(begun) for tag in THOUGHTS):
        return ""
    answer = answer.rstrip(BROKEN)
    held = [
        length
        for stop in stop_texts
        for length in range(1, len(stop))
        if answer.endswith(stop[:length])
    ]
    return answer[: len(answer) - max(held, default=0)]
