"""Tied tensors that are stored more than once: equal copies are ignored, others are refused."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from diffusiongemma.formats import tied
from diffusiongemma.formats.checks import CheckpointError
from diffusiongemma.formats.load_save import convert_checkpoint
from tests.diffusiongemma.formats.folders import (
    GOLDEN,
    assert_same_tensors,
    read_all,
    refusal,
    write_tensors,
)

HEAD, EMBEDDING = "lm_head.weight", "model.decoder.embed_tokens.weight"
ENCODER = "model.encoder.language_model."
NORM, PROJECTION = f"{ENCODER}norm.weight", f"{ENCODER}layers.3.self_attn.q_proj.weight"


def copies(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All copies that transformers stores if weights are not tied."""
    shared = {
        name: value
        for name, value in tensors.items()
        if name.startswith("model.decoder.")
        and not name.endswith("layer_scalar")
        and "self_conditioning" not in name
    }
    found = {n.replace("model.decoder.", ENCODER): v.copy() for n, v in shared.items()}
    return found | {HEAD: tensors[EMBEDDING].copy()}


@pytest.fixture
def untied(folder) -> Path:
    """hf_six with all copies, and with a config that says that nothing is tied."""
    tensors = read_all(folder)
    write_tensors(folder, tensors | copies(tensors))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    return folder


def change(folder: Path, **tensors: np.ndarray | None) -> None:
    """Replaces tensors, or takes them away where the value is None."""
    found = read_all(folder) | {name.replace("__", "."): v for name, v in tensors.items()}
    write_tensors(folder, {name: value for name, value in found.items() if value is not None})


def test_equal_copies_are_ignored_and_are_not_written(untied, tmp_path):
    convert_checkpoint(untied, tmp_path / "out", "hf")
    assert_same_tensors(tmp_path / "out", GOLDEN / "hf_six")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["tie_word_embeddings"] is True
    change(untied, lm_head__weight=read_all(untied)[EMBEDDING].astype(np.float64))
    assert refusal(untied).endswith("dtype (1): lm_head.weight is F64")


def test_unequal_copies_are_refused_by_name(untied, tmp_path, monkeypatch):
    monkeypatch.setattr(tied, "SLICE_BYTES", 100)  # so that only a later slice differs
    tensors = read_all(untied)
    tensors[HEAD][-1, -1] += 1
    tensors[PROJECTION][5] *= -1
    write_tensors(untied, tensors)
    said = "copies that are not equal to the tensors they are tied to; this model has one set of "
    advice = "weights, so load a folder from before they were changed apart"
    assert refusal(untied) == f"{untied}:\n  {said}{advice} (2): {HEAD}, {PROJECTION}"
    with pytest.raises(CheckpointError, match="not equal to the tensors they are tied to"):
        convert_checkpoint(untied, tmp_path / "out", "orbax")
    assert not (tmp_path / "out").exists()


def test_a_copy_may_have_another_dtype_or_be_the_only_one(folder, tmp_path):
    tensors = {k: v.astype(ml_dtypes.bfloat16) for k, v in read_all(folder).items()}
    write_tensors(folder, tensors)
    convert_checkpoint(folder, tmp_path / "plain", "hf")
    write_tensors(folder, tensors | {HEAD: tensors[EMBEDDING].astype(np.float32)})
    convert_checkpoint(folder, tmp_path / "wide", "hf")
    both = tensors | copies(tensors)
    for name in (EMBEDDING, "model.decoder.layers.3.self_attn.q_proj.weight"):
        del both[name]
    write_tensors(folder, both)
    convert_checkpoint(folder, tmp_path / "alone", "hf")
    for name in ("wide", "alone"):
        assert_same_tensors(tmp_path / name, tmp_path / "plain")
    both[NORM] = both[NORM][:-1]
    write_tensors(folder, both)
    assert refusal(folder).endswith(f"shape (1): {NORM} is [31], not [32]")


def test_untied_weights_must_have_all_copies(untied):
    change(untied, lm_head__weight=None)
    said = "missing, although tie_word_embeddings is false (if they are tied, write true) (1): "
    assert refusal(untied) == f"{untied}:\n  {said}{HEAD}"


def test_only_what_is_shared_has_copies(folder):
    tensors = read_all(folder)
    name = "model.encoder.language_model.self_conditioning.up_proj.weight"
    write_tensors(
        folder, tensors | {name: tensors["model.decoder.self_conditioning.up_proj.weight"].copy()}
    )
    assert refusal(folder).endswith(f"extra (1): {name}")
