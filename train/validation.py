"""Evaluation while training: losses on held-out items, and the sampler's answers to them."""

import collections
import dataclasses
import functools
import textwrap
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from data.measures import effective_steps
from data.pipeline import Packer, stack
from data.text.chat import answer_text
from diffusiongemma import DiffusionGemma
from diffusiongemma.sharding import gather
from files.printable import printable
from sample.given import Given, given_keys
from sample.sampler import generate
from train.config import RunConfig
from train.loss import Figures, LossConfig, accuracies, batch_images, sft_loss

SHOWN = 200  # the number of characters of an answer that are printed


class HeldOut:
    """The first held-out items of a run's task, with the rows that are made of them.

    If the task is scored while training (Task.scored), all of the items are answered and scored.
    Otherwise one batch of them is answered, so that an answer can be looked at.

    Args:
      config: the run. With eval.every = 0 nothing is evaluated.
      items: the task's held-out items; None if nothing is evaluated.
      packer: makes the row of a conversation.
    """

    def __init__(self, config: RunConfig, items: Sequence[Any] | None, packer: Packer) -> None:
        self.config, self.tokenizer = config, packer.template.tokenizer
        if not config.eval.every:
            return
        self.task, num = config.data.task, min(config.eval.num, len(items))
        self.items = [items[i] for i in range(num)]
        task = self.task
        self.rows = stack([packer(task.conversation(i), task.parts(i)) for i in self.items])
        self.num, self.batch_size = num, min(config.eval.batch_size, num)
        length = config.loss.num_canvases * config.loss.canvas_size
        limit = config.sampler.max_new_tokens or length
        self.sampler = dataclasses.replace(config.sampler, max_new_tokens=limit)

    def evaluate(self, model: DiffusionGemma) -> tuple[dict[str, float], str]:
        """Evaluates a model on the held-out items.

        Returns:
          (figures, text): the figures, and the beginning of the first answer. The figures are:
            eval/denoise_loss, eval/encoder_loss: the losses of sft_loss in nats per token, as far
              as it computes them. They have the same noise in every evaluation. Items that do not
              fill a whole batch are left out.
            eval/denoise_accuracy, eval/answer_accuracy, eval/fill_accuracy: with the same noise,
              the share of tokens that are most probably the right ones: of all tokens, of those of
              answers, and of the fill, if there is any (`accuracies`).
            eval/steps: effective denoising steps (docs/MODEL.md, Measures).
            eval/exact: the share of right answers; only for a task that is scored.
            eval/tokens: the mean number of tokens of an answer; only for a task that is not.
        """
        figures = {f"eval/{name}": value for name, value in self._figures(model).items()}
        right, steps, valid, first = [], [], [], ""
        scored = self.task.scored
        for start in range(0, self.num if scored else self.batch_size, self.batch_size):
            # The last batch is filled up with repeated items.
            rows = np.arange(start, start + self.batch_size) % self.num
            lengths = self.rows["prompt_len"][rows]
            prompts = self.rows["tokens"][rows, : self.config.data.prompt_length]
            mask = np.arange(prompts.shape[1]) < lengths[:, None]
            key = jax.random.key(self.config.seed)
            prompts = np.where(mask, prompts, self.tokenizer.pad_id)
            given = self._given(rows)
            if given is not None:
                key = given_keys(key, prompts, mask, given)
            images = batch_images({name: array[rows] for name, array in self.rows.items()})
            out = generate(model, prompts, mask, key, self.sampler, given=given, images=images)
            for i, row in enumerate(rows[: self.num - start]):
                answer = answer_text(self.tokenizer, out.tokens[i, : out.valid_tokens[i].sum()])
                right.append(self.task.score(self.items[row], answer)["exact"])
                steps.append(out.steps[i])
                valid.append(out.valid_tokens[i])
            if not start:
                text = self.tokenizer.decode(out.tokens[0, : valid[0].sum()])
                first = textwrap.shorten(printable(text), SHOWN, placeholder=" ...")
        figures["eval/steps"] = effective_steps(np.concatenate(steps), np.concatenate(valid))
        if scored:
            figures["eval/exact"] = float(np.mean(right))
        else:
            figures["eval/tokens"] = float(np.mean([tokens.sum() for tokens in valid]))
        return figures, first

    def _given(self, rows: np.ndarray) -> Given | None:
        """What is given of the answers to items, [B, n] each; None if the task gives nothing."""
        if "keep" not in self.rows:
            return None
        loss = self.config.loss
        room = loss.num_canvases * loss.canvas_size
        places = np.arange(min(room, self.sampler.max_new_tokens))
        places = places + self.rows["prompt_len"][rows, None]
        return Given(*(self.rows[name][rows[:, None], places] for name in ("given", "keep")))

    def _figures(self, model: DiffusionGemma) -> dict[str, float]:
        """The mean losses and accuracies over whole batches."""
        graphdef, state = nnx.split(model)
        sums = collections.Counter()
        batches = self.num // self.batch_size
        for i in range(batches):
            part = slice(i * self.batch_size, (i + 1) * self.batch_size)
            batch = {name: array[part] for name, array in self.rows.items()}
            key = jax.random.fold_in(jax.random.key(self.config.seed), i)
            found = jax.device_get(_losses(graphdef, state, batch, key, self.config.loss))
            for name, value in found.items():
                sums[name] += float(value) / batches
        return accuracies(sums)


@functools.partial(jax.jit, static_argnames=("graphdef", "config"))
def _losses(
    graphdef: nnx.GraphDef,
    state: nnx.State,
    batch: dict[str, np.ndarray],
    key: jax.Array,
    config: LossConfig,
) -> Figures:
    """The figures of sft_loss for one batch, whole on every process."""
    return gather(sft_loss(nnx.merge(graphdef, state), batch, key, config)[1])
