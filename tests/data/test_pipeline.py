"""Batches of rows: their layout, their order over epochs, and how an iterator resumes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data.pipeline import Packer, make_dataset
from data.tasks.base_mixture import BaseMixtureTask, MixtureSource
from data.text.chat_template import ChatTemplate
from data.text.conversations import conversation
from data.text.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tok():
    return Tokenizer.load()


class Digits:
    """Item i is the number i, so that a row identifies its example."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return int(index)


def number_text(item):
    return "Copy:\n" + " ".join(str(item)), " ".join(str(item))


def to_row(tok, text, *shape):
    packer = Packer(ChatTemplate(tok), *shape)
    return lambda item: packer(conversation(*text(item)))


def numbers(tok, size=10, prompt_length=16, **options):
    row = to_row(tok, number_text, prompt_length, 4, 2)
    return make_dataset(Digits(size), row, **{"batch_size": 4, "seed": 0, **options})


def read(tok, batch):
    """The numbers of the examples, read from their answers."""
    out = []
    for tokens, prompt_len in zip(batch["tokens"], batch["prompt_len"], strict=True):
        out.append(int(tok.decode(tokens[prompt_len:]).replace(" ", "")))
    return out


def take(tok, iterator, batches):
    return [read(tok, next(iterator)) for _ in range(batches)]


def test_batches(tok):
    source = MixtureSource(0, size=50)
    row = to_row(tok, BaseMixtureTask().text, 116, 90, 1)
    dataset = make_dataset(source, row, batch_size=5, seed=0, shuffle=False, num_epochs=1)
    batches = list(dataset)
    assert len(batches) == 10
    for batch in batches:
        assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
            "tokens": ((5, 206), np.int32),
            "prompt_len": ((5,), np.int32),
            "answer_len": ((5,), np.int32),
            "num_canvases": ((5,), np.int32),
        }
    tokens, length = batches[3]["tokens"][2], batches[3]["prompt_len"][2]
    item = source[17]
    text = f"<bos><|turn>user\n{item['prompt']}<turn|>\n<|turn>model\n"
    assert tok.decode(tokens[:length], skip_special=False) == text
    assert tok.decode(tokens[length : length + 90]) == item["answer"]
    assert (tokens[length + 90 :] == tok.pad_id).all()


def test_epochs_are_whole_and_shuffled_anew(tok):
    examples = [n for batch in take(tok, iter(numbers(tok)), 10) for n in batch]
    epochs = [examples[i : i + 10] for i in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert take(tok, iter(numbers(tok)), 3) == take(tok, iter(numbers(tok)), 3)
    assert take(tok, iter(numbers(tok)), 3) != take(tok, iter(numbers(tok, seed=1)), 3)
    plain = numbers(tok, shuffle=False, num_epochs=1)
    assert [read(tok, batch) for batch in plain] == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("done", [0, 1, 2, 7])
def test_resume(tok, done):
    """Resumes within an epoch, at a batch across two epochs, and in the third epoch."""
    first = iter(numbers(tok))
    take(tok, first, done)
    state = first.get_state()
    rest = take(tok, first, 6)
    second = iter(numbers(tok))
    second.set_state(state)
    assert take(tok, second, 6) == rest
    assert rest != take(tok, iter(numbers(tok)), 6) or done == 0


def test_worker_processes_make_the_same_batches(tok):
    """The order and the state are those of one process, so a run may go on with either."""
    template = "<bos><|turn>user\n{{ messages[0].content }}<turn|>\n<|turn>model\n"
    template += "{% if not add_generation_prompt %}{{ messages[1].content }}<turn|>{% endif %}"
    task, packer = BaseMixtureTask(), Packer(ChatTemplate(tok, template), 116, 91, 1)

    def opened(workers):
        source = MixtureSource(0, size=50)
        options = {"batch_size": 4, "seed": 0, "num_epochs": 1, "workers": workers}
        # Tasks have local functions, as this one, which pickle itself does not take.
        return iter(make_dataset(source, lambda item: packer(task.conversation(item)), **options))

    def rest(iterator):
        return [batch["tokens"] for batch in iterator]

    alone, helped = opened(0), opened(1)
    try:
        next(alone), next(helped)
        assert helped.get_state() == alone.get_state() == {"next_index": 1}
        helped.set_state({"next_index": 3})
        alone.set_state(helped.get_state())
        expected = rest(alone)
        assert len(expected) == 9  # of 50 rows, 12 batches of 4
        np.testing.assert_array_equal(rest(helped), expected)
    finally:
        helped.close()


def test_too_long_is_an_error(tok):
    with pytest.raises(ValueError, match="does not fit prompt_length 8"):
        next(iter(numbers(tok, prompt_length=8)))


def test_a_row_may_mention_special_tokens(tok):
    asked, said = "What does <pad> mean?", "A <pad> fills a row, <turn|> ends a turn."
    row = to_row(tok, lambda _: (asked, said), 40, 40, 1)(0)
    prompt, answer = np.split(row["tokens"], [row["prompt_len"]])
    assert tok.pad_id not in prompt and (prompt == tok.turn_end_id).sum() == 1
    [end] = np.flatnonzero(answer[:40] == tok.turn_end_id)
    assert tok.decode(answer[:end]) == said
    assert (answer[end + 1 : 40] == tok.eos_id).all()


KILLED = """
import os, signal
from data.pipeline import make_dataset

if __name__ == "__main__":
    pid = lambda i: {"pid": os.getpid()}
    batches = iter(make_dataset(list(range(9)), pid, batch_size=1, seed=0, workers=1))
    print(next(batches)["pid"][0], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_end_with_a_killed_parent(tmp_path):
    (tmp_path / "killed.py").write_text(KILLED)
    done = subprocess.run(
        [sys.executable, tmp_path / "killed.py"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    worker = int(done.stdout)
    for _ in range(300):
        state = Path(f"/proc/{worker}/stat")
        if not state.exists() or state.read_text().rsplit(")")[-1].split()[0] in "ZX":
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker goes on without its parent")
