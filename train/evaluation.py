"""Answers a task's items with the sampler, scores the answers and sums them up."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from data.measures import effective_steps, tokens_per_forward, wilson
from data.tasks.task import Replay, Task
from data.text.chat import answer_text
from data.text.chat_template import ChatTemplate
from diffusiongemma import DiffusionGemma
from sample.batch import pad_prompts
from sample.checkpoint import check_vocabulary
from sample.sampler import Generation, generate
from sample.split_model import SplitModel
from sample.step import SamplerConfig
from sample.timing import Clock

# Bins of a report: title -> name -> bool [N].
Bins = dict[str, dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The answers to N items under one setting of the sampler. K is the number of canvases.

    Attributes:
      answers: [N] object, the texts.
      scores: measure -> [N] float64, what Task.score gives.
      steps: [N, K] int32, calls of denoise for each canvas; 0 for a canvas that was not begun.
      valid_tokens: [N, K] int32, tokens up to and with the first stop token.
      seconds: [N] float64, an item's part of its batch's time, without compilation.
      compile_seconds: tracing and compilation.
    """

    answers: np.ndarray
    scores: dict[str, np.ndarray]
    steps: np.ndarray
    valid_tokens: np.ndarray
    seconds: np.ndarray
    compile_seconds: float

    @property
    def exact(self) -> np.ndarray:
        """[N] bool, the right answers."""
        return self.scores["exact"] == 1

    def take(self, rows: np.ndarray) -> "Outcome":
        """The items at `rows`, any NumPy index; compile_seconds stays."""
        arrays = ("answers", "steps", "valid_tokens", "seconds")
        taken = {name: getattr(self, name)[rows] for name in arrays}
        scores = {name: values[rows] for name, values in self.scores.items()}
        return dataclasses.replace(self, **taken, scores=scores)


class Evaluation:
    """A model and the items that it is asked. An item's noise depends on the seed and its own
    prompt alone, not on its batch.

    Args:
      model: its vocabulary covers the tokenizer's.
      template: turns conversations into prompts.
      task: asks and scores.
      items: at least one item of the task.
      canvases: K, canvases that an answer may take.
      seed: random seed of the sampler's noise.
      batch_size: items denoised together. The last batch is filled up with repeats.

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
    ):
        if not items:
            raise ValueError(f"no {task.noun}s to evaluate")
        check_vocabulary(model, template.tokenizer)
        self.template, self.task, self.items, self.seed = template, task, items, seed
        self.canvases, self.batch_size = canvases, min(batch_size, len(items))
        self.config, self._model = model.config, SplitModel(model)
        encode = template.tokenizer.encode
        asked = [task.conversation(item) for item in items]
        self._answers = [encode(template.example(*c)[1]) for c in asked]
        prompts = [encode(template.render(c.messages[:-1], tools=c.tools)) for c in asked]
        self.tokens, self.mask = pad_prompts(prompts, template.tokenizer.pad_id)

    def run(
        self,
        sampler: SamplerConfig,
        rows: np.ndarray | None = None,
        progress: Callable[[int], Any] | None = None,
    ) -> Outcome:
        """Answers the items at `rows`, or all of them, and scores the answers.

        Args:
          sampler: max_new_tokens and trajectory are not used.
          progress: is called with the number of items that a batch has done.

        Raises:
          ValueError: the canvases are too small for the right answers, or the model's context is.
        """
        rows = np.arange(len(self.items)) if rows is None else np.asarray(rows)
        sampler = self._for_items(sampler)
        num, size = len(rows), min(self.batch_size, len(rows))
        answers = np.empty(num, object)
        counts = {n: np.zeros((num, self.canvases), np.int32) for n in ("steps", "valid_tokens")}
        seconds, compiling = np.zeros(num), 0.0
        for start in range(0, num, size):
            places = np.arange(start, start + size) % num
            with Clock() as clock:
                out = self._generate(rows[places], sampler)
                clock.lap("generate")
            compiling += clock.compile_seconds
            real = places[: num - start]
            seconds[real] = clock.seconds["generate"] / size
            for name, values in counts.items():
                values[real] = getattr(out, name)[: len(real)]
            for i, place in enumerate(real):
                tokens = out.tokens[i, : out.valid_tokens[i].sum()]
                answers[place] = answer_text(self.template.tokenizer, tokens)
            if progress:
                progress(len(real))
        scored = [self.task.score(self.items[r], a) for r, a in zip(rows, answers, strict=True)]
        scores = {name: np.array([s[name] for s in scored]) for name in self.task.measures}
        return Outcome(answers, scores, **counts, seconds=seconds, compile_seconds=compiling)

    def replay(self, row: int, sampler: SamplerConfig) -> Replay:
        """Every step of an item's first canvas: what run() did with it."""
        sampler = dataclasses.replace(self._for_items(sampler), trajectory=True)
        out = self._generate(np.array([row]), sampler)
        taken, tokenizer = out.steps[0, 0], self.template.tokenizer
        best = out.best[0, 0, :taken]
        expected = self._answers[row]
        pieces = {id: tokenizer.decode([id]) for id in {*np.unique(best).tolist(), *expected}}
        return Replay(
            pieces=[[pieces[id] for id in step] for step in best.tolist()],
            accepted=out.accepted[0, 0, :taken],
            entropy=out.entropy[0, 0, :taken],
            expected=[pieces[id] for id in expected],
            limit=sampler.max_steps,
        )

    def _for_items(self, sampler: SamplerConfig) -> SamplerConfig:
        size = sampler.canvas_size or self.config.canvas_size
        longest = max(map(len, self._answers))
        if longest > self.canvases * size:
            room = f"{self.canvases} canvases" if self.canvases > 1 else "the canvas"
            raise ValueError(
                f"an answer takes {longest} tokens, more than {room} of {size}: give more "
                "--canvases or a larger --canvas_size"
            )
        return dataclasses.replace(
            sampler, canvas_size=size, max_new_tokens=self.canvases * size, trajectory=False
        )

    def _generate(self, rows: np.ndarray, sampler: SamplerConfig) -> Generation:
        key = jax.random.key(self.seed)
        return generate(self._model, self.tokens[rows], self.mask[rows], key, sampler)


def typical(outcome: Outcome) -> int:
    """The first of the right answers (of all, if none is right) that took the median of their
    steps."""
    rows = np.flatnonzero(outcome.exact)
    rows = rows if rows.size else np.arange(len(outcome.exact))
    steps = outcome.steps[rows].sum(axis=1)
    return int(rows[np.argmin(np.abs(steps - np.median(steps)))])


def summarize(outcome: Outcome, bins: Bins) -> dict[str, Any]:
    """All figures of one outcome as plain numbers, overall and by bin.

    Returns:
      shares() of all items, and "steps" {"mean", "quartiles", "effective"}, "tokens_per_forward",
      "seconds_per_item", "compile_seconds" and "bins" {title: {name: shares()}}, of bins with
      items in them.
    """
    begun = outcome.steps > 0
    steps, valid = outcome.steps[begun], outcome.valid_tokens[begun]
    total = outcome.steps.sum(axis=1)
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
    }


def by_bin(outcome: Outcome, parts: dict[str, np.ndarray]) -> dict[str, Any]:
    """{name: shares()} of each bin with items in it."""
    return {name: shares(outcome.take(rows)) for name, rows in parts.items() if rows.any()}


def shares(outcome: Outcome) -> dict[str, Any]:
    """{"count": N, "mean_steps", and each measure}, of at least one item.

    A measure is {"rate", "low", "high", "count"} with the 95 % Wilson interval of N items. For a
    measure that is itself a share of an item ("parts"), that interval is wider than it need be.
    """
    count = len(outcome.answers)
    figures: dict[str, Any] = {"count": count}
    figures["mean_steps"] = float(outcome.steps.sum(axis=1).mean())
    for name, values in outcome.scores.items():
        total = float(values.sum())
        low, high = wilson(min(total, count), count)
        figures[name] = {"rate": total / count, "low": low, "high": high, "count": count}
    return figures


def paired(early: Outcome, full: Outcome) -> dict[str, int]:
    """How often both, one or neither of two outcomes was exact, and how often they agreed."""
    return {
        "both": int(np.sum(early.exact & full.exact)),
        "only_early_stop": int(np.sum(early.exact & ~full.exact)),
        "only_all_steps": int(np.sum(~early.exact & full.exact)),
        "neither": int(np.sum(~early.exact & ~full.exact)),
        "same_answer": int(np.sum(early.answers == full.answers)),
    }
