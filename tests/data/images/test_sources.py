"""Where the pictures of messages are read, and where they are not."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from data.images.patches import image_patches
from data.images.sources import PictureReader
from tests.data.images.pictures import picture

READER = PictureReader(image_tokens=70)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("in/a.png", "b.png"):
        picture(0).save(tmp_path / name)
    (tmp_path / "in/link.png").symlink_to(tmp_path / "b.png")
    return tmp_path


def data_url(kind: str = "image/png;base64") -> str:
    file = io.BytesIO()
    picture(0).save(file, "PNG")
    return f"data:{kind},{base64.b64encode(file.getvalue()).decode()}"


def refusal(reader: PictureReader, source: str, *options, kind: str = "image") -> str:
    with pytest.raises(ValueError) as caught:
        reader.read(kind, source, *options)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250
    return str(caught.value)


def test_paths_and_data_urls(folder, monkeypatch):
    wanted = image_patches(picture(0), 70)
    monkeypatch.chdir(folder / "in")
    for source, base in (
        ("a.png", None),
        ("b.png", folder),
        (str(folder / "b.png"), folder / "in"),
        (f"file://{folder}/b.png", None),
        (f"file://localhost{folder}/in%2Fa.png", None),
        (data_url(), None),
        (data_url(";base64"), None),
        (data_url().replace("iVBOR", "iV\nBOR"), None),
    ):
        [found] = READER.read("image", source, base)
        np.testing.assert_array_equal(found.patches.patches, wanted.patches)
        assert (found.soft_tokens, found.time) == (63, "")


def test_images_in_memory():
    given = picture(0)
    given.getexif()[0x0112] = 3  # turned by 180 degrees
    before = given.tobytes()
    [found] = READER.read("image", given)
    wanted = image_patches(picture(0).rotate(180), 70)
    np.testing.assert_array_equal(found.patches.patches, wanted.patches)
    assert given.tobytes() == before and given.getexif()[0x0112] == 3
    [grey] = READER.read("image", picture(0).convert("L"))
    assert grey.soft_tokens == found.soft_tokens
    deep = refusal(READER, Image.new("F", (50, 50)), None, "image 2")
    assert deep.startswith("image 2: its pixels have 32 bits")


def test_what_cannot_be_read():
    assert refusal(READER, "https://a.b/c.png").startswith("https://a.b/c.png: nothing is fetched")
    assert "nothing is fetched" in refusal(READER, "HTTP://a.b/c.png")
    assert refusal(READER, "data:image/png,abc").startswith("the image: a data URL must be base64")
    assert (
        refusal(READER, "data:;base64,a!b", None, "image 2") == "image 2: its data URL is no base64"
    )
    assert refusal(READER, "data:;base64,") == "the image: the file is empty"
    assert "not an image" in refusal(READER, "data:;base64,QUJD")
    assert refusal(READER, "none.png") == "none.png: no such file or directory"
    assert "from a file, not from a data URL" in refusal(READER, data_url(), kind="video")


def test_strangers_name_files_of_one_folder_alone(folder):
    inside = PictureReader(image_tokens=70, only_in=str(folder / "in"))
    for source in ("a.png", str(folder / "in/a.png"), "../in/a.png"):
        assert inside.read("image", source)[0].soft_tokens == 63
    assert inside.read("image", data_url())
    for source in ("../b.png", "link.png", str(folder / "b.png"), "/etc/passwd", "a\0b"):
        assert refusal(inside, source).endswith("it is not in the server's folder of images")
    assert refusal(inside, ".", kind="video").endswith("folder of images")  # link.png leads out
    (folder / "in/link.png").unlink()
    assert [frame.time for frame in inside.read("video", ".")] == ["00:00"]
    nothing = PictureReader(only_in="")
    for source in ("a.png", str(folder / "in/a.png"), "file:///etc/passwd"):
        assert refusal(nothing, source).startswith("paths are not read here, because")
    assert nothing.read("image", data_url())
