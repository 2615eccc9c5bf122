"""Lets the sampler answer a task's items, and scores the answers."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from data.images.room import ImageRoom
from data.tasks.task import Replay, Task
from data.text.chat import answer_text
from data.text.chat_template import ChatTemplate
from data.text.parts import NOTHING
from diffusiongemma import DiffusionGemma
from sample.autoregressive import AutoregressiveConfig, generate_autoregressive
from sample.checkpoint import check_vocabulary
from sample.generation import Generation
from sample.given import Given
from sample.page.record import About
from sample.page.recorder import Recorder
from sample.sampler import generate
from sample.split_model import SplitModel
from sample.starts import Starts
from sample.step import SamplerConfig
from sample.timing import Clock
from train.asked_items import AskedItems, written
from train.outcome import Outcome
from train.starts import StartOutcome


class Evaluation:
    """A model and the items that it is asked.

    An item's noise depends on the seed, on its own prompt and on what is given of its answer, and
    not on the other items of its batch.

    Args:
      model: the model. Its vocabulary must cover the tokenizer's.
      template: turns conversations into prompts.
      task: the task that the items belong to. It scores the answers.
      items: at least one item of the task.
      canvases: K, the number of canvases that an answer may take.
      seed: random seed of the sampler's noise.
      batch_size: number of items that are denoised together. The last batch is filled up with
        repeated items, whose answers are dropped.
      images: makes what reads the pictures of items, if an item has any.
      candidates: number of candidates of each position that `record` keeps. `replay` keeps them
        too, so that both run one program.

    Raises:
      ValueError: there are no items, the model's vocabulary is too small, or an item has a picture
        that cannot be read or seen.
    """

    def __init__(
        self,
        model: DiffusionGemma,
        template: ChatTemplate,
        task: Task,
        items: Sequence[Any],
        *,
        canvases: int = 1,
        seed: int = 0,
        batch_size: int = 64,
        images: Callable[[], ImageRoom] | None = None,
        candidates: int = 0,
    ) -> None:
        if not items:
            raise ValueError(f"no {task.noun}s to evaluate")
        check_vocabulary(model, template.tokenizer)
        self.template, self.task, self.items, self.seed = template, task, items, seed
        self.canvases, self.batch_size = canvases, min(batch_size, len(items))
        self._candidates = candidates
        self.config, self._model = model.config, SplitModel(model)
        self._asked = AskedItems(template, task, items, images)
        self.tokens, self.mask = self._asked.tokens, self._asked.mask

    def run(
        self,
        sampler: SamplerConfig,
        rows: np.ndarray | None = None,
        progress: Callable[[int], Any] | None = None,
        *,
        left_to_right: bool = False,
    ) -> Outcome:
        """Answers items and scores the answers.

        Args:
          sampler: the sampler's settings. Its max_new_tokens and trajectory are not used.
          rows: [N] int, the numbers of the items to answer; None for all items.
          progress: is called after each batch with the number of its items.
          left_to_right: whether to decode token by token, always with the most probable one. Of the
            sampler's settings only canvas_size, stop_ids and prefill_chunk matter then.

        Returns:
          the answers and their scores, in the order of `rows`.

        Raises:
          ValueError: the canvases are too small for a right answer, the model's context is too
            small for a prompt and its answer, or left_to_right with an answer that starts from
            other tokens.
        """
        rows = np.arange(len(self.items)) if rows is None else np.asarray(rows)
        sampler = self._for_items(sampler)
        num, size = len(rows), min(self.batch_size, len(rows))
        answers, starts = np.empty(num, object), None
        shape = num, 1 if left_to_right else self.canvases
        counts = {n: np.zeros(shape, np.int32) for n in ("steps", "valid_tokens")}
        if sampler.starts > 1 and self.canvases == 1 and not left_to_right:
            each = (num, sampler.starts)
            starts = StartOutcome(np.zeros(each, bool), *np.zeros((2, *each), np.int32))
        seconds, compiling = np.zeros(num), 0.0
        for start in range(0, num, size):
            places = np.arange(start, start + size) % num
            with Clock() as clock:
                decode = self._left_to_right if left_to_right else self._generate
                out, given = decode(rows[places], sampler)
                clock.lap("generate")
            compiling += clock.compile_seconds
            real = places[: num - start]
            seconds[real] = clock.seconds["generate"] / size
            counts["steps"][real] = out.steps[: len(real)]
            counts["valid_tokens"][real] = written(out.valid_tokens, given)[: len(real)]
            for i, place in enumerate(real):
                answers[place] = self._text(out.tokens[i], out.valid_tokens[i].sum())
            if starts is not None:
                self._add_starts(starts, real, rows[real], out.starts)
                starts.valid_tokens[real] = written(out.starts.valid_tokens, given)[: len(real), 0]
            if progress:
                progress(len(real))
        scored = [self.task.score(self.items[r], a) for r, a in zip(rows, answers, strict=True)]
        scores = {name: np.array([s[name] for s in scored]) for name in self.task.measures}
        return Outcome(
            answers, scores, **counts, seconds=seconds, compile_seconds=compiling, starts=starts
        )

    def _add_starts(
        self, outcome: StartOutcome, places: np.ndarray, rows: np.ndarray, starts: Starts
    ) -> None:
        """Writes the first rows of a batch, which are the items `rows`, to places of an outcome.

        Their valid tokens are written elsewhere.
        """
        outcome.steps[places] = starts.steps[: len(places), 0]
        for i, (place, row) in enumerate(zip(places, rows, strict=True)):
            for s, valid in enumerate(starts.valid_tokens[i, 0]):
                answer = self._text(starts.tokens[i, 0, s], valid)
                outcome.exact[place, s] = self.task.score(self.items[row], answer)["exact"] == 1

    def _text(self, tokens: np.ndarray, valid: int) -> str:
        return answer_text(self.template.tokenizer, tokens[:valid])

    def replay(self, row: int, sampler: SamplerConfig) -> Replay:
        """Answers one item again, as `run` does, and keeps every step of its first canvas.

        Of several starts, it keeps those of the one that is taken.

        Args:
          row: the number of the item.
          sampler: the sampler's settings.

        Raises:
          ValueError: as `run`.
        """
        sampler = self._for_items(sampler)
        out, _ = self._generate(np.array([row]), self._recording(sampler))
        taken, tokenizer = out.recorded_steps[0, 0], self.template.tokenizer
        best = out.best[0, 0, :taken]
        expected = self._asked.answers[row]
        pieces = {id: tokenizer.decode([id]) for id in {*np.unique(best).tolist(), *expected}}
        return Replay(
            pieces=[[pieces[id] for id in step] for step in best.tolist()],
            accepted=out.accepted[0, 0, :taken],
            entropy=out.entropy[0, 0, :taken],
            expected=[pieces[id] for id in expected],
            limit=sampler.max_steps,
        )

    def record(self, recorder: Recorder, row: int, sampler: SamplerConfig, both: bool) -> None:
        """Answers one item for a page, and adds it to the records.

        It is answered three times: the first run warms up, the second one is measured, and the
        third one is recorded.

        Args:
          recorder: gets the answer.
          row: the number of the item.
          sampler: the sampler's settings.
          both: whether the same weights answer also left to right.

        Raises:
          ValueError: as `run`.
        """
        rows, sampler = np.array([row]), self._for_items(sampler)
        tokenizer = self.template.tokenizer
        pieces = [tokenizer.decode([token]) for token in self._asked.answers[row]]
        about = About(
            f"{self.task.title}: {self.task.noun} {row}",
            tokenizer.decode(self.tokens[row, self.mask[row]].tolist(), skip_special=False),
            view=self.task.view(self.items[row], pieces),
        )
        self._generate(rows, sampler)
        with Clock() as clock:
            self._generate(rows, sampler, clock)
        out, given = self._generate(rows, self._recording(sampler))
        kept = None if given is None else given.keep[0]
        seconds = clock.seconds["denoise"] + clock.seconds["commit"]
        recorder.add(row, out, 0, sampler, about, kept, seconds)
        if both:
            self._left_to_right(rows, sampler)
            with Clock() as clock:
                out, _ = self._left_to_right(rows, sampler, clock)
            taken = int(out.valid_tokens.sum())
            seconds = clock.seconds["decode"]
            recorder.add_left_to_right(row, out.tokens[0, :taken], taken, seconds)

    def _for_items(self, sampler: SamplerConfig) -> SamplerConfig:
        """The sampler's settings with the length of the answers; raises ValueError if too small."""
        size = sampler.canvas_size or self.config.canvas_size
        longest = max(map(len, self._asked.answers))
        if longest > self.canvases * size:
            room = f"{self.canvases} canvases" if self.canvases > 1 else "the canvas"
            raise ValueError(
                f"an answer takes {longest} tokens, more than {room} of {size}: give more "
                "--canvases or a larger --canvas_size"
            )
        return dataclasses.replace(
            sampler, canvas_size=size, max_new_tokens=self.canvases * size, trajectory=False
        )

    def _recording(self, sampler: SamplerConfig) -> SamplerConfig:
        return dataclasses.replace(sampler, trajectory=True, candidates=self._candidates)

    def _generate(
        self, rows: np.ndarray, sampler: SamplerConfig, clock: Clock | None = None
    ) -> tuple[Generation, Given | None]:
        """Generates the answers to the items with these numbers, in one batch.

        Returns:
          (generation, given): the answers, and what was given of them.
        """
        given = self._asked.given(rows, sampler.canvas_size, self.canvases)
        key = self._asked.keys(self.seed, rows, given)
        prompts = self.tokens[rows], self.mask[rows]
        more = {"given": given, "images": self._asked.images(rows), "clock": clock}
        return generate(self._model, *prompts, key, sampler, **more), given

    def _left_to_right(
        self, rows: np.ndarray, sampler: SamplerConfig, clock: Clock | None = None
    ) -> tuple[Generation, Given | None]:
        """Decodes the answers token by token, as _generate. Each token is a step of one canvas."""
        given = self._asked.given(rows, sampler.canvas_size, self.canvases, fill=False)
        if given is not None and ((given.tokens != NOTHING) & ~given.keep).any():
            raise ValueError(
                f"answers of {self.task.name} start from other tokens, which is not possible left "
                "to right: leave out --left_to_right"
            )
        config = AutoregressiveConfig(
            sampler.max_new_tokens,
            temperature=0,
            stop_ids=sampler.stop_ids,
            prefill_chunk=sampler.prefill_chunk,
        )
        key = self._asked.keys(self.seed, rows, given)
        prompts = self.tokens[rows], self.mask[rows]
        asked = self._model, *prompts, key, config
        more = {"given": given, "images": self._asked.images(rows), "clock": clock}
        out = generate_autoregressive(*asked, **more)
        valid = out.valid_tokens[:, None]
        return Generation(out.tokens, valid, valid), given
