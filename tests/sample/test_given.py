"""Tokens that stay, and tokens that canvases start from (docs/MODEL.md, Kept tokens)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data.text.parts import NOTHING
from diffusiongemma import DiffusionGemma, ModelConfig
from diffusiongemma.backend import set_backend
from diffusiongemma.head import Prediction
from diffusiongemma.quantized_model import quantize_model
from sample import (
    AutoregressiveConfig,
    Generation,
    Given,
    SamplerConfig,
    SplitModel,
    entropy_bound_rule,
    generate,
    generate_autoregressive,
)
from sample.given import check_given, going_on

KEY = jax.random.key(3)
ROWS, WIDTH, NEW, SIZE = 20, 9, 30, 12  # answers have two canvases of SIZE tokens, and half of one
STOP = 1


def random_given(rng: np.random.Generator, rows: int = ROWS, length: int = NEW) -> Given:
    """A share of its own for each row, of what is given and what of that is kept."""
    tokens = rng.integers(0, 64, (rows, length)).astype(np.int32)
    tokens[rng.random(tokens.shape) < rng.random((rows, 1))] = NOTHING
    keep = (tokens != NOTHING) & (rng.random(tokens.shape) < rng.choice([0, 0.5, 1], (rows, 1)))
    return Given(tokens, keep)


@pytest.fixture(scope="module")
def model(lively_model) -> SplitModel:
    assert lively_model.config.canvas_size == SIZE
    return SplitModel(lively_model)


@pytest.fixture(scope="module")
def prompts() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    tokens = rng.integers(3, 49, (ROWS, WIDTH)).astype(np.int32)
    return tokens, np.arange(WIDTH) < rng.integers(1, WIDTH + 1, ROWS)[:, None]


@pytest.fixture(scope="module")
def run(model, prompts, lively_config):
    """generate() for the ragged batch, or for some rows of it."""

    def run(rows=slice(None), config=lively_config, **options) -> Generation:
        return generate(model, *(x[rows] for x in prompts), KEY, config, **options)

    return run


def assert_same(found: Generation, expected: Generation) -> None:
    for name, array in expected._asdict().items():
        np.testing.assert_array_equal(getattr(found, name), array, err_msg=name)


def valid(out: Generation, row: int) -> np.ndarray:
    """The valid tokens of a row."""
    counts = out.valid_tokens[row]
    return np.concatenate([out.tokens[row, SIZE * k :][:n] for k, n in enumerate(counts)])


def check_kept(out: Generation, given: Given) -> None:
    """Kept tokens are in the answer, and the answer goes as far as they do."""
    length = given.keep.shape[1]
    np.testing.assert_array_equal(out.tokens[:, :length][given.keep], given.tokens[given.keep])
    for row, keep in enumerate(given.keep):
        kept = np.flatnonzero(keep)
        found = valid(out, row)
        least = kept[-1] + 1 if kept.size else 0
        assert len(found) >= least
        ends = np.flatnonzero(found[max(least - 1, 0) :] == STOP)
        assert len(found) == (max(least - 1, 0) + ends[0] + 1 if ends.size else NEW)


def check_steps(out: Generation, given: Given, config, room: int = NEW) -> None:
    """Every recorded step is that of algorithm 1 on the positions that are free."""
    length = out.steps.shape[1] * SIZE
    pad = ((0, 0), (0, length - given.keep.shape[1]))
    tokens = np.pad(given.tokens, pad, constant_values=NOTHING).reshape(
        -1, out.steps.shape[1], SIZE
    )
    keep = np.pad(given.keep, pad).reshape(tokens.shape)
    for row, k in np.ndindex(out.steps.shape):
        kept, free, taken = keep[row, k], np.flatnonzero(~keep[row, k]), out.steps[row, k]
        for n in range(taken):
            best, entropy = out.best[row, k, n], out.entropy[row, k, n, free]
            np.testing.assert_array_equal(best[kept], tokens[row, k][kept])
            assert not out.accepted[row, k, n][kept].any()
            settled = not free.size or (n > 0 and entropy.mean() <= config.stop_threshold)
            settled = settled and (n == 0 or (best == out.best[row, k, n - 1]).all())
            assert n == taken - 1 if settled else n < taken - 1 or taken == config.max_steps
            expected, total = np.zeros(SIZE, bool), 0.0
            for i in np.argsort(entropy, kind="stable"):
                if settled or total > config.entropy_bound:
                    break
                expected[free[i]], total = True, total + entropy[i]
            np.testing.assert_array_equal(out.accepted[row, k, n][free], expected[free])


class Echo(nnx.Module):
    """Predicts the canvas that it saw, with an entropy of the mean of the `soft` that it got.

    The embedding of token i is i + 1 everywhere.
    """

    def __init__(self):
        self.config = ModelConfig.preset("tiny", canvas_size=4, stop_ids=())
        self.dtype = jnp.float32
        self.embedder = nnx.Module()
        self.embedder.encode = lambda tokens: jnp.repeat(tokens[..., None] + 1.0, 32, axis=-1)

    def init_cache(self, batch_size, max_length):
        return jnp.zeros(batch_size)

    def encode(self, tokens, cache, mask, *, logits):
        return None, cache

    def predict(self, canvas, cache, soft, temperature, noise):
        return Prediction(canvas, canvas, soft.mean(axis=-1), soft * 0)


def test_kept_tokens_stay_in_random_cases(run, lively_config, many):
    rng, steps, ends = np.random.default_rng(1), [], 0
    for case in range(50 if many else 10):
        given = random_given(rng, length=NEW if case else SIZE + 3)
        out = run(given=given)
        check_kept(out, given)
        check_steps(out, given, lively_config)
        steps.append(out.steps)
        ends += (out.valid_tokens.sum(axis=1) < NEW).sum()
    steps = np.concatenate(steps)
    assert len(steps) == (1000 if many else 200) and ends > len(steps) / 10
    assert (steps == 1).any() and (steps == lively_config.max_steps).any()
    assert ((steps > 2) & (steps < lively_config.max_steps)).any()


def test_nothing_given_is_todays_result_to_the_bit(run):
    published = run()
    for length in (0, 5, NEW):
        nothing = np.full((ROWS, length), NOTHING)
        assert_same(run(given=Given(nothing, np.zeros(nothing.shape, bool))), published)
    one = Given(np.full((ROWS, 5), NOTHING), np.zeros((ROWS, 5), bool))
    one.tokens[2, 4], one.keep[2, 4] = 7, True
    found = run(given=one)
    with pytest.raises(AssertionError):
        assert_same(found, published)
    others = np.arange(ROWS) != 2
    assert_same(*(jax.tree.map(lambda x: x[others], out) for out in (found, published)))


@pytest.mark.parametrize("kind", ["bfloat16", "int8", "kernels"])
def test_kept_tokens_stay_in_other_precisions_and_with_kernels(
    kind, lively_model, lively_config, prompts
):
    model = nnx.clone(lively_model)
    if kind == "bfloat16":
        graphdef, state = nnx.split(model)
        model = nnx.merge(graphdef, jax.tree.map(lambda x: x.astype("bfloat16"), state))
    elif kind == "int8":
        model = quantize_model(model, "int8")
    else:  # the head's kernel takes widths and vocabularies that are multiples of 128
        config = dataclasses.replace(model.config, vocab_size=128, width=128)
        model = DiffusionGemma(config, rngs=nnx.Rngs(2))
        set_backend(model, "interpret")
    model, (tokens, mask) = SplitModel(model), (x[:4] for x in prompts)

    def run(given: Given | None) -> Generation:
        return generate(model, tokens, mask, KEY, lively_config, given=given)

    rng = np.random.default_rng(11)
    for _ in range(3):
        given = random_given(rng, rows=4)
        out = run(given)
        check_kept(out, given)
        check_steps(out, given, lively_config)
    given = rng.integers(0, 64, (4, NEW)).astype(np.int32)
    assert (run(Given(given, np.ones(given.shape, bool))).steps[:, :2] == 1).all()
    nothing = np.full((4, NEW), NOTHING)
    assert_same(run(Given(nothing, np.zeros(nothing.shape, bool))), run(None))


def test_all_kept_comes_back_after_one_step(run):
    tokens = np.random.default_rng(2).integers(0, 64, (ROWS, NEW)).astype(np.int32)
    tokens[:, 3] = STOP
    out = run(given=Given(tokens, np.ones(tokens.shape, bool)))
    np.testing.assert_array_equal(out.tokens, tokens)
    # The last canvas has free positions behind the answer.
    assert (out.steps[:, :2] == 1).all() and (
        out.valid_tokens == [SIZE, SIZE, NEW - 2 * SIZE]
    ).all()


def test_a_row_alone_is_the_row_in_a_ragged_batch(run, many):
    rng = np.random.default_rng(4)
    for _ in range(10 if many else 2):
        given = random_given(rng)
        together = run(given=given)
        for row in range(ROWS):
            alone = run(slice(row, row + 1), given=Given(*(x[row : row + 1] for x in given)))
            for name in ("tokens", "steps", "valid_tokens", "best", "accepted"):
                expected = getattr(together, name)[row]
                np.testing.assert_array_equal(getattr(alone, name)[0], expected, err_msg=name)


def test_what_is_given_and_not_kept_is_where_the_canvas_starts(run):
    seen = {}

    def show(proposal, data):
        jax.debug.callback(lambda n, *x: seen.setdefault(int(n), x), proposal.n, proposal.canvas,
                           proposal.free, ordered=True)  # fmt: skip
        return entropy_bound_rule(proposal, data)

    given = random_given(np.random.default_rng(5), length=SIZE)
    run(given=given, rule=show)
    jax.effects_barrier()
    first, free = seen[1]
    there = given.tokens != NOTHING
    np.testing.assert_array_equal(first[there], given.tokens[there])
    assert (there & ~given.keep).any()
    np.testing.assert_array_equal(free, ~given.keep)
    second = seen[2][0]
    assert (second != given.tokens)[there & ~given.keep].any()
    np.testing.assert_array_equal(second[given.keep], given.tokens[given.keep])


def test_the_model_gets_kept_tokens_and_their_own_embeddings_whatever_the_rule_does():
    got = []

    def rule(proposal, data):
        canvas = proposal.canvas * 0 + 3
        return entropy_bound_rule(proposal, data)._replace(soft=0 * proposal.soft, canvas=canvas)

    class Watched(Echo):
        def predict(self, canvas, cache, soft, temperature, noise):
            jax.debug.callback(lambda *x: got.append(x), canvas, soft, ordered=True)
            return super().predict(canvas, cache, soft, temperature, noise)

    given = Given(np.array([[7, NOTHING, 2, 9]]), np.array([[True, False, False, True]]))
    config = SamplerConfig(max_steps=3, early_stop=False)
    out = generate(Watched(), np.ones((1, 2), np.int32), None, KEY, config, rule=rule, given=given)
    jax.effects_barrier()
    assert len(got) == 3 and (out.steps == 3).all()
    for canvas, soft in got:
        np.testing.assert_array_equal(soft[0, :, 0], [8, 0, 0, 10])
        np.testing.assert_array_equal(canvas[0, [0, 3]], [7, 9])
    np.testing.assert_array_equal(got[1][0], [[7, 3, 3, 9]])


def test_a_canvas_starts_again_with_what_is_given(run, lively_config):
    """Kept tokens and tokens to edit stand on it again, and noise elsewhere."""
    given = random_given(np.random.default_rng(4))
    config = dataclasses.replace(lively_config, early_stop=False, stop_threshold=0, restart_every=3)
    out = run(config=config, given=given)
    again = out.canvas[:, :, 3]  # what the model sees at step 4
    begun = again[..., 0] >= 0
    tokens = np.full((ROWS, again.shape[1] * SIZE), NOTHING)
    tokens[:, :NEW] = given.tokens
    tokens = tokens.reshape(again.shape)
    there = (tokens != NOTHING) & begun[..., None]
    assert there.sum() > 100
    np.testing.assert_array_equal(again[there], tokens[there])
    free = (tokens == NOTHING) & begun[..., None]
    assert (again[free] != out.canvas[:, :, 0][free]).mean() > 0.9


def test_a_rule_cannot_move_a_kept_token(run, lively_config):
    def noise(proposal, data):
        step = entropy_bound_rule(proposal, data)
        counted = jnp.ones_like(step.accepted)
        return step._replace(
            best=proposal.noise + 1, canvas=proposal.noise + 1, soft=0 * step.soft,
            accepted=counted, entropy=step.entropy + 1, counted=counted,
        )  # fmt: skip

    given = random_given(np.random.default_rng(7))
    out = run(given=given, rule=noise)
    check_kept(out, given)
    kept = given.keep[:, :SIZE]
    for row in range(ROWS):
        assert not out.accepted[row, 0, 0][kept[row]].any()
        assert not out.entropy[row, 0, 0][kept[row]].any()


def test_several_starts_keep_the_tokens(run, lively_config):
    given = random_given(np.random.default_rng(8))
    out = run(given=given, config=dataclasses.replace(lively_config, starts=3))
    check_kept(out, given)
    kept = given.keep[:, None, :SIZE] & np.ones((1, 3, 1), bool)
    begun = given.tokens[:, None, :SIZE] + np.zeros((1, 3, 1), np.int32)
    np.testing.assert_array_equal(out.starts.tokens[:, 0][kept], begun[kept])


def test_a_caller_cannot_end_a_row_before_its_last_kept_token(run, lively_config):
    tokens = np.full((ROWS, NEW), 5, np.int32)
    keep = np.zeros(tokens.shape, bool)
    keep[::2, SIZE + 2] = True
    config = dataclasses.replace(lively_config, stop_ids=())
    asked = []
    out = run(config=config, given=Given(np.where(keep, tokens, NOTHING), keep),
              ended=lambda found: asked.append(len(found)) or True)  # fmt: skip
    assert asked == [SIZE] * ROWS + [2 * SIZE] * (ROWS // 2)
    np.testing.assert_array_equal(out.valid_tokens[:, 1] > 0, keep.any(axis=1))
    assert not out.valid_tokens[:, 2].any()


def test_left_to_right_keeps_the_tokens_and_draws_the_others(model, prompts):
    config = AutoregressiveConfig(max_new_tokens=40, temperature=1.0, stop_ids=(STOP,))
    given = random_given(np.random.default_rng(10), length=35)
    out = generate_autoregressive(model, *prompts, KEY, config, given=given)
    np.testing.assert_array_equal(out.tokens[:, :35][given.keep], given.tokens[given.keep])
    for row, keep in enumerate(given.keep):
        least = np.flatnonzero(keep)[-1] if keep.any() else 0
        ends = np.flatnonzero(out.tokens[row, least : out.valid_tokens[row]] == STOP)
        assert out.valid_tokens[row] == (least + ends[0] + 1 if ends.size else 40)
    # What was kept is read: with no kept token before a position, it is what is drawn without.
    plain = generate_autoregressive(model, *prompts, KEY, config)
    differs = 0
    for row, keep in enumerate(given.keep):
        first = np.flatnonzero(keep)[0] if keep.any() else 40
        alike = min(first, plain.valid_tokens[row])
        np.testing.assert_array_equal(out.tokens[row, :alike], plain.tokens[row, :alike])
        differs += not np.array_equal(out.tokens[row], plain.tokens[row])
    assert differs > 5
    nothing = Given(np.full((ROWS, 9), NOTHING), np.zeros((ROWS, 9), bool))
    same = generate_autoregressive(model, *prompts, KEY, config, given=nothing)
    np.testing.assert_array_equal(same.tokens, plain.tokens)
    ended = generate_autoregressive(model, *prompts, KEY, config, given=given, ended=lambda x: True)
    least = np.where(given.keep.any(axis=1), 35 - given.keep[:, ::-1].argmax(axis=1), 0)
    assert (ended.valid_tokens >= least).all() and (ended.valid_tokens <= 40).all()
    assert (ended.valid_tokens[least <= 32] <= 32).all()


def test_going_on():
    keep = np.array([[0, 1, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]], bool)
    expected = np.array([[1, 1, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 0]], bool)
    np.testing.assert_array_equal(going_on(keep), expected)


@pytest.mark.parametrize(
    ("tokens", "keep", "message"),
    [
        ([[1, 2]], [[True]], r"must both be \[1, n\], not \(1, 2\) and \(1, 1\)"),
        ([[1], [2]], [[True], [True]], r"must both be \[1, n\], not \(2, 1\)"),
        ([1], [True], r"must both be \[1, n\], not \(1,\)"),
        ([[1.0]], [[True]], "must be integers and keep must be bool, not float64 and bool"),
        ([[1]], [[1]], "not int64 and int64"),
        ([[1] * 9], [[True] * 9], "9 tokens are given, but only 8 are generated"),
        ([[64]], [[False]], "64 is given as a token: use 0 to 63, or -1 for nothing"),
        ([[3, -2]], [[True, False]], "-2 is given as a token"),
        ([[3, -1]], [[True, True]], "position 1 of row 0 is kept, but nothing is given"),
    ],
)
def test_what_cannot_be_given(tokens, keep, message):
    with pytest.raises(ValueError, match=message):
        check_given(Given(np.array(tokens), np.array(keep)), 1, 8, 64)
