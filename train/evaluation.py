"""Lets the sampler answer a task's items, scores the answers and sums them up."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from data.measures import effective_steps, share, tokens_per_forward
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
from train.starts import StartOutcome, summarize_starts

# Bins of a report: title -> name -> bool [N].
Bins = dict[str, dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The answers to N items under one setting of the sampler. K is the number of canvases.

    Attributes:
      answers: [N] object, the texts of the answers.
      scores: name of a measure -> [N] float64, the values that Task.score gives.
      steps: [N, K] int32, denoising steps of each canvas, those of all its starts together; 0 for a
        canvas that was not begun.
        Left to right there is one canvas, and each token is a step.
      valid_tokens: [N, K] int32, tokens of each canvas up to the first stop token and with it. Kept
        tokens do not count: the model did not write them.
      seconds: [N] float64, the time of an item's batch divided by the number of its items, without
        compilation.
      compile_seconds: seconds of tracing and compilation, all batches together.
      starts: the answers of all starts. None if there is one start, or several canvases: the starts
        of a canvas go on from the canvases that were taken, so none has an answer of its own.
    """

    answers: np.ndarray
    scores: dict[str, np.ndarray]
    steps: np.ndarray
    valid_tokens: np.ndarray
    seconds: np.ndarray
    compile_seconds: float
    starts: StartOutcome | None = None

    @property
    def exact(self) -> np.ndarray:
        """[N] bool, which answers are right."""
        return self.scores["exact"] == 1

    def take(self, rows: np.ndarray) -> "Outcome":
        """The outcome of some items; compile_seconds stays that of all.

        Args:
          rows: any NumPy index of the N items: numbers, or a bool for each.
        """
        arrays = ("answers", "steps", "valid_tokens", "seconds")
        taken = {name: getattr(self, name)[rows] for name in arrays}
        scores = {name: values[rows] for name, values in self.scores.items()}
        starts = self.starts
        if starts is not None:
            starts = StartOutcome(*(values[rows] for values in starts))
        return dataclasses.replace(self, **taken, scores=scores, starts=starts)


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

    Raises:
      ValueError: there are no items, or the model's vocabulary is too small.
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
    ) -> None:
        if not items:
            raise ValueError(f"no {task.noun}s to evaluate")
        check_vocabulary(model, template.tokenizer)
        self.template, self.task, self.items, self.seed = template, task, items, seed
        self.canvases, self.batch_size = canvases, min(batch_size, len(items))
        self.config, self._model = model.config, SplitModel(model)
        self._asked = AskedItems(template, task, items)
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
        sampler = dataclasses.replace(self._for_items(sampler), trajectory=True)
        out, _ = self._generate(np.array([row]), sampler)
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
        out, given = self._generate(rows, recorder.settings(sampler))
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
        return generate(self._model, *prompts, key, sampler, given=given, clock=clock), given

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
        out = generate_autoregressive(*asked, given=given, clock=clock)
        valid = out.valid_tokens[:, None]
        return Generation(out.tokens, valid, valid), given


def typical(outcome: Outcome) -> int:
    """The number of an item whose answer took a typical number of steps.

    The item is right, if any is, and its number of steps is the closest to the median of the right
    answers (of all answers, if none is right). Of several such items it is the first.
    """
    rows = np.flatnonzero(outcome.exact)
    rows = rows if rows.size else np.arange(len(outcome.exact))
    steps = outcome.steps[rows].sum(axis=1)
    return int(rows[np.argmin(np.abs(steps - np.median(steps)))])


def summarize(outcome: Outcome, bins: Bins) -> dict[str, Any]:
    """Sums up one outcome in plain numbers, for all items and for each bin.

    Args:
      outcome: the answers to N items.
      bins: how the items are divided.

    Returns:
      the fields of shares(outcome), and:
        steps: {"mean", "quartiles", "effective"}, denoising steps of an answer. "effective" is
          defined in docs/MODEL.md (Measures).
        tokens_per_forward: also defined there.
        seconds_per_item, compile_seconds: seconds.
        bins: {title: {name: shares()}}, for bins that have items.
        starts: summarize_starts(), if the outcome has the answers of several starts.
    """
    begun = outcome.steps > 0
    steps, valid = outcome.steps[begun], outcome.valid_tokens[begun]
    total, starts = outcome.steps.sum(axis=1), outcome.starts
    return {
        **shares(outcome),
        "steps": {
            "mean": float(total.mean()),
            "quartiles": np.percentile(total, (25, 50, 75)).tolist(),
            "effective": effective_steps(steps, valid),
        },
        "tokens_per_forward": tokens_per_forward(
            steps, valid, len(steps), num_sequences=len(total)
        ),
        "seconds_per_item": float(outcome.seconds.mean()),
        "compile_seconds": float(outcome.compile_seconds),
        "bins": {title: by_bin(outcome, parts) for title, parts in bins.items()},
    } | ({} if starts is None else {"starts": summarize_starts(starts, outcome.exact)})


def by_bin(outcome: Outcome, parts: dict[str, np.ndarray]) -> dict[str, Any]:
    """shares() of each bin that has items.

    Args:
      outcome: the answers to N items.
      parts: name of a bin -> [N] bool, which items are in it.
    """
    return {name: shares(outcome.take(rows)) for name, rows in parts.items() if rows.any()}


def shares(outcome: Outcome) -> dict[str, Any]:
    """The mean of each measure over N items, at least one, with its interval.

    Returns:
      {"count": N, "mean_steps": denoising steps of an answer, and for each measure its name ->
      {"rate", "low", "high", "count"}} (data.measures.share).
    """
    count = len(outcome.answers)
    figures: dict[str, Any] = {"count": count}
    figures["mean_steps"] = float(outcome.steps.sum(axis=1).mean())
    return figures | {name: share(values) for name, values in outcome.scores.items()}


def paired(early: Outcome, full: Outcome) -> dict[str, int]:
    """Compares two outcomes of the same items, with early stopping and with all steps.

    Returns:
      numbers of items: "both", "only_early_stop", "only_all_steps" and "neither" say whose answer
      is right; "same_answer" counts equal answers.
    """
    return {
        "both": int(np.sum(early.exact & full.exact)),
        "only_early_stop": int(np.sum(early.exact & ~full.exact)),
        "only_all_steps": int(np.sum(~early.exact & full.exact)),
        "neither": int(np.sum(~early.exact & ~full.exact)),
        "same_answer": int(np.sum(early.answers == full.answers)),
    }
