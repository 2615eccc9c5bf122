"""A checkpoint as one object: what it finds, when it reads, and what it puts beside a new model."""

import json
from pathlib import Path

import numpy as np
import pytest

from data.text.tokenizer import Tokenizer
from diffusiongemma import DiffusionGemma, ModelConfig, save_checkpoint
from diffusiongemma.formats.adapter import fingerprint
from diffusiongemma.formats.detect import open_checkpoint
from diffusiongemma.transformer import create_model
from sample import SamplerConfig, checkpoint
from sample.checkpoint import Checkpoint, check_vocabulary
from sample.command.flags import define_flags
from sample.command.open_session import open_session
from sample.generation_config import FILE, sampler_defaults
from tests.diffusiongemma.formats.folders import edit_config, make_adapter

CONFIG = ModelConfig.preset("tiny", vocab_size=1024, layer_types=("full",))
HELLO = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def model() -> DiffusionGemma:
    return create_model(CONFIG, seed=0)


@pytest.fixture
def base(model, tmp_path) -> Path:
    """A model with a tokenizer, a chat template and settings of the sampler."""
    folder = tmp_path / "base"
    save_checkpoint(model, folder)
    Tokenizer.load().save(folder)
    (folder / "generation_config.json").write_text(json.dumps({"max_denoising_steps": 7}))
    (folder / "chat_template.jinja").write_text("{{ messages[0].content }}!")
    return folder


def test_an_adapter_has_its_bases_files(base, tmp_path):
    adapter = make_adapter(tmp_path / "adapter", CONFIG, "../base")
    values = define_flags()
    for arguments in ([], [f"--base={base}"]):
        values(["main", f"--checkpoint={adapter}", *arguments])
        session = open_session(values)
        assert session.model.state.self_conditioner.mlp.down.lora_a.shape == (48, 2)
        assert session.sampler.max_steps == 7
        assert session.template.render(HELLO).text == "Hi!"
        edit_config(adapter, base_model_name_or_path="elsewhere")


def test_an_adapter_and_its_base(base, tmp_path):
    found = Checkpoint.open(make_adapter(tmp_path / "adapter", CONFIG, "../base"))
    assert found.folder == tmp_path / "adapter" and found.home.samefile(base)
    assert found.adapter.rank == 2 and found.stored.folder.samefile(base)
    assert found.config == CONFIG
    assert found.fingerprint == Checkpoint.open(base).fingerprint


def test_what_a_folder_holds(base, model):
    found = Checkpoint.open(str(base))
    assert found.folder == found.home == base
    assert found.config == CONFIG and found.adapter is None
    assert found.sampler_defaults == {"max_steps": 7}
    assert found.template.render(HELLO).text == "Hi!"
    assert found.template.tokenizer is found.tokenizer
    assert found.fingerprint == fingerprint(open_checkpoint(base)[0])
    names = ["chat_template.jinja", "generation_config.json", "tokenizer.json"]
    assert sorted(found.companions) == names
    assert all(file == base / name for name, file in found.companions.items())
    loaded = found.load("bfloat16")
    assert loaded.dtype == "bfloat16" and loaded.config == CONFIG
    table = model.embedder.embedding[...]
    np.testing.assert_array_equal(loaded.embedder.embedding[...], table.astype("bfloat16"))


def test_a_runs_workdir_stands_for_its_model(model, tmp_path):
    save_checkpoint(model, tmp_path / "run" / "model")
    found = Checkpoint.open(tmp_path / "run")
    assert found.folder == found.home == tmp_path / "run" / "model"
    assert found.load().config == CONFIG


def test_it_is_opened_once_and_not_before_it_must(base, monkeypatch):
    opened = []

    def counted(*args):
        opened.append(args)
        return open_checkpoint(*args)

    monkeypatch.setattr(checkpoint, "open_checkpoint", counted)
    found = Checkpoint.open(base, config="nonsense")
    assert found.sampler_defaults and found.template and found.companions
    assert opened == []
    with pytest.raises(ValueError, match="its own config"):
        found.load()
    assert opened == [(base, "nonsense", None)]
    opened.clear()
    found = Checkpoint.open(base)
    found.load(), found.load(), found.fingerprint, found.config
    assert len(opened) == 1
    with pytest.raises(ValueError, match="nowhere: no such folder"):
        Checkpoint.open("nowhere")


def test_a_tokenizer_that_does_not_fit_is_told_before_weights_are_read(base, tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("weights were read")

    monkeypatch.setattr(checkpoint, "load_opened", never)
    for vocab_size in (1000, 1040):
        folder = tmp_path / f"tokens_{vocab_size}"
        config = ModelConfig.preset("tiny", vocab_size=vocab_size, layer_types=("full",))
        save_checkpoint(create_model(config, seed=0), folder)
        wanted = f"a tokenizer of 1024 tokens for a model of {vocab_size}: "
        with pytest.raises(ValueError, match=f"{wanted}put the model's tokenizer.json into "):
            Checkpoint.open(folder).load()
    # A tokenizer that is the model's own, or that is given, may have fewer ids than the model.
    Checkpoint.open(folder, tokenizer=base).check_tokenizer()
    Tokenizer.load().save(folder)
    Checkpoint.open(folder).check_tokenizer()
    small = tmp_path / "tokens_1000"
    with pytest.raises(ValueError, match="model of 1000: give the model's own tokenizer"):
        Checkpoint.open(small, tokenizer=base).load()


def test_a_tokenizer_for_a_model_in_memory(model):
    check_vocabulary(model, Tokenizer.load())
    small = create_model(ModelConfig.preset("tiny", layer_types=("full",)), seed=0)
    with pytest.raises(ValueError, match="a tokenizer of 1024 tokens for a model of 64"):
        check_vocabulary(small, Tokenizer.load())


def test_without_a_checkpoint_tokenizer_and_template_are_ours(tmp_path):
    fresh = Checkpoint.fresh(CONFIG)
    assert fresh.folder is None and fresh.config == CONFIG and fresh.companions == {}
    assert fresh.tokenizer.vocab_size == 1024 and fresh.sampler_defaults == {}
    assert fresh.template.render(HELLO).text.endswith("<|turn>model\n")
    fresh.check_tokenizer()
    for use in (fresh.load, lambda: fresh.stored, lambda: fresh.fingerprint):
        with pytest.raises(ValueError, match="there is no checkpoint"):
            use()
    small = Checkpoint.fresh(ModelConfig.preset("tiny"))
    with pytest.raises(ValueError, match="1024 tokens for a model of 64: set overrides"):
        small.check_tokenizer()
    fresh.save_companions(tmp_path, SamplerConfig())
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]
    assert Tokenizer.load(tmp_path).vocab_size == 1024


def test_companions_go_beside_a_new_model(base, tmp_path):
    new = tmp_path / "new"
    new.mkdir()
    sampler = SamplerConfig(max_steps=9, min_temperature=1.0, max_temperature=1.2)
    Checkpoint.open(base).save_companions(new, sampler)
    assert (new / "chat_template.jinja").read_bytes() == (base / "chat_template.jinja").read_bytes()
    assert (new / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert sampler_defaults(new) == {
        "max_steps": 9,
        "min_temperature": 1.0,
        "max_temperature": 1.2,
    }
    # A tokenizer that is given is the new model's.
    description = json.loads((base / "tokenizer.json").read_text())
    file = tmp_path / "other.json"
    added = {"id": 1024, "content": "<more>", "special": True}
    added |= dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    description["added_tokens"].append(added)
    file.write_text(json.dumps(description))
    Checkpoint.open(base, tokenizer=file).save_companions(new, SamplerConfig())
    assert Tokenizer.load(new).vocab_size == 1025


def test_a_new_model_gets_the_sampler_that_it_was_made_with(tmp_path):
    """What lies beside the weights of a run that starts from random weights."""
    fresh = Checkpoint.fresh(ModelConfig.preset("tiny", vocab_size=1024))
    fresh.save_companions(tmp_path, SamplerConfig())
    assert not (tmp_path / FILE).exists()
    warmer = SamplerConfig(min_temperature=1.0, max_temperature=1.2)
    fresh.save_companions(tmp_path, warmer)
    assert sampler_defaults(tmp_path) == {"min_temperature": 1.0, "max_temperature": 1.2}
    saved = Tokenizer.load(tmp_path / "tokenizer.json")
    assert saved.vocab_size == fresh.tokenizer.vocab_size == 1024


def test_files_of_a_failed_download_are_named(base, tmp_path):
    good = Checkpoint.open(base)
    assert good.template and good.tokenizer
    pointer = "version https://git-lfs.github.com/spec/v1\n"
    for name in ("tokenizer_config.json", "chat_template.jinja", "tokenizer.json"):
        (base / name).write_text(pointer)
        with pytest.raises(ValueError, match=f"{base / name}: a pointer of git-lfs"):
            Checkpoint.open(base).template  # noqa: B018
        if name != "tokenizer.json":
            (base / name).unlink()
    other = tmp_path / "other"
    other.mkdir()
    good.tokenizer.save(other)
    assert Checkpoint.open(base, tokenizer=other).template
    with pytest.raises(ValueError, match="a pointer of git-lfs"):
        Checkpoint.open(base, tokenizer=base).tokenizer  # noqa: B018
