"""A soak: many answers through one session, and a long training. The memory must stay flat.

    python -m scripts.soak --prompts=2000 --checkpoint=checkpoints/base
    python -m scripts.soak --steps=10000 --workdir=runs/soak

The first one asks prompts of random shape, in batches: plain ones of many lengths, texts with holes
of one length and of several, and answers that obey an expression. The second one trains the tiny
model on 4x4 Sudoku and saves it every few steps. The memory after the first hundred prompts or
steps is the measure: it may grow by 5 %. A batch whose shape was there before must compile nothing,
and no more checkpoints may stay than the run keeps. The exit status is 1 if one of these is broken.
"""

import contextlib
import dataclasses
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from data.text.holes import Hole, read_pieces
from sample import AutoregressiveConfig, cli, compile_cache
from sample.checkpoint import Checkpoint
from sample.command.answer import Answer, Request
from sample.command.answer_all import answer_all
from sample.command.prompt_rows import PromptRow, from_pieces, from_text
from sample.command.session import Session
from sample.step import SamplerConfig
from train.config import RunConfig
from train.loop import train

SETTLED = 100  # prompts or steps after which the memory must be flat
GROWTH = 0.05  # by how much it may grow
MEBI = 2**20
COMPILED = "/jax/core/compile/backend_compile_duration"
LETTERS = np.array(list("etaoin shrdlu 0123456789 äß字é"))
LENGTHS = (40, 110, 180, 250)  # characters of a plain prompt, at most
REGEXES = ("[a-z ]{1,40}", r"The answer is [0-9]{1,3}\.")
FILLS = ("Red, {}, blue: <fill:4>.", "{} and <fill:2-5> more")


@dataclasses.dataclass
class Memory:
    """The resident memory of this process, as it grows.

    Attributes:
      settled: bytes when it was first measured.
      most: the largest number of bytes since then.
    """

    settled: int = 0
    most: int = 0

    def measure(self) -> None:
        """Looks at the memory once."""
        now = resident()
        self.settled = self.settled or now
        self.most = max(self.most, now)

    @property
    def growth(self) -> float:
        """By which part of the first measure the memory has grown at most."""
        return self.most / self.settled - 1

    def faults(self) -> list[str]:
        """What is wrong with it."""
        grown = f"the memory has grown by {self.growth:.1%}, more than {GROWTH:.0%}"
        return [grown] if self.growth > GROWTH else []

    def __str__(self) -> str:
        ends = f"{self.settled / MEBI:.0f} MiB, then at most {self.most / MEBI:.0f} MiB"
        return f"memory after the first {SETTLED}: {ends} ({self.growth:+.1%})"


def resident() -> int:
    """Bytes of memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@contextlib.contextmanager
def compilations() -> Iterator[list[str]]:
    """A list that grows by an entry for each program that is compiled within the block."""
    found: list[str] = []

    def heard(event: str, *_: Any, **said: Any) -> None:
        if event == COMPILED:
            found.append(str(said.get("fun_name", "")))

    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)


def random_rows(rng: np.random.Generator, count: int, batch_size: int) -> list[PromptRow]:
    """Prompts of random shape, a batch of each kind first and then batches of random kinds."""
    kinds = len(LENGTHS) + len(FILLS) + len(REGEXES)
    rows: list[PromptRow] = []
    while len(rows) < count:
        batch = len(rows) // batch_size
        kind = batch if batch < kinds else int(rng.integers(kinds))
        rows += [random_row(rng, kind) for _ in range(min(batch_size, count - len(rows)))]
    return rows


def random_row(rng: np.random.Generator, kind: int) -> PromptRow:
    """A prompt of a kind: a plain one, one with holes, or one whose answer must match."""
    if kind < len(LENGTHS):
        return from_text(_text(rng, LENGTHS[kind]))
    kind -= len(LENGTHS)
    if kind < len(FILLS):
        return from_pieces(read_pieces(FILLS[kind].format(_text(rng, 20)), None, None))
    return from_text(_text(rng, LENGTHS[0]))._replace(demand=REGEXES[kind - len(FILLS)])


def _text(rng: np.random.Generator, most: int) -> str:
    return "a" + "".join(rng.choice(LETTERS, int(rng.integers(1, most))))


def shape_of(session: Session, batch: list[Request], rows: int | None) -> tuple:
    """What programs depend on: a batch whose shape was there before needs no new ones."""
    longest = max(len(request.tokens) for request in batch)
    width = max(64, -(-longest // 64) * 64)  # finer than the session's own
    outlines = [request.outline.pieces for request in batch if request.outline]
    holes = [p for pieces in outlines for p in pieces if isinstance(p, Hole)]
    tried = frozenset(len(hole.lengths) for hole in holes)
    return len(batch), rows, width, batch[0].room, batch[0].demand, tried


def soak_prompts(session: Session, count: int, batch_size: int, seed: int) -> tuple[str, list[str]]:
    """Asks prompts.

    Returns:
      (figures, faults): a line of figures, and a line for each thing that is wrong.
    """
    memory, seen, asked, faults = Memory(), set[tuple](), [0], list[str]()
    answer, answers = session.answer, [0]

    def measured(batch: list[Request], rows: int | None = None) -> list[Answer]:
        before, shape = len(compiled), shape_of(session, batch, rows)
        found = answer(batch, rows)
        if shape in seen and len(compiled) > before:
            names = ", ".join(compiled[before:])
            faults.append(f"prompt {asked[0]}: {names} compiled for a shape that was there before")
        seen.add(shape)
        asked[0] += len(batch)
        if asked[0] > SETTLED:
            memory.measure()
        return found

    def count_answer(_: Answer) -> None:
        answers[0] += 1

    session.answer = measured
    rows = random_rows(np.random.default_rng(seed), count, batch_size)
    with compilations() as compiled:
        refused = answer_all(
            session, rows, batch_size, lambda _: False, count_answer, faults.append
        )
    if refused or answers[0] != count:
        faults.append(f"{answers[0]} of {count} prompts are answered")
    figures = f"{count} prompts in {len(seen)} shapes, {len(compiled)} programs compiled"
    return f"{figures}; {memory}", faults + memory.faults()


def open_session(folder: str, max_steps: int) -> Session:
    """A session with a checkpoint, as sample.main has it."""
    found = Checkpoint.open(folder)
    sampler = SamplerConfig(**(found.sampler_defaults | {"max_steps": max_steps}))
    model = found.load()
    decoding = AutoregressiveConfig(max_new_tokens=model.config.canvas_size)
    return Session(model, found.tokenizer, found.template, sampler, decoding)


def soak_config(steps: int, every: int, keep: int, seed: int) -> RunConfig:
    """A training of the tiny model, whose steps take milliseconds."""
    return RunConfig.from_dict(
        {
            "seed": seed,
            "steps": steps,
            "batch_size": 2,
            "preset": "tiny",
            "overrides": {"vocab_size": 1024, "layer_types": ("full",)},
            "data": {"task": "sudoku", "prompt_length": 36, "box": 2, "clues": "4-8"},
            "loss": {"canvas_size": 24, "noise_draws": 1},
            "optimizer": {"name": "adam", "peak_lr": 1e-3, "end_lr": 1e-4, "warmup": 10},
            "checkpoint_every": every,
            "keep": keep,
        }
    )


class WorkdirWatch:
    """Looks at a workdir once in a while, on a thread of its own.

    Attributes:
      memory: of this process, since the first SETTLED steps.
      steps: the number of steps done.
      files: the largest number of files in the folder of checkpoints.
      kept: the largest number of checkpoints there.
      last: the number of checkpoints at the end.
    """

    def __init__(self, workdir: Path, pause: float):
        self.memory, self.steps, self.files, self.kept, self.last = Memory(), 0, 0, 0, 0
        self._workdir, self._pause, self._over = workdir, pause, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "WorkdirWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.look()

    def look(self) -> None:
        """Looks once."""
        folder = self._workdir / "checkpoints"
        found = os.listdir(folder) if folder.exists() else []
        steps = [int(name) for name in found if name.isdecimal()]
        self.last, self.steps = len(steps), max(steps, default=0)
        self.kept = max(self.kept, len(steps))
        self.files = max(self.files, sum(len(names) for *_, names in os.walk(folder)))
        if self.steps >= SETTLED:
            self.memory.measure()

    def _run(self) -> None:
        while not self._over.wait(self._pause):
            self.look()


def soak_training(config: RunConfig, workdir: Path, pause: float = 0.5) -> tuple[str, list[str]]:
    """Trains a run; returns what soak_prompts does."""
    with WorkdirWatch(workdir, pause) as watch:
        train(config, workdir)
    faults = watch.memory.faults()
    if watch.steps != config.steps or watch.last != config.keep:
        faults.append(f"{watch.last} checkpoints at the end, the last one of step {watch.steps}")
    if watch.kept > config.keep + 1:  # one more while the oldest one is removed
        faults.append(f"{watch.kept} checkpoints at a time, of a run that keeps {config.keep}")
    saved = -(-config.steps // config.checkpoint_every)
    figures = f"{config.steps} steps and {saved} checkpoints, at most {watch.kept} at a time"
    return f"{figures} in {watch.files} files; {watch.memory}", faults


def main(argv: list[str]) -> int:
    """Runs the command. Returns its exit status: 1 if something is wrong."""
    values = flags.FlagValues()
    text = dict(flag_values=values)
    flags.DEFINE_integer("prompts", 0, "Number of prompts.", lower_bound=0, **text)
    flags.DEFINE_integer("steps", 0, "Number of training steps.", lower_bound=0, **text)
    flags.DEFINE_integer("batch_size", 8, "Prompts of a batch.", lower_bound=1, **text)
    flags.DEFINE_integer("max_steps", 48, "Denoising steps, at most.", lower_bound=1, **text)
    flags.DEFINE_integer("every", 50, "Steps between checkpoints.", lower_bound=1, **text)
    flags.DEFINE_integer("keep", 2, "How many checkpoints stay.", lower_bound=1, **text)
    flags.DEFINE_string("checkpoint", "checkpoints/base", "Answers the prompts.", **text)
    flags.DEFINE_string("workdir", None, "Folder of the training.", **text)
    cli.define_seed(values, 0, "Random seed of prompts and training.")

    def run() -> int:
        if values.steps and not values.workdir:
            raise ValueError("--steps needs a --workdir=DIR")
        if not (values.prompts or values.steps):
            raise ValueError("--prompts=N or --steps=N is needed")
        compile_cache.enable()
        faults = []
        if values.prompts:
            session = open_session(values.checkpoint, values.max_steps)
            said, found = soak_prompts(session, values.prompts, values.batch_size, values.seed)
            print(said, flush=True)
            faults += found
        if values.steps:
            config = soak_config(values.steps, values.every, values.keep, values.seed)
            said, found = soak_training(config, Path(values.workdir))
            print(said, flush=True)
            faults += found
        print("\n".join(f"wrong: {fault}" for fault in faults) or "nothing is wrong")
        return 1 if faults else 0

    return cli.run(values, run, argv, __doc__)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
