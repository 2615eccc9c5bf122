"""Small files that go where weights go, and files that do not."""

import json
import os
from pathlib import Path

import pytest

from diffusiongemma.formats import companions
from diffusiongemma.formats.checks import CheckpointError
from diffusiongemma.formats.companions import (
    KNOWN,
    check_companions,
    companion_files,
    copy_companions,
)

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


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(name))


def test_the_kind_is_small_files_that_are_no_weights_and_no_config(tmp_path):
    make(tmp_path, *GO, *STAY)
    assert companion_files(tmp_path) == {name: tmp_path / name for name in GO}
    assert companion_files(tmp_path / "nowhere") == {}


def test_subfolders_are_copied_unless_they_hold_weights(tmp_path, capsys):
    copied = ("additional_chat_templates/tool.jinja", "assets/icons/logo.png")
    ours = ("params/d/0a1b", "model/metadata", "log/metrics.jsonl", ".git/config", "assets/.hidden")
    make(tmp_path / "model", *copied, *ours, "onnx/a.txt", "onnx/model.onnx")
    copy_companions(tmp_path / "model", tmp_path / "new")
    found = sorted(str(f.relative_to(tmp_path / "new")) for f in (tmp_path / "new").rglob("*.*"))
    assert found == sorted(copied)
    assert (tmp_path / "new" / copied[1]).read_text() == json.dumps(copied[1])
    said = f"{tmp_path / 'model' / 'onnx'}: holds a checkpoint, data or logs (model.onnx)"
    assert capsys.readouterr().err == f"warning: {said}, so it is not copied\n"


def test_a_target_within_the_folder_is_not_copied_into_itself(tmp_path, capsys):
    make(tmp_path, "LICENSE", "out/deeper/model.safetensors")
    copy_companions(tmp_path, tmp_path / "out" / "deeper")
    names = sorted(f.name for f in (tmp_path / "out" / "deeper").iterdir())
    assert names == ["LICENSE", "model.safetensors"] and capsys.readouterr().err == ""


def test_the_model_card_and_what_is_there_may_be_kept_apart(tmp_path):
    make(tmp_path / "model", "README.md", "LICENSE", "assets/logo.png")
    make(tmp_path / "new", "LICENSE", "assets/mine")
    (tmp_path / "new" / "LICENSE").write_text("mine")
    copy_companions(tmp_path / "model", tmp_path / "new", card=False, never={"LICENSE", "assets"})
    assert sorted(f.name for f in (tmp_path / "new").rglob("*")) == ["LICENSE", "assets", "mine"]
    assert (tmp_path / "new" / "LICENSE").read_text() == "mine"


def test_a_large_file_stays_behind_with_a_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(companions, "LARGEST", 4)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "LICENSE").write_text("much")
    (folder / "notes.txt").write_text("too much")
    (folder / "tokenizer.json").write_text('"needed in any case"')
    assert sorted(companion_files(folder)) == ["LICENSE", "tokenizer.json"]
    assert capsys.readouterr().err == ""  # nothing is copied yet
    for _ in range(2):  # said once
        copy_companions(folder, tmp_path / "new")
    said = f"{folder / 'notes.txt'}: is larger than 0 MiB, so it is not copied"
    assert capsys.readouterr().err == f"warning: {said}\n"


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
    os.symlink("/usr", folder / "assets")  # it would be looked at file by file
    assert sorted(companion_files(folder)) == ["COPYING", "LICENSE"]
    copy_companions(folder, tmp_path / "new")
    assert sorted(file.name for file in (tmp_path / "new").iterdir()) == ["COPYING", "LICENSE"]
    said = "is or has a link to a file elsewhere, so it is not copied\nwarning: "
    lines = f"warning: {folder / 'assets'}: {said}{folder / 'notes.txt'}: {said}"
    assert capsys.readouterr().err == lines.removesuffix("warning: ")


@pytest.mark.parametrize("name", KNOWN)
def test_a_file_that_is_read_must_not_be_a_link_out_of_the_folder(elsewhere, tmp_path, name):
    folder = tmp_path / "model"
    folder.mkdir()
    os.symlink("../elsewhere/tokenizer.json", folder / name)
    for read in (companion_files, check_companions):
        with pytest.raises(CheckpointError, match=f"{name}: is a link to a file outside"):
            read(folder)
    (tmp_path / "link").symlink_to(folder)
    (folder / name).unlink()
    (folder / "real").write_text("[]")
    os.symlink("real", folder / name)
    assert name in companion_files(tmp_path / "link")
    check_companions(folder)


def test_links_in_the_hugging_face_cache_are_followed(elsewhere, tmp_path, capsys):
    """models--OWNER--NAME/snapshots/REVISION/FILE is a link to models--OWNER--NAME/blobs/HASH."""
    repository = tmp_path / "models--google--gemma"
    snapshot = repository / "snapshots" / "0a1b"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs" / "ff").write_text("licence")
    (snapshot / "assets").mkdir()
    (repository / "blobs" / "aa").write_text("[]")
    os.symlink("../../blobs/ff", snapshot / "LICENSE")
    os.symlink("../../blobs/aa", snapshot / "tokenizer.json")
    os.symlink("../../../blobs/ff", snapshot / "assets" / "logo.png")
    os.symlink("../../../elsewhere/secret", snapshot / "notes.txt")
    names = ("LICENSE", "assets/logo.png", "tokenizer.json")
    assert companion_files(snapshot) == {name: snapshot / name for name in names}
    copy_companions(snapshot, tmp_path / "new")
    assert (tmp_path / "new" / "assets" / "logo.png").read_text() == "licence"
    assert "notes.txt: is or has a link to a file elsewhere" in capsys.readouterr().err


def test_a_failed_download_is_not_copied(tmp_path, capsys):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    file = source / "tokenizer.json"
    file.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CheckpointError, match=f"^{file}: is a pointer of git-lfs"):
        check_companions(source)
    copy_companions(source, target)
    assert not target.exists()
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {file}: is a pointer of git-lfs")
    assert said.endswith(". It is not copied\n")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer.json", b"PK\x03\x04", "is no JSON"),
        ("generation_config.json", b"[" * 100_000, "is no JSON"),
        ("tokenizer_config.json", b"\xff", "is no UTF-8 text"),
        ("chat_template.jinja", b"\x7fELF\xff", "is no UTF-8 text"),
        ("processor_config.json", b"{", "is no JSON"),
    ],
)
def test_what_is_not_what_its_name_says_is_not_copied(tmp_path, capsys, name, content, said):
    source, target = tmp_path / "source", tmp_path / "target"
    make(source, "LICENSE")
    (source / name).write_bytes(content)
    if name in KNOWN:
        with pytest.raises(CheckpointError, match=f"^{source / name}: {said}$"):
            check_companions(source)
    else:
        check_companions(source)
    copy_companions(source, target)
    assert [file.name for file in target.iterdir()] == ["LICENSE"]
    assert capsys.readouterr().err == f"warning: {source / name}: {said}. It is not copied\n"
