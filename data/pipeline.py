"""The grain pipeline: a random-access source of examples to batches of packed rows."""

import dataclasses
from collections.abc import Callable
from typing import Any

import grain
import numpy as np

from data.text.chat_template import ChatTemplate
from data.text.conversations import Conversation
from data.text.packing import pack


@dataclasses.dataclass(frozen=True)
class Packer:
    """Makes a conversation one row of a batch; `packing.pack` says how a row is laid out."""

    template: ChatTemplate
    prompt_length: int
    canvas_size: int
    num_canvases: int

    def __call__(self, conversation: Conversation) -> dict[str, np.ndarray]:
        """Raises ValueError if the template refuses it, TooLong if it does not fit."""
        prompt, answer = self.template.example(*conversation)
        tokenizer = self.template.tokenizer
        return pack(
            tokenizer.encode(prompt),
            tokenizer.encode(answer),
            self.prompt_length,
            self.canvas_size,
            self.num_canvases,
            tokenizer.eos_id,
            tokenizer.pad_id,
        )


def make_dataset(
    source: Any,
    to_row: Callable[[Any], dict[str, np.ndarray]],
    *,
    batch_size: int,
    seed: int,
    shuffle: bool = True,
    num_epochs: int | None = None,
    part: tuple[int, int] = (0, 1),
) -> grain.IterDataset:
    """Batches of examples in the layout of `packing.pack`.

    The order depends on the seed alone and differs from epoch to epoch. Iterators of the dataset
    have get_state() and set_state(state). The latter resumes at exactly the next batch of a dataset
    that was made with the same arguments. Examples are made in the calling thread, when a batch is
    asked for: at thousands of examples a second, workers would cost more than they bring.

    Args:
      source: random access to items, with __len__ and __getitem__(int).
      to_row: item -> row, such as a Packer.
      num_epochs: None repeats for ever. Otherwise the last, incomplete batch is dropped.
      part: (i, n) gives the i-th of n equal parts of every batch's rows: what a host reads.

    Returns:
      Dataset of {"tokens": int32 [B, T], "prompt_len": int32 [B], "num_canvases": int32 [B]},
      with T = prompt_length + num_canvases * canvas_size.

    Raises:
      ValueError: the hosts do not divide the batch; or while iterating, an example does not fit.
    """
    index, parts = part
    if batch_size % parts:
        raise ValueError(f"{parts} hosts do not divide a batch of {batch_size}")
    size = batch_size // parts

    def rows(items: list[Any]) -> dict[str, np.ndarray]:
        return stack([to_row(item) for item in items[index * size : (index + 1) * size]])

    dataset = grain.MapDataset.source(source).seed(seed)
    if shuffle:
        dataset = dataset.shuffle()
    dataset = dataset.repeat(num_epochs).batch(batch_size, drop_remainder=True, batch_fn=list)
    dataset = dataset.map(rows)
    return dataset.to_iter_dataset(grain.ReadOptions(num_threads=0))


def stack(rows: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Rows, at least one, as one batch."""
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
