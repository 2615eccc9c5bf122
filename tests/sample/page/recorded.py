"""Generations of no model, and their records."""

from pathlib import Path

import numpy as np

from data.tasks.drawing import Drawing, Group, differ, follow, grid, run, total
from sample.generation import Generation
from sample.page.record import About, LeftToRight, Record, make_record
from sample.step import Candidates, SamplerConfig

COMMITTED = sorted((Path(__file__).parents[3] / "docs").rglob("*.html"))  # pages
CONFIG = SamplerConfig(trajectory=True, candidates=5)
ABOUT = About("A title", "<|turn>user\nWhy?<turn|>", "a model")
VIEW = grid(2, [0, 2, 4, 6], clues=[1], box=1).record()
# Six cells with two groups of texts, and a demand of each kind.
DRAWN = Drawing(
    "Drawn <b>",
    (3, 2.5),
    range(2, 8),
    [(i % 3, i // 3 + 0.5) for i in range(6)],
    "round",
    names="ABCDEF",
    groups=[Group("even", "blue", ["w0", "w2", "w4", "1"]), Group("odd", "red", ["w1", "2"])],
    links=[(0, 1), (1, 2), (2, 5)],
    lines=[(0, 0, 3, 0)],
    demands=[
        total("a sum", (1, -1), 2),
        run("a run", [["w2", "w4"], ["w1"]]),
        differ("two groups"),
        follow("a path", 1),
    ],
).record()


def random_generation(
    canvases: int = 2, size: int = 12, steps: int = 6, vocab: int = 40, pool: int | None = None
) -> Generation:
    """A row whose canvases settle step by step, as a model's do. Each canvas takes one step less.

    Draws are the best tokens, and the others are noise over the vocabulary.

    Args:
      canvases, size, steps, vocab: K, C, the steps of the first canvas, and V.
      pool: the number of tokens that a position ever has as candidates; None for all.
    """
    rng, count = np.random.default_rng(0), CONFIG.candidates
    pools = rng.integers(0, vocab, (size, pool or 1))

    def some(*more: int) -> np.ndarray:
        """Tokens that the model might take for each position, [C, *more]."""
        if pool is None:
            return rng.integers(0, vocab, (size, *more))
        picks = rng.integers(0, pool, (size, *more)).reshape(size, -1)
        return np.take_along_axis(pools, picks, axis=1).reshape(size, *more)

    shape = 1, canvases, CONFIG.max_steps, size
    best, canvas = np.full((2, *shape), -1, np.int32)
    entropy, accepted = np.full(shape, -1, np.float32), np.zeros(shape, bool)
    tops = Candidates(np.full((*shape, count), -1, np.int32), np.zeros((*shape, count), np.float32))
    taken = steps - np.arange(canvases)[None]
    for k in range(canvases):
        final, late = some(), rng.random(size)
        seen = rng.integers(0, vocab, size)
        for n in range(taken[0, k]):
            sure = np.clip((n + 1) / taken[0, k] * 1.6 - late, 0, 1)
            guess = np.where(rng.random(size) < 0.3 + sure, final, some())
            p = np.exp(-5 * (1 - sure) ** 3 - 1e-4).astype(np.float32)
            here = 0, k, n
            canvas[here], best[here], entropy[here] = seen, guess, -np.log(p)
            tops.ids[here] = some(count)
            tops.ids[here][:, 0] = guess
            rest = (1 - p[:, None]) * 0.5 ** np.arange(1, count, dtype=np.float32)
            tops.probabilities[here] = np.concatenate([p[:, None], rest], axis=1)
            last = n == taken[0, k] - 1
            accepted[here] = ~last & (p > 0.6)
            seen = np.where(accepted[here], guess, rng.integers(0, vocab, size))
    rows = np.arange(canvases)
    tokens = best[0, rows, taken[0] - 1].reshape(1, -1)
    valid = np.full((1, canvases), size, np.int32)
    valid[0, -1] -= 2
    steps = taken.astype(np.int32)
    return Generation(tokens, steps, valid, best, accepted, entropy, None, canvas, tops)


def word(token: int) -> str:
    return f" w{token:x}"


def random_record(title: str = ABOUT.title, **options: int) -> Record:
    """A record with everything in it."""
    out = random_generation(**options)
    kept = np.zeros(out.tokens.shape[1], bool)
    kept[:2] = True
    other = LeftToRight(out.tokens[0, :9], 0.5)
    about = ABOUT._replace(title=title, view=VIEW)
    return make_record(out, 0, word, CONFIG, about, kept=kept, seconds=0.25, left_to_right=other)
