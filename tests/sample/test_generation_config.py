import dataclasses
import json
from pathlib import Path

import pytest

from sample import SamplerConfig
from sample.generation_config import sampler_defaults, save_sampler_defaults

SHIPPED = Path(__file__).parents[2] / "checkpoints"
# Every field that the released checkpoint's file has; other values, to be told from our defaults.
RELEASED = {
    "confidence_threshold": 0.01,
    "eos_token_id": [1, 106, 50],
    "max_denoising_steps": 24,
    "max_new_tokens": 512,
    "pad_token_id": 0,
    "sampler_config": {"_cls_name": "EntropyBoundSamplerConfig", "entropy_bound": 0.2},
    "stability_threshold": 1,
    "t_max": 0.9,
    "t_min": 1,
    "transformers_version": "5.12.1",
}


def defaults(tmp_path, given):
    text = given if isinstance(given, str) else json.dumps(given)
    (tmp_path / "generation_config.json").write_text(text)
    return sampler_defaults(tmp_path)


def test_every_field_of_the_released_file(tmp_path):
    fields = defaults(tmp_path, RELEASED | {"t_min": 0.3})
    assert fields == {
        "max_steps": 24,
        "entropy_bound": 0.2,
        "stop_threshold": 0.01,
        "min_temperature": 0.3,
        "max_temperature": 0.9,
        "max_new_tokens": 512,
        "stop_ids": (1, 106, 50),
    }
    assert SamplerConfig(**(fields | {"max_steps": 8})).max_steps == 8


def test_only_what_is_set(tmp_path):
    assert sampler_defaults(tmp_path) == {}
    nothing = dict.fromkeys(RELEASED) | {"return_dict_in_generate": True, "top_k": 50}
    assert defaults(tmp_path, nothing) == {}
    assert defaults(tmp_path, {"eos_token_id": 7, "t_max": 1}) == {
        "stop_ids": (7,),
        "max_temperature": 1.0,
    }
    assert defaults(tmp_path, {"sampler_config": {"_cls_name": "EntropyBoundSamplerConfig"}}) == {}


def test_settings_of_other_ways_to_decode_are_named_unless_they_change_nothing(tmp_path, capsys):
    neutral = {
        "_from_model_config": True,
        "do_sample": True,
        "max_length": 20,
        "num_beams": 1,
        "repetition_penalty": 1.0,
        "stop_strings": [],
        "temperature": 1.0,
        "top_p": 1,
        "unsloth_version": "1",
        "use_cache": True,
    }
    assert defaults(tmp_path, neutral) == {}
    assert capsys.readouterr().err == ""
    heard = {"max_length": 4096, "repetition_penalty": 1.1, "top_k": 64, "stop_strings": ["END"]}
    for _ in range(2):  # said once
        assert defaults(tmp_path, neutral | heard | {"t_max": 0.9}) == {"max_temperature": 0.9}
    assert capsys.readouterr().err == (
        f"warning: {tmp_path / 'generation_config.json'}: these fields do not change how this "
        "sampler answers: max_length 4096, repetition_penalty 1.1, stop_strings ['END'], top_k 64\n"
    )


def test_what_is_saved_is_read_back_beside_the_other_fields(tmp_path):
    save_sampler_defaults(SamplerConfig(), tmp_path)
    assert not list(tmp_path.iterdir())
    defaults(tmp_path, RELEASED | {"t_min": 0.3})
    wanted = SamplerConfig(16, 0.05, 0.02, 1.0, 1.2, max_new_tokens=7, restart_every=5)
    save_sampler_defaults(wanted, tmp_path)
    written = json.loads((tmp_path / "generation_config.json").read_text())
    assert set(written) == set(RELEASED) and written["transformers_version"] == "5.12.1"
    assert json.loads((tmp_path / "sampler.json").read_text()) == {"restart_every": 5}
    found = SamplerConfig(**sampler_defaults(tmp_path))
    assert found == dataclasses.replace(wanted, max_new_tokens=512, stop_ids=(1, 106, 50))


def test_a_field_that_transformers_refuses_moves_to_our_file(tmp_path):
    assert defaults(tmp_path, {"restart_every": 5, "t_max": 1.0})["restart_every"] == 5
    save_sampler_defaults(SamplerConfig(restart_every=5), tmp_path)
    assert json.loads((tmp_path / "generation_config.json").read_text()) == {"t_max": 1.0}
    assert json.loads((tmp_path / "sampler.json").read_text()) == {"restart_every": 5}
    (tmp_path / "sampler.json").write_text('{"restart_every": 7}')
    assert sampler_defaults(tmp_path) == {"restart_every": 7, "max_temperature": 1.0}
    (tmp_path / "sampler.json").write_text('{"restarts": 7}')
    with pytest.raises(ValueError, match=r"sampler\.json: restarts: unknown field"):
        sampler_defaults(tmp_path)


@pytest.mark.parametrize("checkpoint", sorted(SHIPPED.iterdir()), ids=lambda path: path.name)
def test_shipped_settings_are_those_that_transformers_has(checkpoint):
    file = checkpoint / "generation_config.json"
    given = set(json.loads(file.read_text())) if file.exists() else set()
    assert given <= set(RELEASED)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ("{", "Expecting property name"),
        ("[]", "not a JSON object"),
        ("version https://git-lfs.github.com/spec/v1", "a pointer of git-lfs"),
        ({"t_mid": 1, "num_beams": 4, "beams": 4}, "t_mid: unknown field; beams: unknown field"),
        ({"stability_threshold": 2}, "stability_threshold: 2 is not supported, only 1"),
        ({"max_denoising_steps": 4.5}, r"max_denoising_steps: expected int, got 4\.5"),
        ({"t_max": True}, "t_max: expected float, got True"),
        ({"eos_token_id": [1, "2"]}, "eos_token_id: expected int, got '2'"),
        ({"sampler_config": {"_cls_name": "Other"}}, "sampler_config: 'Other' is not supported"),
        ({"sampler_config": {"bound": 1}}, "sampler_config: expected _cls_name and entropy_bound"),
        ({"sampler_config": {"entropy_bound": "a"}}, r"sampler_config\.entropy_bound: expected"),
        (RELEASED, r"temperatures must be 0 < min <= max, got min 1\.0 and max 0\.9"),
        ({"max_denoising_steps": 0}, "max_steps must be at least 1"),
    ],
)
def test_what_is_refused(tmp_path, given, error):
    with pytest.raises(ValueError, match=rf"generation_config\.json: .*{error}") as caught:
        defaults(tmp_path, given)
    assert "\n" not in str(caught.value)
