"""Small files that go where weights go, and files that do not."""

import os
from pathlib import Path

import pytest

from diffusiongemma.formats import companions
from diffusiongemma.formats.companions import companion_files

GO = (
    "LICENSE",
    "README.md",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
)
STAY = (
    ".gitattributes",
    "_METADATA",
    "adapter_config.json",
    "adapter_model.safetensors",
    "answers.jsonl",
    "config.json",
    "metrics.jsonl",
    "model-Q4_K_M.GGUF",
    "model.safetensors.index.json",
    "optimizer.pt",
    "puzzles.csv",
    "pytorch_model.bin",
    "trainer_state.json",
    "training_args.bin",
)


def test_the_kind_is_small_files_that_are_no_weights_and_no_config(tmp_path):
    (tmp_path / "images").mkdir()
    for name in (*GO, *STAY, "images/logo.png"):
        (tmp_path / name).touch()
    assert companion_files(tmp_path) == {name: tmp_path / name for name in GO}
    assert companion_files(tmp_path / "nowhere") == {}


def test_a_large_file_stays_behind_with_a_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(companions, "LARGEST", 4)
    for name in ("notes.txt", "tokenizer.json", "LICENSE"):
        (tmp_path / name).write_text("much")
    (tmp_path / "notes.txt").write_text("too much")
    (tmp_path / "tokenizer.json").write_text("needed in any case")
    for _ in range(2):  # said once
        assert sorted(companion_files(tmp_path)) == ["LICENSE", "tokenizer.json"]
    said = capsys.readouterr().err
    assert said == (
        f"warning: {tmp_path / 'notes.txt'}: is larger than 0 MiB and does not go along\n"
    )


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    (tmp_path / "elsewhere").mkdir()
    for name in ("secret", "tokenizer.json"):
        (tmp_path / "elsewhere" / name).write_text(name)
    return tmp_path / "elsewhere"


def test_links_out_of_the_folder_are_not_followed(elsewhere, tmp_path, capsys):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "LICENSE").touch()
    os.symlink("LICENSE", folder / "COPYING")
    os.symlink("nowhere", folder / "gone.txt")
    os.symlink("../elsewhere/secret", folder / "notes.txt")
    os.symlink("../elsewhere/tokenizer.json", folder / "tokenizer.json")
    assert sorted(companion_files(folder)) == ["COPYING", "LICENSE", "tokenizer.json"]
    said = f"{folder / 'notes.txt'}: is a link to a file elsewhere and does not go along"
    assert capsys.readouterr().err == f"warning: {said}\n"


def test_links_in_the_hugging_face_cache_are_followed(elsewhere, tmp_path, capsys):
    """models--OWNER--NAME/snapshots/REVISION/FILE is a link to models--OWNER--NAME/blobs/HASH."""
    repository = tmp_path / "models--google--gemma"
    snapshot = repository / "snapshots" / "0a1b"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs" / "ff").write_text("licence")
    os.symlink("../../blobs/ff", snapshot / "LICENSE")
    os.symlink("../../../elsewhere/secret", snapshot / "notes.txt")
    assert companion_files(snapshot) == {"LICENSE": snapshot / "LICENSE"}
    assert "notes.txt: is a link to a file elsewhere" in capsys.readouterr().err
