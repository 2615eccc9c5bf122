"""What a run puts beside its weights."""

from data.text.tokenizer import Tokenizer
from sample.generation_config import FILE, sampler_defaults
from sample.step import SamplerConfig
from train.companions import save_companions


def test_a_run_leaves_its_sampler_as_the_settings_to_use_it_with(tmp_path):
    tokenizer = Tokenizer.load()
    save_companions("", tokenizer, SamplerConfig(), tmp_path)
    assert not (tmp_path / FILE).exists()
    warmer = SamplerConfig(min_temperature=1.0, max_temperature=1.2)
    save_companions("", tokenizer, warmer, tmp_path)
    assert sampler_defaults(tmp_path) == {"min_temperature": 1.0, "max_temperature": 1.2}
    assert Tokenizer.load(tmp_path / "tokenizer.json").vocab_size == tokenizer.vocab_size
