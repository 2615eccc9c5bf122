"""Periodic evaluation: the same figures for the same model, right answers, whole batches."""

import jax
import numpy as np
import pytest
from data.sources import Sources
from flax import nnx

from data.text.packing import pack
from data.text.tokenizer import Tokenizer
from sample.sampler import Generation
from train import validation
from train.config import RunConfig
from train.validation import HeldOut

EOS, TURN, P, C, K = 1, 106, 6, 4, 2
ANSWERS = [[20, 21, TURN], [22, 23, 24, 25, TURN], [26, TURN], [27, TURN], [28, TURN]]


def held_out(kind: str) -> HeldOut:
    config = RunConfig.from_dict(
        {
            "seed": 3,
            "steps": 1,
            "batch_size": 2,
            "preset": "tiny",
            "data": {"kind": kind, "prompt_length": P},
            "loss": {"canvas_size": C, "num_canvases": K},
            "optimizer": {"name": "adam", "peak_lr": 1e-3, "end_lr": 1e-4, "warmup": 0},
            "eval": {"every": 1, "num": 5, "batch_size": 2},
        }
    )

    def to_row(index):
        return pack(range(3, 6 + index % 3), ANSWERS[index], P, C, K, EOS, 0)

    return HeldOut(config, Sources(None, range(9), to_row), Tokenizer.load())


@pytest.fixture
def model() -> nnx.Module:
    """Nothing looks into it."""
    return nnx.Module()


@pytest.fixture
def asked(monkeypatch) -> list[np.ndarray]:
    """The prompts of every call of generate, which gives some right answers."""
    calls = []

    def generate(model, tokens, mask, key, config):
        assert config.max_new_tokens == K * C
        rows = [int(n) - 3 for n in mask.sum(axis=1)]
        assert (tokens[~mask] == 0).all() and (tokens[:, :3] == [3, 4, 5]).all()
        first = sum(map(len, calls))
        calls.append(tokens)
        out = np.full((len(rows), K * C), EOS)
        for i in range(len(rows)):
            answer = list(ANSWERS[(first + i) % 5])
            out[i, : len(answer)] = answer
            if (first + i) % 5 == 1:
                out[i, 4] = EOS  # the end of the turn is missing
        valid = np.array([[3, 1], [4, 2]])
        return Generation(out, np.array([[2, 4], [3, 1]]), valid)

    monkeypatch.setattr(validation, "generate", generate)
    return calls


@pytest.fixture
def measured(monkeypatch) -> list[tuple]:
    """What every call of the losses was given; they are made up from it."""
    calls = []

    def losses(graphdef, state, batch, key, config):
        tokens, noise = float(batch["tokens"].sum()), float(jax.random.uniform(key))
        calls.append((tokens, noise, config))
        return {"denoise_loss": tokens, "encoder_loss": noise, "denoise_accuracy": 0.5}

    monkeypatch.setattr(validation, "_losses", losses)
    return calls


def test_answers_are_right_to_the_turns_end(model, asked, measured):
    figures, first = held_out("csv").evaluate(model)
    assert set(figures) == {f"eval/{n}" for n in ("denoise_loss", "encoder_loss", "steps", "exact")}
    # Five in three batches; that which fills up the last one does not count.
    assert [len(tokens) for tokens in asked] == [2, 2, 2]
    assert figures["eval/exact"] == 4 / 5
    steps = np.array([2, 4, 3, 1, 2, 4, 3, 1, 2, 4])
    valid = np.array([3, 1, 4, 2, 3, 1, 4, 2, 3, 1])
    np.testing.assert_allclose(figures["eval/steps"], (steps * valid).sum() / valid.sum())
    assert first == "\ufffd\ufffd"  # 20 and 21 are control characters


def test_losses_are_of_whole_batches_with_the_same_noise(model, asked, measured):
    evaluation = held_out("csv")
    figures, _ = evaluation.evaluate(model)
    asked.clear()
    assert evaluation.evaluate(model)[0] == figures
    assert len(measured) == 4 and measured[:2] == measured[2:]
    (tokens, noise, config), (more_tokens, other_noise, _) = measured[:2]
    assert config == evaluation.config.loss and noise != other_noise
    assert tokens + more_tokens == evaluation.rows["tokens"][:4].sum()
    np.testing.assert_allclose(figures["eval/denoise_loss"], (tokens + more_tokens) / 2)
    np.testing.assert_allclose(figures["eval/encoder_loss"], (noise + other_noise) / 2)


def test_a_batch_of_conversations_is_answered_and_not_scored(model, asked, measured):
    figures, first = held_out("chat").evaluate(model)
    assert len(asked) == 1
    assert set(figures) == {
        f"eval/{n}" for n in ("denoise_loss", "encoder_loss", "steps", "tokens")
    }
    assert figures["eval/tokens"] == 5.0 and first
