"""Growing a model: its outputs stay, new layers are copies, and bad input changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffusiongemma import DiffusionGemma
from diffusiongemma.formats.load_save import load_checkpoint, save_checkpoint
from scripts.grow import main
from tests.diffusiongemma.formats.folders import CONFIGS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model whose layer scalars are not 1."""
    model = DiffusionGemma(CONFIGS["two"], rngs=nnx.Rngs(0))
    for layer in model.layers:
        layer.encode_scalar[...], layer.denoise_scalar[...] = jnp.ones(1) * 0.7, jnp.ones(1) * 0.6
    folder = tmp_path_factory.mktemp("grow") / "two"
    save_checkpoint(model, folder)
    (folder / "tokenizer.json").write_text("{}")
    return folder


def command(*words: str) -> int:
    return main(["grow", *words])


@nnx.jit
def outputs(model) -> tuple[jax.Array, jax.Array]:
    """The logits of a canvas behind a prompt, and those of the prompt."""
    rng, config = np.random.default_rng(0), model.config
    prompt, canvas = (jnp.asarray(rng.integers(4, config.vocab_size, (2, n))) for n in (7, 5))
    before = jnp.asarray(rng.normal(size=(2, 5, config.width)), jnp.float32)
    logits, cache = model.encode(prompt)
    return model.denoise(canvas, cache, before), logits


def test_a_grown_model_answers_as_before_and_its_new_layers_are_copies(folder, tmp_path, capsys):
    target = tmp_path / "deep"
    old = load_checkpoint(folder)
    layers = 2 * old.config.num_layers
    assert command(f"--from={folder}", f"--to={target}", f"--layers={layers}") == 0
    assert (target / "tokenizer.json").read_text() == "{}"
    new = load_checkpoint(target)
    assert new.config.layer_types == old.config.layer_types * 2 and len(new.layers) == layers
    for before, after in zip(outputs(old), outputs(new), strict=True):
        np.testing.assert_allclose(before, after, atol=1e-4)

    for i, layer in enumerate(new.layers[layers // 2 :]):
        assert layer.encode_scalar[0] == layer.denoise_scalar[0] == 1
        for norm in (layer.post_attention_norm, layer.post_ffw_norm):
            assert not np.any(norm.scale[...])
            norm.scale[...] = jnp.ones_like(norm.scale[...])
        # All else is a copy, so the gradient reaches the zeros, and then the layer.
        copied = old.layers[i]
        copied.encode_scalar[...] = copied.denoise_scalar[...] = jnp.ones(1)
        jax.tree.map(np.testing.assert_array_equal, nnx.state(copied), nnx.state(layer))


@pytest.mark.parametrize("layers", [1, 0.5, 1.5])
def test_a_number_of_layers_that_does_not_fit_is_refused(folder, tmp_path, capsys, layers):
    number = int(layers * load_checkpoint(folder).config.num_layers)
    assert command(f"--from={folder}", f"--to={tmp_path / 'x'}", f"--layers={number}") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "take a multiple of the model's" in said
    assert not (tmp_path / "x").exists()
