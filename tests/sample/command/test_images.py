"""Prompts with images: by flags, in records, in batches and in a chat."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from data.images.budgets import folder_budgets
from data.images.patches import image_patches, stack
from data.text.chat import ModelTurn, split_turn
from diffusiongemma import Images, load_checkpoint
from diffusiongemma.formats.companions import companion_files
from sample import KeptPrompt, SamplerConfig, generate
from sample import images as sight
from sample.command.answer import Request
from sample.command.conversation import Conversation
from sample.command.flags import define_flags
from sample.command.open_session import open_session
from sample.command.prompt_rows import PromptRow
from sample.command.session import Session
from sample.command.typed import Typed
from sample.main import main
from tests.data.images.pictures import picture
from tests.data.images.talk import said, shown, tokenizer
from tests.sample.seeing import TOWER, save_seeing

QUESTION = "What?"
FLAGS = ("--max_new_tokens=8", "--max_steps=2", "--seed=5", "--image_tokens=70")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("seeing")
    for i in range(7):
        picture(i).save(path / f"{i}.png")
    return save_seeing(path / "model").parent


@pytest.fixture
def run(folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)

    def run(*flags: str) -> tuple[int, str, str]:
        status = main(["main", "--checkpoint=model", *FLAGS, *flags])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def towers(monkeypatch) -> list[tuple[int, ...]]:
    """The shapes of the images that go through the tower."""
    seen, see_one = [], sight._see_one

    def watched(model, image):
        seen.append(image.patches.shape)
        return see_one(model, image)

    monkeypatch.setattr(sight, "_see_one", watched)
    return seen


def prompt(numbers: list[int], text: str = QUESTION) -> tuple[np.ndarray, Images]:
    """The tokens of a question after images, and the images, put together by hand."""
    patches = [image_patches(picture(i), 70, patch_size=2) for i in numbers]
    soft = "".join(f"<|image>{'<|image|>' * (len(p.patches) // 9)}<image|>" for p in patches)
    whole = f"<bos><|turn>user\n{soft}{text}<turn|>\n<|turn>model\n"
    return np.array(tokenizer().encode(whole)), Images(*stack(patches, patch_size=2))


@pytest.fixture(scope="module")
def alone(folder):
    """The answer of `generate` to a question about images, on its own."""
    model = load_checkpoint(folder / "model")
    config = SamplerConfig(max_steps=2, max_new_tokens=8)

    def alone(numbers: list[int], width: int = 256) -> str:
        ids, images = prompt(numbers)
        tokens = np.pad(ids, (0, width - len(ids)))[None]
        mask = np.arange(width)[None] < len(ids)
        out = generate(model, tokens, mask, jax.random.key(5), config, images=images)
        said = out.tokens[0, : out.valid_tokens.sum()]
        return split_turn(tokenizer().decode(said, skip_special=False)).answer

    return alone


def message(numbers: list[int], text: str = QUESTION) -> dict:
    return {"role": "user", "content": [*(shown(f"{i}.png") for i in numbers), said(text)]}


def write(file: Path, records: list[dict]) -> Path:
    file.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    return file


def session_of(folder: Path, *flags: str) -> Session:
    values = define_flags()
    values(["main", f"--checkpoint={folder}/model", *FLAGS, *flags])
    return open_session(values)


def test_a_batch_gives_each_row_what_it_gets_alone(folder, run, alone, tmp_path, towers):
    """Rows with no image, one, two and three; equal texts with different images differ."""
    asked, out = [[0], [3, 6, 0], [1], [2, 5], [0]], tmp_path / "out.jsonl"
    records = [*({"messages": [message(numbers)]} for numbers in asked), {"prompt": "No image."}]
    file = write(folder / "asked.jsonl", records)
    assert run(f"--prompts={file}", f"--out={out}", "--batch_size=6")[0] == 0
    assert len(towers) == 6 and len(set(towers)) == 1, towers  # each picture once, and one program
    found = [json.loads(line) for line in out.read_text().splitlines()]
    answers = [line["answer"] for line in found]
    assert answers[:5] == [alone(numbers) for numbers in asked]
    assert answers[0] == answers[4] and len(set(answers)) == 5
    assert found[0]["checksum"] == found[4]["checksum"] != found[2]["checksum"]

    # A picture is asked about and not its name. Another picture of the same name is asked again.
    assert run(f"--prompts={file}", f"--out={out}")[0] == 0
    assert len(out.read_text().splitlines()) == 6
    picture(6).save(folder / "1.png")
    try:
        assert run(f"--prompts={file}", f"--out={out}", "--batch_size=6")[0] == 0
    finally:
        picture(1).save(folder / "1.png")
    assert len(out.read_text().splitlines()) == 7


def test_the_tokens_and_the_pictures_of_a_prompt(folder):
    session = session_of(folder)
    request = session.request(PromptRow(None, [message([0, 3])], folder=folder))
    ids, images = prompt([0, 3])
    assert request.tokens == ids.tolist()
    for found, wanted in zip(stack(request.images, patch_size=2), images, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert session.prompt_text(request.tokens).count("<|image|>") == 2


def test_a_video_in_a_prompt(folder, tmp_path):
    for i in range(2):
        picture(0).save(tmp_path / f"{i}.png")
    content = [said("Why?"), {"type": "video", "video": str(tmp_path)}]
    request = session_of(folder).request(PromptRow(None, [{"role": "user", "content": content}]))
    text = tokenizer().decode(request.tokens, skip_special=False)
    frame = f"<|image>{'<|image|>' * 63}<image|>"
    assert f"user\nWhy?00:00 {frame} 00:01 {frame}<turn|>" in text and len(request.images) == 2


def test_flags(run, alone, towers):
    """Three images make prompts as wide as those of `alone`, so that programs are compiled once."""
    images = [f"--image={i}.png" for i in (0, 3, 5)]
    wanted = alone([0, 3, 5])
    towers.clear()
    status, told, _ = run(*images, f"--prompt={QUESTION}")
    assert (status, told) == (0, f"{wanted}\n") and len(towers) == 3
    other = run(*images[::-1], f"--prompt={QUESTION}")[1]
    assert other != told  # their order counts
    # A hole whose lengths are tried.
    filled = [run(*order, "--fill=a<fill:2-4>b")[1] for order in (images, images[::-1])]
    assert filled[0] != filled[1] and filled[0].startswith("a")


def test_left_to_right(folder):
    session = session_of(folder)
    session.mode = "ar"
    told = []
    for numbers in ([0, 3, 5], [5, 3, 0]):
        request = session.request(PromptRow(None, [message(numbers)], folder=folder))
        told.append(session.answer([request])[0].turn.answer)
    assert told[0] != told[1]


def test_what_cannot_be_shown(folder, run, tmp_path):
    def fault(*flags: str) -> str:
        status, told, line = run(*flags)
        assert (status, told) == (2, "") and line.startswith("error: ") and line.count("\n") == 1
        return line

    hello = "--prompt=Hi"
    assert "none.png: no such file" in fault("--image=none.png", hello)
    assert "nothing is fetched" in fault("--image=http://a.b/c.png", hello)
    assert "model: it is a folder" in fault("--image=model", hello)
    assert "are for one prompt" in fault("--image=0.png", f"--prompts={folder}/x")
    assert "--image_folder" in fault("--image_folder=.", hello).replace("-folder", "_folder")
    with Image.new("L", (2, 3000)) as strip:
        strip.save(tmp_path / "strip.png")
    assert "patches are more than the 96" in fault(f"--image={tmp_path}/strip.png", hello)
    Image.new("L", (9, 9)).save(tmp_path / "small.png")
    many = [f"--image={tmp_path}/small.png"] * 9
    assert "the images take more tokens than the model's context of 512" in fault(*many, hello)

    blind = save_seeing(tmp_path / "blind", vision=None)
    line = fault(f"--checkpoint={blind}", "--image=0.png", hello)
    assert line == "error: this model has no vision tower: it reads text only\n"
    records = [{"prompt": "a", "image": "none.png"}, {"prompt": "b"}]
    status, _, told = run(f"--prompts={write(folder / 'bad.jsonl', records)}")
    assert status == 1 and "line 1: " in told and "none.png: no such file" in told


def test_a_tokenizer_without_image_tokens(folder, tmp_path, run):
    other = shutil.copytree(folder / "model", tmp_path / "other")
    vision = dataclasses.replace(TOWER, image_id=20)  # a character
    save_seeing(other, vision)
    status, _, line = run(f"--checkpoint={other}", "--image=0.png", "--prompt=Hi")
    wanted = "error: no images can be shown: the tokenizer has no special token 20\n"
    assert (status, line) == (2, wanted)


def test_a_chat_shows_images_and_sees_each_once(folder, towers, monkeypatch):
    monkeypatch.chdir(folder)
    session, lines = session_of(folder), []
    session.kept = KeptPrompt(session.tokenizer.turn_start_id)
    talk = Conversation(session, lines.append)

    def ask(text: str) -> tuple[Request, ModelTurn]:
        before = len(towers)
        request = talk.request(text)
        [answer] = session.answer([request])
        counted.append(len(towers) - before)
        talk.add(text, answer.turn)
        return request, answer.turn

    counted: list[int] = []
    for line in ("/image 0.png", "/image none.png", "/image"):
        talk.obey(Typed(line))
    assert lines == [
        "the next message shows 0.png",
        f"not shown: {folder}/none.png: no such file or directory",
        "/image needs a FILE",
    ]
    ask(QUESTION)
    ask("And now?")
    talk.obey(Typed("/image 1.png"))
    request, turn = ask("And this?")
    fresh = dataclasses.replace(session, kept=None)
    assert fresh.answer([request])[0].turn == turn
    assert counted == [1, 0, 1] and talk.shown == []
    assert talk.messages[0]["content"] == [shown(f"{folder}/0.png"), said(QUESTION)]
    assert talk.messages[2]["content"] == "And now?"
    talk.obey(Typed("/undo"))
    picture(2).save(folder / "0.png")  # what was read is another picture now
    try:
        ask("And now?")
    finally:
        picture(0).save(folder / "0.png")
    assert counted[-1] == 1


@pytest.mark.parametrize(
    ("files", "budgets"),
    [
        ({}, (280, 70)),
        ({"preprocessor_config.json": {"max_soft_tokens": 560}}, (560, 70)),
        (
            {
                "processor_config.json": {
                    "image_processor": {"max_soft_tokens": 140},
                    "video_processor": {"max_soft_tokens": 140},
                },
                "preprocessor_config.json": {"max_soft_tokens": 560},
            },
            (140, 140),
        ),
    ],
)
def test_the_folders_budgets(tmp_path, files, budgets):
    for name, value in files.items():
        (tmp_path / name).write_text(json.dumps(value))
    assert folder_budgets(companion_files(tmp_path)) == budgets


def test_a_budget_that_is_none(tmp_path):
    file = tmp_path / "preprocessor_config.json"
    for text, error in (("{", "not JSON"), ('{"max_soft_tokens": "9"}', "positive number, not")):
        file.write_text(text)
        with pytest.raises(ValueError, match=error):
            folder_budgets(companion_files(tmp_path))


def test_a_full_context_drops_the_oldest_pictures(folder, monkeypatch):
    """Without a model: eight pictures of 63 tokens are more than the context of 512 holds."""
    monkeypatch.chdir(folder)
    lines: list[str] = []
    talk = Conversation(session_of(folder), lines.append)
    for _ in range(9):
        talk.obey(Typed("/image 0.png"))
        request = talk.request(QUESTION)
        talk.add(QUESTION, ModelTurn("", "A.", ()))
    assert 4 <= len(request.images) < 8
    assert lines[-1].startswith("the context is full: the model no longer sees the oldest")
