"""What belongs to a checkpoint besides its weights, where it has only LoRA factors."""

import json

from data.text.tokenizer import Tokenizer
from diffusiongemma import ModelConfig, save_checkpoint
from diffusiongemma.transformer import create_model
from sample.checkpoint import Checkpoint
from sample.command.flags import define_flags
from sample.command.open_session import open_session
from sample.generation_config import FILE, sampler_defaults
from sample.step import SamplerConfig
from tests.diffusiongemma.formats.folders import edit_config, make_adapter


def test_an_adapter_has_its_bases_files(tmp_path):
    config = ModelConfig.preset("tiny", vocab_size=1024, layer_types=("full",))
    base, adapter = tmp_path / "base", make_adapter(tmp_path / "adapter", config, "../base")
    save_checkpoint(create_model(config, seed=0), base)
    Tokenizer.load().save(base)
    (base / "generation_config.json").write_text(json.dumps({"max_denoising_steps": 7}))
    (base / "chat_template.jinja").write_text("{{ messages[0].content }}!")
    values = define_flags()
    for arguments in ([], [f"--base={base}"]):
        values(["main", f"--checkpoint={adapter}", *arguments])
        session = open_session(values)
        assert session.model.state.self_conditioner.mlp.down.lora_a.shape == (48, 2)
        assert session.sampler.max_steps == 7
        assert session.template.render([{"role": "user", "content": "Hi"}]) == "Hi!"
        edit_config(adapter, base_model_name_or_path="elsewhere")


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
