"""The grain pipeline: a random-access source of examples to batches of packed rows."""

from collections.abc import Callable
from typing import Any

import grain
import numpy as np

from data import sudoku
from data.canvas import pack
from data.chat import chat_answer, chat_prompt
from data.tokenizer import Tokenizer


def sudoku_to_text(item: dict[str, np.ndarray]) -> tuple[str, str]:
    """(user text, answer text) of a SudokuSource item."""
    return sudoku.prompt(item["puzzle"]), sudoku.render(item["solution"])


def make_dataset(
    source: Any,
    to_text: Callable[[Any], tuple[str, str]],
    tokenizer: Tokenizer,
    *,
    prompt_length: int,
    canvas_size: int,
    num_canvases: int,
    batch_size: int,
    seed: int,
    shuffle: bool = True,
    num_epochs: int | None = None,
    part: tuple[int, int] = (0, 1),
) -> grain.IterDataset:
    """Batches of examples in the layout of `canvas.pack`.

    The order depends on the seed only and is another one in every epoch. Iterators of the dataset
    have get_state() and set_state(state), which resumes at exactly the next batch of a dataset made
    with the same arguments. Examples are made in the calling thread, when a batch is asked for:
    at some 5000 examples a second, workers would cost more than they bring.

    Args:
        source: has __len__ and __getitem__(int).
        to_text: item -> (user text, answer text), without any token of the turn format.
        num_epochs: None repeats for ever. Otherwise the last, incomplete batch is dropped.
        part: (i, n) gives the i-th of n equal parts of every batch's rows: what a host reads.

    Returns:
        Dataset of {"tokens": int32 [B, T], "prompt_len": int32 [B], "num_canvases": int32 [B]},
        with T = prompt_length + num_canvases * canvas_size.

    Raises:
        ValueError: while iterating, if an example does not fit.
    """

    def example(item) -> dict[str, np.ndarray]:
        user, answer = to_text(item)
        return pack(
            tokenizer.encode(chat_prompt(user)),
            tokenizer.encode(chat_answer(answer)),
            prompt_length,
            canvas_size,
            num_canvases,
            tokenizer.eos_id,
            tokenizer.pad_id,
        )

    index, parts = part
    if batch_size % parts:
        raise ValueError(f"{parts} hosts do not divide a batch of {batch_size}")
    size = batch_size // parts

    def rows(items) -> dict[str, np.ndarray]:
        examples = [example(item) for item in items[index * size : (index + 1) * size]]
        return {name: np.stack([e[name] for e in examples]) for name in examples[0]}

    dataset = grain.MapDataset.source(source).seed(seed)
    if shuffle:
        dataset = dataset.shuffle()
    dataset = dataset.repeat(num_epochs).batch(batch_size, drop_remainder=True, batch_fn=list)
    dataset = dataset.map(rows)
    return dataset.to_iter_dataset(grain.ReadOptions(num_threads=0))
