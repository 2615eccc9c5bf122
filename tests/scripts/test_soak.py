"""The soak finds memory that grows, programs that are compiled again, and checkpoints that stay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sample.command.answer import Request
from scripts import soak
from scripts.soak import LENGTHS, Memory, WorkdirWatch, random_rows, soak_prompts


class Repeats:
    """Answers each prompt with itself, and compiles a program when it is told to."""

    def __init__(self, compiles):
        self._compiles, self._count = compiles, 0

    def request(self, row):
        return Request(row.number, [1] * len(str(row.messages)), "sum", demand=row.demand)

    def answer(self, batch, rows=None):
        self._count += 1
        if self._compiles(self._count):
            number = self._count
            jax.jit(lambda x: x + number)(jnp.zeros(3)).block_until_ready()
        return batch


def test_programs_for_new_shapes_alone_are_right():
    said, faults = soak_prompts(Repeats(lambda count: count == 1), 320, 8, seed=3)
    assert faults == [] and said.startswith("320 prompts in ")


def test_a_program_for_a_shape_that_was_there_is_found():
    _, faults = soak_prompts(Repeats(lambda count: count == 40), 320, 8, seed=3)
    assert len(faults) == 1 and "compiled for a shape that was there before" in faults[0]


def test_memory_that_grows_is_found(monkeypatch):
    memory, sizes = Memory(), iter([1000, 900, 1049, 1051])
    monkeypatch.setattr(soak, "resident", lambda: next(sizes))
    for _ in range(3):
        memory.measure()
    assert memory.faults() == []
    memory.measure()
    [fault] = memory.faults()
    assert fault.startswith("the memory has grown by ")


def test_checkpoints_and_their_files_are_counted(tmp_path):
    watch = WorkdirWatch(tmp_path, pause=1)
    watch.look()
    assert (watch.kept, watch.files, watch.steps) == (0, 0, 0)
    for step in (50, 100, 150):
        (tmp_path / "checkpoints" / str(step)).mkdir(parents=True)
        (tmp_path / "checkpoints" / str(step) / "array").touch()
    (tmp_path / "checkpoints" / "200.tmp").mkdir()
    watch.look()
    assert (watch.kept, watch.last, watch.files, watch.steps) == (3, 3, 3, 150)
    assert watch.memory.settled > 0


@pytest.mark.parametrize("seed", [0, 1])
def test_prompts_come_in_all_kinds_and_are_the_same_for_a_seed(seed):
    rows, again = (random_rows(np.random.default_rng(seed), 100, 8) for _ in range(2))
    assert rows == again and len(rows) == 100
    assert {row.demand for row in rows} == {None, *soak.REGEXES}
    assert sum(row.pieces is not None for row in rows) >= 16
    assert max(len(row.messages[0]["content"]) for row in rows) <= max(LENGTHS)
