"""Periodic evaluation while training: held-out examples through the very sampler of sample/."""

import jax
import numpy as np

from data.chat import chat_answer, chat_prompt
from data.metrics import effective_steps
from data.sources import open_source
from data.tokenizer import Tokenizer
from diffusiongemma import DiffusionGemma
from sample.sampler import generate
from train.config import RunConfig


class HeldOut:
    """A fixed set of the data's held-out examples, tokenized once.

    evaluate() counts an answer as right if its tokens up to the turn's end are the expected ones.
    """

    def __init__(self, config: RunConfig, tokenizer: Tokenizer):
        self.config = config
        if not config.eval.every:
            return
        source, to_text = open_source(config.data, "test", config.seed)
        num = min(config.eval.num, len(source))
        texts = [to_text(source[i]) for i in range(num)]
        room = config.data.prompt_length
        self.prompts = np.full((num, room), tokenizer.pad_id, np.int32)
        self.mask = np.zeros((num, room), bool)
        self.answers = []
        for i, (user, answer) in enumerate(texts):
            ids = tokenizer.encode(chat_prompt(user))
            if len(ids) > room:
                raise ValueError(
                    f"held-out prompt {i} has {len(ids)} tokens, data.prompt_length is {room}"
                )
            self.prompts[i, : len(ids)] = ids
            self.mask[i, : len(ids)] = True
            self.answers.append(tokenizer.encode(chat_answer(answer)))

    def evaluate(self, model: DiffusionGemma) -> dict[str, float]:
        """{"eval/exact": fraction right, "eval/steps": effective denoising steps}."""
        size = self.config.eval.batch_size
        right, steps, valid = [], [], []
        for at in range(0, len(self.answers), size):
            rows = np.arange(at, at + size) % len(self.answers)  # the last batch is filled up
            out = generate(
                model,
                self.prompts[rows],
                self.mask[rows],
                jax.random.key(self.config.seed),
                self.config.sampler,
            )
            for i, row in enumerate(rows[: len(self.answers) - at]):
                answer = self.answers[row]
                right.append(out.tokens[i, : len(answer)].tolist() == answer)
                steps.append(out.steps[i])
                valid.append(out.valid_tokens[i])
        return {
            "eval/exact": float(np.mean(right)),
            "eval/steps": effective_steps(np.concatenate(steps), np.concatenate(valid)),
        }
