"""Puzzles as the model's prompts, and one puzzle's denoising step by step."""

import dataclasses

import jax
import numpy as np

from data.sudoku.grids import prompt, render
from data.text.chat_template import ChatTemplate
from data.text.conversations import conversation
from diffusiongemma import DiffusionGemma
from sample.batch import pad_prompts
from sample.checkpoint import check_vocabulary
from sample.sampler import generate
from sample.step import SamplerConfig
from train.outcome import Outcome


def encode_prompts(
    model: DiffusionGemma, template: ChatTemplate, puzzles: np.ndarray, sampler: SamplerConfig
) -> tuple[np.ndarray, np.ndarray]:
    """(tokens [N, P] int32, mask [N, P] bool) of the puzzles' prompts, padded on the right.

    Raises ValueError if the model cannot answer them: see evaluate.
    """
    if len(puzzles) == 0:
        raise ValueError("no puzzles to evaluate")
    tokenizer = template.tokenizer
    check_vocabulary(model, tokenizer)
    canvas = sampler.canvas_size or model.config.canvas_size
    asked = [conversation(prompt(puzzle), render(puzzle)) for puzzle in puzzles]
    answer = len(tokenizer.encode(template.example(*asked[0])[1]))
    if answer > canvas:
        raise ValueError(f"an answer takes {answer} tokens, more than the canvas of {canvas}")
    ids = [tokenizer.encode(template.render(c.messages[:-1])) for c in asked]
    return pad_prompts(ids, tokenizer.pad_id)


def replay(
    model: DiffusionGemma,
    template: ChatTemplate,
    puzzle: np.ndarray,
    sampler: SamplerConfig,
    seed: int,
) -> dict[str, np.ndarray]:
    """Every step of one puzzle's denoising: what evaluate did with it, S steps.

    Returns:
      {"digits": [S, n*n] int8, the most probable tokens, 0 where that is no digit,
      "accepted": [S, n*n] bool, "entropy": [S, n*n] float32, nats}.

    Raises:
      ValueError: the tokenizer does not give every digit a token.
    """
    sampler = dataclasses.replace(sampler, max_new_tokens=None, trajectory=True)
    tokenizer = template.tokenizer
    tokens, mask = encode_prompts(model, template, puzzle[None], sampler)
    out = generate(model, tokens, mask, jax.random.key(seed), sampler)
    taken = out.steps[0, 0]

    def digit(token: int) -> int:
        text = tokenizer.decode([token]).strip()
        return int(text) if text in {str(d) for d in range(10)} else -1

    layout = [digit(token) for token in tokenizer.encode(render(puzzle))]
    cells = np.flatnonzero(np.array(layout) >= 0)
    if len(cells) != len(puzzle):
        raise ValueError("the tokenizer does not give every digit a token: no replay")
    best = out.best[0, 0, :taken][:, cells]
    known = {token: max(0, digit(token)) for token in np.unique(best).tolist()}
    return {
        "digits": np.vectorize(known.get, otypes=[np.int8])(best),
        "accepted": out.accepted[0, 0, :taken][:, cells],
        "entropy": out.entropy[0, 0, :taken][:, cells],
    }


def typical(outcome: Outcome) -> int:
    """The first of the solved puzzles (of all, if none is) that took the median of their steps."""
    rows = np.flatnonzero(outcome.exact)
    rows = rows if rows.size else np.arange(len(outcome.exact))
    steps = outcome.steps[rows]
    return int(rows[np.argmin(np.abs(steps - np.median(steps)))])
