"""Periodic evaluation while training: losses, and answers by the very sampler of sample/."""

import collections
import dataclasses
import functools
import textwrap

import jax
import numpy as np
from data.metrics import effective_steps
from data.sources import Sources
from flax import nnx

from data.pipeline import stack
from data.text.tokenizer import Tokenizer
from diffusiongemma import DiffusionGemma
from diffusiongemma.sharding import gather
from sample.command.canvas_view import printable
from sample.sampler import generate
from train.config import RunConfig
from train.loss import LossConfig, sft_loss

SHOWN = 200  # characters of an answer


class HeldOut:
    """A fixed set of the data's held-out examples, made rows once.

    Of conversations a batch is answered, to be looked at; of the other kinds everything is, and an
    answer is right if its tokens up to the turn's end are the expected ones.

    Args:
      config: the run; without eval.every nothing is evaluated.
      sources: with a test split.
      tokenizer: of the answers.
    """

    def __init__(self, config: RunConfig, sources: Sources, tokenizer: Tokenizer):
        self.config, self.tokenizer = config, tokenizer
        if not config.eval.every:
            return
        num = min(config.eval.num, len(sources.test))
        self.rows = stack([sources.to_row(sources.test[i]) for i in range(num)])
        self.num, self.batch_size = num, min(config.eval.batch_size, num)
        self.scored = config.data.kind != "chat"
        length = config.loss.num_canvases * config.loss.canvas_size
        limit = config.sampler.max_new_tokens or length
        self.sampler = dataclasses.replace(config.sampler, max_new_tokens=limit)

    def evaluate(self, model: DiffusionGemma) -> tuple[dict[str, float], str]:
        """Figures, and the beginning of the first answer.

        "eval/denoise_loss" and "eval/encoder_loss": of sft_loss, if it has them, with the same
        noise every time, over whole batches. "eval/steps": effective denoising steps.
        "eval/exact": fraction right; for conversations "eval/tokens" instead, the mean number in
        an answer.
        """
        figures = self._losses(model)
        right, steps, valid, first = [], [], [], ""
        for at in range(0, self.num if self.scored else self.batch_size, self.batch_size):
            rows = np.arange(at, at + self.batch_size) % self.num  # the last batch is filled up
            lengths = self.rows["prompt_len"][rows]
            prompts = self.rows["tokens"][rows, : self.config.data.prompt_length]
            mask = np.arange(prompts.shape[1]) < lengths[:, None]
            key = jax.random.key(self.config.seed)
            prompts = np.where(mask, prompts, self.tokenizer.pad_id)
            out = generate(model, prompts, mask, key, self.sampler)
            for i, row in enumerate(rows[: self.num - at]):
                answer = self._answer(row)
                right.append(np.array_equal(out.tokens[i, : len(answer)], answer))
                steps.append(out.steps[i])
                valid.append(out.valid_tokens[i])
            if not at:
                text = self.tokenizer.decode(out.tokens[0, : valid[0].sum()])
                first = textwrap.shorten(printable(text), SHOWN, placeholder=" ...")
        figures["eval/steps"] = effective_steps(np.concatenate(steps), np.concatenate(valid))
        if self.scored:
            figures["eval/exact"] = float(np.mean(right))
        else:
            figures["eval/tokens"] = float(np.mean([tokens.sum() for tokens in valid]))
        return figures, first

    def _answer(self, row: int) -> np.ndarray:
        """The expected tokens, the turn's end the last."""
        start = self.rows["prompt_len"][row]
        used = self.rows["num_canvases"][row] * self.config.loss.canvas_size
        answer = self.rows["tokens"][row, start : start + used]
        ends = np.flatnonzero(np.isin(answer, self.tokenizer.stop_ids))
        return answer[: ends[0] + 1]

    def _losses(self, model: DiffusionGemma) -> dict[str, float]:
        graphdef, state = nnx.split(model)
        sums = collections.Counter()
        batches = self.num // self.batch_size
        for i in range(batches):
            part = slice(i * self.batch_size, (i + 1) * self.batch_size)
            batch = {name: array[part] for name, array in self.rows.items()}
            key = jax.random.fold_in(jax.random.key(self.config.seed), i)
            found = jax.device_get(_losses(graphdef, state, batch, key, self.config.loss))
            for name, value in found.items():
                if name.endswith("_loss"):
                    sums[f"eval/{name}"] += float(value) / batches
        return dict(sums)


@functools.partial(jax.jit, static_argnames=("graphdef", "config"))
def _losses(graphdef, state, batch, key, config: LossConfig) -> dict[str, jax.Array]:
    return gather(sft_loss(nnx.merge(graphdef, state), batch, key, config)[1])
