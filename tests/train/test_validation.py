"""Evaluation while training: scored answers, and losses over whole batches with fixed noise."""

import dataclasses

import jax
import numpy as np
import pytest
from flax import nnx

from data.pipeline import Packer
from data.tasks.task import Splits, Task
from data.text.chat_template import ChatTemplate
from data.text.tokenizer import Tokenizer
from sample.sampler import Generation
from train import validation
from train.config import RunConfig
from train.validation import HeldOut

P, C, K = 16, 4, 2
MEASURED = ("denoise_loss", "encoder_loss")
MEASURED += ("denoise_accuracy", "answer_accuracy", "fill_accuracy")
ANSWERS = ["sun moon", "sun moon star sky", "sea", "lake", "hill"]


@dataclasses.dataclass(frozen=True)
class Words(Task):
    name, title = "words", "words"

    def open(self, seed, check, test=True):
        return Splits(range(9), range(9))

    def text(self, item):
        return "red " * (item % 3 + 1), ANSWERS[item]


class Unscored(Words):
    scored = False


def held_out(cls: type[Task] = Words) -> HeldOut:
    config = RunConfig.from_dict(
        {
            "seed": 3,
            "steps": 1,
            "batch_size": 2,
            "preset": "tiny",
            "data": {"task": f"{__name__}:{cls.__name__}", "prompt_length": P},
            "loss": {"canvas_size": C, "num_canvases": K},
            "optimizer": {"name": "adam", "peak_lr": 1e-3, "end_lr": 1e-4, "warmup": 0},
            "eval": {"every": 1, "num": 5, "batch_size": 2},
        }
    )
    return HeldOut(config, range(9), Packer(ChatTemplate(Tokenizer.load()), P, C, K))


@pytest.fixture
def model() -> nnx.Module:
    """A model without parts. No test looks into it."""
    return nnx.Module()


@pytest.fixture
def asked(monkeypatch) -> list[np.ndarray]:
    """The prompts of each call of a made-up generate. The second of its five answers is wrong."""
    calls, tokenizer = [], Tokenizer.load()

    def generate(model, tokens, mask, key, config, given, images):
        assert given is None and images is None and config.max_new_tokens == K * C
        assert (tokens[~mask] == tokenizer.pad_id).all() and (tokens[mask] > 0).all()
        first = sum(map(len, calls))
        calls.append(tokens)
        out = np.full((len(tokens), K * C), tokenizer.eos_id)
        for i in range(len(tokens)):
            row = (first + i) % 5
            answer = tokenizer.encode(ANSWERS[row])
            if row == 1:
                answer[3] = answer[0]
            if row != 2:  # an answer may end with <eos> as well
                answer.append(tokenizer.turn_end_id)
            out[i, : len(answer)] = answer
        return Generation(out, np.array([[2, 4], [3, 1]]), np.array([[3, 1], [4, 2]]))

    monkeypatch.setattr(validation, "generate", generate)
    return calls


@pytest.fixture
def measured(monkeypatch) -> list[tuple]:
    """What each call of made-up losses was given. The losses are computed from it."""
    calls = []

    def losses(graphdef, state, batch, key, config):
        tokens, noise = float(batch["tokens"].sum()), float(jax.random.uniform(key))
        calls.append((tokens, noise, config))
        accuracies = {"denoise_accuracy": 0.85, "answer_tokens": 0.25, "answer_right": 0.1}
        accuracies |= {"fill_tokens": 0.75, "fill_right": 0.75}
        return {"denoise_loss": tokens, "encoder_loss": noise, **accuracies}

    monkeypatch.setattr(validation, "_losses", losses)
    return calls


def test_answers_are_scored_by_the_task(model, asked, measured):
    figures, first = held_out().evaluate(model)
    assert set(figures) == {f"eval/{name}" for name in (*MEASURED, "steps", "exact")}
    # Five in three batches; the repeat that fills up the last one does not count.
    assert [len(tokens) for tokens in asked] == [2, 2, 2]
    assert figures["eval/exact"] == 4 / 5
    steps = np.array([2, 4, 3, 1, 2, 4, 3, 1, 2, 4])
    valid = np.array([3, 1, 4, 2, 3, 1, 4, 2, 3, 1])
    np.testing.assert_allclose(figures["eval/steps"], (steps * valid).sum() / valid.sum())
    assert first == "sun moon"


def test_losses_are_of_whole_batches_with_the_same_noise(model, asked, measured):
    evaluation = held_out()
    figures, _ = evaluation.evaluate(model)
    asked.clear()
    assert evaluation.evaluate(model)[0] == figures
    assert len(measured) == 4 and measured[:2] == measured[2:]
    (tokens, noise, config), (more_tokens, other_noise, _) = measured[:2]
    assert config == evaluation.config.loss and noise != other_noise
    assert tokens + more_tokens == evaluation.rows["tokens"][:4].sum()
    np.testing.assert_allclose(figures["eval/denoise_loss"], (tokens + more_tokens) / 2)
    np.testing.assert_allclose(figures["eval/encoder_loss"], (noise + other_noise) / 2)
    found = [figures[f"eval/{kind}_accuracy"] for kind in ("denoise", "answer", "fill")]
    np.testing.assert_allclose(found, [0.85, 0.4, 1.0])


def test_a_batch_of_a_task_that_is_not_scored_is_answered(model, asked, measured):
    figures, first = held_out(Unscored).evaluate(model)
    assert len(asked) == 1
    assert set(figures) == {f"eval/{name}" for name in (*MEASURED, "steps", "tokens")}
    assert figures["eval/tokens"] == 5.0 and first
