"""The items of an evaluation as the sampler gets them: prompts, pictures, what is given."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from data.images.room import PATCHES, POSITIONS, ImageRoom, named
from data.tasks.task import Task
from data.text.chat_template import ChatTemplate
from data.text.packing import pack
from data.text.parts import NOTHING, encode_parts
from diffusiongemma import Images
from sample.batch import pad_prompts
from sample.given import Given, given_keys


class AskedItems:
    """Items as tokens.

    Attributes:
      tokens: [N, P] int32, the prompts.
      mask: [N, P] bool, True at real tokens.
      answers: the tokens of each right answer, with the token that ends the turn.

    Args:
      template: turns conversations into prompts.
      task: the task that the items belong to.
      items: N items.
      images: makes what reads the pictures of items, if an item has any.

    Raises:
      ValueError: the template refuses a conversation, the parts of an answer do not fit it, or a
        picture cannot be read or seen.
    """

    def __init__(
        self,
        template: ChatTemplate,
        task: Task,
        items: Sequence[Any],
        images: Callable[[], ImageRoom] | None = None,
    ) -> None:
        self._tokenizer = tokenizer = template.tokenizer
        asked = [task.conversation(item) for item in items]
        texts = [template.example(*c)[1] for c in asked]
        cut = [task.parts(item) for item in items]
        self._given = None
        if cut[0] is None:
            self.answers = [tokenizer.encode(text) for text in texts]
        else:
            pairs = [encode_parts(tokenizer, *pair) for pair in zip(texts, cut, strict=True)]
            self.answers, self._given = zip(*pairs, strict=True)
        rendered = [template.render(c.messages[:-1], tools=c.tools) for c in asked]
        self._messages = None
        if any(named(c.messages) for c in asked):
            if images is None:
                raise ValueError(f"{task.noun}s have images, and nothing reads them")
            room, self._messages = images(), [c.messages for c in asked]
            most = 0
            for i, messages in enumerate(self._messages):  # one after another, to save memory
                shown = room.shown(messages)
                rendered[i] = room.prompt(rendered[i], shown)
                most = max(most, sum(map(len, shown)))
            self._room = dataclasses.replace(room, count=most)
        self.tokens, self.mask = pad_prompts(
            list(map(tokenizer.encode, rendered)), tokenizer.pad_id
        )

    def given(
        self, rows: np.ndarray, canvas_size: int, num_canvases: int, fill: bool = True
    ) -> Given | None:
        """What is given of the answers to some items; None if the task gives nothing.

        Args:
          rows: [B] int, the numbers of the items.
          canvas_size: C.
          num_canvases: K, enough for the answers.
          fill: whether the eos fill behind an answer is given too.

        Returns:
          tokens and keep, [B, K C].
        """
        if self._given is None:
            return None
        ends = self._tokenizer.eos_id, self._tokenizer.pad_id
        shape = 0, canvas_size, num_canvases
        packed = [pack([], self.answers[row], *shape, *ends, self._given[row]) for row in rows]
        tokens, keep = (np.stack([row[name] for row in packed]) for name in ("given", "keep"))
        if not fill:
            lengths = np.array([len(self.answers[row]) for row in rows])
            behind = np.arange(tokens.shape[1]) >= lengths[:, None]
            tokens, keep = np.where(behind, NOTHING, tokens), keep & ~behind
        return Given(tokens, keep)

    def images(self, rows: np.ndarray) -> Images | None:
        """The pictures of some items; None if no item has any.

        They are read again each time, because those of all items may take much memory.

        Args:
          rows: [B] int, the numbers of the items.
        """
        if self._messages is None:
            return None
        read = [self._room.row(self._room.shown(self._messages[row])) for row in rows]
        return Images(*(np.concatenate([r[k] for r in read]) for k in (PATCHES, POSITIONS)))

    def keys(self, seed: int, rows: np.ndarray, given: Given | None) -> jax.Array:
        """The sampler's random key or keys for some items.

        Args:
          seed: random seed.
          rows: [B] int, the numbers of the items.
          given: what `given` returns for them.
        """
        key = jax.random.key(seed)
        if given is None:
            return key
        return given_keys(key, self.tokens[rows], self.mask[rows], given)


def written(valid: np.ndarray, given: Given | None) -> np.ndarray:
    """The number of tokens that the model wrote, among valid ones: kept tokens do not count.

    Args:
      valid: [B, K] or [B, K, S] int32, valid tokens of canvases, or of their starts.
      given: what was given, [B, K C] each; None if nothing was.

    Returns:
      int32 of the same shape.
    """
    if given is None:
        return valid
    keep = given.keep.reshape(*valid.shape[:2], -1)
    kept = np.pad(keep.cumsum(axis=-1, dtype=np.int32), ((0, 0), (0, 0), (1, 0)))
    places = valid.reshape(*valid.shape[:2], -1)
    return (places - np.take_along_axis(kept, places, axis=-1)).reshape(valid.shape)
