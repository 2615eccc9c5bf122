"""Random tiny models, alone and in a folder, and a browser."""

from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from data.text.tokenizer import Tokenizer
from diffusiongemma import DiffusionGemma, ModelConfig, load_checkpoint, save_checkpoint
from sample import SamplerConfig, generate
from tests.sample.asking import CANVAS, NEW, PROMPTS, answer_text, padded_prompt
from tests.sample.page.browser import Browser


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that need a browser, so that scripts/test.sh can leave them out."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("browser")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    found = Browser(tmp_path_factory.mktemp("browser"))
    yield found
    found.close()


@pytest.fixture(scope="session")
def lively_model() -> DiffusionGemma:
    """Norms and scalars away from one, and sharp logits, so that canvases settle.

    Half the self-conditioning: with all of it, random weights treble a rounding error at every
    step, and after six of them a row draws differently in a batch than alone.
    """
    # The sampler can tell no more than one layer of each type; six compile three times as long.
    config = ModelConfig.preset("tiny", layer_types=("sliding", "full"))
    model = DiffusionGemma(config, rngs=nnx.Rngs(1))
    rng = np.random.default_rng(1)
    for path, param in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        name = ".".join(map(str, path))
        if "scale" in name or "scalar" in name:
            factor = rng.uniform(0.7, 1.3, param.shape).astype(np.float32)
            factor *= 8.0 if "final_norm" in name else 0.5 if "self_conditioner" in name else 1.0
            param[...] = param[...] * factor
    return model


@pytest.fixture(scope="session")
def lively_config() -> SamplerConfig:
    """Bound and threshold wide enough for random weights. One for all tests, compiled once."""
    return SamplerConfig(
        max_steps=10,
        entropy_bound=1.0,
        stop_threshold=0.3,
        stop_ids=(1,),
        max_new_tokens=30,
        trajectory=True,
        candidates=3,
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A checkpoint of a tiny model with our tokenizer."""
    config = ModelConfig.preset(
        "tiny",
        vocab_size=1024,
        canvas_size=CANVAS,
        layer_types=("sliding", "full"),
        max_length=200,
        stop_ids=(1, 106, 50),
    )
    path = tmp_path_factory.mktemp("main") / "model"
    save_checkpoint(DiffusionGemma(config, rngs=nnx.Rngs(0)), path)
    Tokenizer.load().save(path)
    return path


@pytest.fixture(scope="session")
def expected(folder) -> list[tuple[str, int]]:
    """Answers and numbers of tokens, as `generate` gives them prompt by prompt."""
    model, config = load_checkpoint(folder), SamplerConfig(max_steps=3, max_new_tokens=NEW)
    answers = []
    for text in PROMPTS:
        out = generate(model, *padded_prompt(text), jax.random.key(5), config)
        valid = out.valid_tokens.sum()
        answers.append((answer_text(out.tokens[0, :valid]), int(valid)))
    assert len(set(answers)) == 3 and all(text for text, _ in answers)
    return answers
