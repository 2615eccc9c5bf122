"""Requests with images: data URLs are taken, and files of one folder if the server was told it."""

import base64
import io
import threading

import pytest

from data.text.chat import ModelTurn
from sample.command.answer import Answer
from sample.command.flags import define_flags
from sample.command.open_session import open_session
from sample.command.session import Session
from sample.server.chat_request import MOST_IMAGES
from sample.server.engine import Engine, defaults_of
from tests.data.images.pictures import picture
from tests.data.images.talk import said
from tests.sample.seeing import save_seeing
from tests.sample.server.serving import served


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("served")
    (path / "open").mkdir()
    for name in ("open/a.png", "secret.png"):
        picture(0).save(path / name)
    save_seeing(path / "model")
    return path


@pytest.fixture(scope="module")
def serve(folder):
    """Serves with flags. An answer says how many soft tokens the prompt has."""
    patch = pytest.MonkeyPatch()

    def answer(session: Session, requests, rows=None):
        [asked] = requests
        count = sum(len(image.patches) // 9 for image in asked.images)
        assert asked.tokens.count(9) == count
        return [Answer(asked, ModelTurn("", f"{count} tokens", ()), [1], [1], "stop")]

    patch.setattr(Session, "answer", answer)

    def serve(*flags: str):
        values = define_flags()
        values(["main", f"--checkpoint={folder}/model", "--serve=0", "--image_tokens=70", *flags])
        session = open_session(values)
        return served(Engine(session, threading.Event().is_set), defaults_of(session, "tiny"))

    yield serve
    patch.undo()


def data_url() -> str:
    file = io.BytesIO()
    picture(0).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def ask(server, *urls: str, kind: str = "image_url", **fields: int) -> str:
    """The answer, or what is wrong, by OpenAI's form of a request."""
    parts = [{"type": kind, kind: {"url": url}} for url in urls]
    body = {"messages": [{"role": "user", "content": [said("What?"), *parts]}]} | fields
    status, found = server.ask(body)
    if status == 200:
        return found["choices"][0]["message"]["content"]
    assert status == 400 and "\n" not in found["error"]["message"]
    return found["error"]["message"]


def test_without_a_folder_only_data_is_taken(folder, serve):
    with serve() as server:
        assert ask(server, data_url(), data_url()) == "126 tokens"
        assert ask(server) == "0 tokens"
        assert ask(server, data_url(), image_tokens=140) == "130 tokens"
        assert "expected 70, 140, 280, 560 or 1120" in ask(server, data_url(), image_tokens=100)
        for url in (str(folder / "open/a.png"), "file:///etc/passwd", "../open/a.png"):
            assert ask(server, url).startswith("paths are not read here, because")
        assert "nothing is fetched from the network" in ask(server, "http://127.0.0.1/a.png")
        assert ask(server, "data:image/png;base64,QQ==").startswith("image 1: not an image")
        assert "its data URL is no base64" in ask(server, data_url(), "data:;base64,?")
        assert "a video is read from a file" in ask(server, data_url(), kind="video_url")
        assert f"at most {MOST_IMAGES} images" in ask(server, *[data_url()] * (MOST_IMAGES + 1))
        assert "the images take more tokens" in ask(server, *[data_url()] * MOST_IMAGES)


def test_of_a_folder_its_own_files_are_taken(folder, serve):
    with serve(f"--image_folder={folder}/open") as server:
        for url in ("a.png", str(folder / "open/a.png"), data_url()):
            assert ask(server, url) == "63 tokens"
        for url in ("../secret.png", str(folder / "secret.png"), "/dev/zero"):
            assert ask(server, url).endswith("it is not in the server's folder of images")
        assert ask(server, "b.png") == "b.png: no such file or directory"
