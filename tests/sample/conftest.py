"""Random tiny models, alone and in a folder, and a browser."""

from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from flax import nnx

from data.text.tokenizer import Tokenizer
from diffusiongemma import DiffusionGemma, ModelConfig, load_checkpoint, save_checkpoint
from sample import SamplerConfig, generate
from scripts.trials.lively_model import make_lively_model
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
    return make_lively_model()


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
