"""The grain pipeline: it makes batches of packed rows from items with random access."""

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
    """Makes one row of a batch from a conversation. `packing.pack` says how a row is laid out.

    Attributes:
      template: the chat template with its tokenizer.
      prompt_length: P, the room for a prompt, in tokens.
      canvas_size: C, tokens of a canvas.
      num_canvases: K, the room for an answer, in canvases.
    """

    template: ChatTemplate
    prompt_length: int
    canvas_size: int
    num_canvases: int

    def __call__(self, conversation: Conversation) -> dict[str, np.ndarray]:
        """Packs a conversation whose last message is the answer.

        Returns:
          the row, as `packing.pack` gives it.

        Raises:
          ValueError: the template refuses the conversation.
          TooLong: the prompt or the answer does not fit.
        """
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
    """Makes a dataset of batches in the layout of `packing.pack`.

    The order of the items depends on the seed alone and differs from epoch to epoch. Iterators of
    the dataset have get_state() and set_state(state). An iterator that is set to a state goes on
    with exactly the next batch, if its dataset was made with the same arguments. Rows are made in
    the calling thread when a batch is asked for. Thousands of rows are made in a second, so worker
    processes would cost more time than they save.

    Args:
      source: the items, with __len__ and __getitem__(int).
      to_row: makes the row of an item.
      batch_size: B, rows of a batch.
      seed: random seed of the order.
      shuffle: whether the order is random. Otherwise it is that of the source.
      num_epochs: how often all items are read; None for ever. The last batch is dropped if it is
        not full.
      part: (i, n): only the i-th of n equal parts of each batch's rows is made. Each of n hosts
        reads one part.

    Returns:
      a dataset of {"tokens": [B / n, T] int32; "prompt_len", "answer_len" and "num_canvases",
      [B / n] int32 each}, with T = prompt_length + num_canvases * canvas_size.

    Raises:
      ValueError: the hosts do not divide the batch. While the dataset is read: an item does not
        fit into a row.
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
    """Stacks rows, at least one, to a batch."""
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
