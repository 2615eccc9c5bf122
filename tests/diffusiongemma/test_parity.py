"""Our numbers against transformers' and Google's, and proof that the comparison sees mistakes.

The numbers of transformers come from scripts/make_golden.py, which says what each output is. Their
windows are 8 and 11 tokens, and their prompts 5 and 21. Google's numbers were made with Google's
own implementation, and the file holds parameters as well as outputs. Its window is 48, longer than
every text, because only then do both references agree.
"""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from diffusiongemma.attention import Attention
from diffusiongemma.config import ModelConfig, five_to_one
from diffusiongemma.formats.load_save import convert_checkpoint, load_checkpoint
from diffusiongemma.moe import MoE
from diffusiongemma.transformer import DiffusionGemma

GOLDEN = Path(__file__).parents[1] / "golden"
TEMPERATURES = (0.7, 0.5)  # of scripts/make_golden.py
TOLERANCE = 1e-4
MISTAKE = 1e-3  # a planted error must show at least this much


# XLA's optimisations cost more here than they save.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


class Runner:
    """A model's jitted modes. A changed state needs no new compilation."""

    def __init__(self, model: DiffusionGemma):
        self.model = model
        graph, self.state = nnx.split(model)

        def encode(state, *args):
            return nnx.merge(graph, state).encode(*args)

        def denoise(state, *args):
            return nnx.merge(graph, state).denoise(*args)

        self._encode = jax.jit(encode, compiler_options=QUICK)
        self._denoise = jax.jit(denoise, compiler_options=QUICK)

    def init_cache(self, batch_size=1):
        return self.model.init_cache(batch_size, 64)

    def encode(self, tokens, cache, mask=None, state=None):
        return self._encode(state or self.state, tokens, cache, mask)

    def denoise(self, canvas, cache, soft=None, state=None):
        return self._denoise(state or self.state, canvas, cache, soft)

    def altered(self, **fields) -> "Runner":
        """The same weights under a changed config."""
        config = dataclasses.replace(self.model.config, **fields)
        other = nnx.eval_shape(lambda: DiffusionGemma(config, rngs=nnx.Rngs(0)))
        nnx.update(other, self.state)
        return Runner(other)


def golden(name: str, prompt_length: int) -> dict[str, np.ndarray]:
    prefix = f"p{prompt_length}_"
    with np.load(GOLDEN / f"hf_{name}" / "outputs.npz") as file:
        return {k.removeprefix(prefix): file[k] for k in file.files if k.startswith(prefix)}


def error(ours, theirs) -> float:
    return float(np.abs(np.asarray(ours) - theirs).max())


@pytest.fixture(scope="module")
def six() -> Runner:
    return Runner(load_checkpoint(GOLDEN / "hf_six"))


@pytest.fixture(scope="module")
def cached(six):
    """The expected outputs for the long prompt, and our cache after it."""
    want = golden("six", 21)
    return want, six.encode(want["prompt"], six.init_cache())[1]


@pytest.mark.parametrize("prompt_length", [5, 21])
def test_every_output_matches_transformers(six, prompt_length):
    want = golden("six", prompt_length)
    errors = {}
    logits, cache = six.encode(want["prompt"], six.init_cache())
    errors["encode"] = error(logits, want["encode_logits"])
    errors["denoise"] = error(six.denoise(want["canvas"][0], cache), want["logits"][0])
    for i, temperature in enumerate(TEMPERATURES):
        soft = six.model.soft_embed(want["logits"][i] / temperature)
        errors[f"soft {i}"] = error(soft, want["soft"][i])
        logits = six.denoise(want["canvas"][i + 1], cache, soft)
        errors[f"self-conditioned {i}"] = error(logits, want["logits"][i + 1])
    for i, commit in enumerate(want["commit"]):
        logits, cache = six.encode(commit, cache)
        errors[f"commit {i}"] = error(logits, want["commit_logits"][i])
        errors[f"after commit {i}"] = error(six.denoise(want["canvas"][0], cache), want["after"][i])
    assert max(errors.values()) < TOLERANCE, errors


def test_padded_batch_matches_each_row_alone_in_transformers():
    """Twelve layers with other ratios. The rows are padded left, padded right, and not padded."""
    run = Runner(load_checkpoint(GOLDEN / "hf_twelve"))
    short, full = golden("twelve", 5), golden("twelve", 21)
    mask = np.ones((3, 21), bool)
    mask[0, :16] = mask[1, 5:] = False
    tokens = np.full((3, 21), run.model.config.pad_id, np.int32)
    rows = (short, short, full)
    for i, row in enumerate(rows):
        tokens[i, mask[i]] = row["prompt"][0]

    def stacked(key, *index):
        return np.stack([row[key][index][0] for row in rows])

    errors = {}
    logits, cache = run.encode(tokens, run.init_cache(3), mask)
    for i, row in enumerate(rows):
        errors[f"encode row {i}"] = error(logits[i][mask[i]], row["encode_logits"][0])
    zeros = np.zeros((3, *short["soft"].shape[-2:]), np.float32)
    logits = run.denoise(stacked("canvas", 0), cache, zeros)
    errors["denoise"] = error(logits, stacked("logits", 0))
    for i, temperature in enumerate(TEMPERATURES):
        soft = run.model.soft_embed(stacked("logits", i) / temperature)
        logits = run.denoise(stacked("canvas", i + 1), cache, soft)
        errors[f"self-conditioned {i}"] = error(logits, stacked("logits", i + 1))
    # Commits are padded to the prompts' length: this tests padding, and needs no new compilation.
    size = short["commit"].shape[-1]
    tokens[:], mask[:] = run.model.config.pad_id, False
    mask[:, 3 : 3 + size] = True
    for i in range(2):
        tokens[:, 3 : 3 + size] = stacked("commit", i)
        logits, cache = run.encode(tokens, cache, mask)
        errors[f"commit {i}"] = error(logits[:, 3 : 3 + size], stacked("commit_logits", i))
        logits = run.denoise(stacked("canvas", 0), cache, zeros)
        errors[f"after commit {i}"] = error(logits, stacked("after", i))
    assert max(errors.values()) < TOLERANCE, errors


def test_google_weights_give_googles_numbers(tmp_path):
    config = ModelConfig(
        vocab_size=128,
        width=64,
        layer_types=five_to_one(6),
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
        full_num_kv_heads=1,
        full_head_dim=32,
        window=48,
        mlp_dim=96,
        num_experts=8,
        top_k=2,
        expert_dim=32,
        canvas_size=12,
    )
    with np.load(GOLDEN / "google_tiny.npz") as file:
        want = dict(file)
    # Orbax itself saves the parameters, as a nested tree.
    tree: dict = {}
    for name, value in want.items():
        if name.startswith("params/"):
            _, *parents, leaf = name.split("/")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = value
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "google", tree)
    # On the way to the released layout and back, no bit may change.
    convert_checkpoint(tmp_path / "google", tmp_path / "hf", "hf", config=config)
    convert_checkpoint(tmp_path / "hf", tmp_path / "again", "google")
    run = Runner(load_checkpoint(tmp_path / "google", config=config))
    for folder in ("hf", "again"):
        same = jax.tree.map(
            lambda a, b: a.dtype == b.dtype and a.tobytes() == b.tobytes(),
            jax.tree.map(np.asarray, nnx.state(load_checkpoint(tmp_path / folder))),
            jax.tree.map(np.asarray, run.state),
        )
        assert all(jax.tree.leaves(same)), folder

    logits, cache = run.encode(want["prompt"], run.init_cache())
    assert error(logits, want["encoder_logits"]) < TOLERANCE
    zeros = np.zeros_like(want["soft"])
    assert error(run.denoise(want["canvas"], cache, zeros), want["first"]) < TOLERANCE
    assert error(run.model.soft_embed(want["first"] / 0.7), want["soft"]) < 1e-5
    # The softmax of the first step's logits magnifies float32 noise.
    second = run.denoise(want["canvas"], cache, want["soft"])
    assert error(second, want["second"]) < 2e-3
    np.testing.assert_array_equal(second.argmax(-1), want["committed"])
    _, cache = run.encode(want["committed"], cache)
    assert error(run.denoise(want["canvas2"], cache, zeros), want["third"]) < TOLERANCE


# From here on, each test plants a mistake that must show. The right model passes first.


def encode_error(run: Runner, state=None) -> float:
    want = golden("six", 21)
    return error(
        run.encode(want["prompt"], run.init_cache(), state=state)[0], want["encode_logits"]
    )


@pytest.mark.parametrize("window", [7, 9])
def test_mistaken_window_shows_in_encode(six, window):
    assert encode_error(six) < TOLERANCE
    assert encode_error(six.altered(window=window)) > MISTAKE


def test_mistaken_window_shows_in_denoise(six, cached):
    """The cache is right, but the canvas sees one token less of it."""
    want, cache = cached
    canvas = want["canvas"][0]
    assert error(six.denoise(canvas, cache), want["logits"][0]) < TOLERANCE
    narrow = six.altered(window=7)
    assert error(narrow.denoise(canvas, cache), want["logits"][0]) > MISTAKE


def test_mistaken_rope_of_all_dims_in_full_layers_shows(six):
    assert encode_error(six) < TOLERANCE
    assert encode_error(six.altered(full_rope_fraction=1.0)) > MISTAKE


def test_mistaken_router_input_shows(six, monkeypatch):
    """The router gets the normed state that the experts get."""
    assert encode_error(six) < TOLERANCE
    right = MoE.__call__
    monkeypatch.setattr(MoE, "__call__", lambda self, x, residual: right(self, x, residual=x))
    assert encode_error(six.altered()) > MISTAKE


class NormedKey(nnx.Module):
    """A value projection that is the key after its norm."""

    def __init__(self, attention: Attention):
        self.k, self.k_norm, self.head_dim = attention.k, attention.k_norm, attention.head_dim

    def __call__(self, x):
        heads = self.k(x).reshape(*x.shape[:-1], -1, self.head_dim)
        return self.k_norm(heads).reshape(*x.shape[:-1], -1)


def test_mistaken_value_after_the_key_norm_shows(six):
    assert encode_error(six) < TOLERANCE
    wrong = six.altered().model
    for layer_type, layer in zip(wrong.config.layer_types, wrong.layers, strict=True):
        if layer_type == "full":
            assert layer.attention.v is None
            layer.attention.v = NormedKey(layer.attention)
    assert encode_error(Runner(wrong)) > MISTAKE


def edited(run: Runner, **names: str | float):
    """The state after edits: parameters of a given name are copied from a sibling, or filled."""
    flat = dict(nnx.to_flat_state(run.state))
    for path, variable in list(flat.items()):
        source = names.get(path[-1])
        if isinstance(source, str):
            flat[path] = dict(nnx.to_flat_state(run.state))[(*path[:-1], source)]
        elif source is not None:
            flat[path] = variable.replace(jax.numpy.full_like(variable[...], source))
    return nnx.from_flat_state(list(flat.items()))


@pytest.mark.parametrize(
    "names",
    [
        {"encode_scalar": 1.0, "denoise_scalar": 1.0},
        {"encode_scalar": "denoise_scalar", "denoise_scalar": "encode_scalar"},
    ],
    ids=["ignored", "swapped"],
)
def test_mistaken_layer_scalars_show(six, cached, names):
    want, cache = cached
    state = edited(six, **names)
    assert encode_error(six, edited(six)) < TOLERANCE
    assert encode_error(six, state) > MISTAKE
    logits = six.denoise(want["canvas"][0], cache, state=state)
    assert error(logits, want["logits"][0]) > MISTAKE


def test_mistaken_zero_logits_for_the_first_soft_embedding_show(six, cached):
    """Exact zeros add nothing, but the softmax of zero logits gives the mean embedding."""
    want, cache = cached
    mean = six.model.soft_embed(np.zeros_like(want["logits"][0]))
    canvas = want["canvas"][0]
    zeros = six.denoise(canvas, cache, np.zeros_like(mean))
    assert error(zeros, want["logits"][0]) < TOLERANCE
    assert error(six.denoise(canvas, cache, mean), want["logits"][0]) > MISTAKE
