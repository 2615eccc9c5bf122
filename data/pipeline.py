"""The grain pipeline: it makes batches of packed rows from items with random access."""

import collections
import concurrent.futures
import dataclasses
import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle
import grain
import numpy as np

from data.images.room import ImageRoom, named
from data.text.chat_template import ChatTemplate
from data.text.conversations import Conversation
from data.text.packing import pack
from data.text.parts import Part, encode_parts

AHEAD = 4  # batches that each worker process may be ahead of the one that reads them

_worker: list[grain.MapDataset] = []  # in a worker process, the dataset that it makes batches of


@dataclasses.dataclass(frozen=True)
class Packer:
    """Makes one row of a batch from a conversation. `packing.pack` says how a row is laid out.

    Attributes:
      template: the chat template with its tokenizer.
      prompt_length: P, the room for a prompt, in tokens.
      canvas_size: C, tokens of a canvas.
      num_canvases: K, the room for an answer, in canvases.
      images: the room for images; None if rows have no images.
    """

    template: ChatTemplate
    prompt_length: int
    canvas_size: int
    num_canvases: int
    images: ImageRoom | None = None

    def __call__(
        self, conversation: Conversation, parts: Sequence[Part] | None = None
    ) -> dict[str, np.ndarray]:
        """Packs a conversation whose last message is the answer.

        Args:
          conversation: the conversation.
          parts: the parts of its answer, if some of it is given (Task.parts).

        Returns:
          the row, as `packing.pack` gives it, with its pictures, as `ImageRoom.row` gives them.

        Raises:
          ValueError: the template refuses the conversation, the parts do not fit the answer, or a
            picture cannot be read or finds no room.
          TooLong: the prompt or the answer does not fit.
        """
        prompt, answer = self.template.example(*conversation)
        tokenizer, given, pictures = self.template.tokenizer, None, {}
        if self.images is not None:
            shown = self.images.shown(conversation.messages)
            prompt, pictures = self.images.prompt(prompt, shown), self.images.row(shown)
        elif count := len(named(conversation.messages)):
            raise ValueError(
                f"{count} images or videos, and rows have no room for them: give "
                f"--config.images.per_row={count}"
            )
        if parts is None:
            answer_ids = tokenizer.encode(answer)
        else:
            answer_ids, given = encode_parts(tokenizer, answer, parts)
        row = pack(
            tokenizer.encode(prompt),
            answer_ids,
            self.prompt_length,
            self.canvas_size,
            self.num_canvases,
            tokenizer.eos_id,
            tokenizer.pad_id,
            given,
        )
        return row | pictures


def make_dataset(
    source: Any,
    to_row: Callable[[Any], dict[str, np.ndarray]],
    *,
    batch_size: int,
    seed: int,
    shuffle: bool = True,
    num_epochs: int | None = None,
    part: tuple[int, int] = (0, 1),
    workers: int = 0,
) -> "grain.IterDataset | WorkerBatches":
    """Makes a dataset of batches in the layout of `packing.pack`.

    The order of the items depends on the seed alone and differs from epoch to epoch. Iterators of
    the dataset have get_state() and set_state(state). An iterator that is set to a state goes on
    with exactly the next batch, if its dataset was made with the same arguments. The number of
    workers may differ.

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
      workers: number of processes that make batches ahead of time. With 0 the calling thread makes
        a batch when it is asked for. It makes thousands of rows in a second, which is enough on
        CPUs. Processes need a source and a to_row that cloudpickle can pickle.

    Returns:
      a dataset of {"tokens": [B / n, T] int32; "prompt_len", "answer_len" and "num_canvases",
      [B / n] int32 each}, with T = prompt_length + num_canvases * canvas_size. What else the rows
      have, the batches have too, for example "given" and "keep", [B / n, T].

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
    if workers:
        return WorkerBatches(dataset, workers)
    return dataset.to_iter_dataset(grain.ReadOptions(num_threads=0))


class WorkerBatches:
    """An iterator over batches that worker processes make ahead of time, in the dataset's order.

    Its state is that of the dataset's own iterator. grain's mp_prefetch is not used, because its
    state depends on the number of workers.

    Args:
      dataset: batches with random access.
      workers: number of processes.
    """

    def __init__(self, dataset: grain.MapDataset, workers: int):
        self._size, self._ahead = len(dataset), AHEAD * workers
        # A new process, because a fork of a process with JAX's threads may hang.
        self._pool = concurrent.futures.ProcessPoolExecutor(
            workers,
            multiprocessing.get_context("spawn"),
            _open_dataset,
            (cloudpickle.dumps(dataset),),  # pickle takes no local functions, and tasks have some
        )
        self.set_state({"next_index": 0})

    def __iter__(self) -> "WorkerBatches":
        return self

    def __next__(self) -> dict[str, np.ndarray]:
        """The next batch.

        Raises:
          StopIteration: there are no more batches.
          ValueError: an item does not fit into a row.
        """
        while self._asked < self._size and len(self._made) < self._ahead:
            self._made.append(self._pool.submit(_batch, self._asked))
            self._asked += 1
        if not self._made:
            raise StopIteration
        batch = self._made.popleft().result()
        self._next += 1
        return batch

    def get_state(self) -> dict[str, int]:
        """The position: {"next_index": the number of the next batch}."""
        return {"next_index": self._next}

    def set_state(self, state: dict[str, int]) -> None:
        """Goes to a position. Batches that were made ahead are thrown away."""
        self._next = self._asked = state["next_index"]
        self._made: collections.deque[concurrent.futures.Future] = collections.deque()

    def close(self) -> None:
        """Ends the processes."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _open_dataset(pickled: bytes) -> None:
    """Gives a worker process its dataset, and ends the process when its parent has been killed."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker.append(cloudpickle.loads(pickled))


def _end_with_parent() -> None:
    # A worker holds both ends of the pipe that it reads its tasks from, so it would wait for ever.
    multiprocessing.parent_process().join()
    os._exit(1)


def _batch(index: int) -> dict[str, np.ndarray]:
    """Batch number `index` of a worker's dataset."""
    return _worker[-1][index]


def stack(rows: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Stacks rows, at least one, to a batch."""
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
