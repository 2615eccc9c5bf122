"""Frames of videos and their times; files that are none are refused in one line."""

import contextlib
import types
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from data.images.patches import image_patches
from data.images.sources import PictureReader
from data.images.video import read_frames, written
from tests.data.images.pictures import picture

PIXELS = 64 * 48


def film(file: Path, rate: int, count: int, codec: str = "mpeg4") -> Path:
    """A film whose frame i has the grey 5 i mod 256."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.bit_rate = 8_000_000  # so that frames next to each other can be told apart
        for i in range(count):
            grey = np.full((48, 64, 3), 5 * i % 256, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
    return file


def frames(path: Path, most_pixels: int = PIXELS) -> tuple[list[str], list[int]]:
    """The times, and the greys."""
    found = list(read_frames(path, most_pixels, path.name))
    assert {image.size for _, image in found} == {(64, 48)}
    return [time for time, _ in found], [int(np.asarray(image).mean()) for _, image in found]


@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi", "webm"])
def test_a_frame_a_second_as_transformers_takes_them(tmp_path, kind):
    """Of 46 frames, 10 a second, it takes numbers 0, 11, 23 and 34."""
    codec = "libvpx" if kind == "webm" else "mpeg4"
    times, greys = frames(film(tmp_path / f"a.{kind}", 10, 46, codec))
    assert times == ["00:00", "00:01", "00:02", "00:03"]
    assert np.abs(np.array(greys) - [0, 55, 115, 170]).max() <= 2


def test_a_long_film_gives_60_frames(tmp_path):
    """Those far apart are sought, and are the ones that decoding all frames would give."""
    times, greys = frames(film(tmp_path / "a.mp4", 1, 900))
    assert times == [written(15 * i) for i in range(60)] and times[-1] == "14:45"
    assert np.abs(np.array(greys) - [75 * i % 256 for i in range(60)]).max() <= 8
    assert frames(film(tmp_path / "b.mp4", 10, 5))[0] == ["00:00"]


def test_a_folder_of_frames(tmp_path):
    for i in (0, 2, 10, 1):
        Image.new("RGB", (64, 48), (i, i, i)).save(tmp_path / f"frame{i}.png")
    (tmp_path / ".hidden").touch()
    assert frames(tmp_path) == (["00:00", "00:01", "00:02", "00:03"], [0, 1, 2, 10])
    reader = PictureReader()
    found = reader.read("video", tmp_path.name, tmp_path.parent)
    wanted = image_patches(Image.new("RGB", (64, 48), (2, 2, 2)), 70)
    np.testing.assert_array_equal(found[2].patches.patches, wanted.patches)
    assert [(p.time, p.soft_tokens) for p in found[:2]] == [("00:00", 63), ("00:01", 63)]
    (tmp_path / "frame3.txt").write_text("no image")
    assert refusal(tmp_path).startswith(f"{tmp_path.name}/frame3.txt: not an image")


def refusal(path: Path, most_pixels: int = PIXELS) -> str:
    with pytest.raises(ValueError) as caught:
        list(read_frames(path, most_pixels, path.name))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pictures_of_an_unknown_kind_are_no_video(tmp_path, monkeypatch):
    streams = types.SimpleNamespace(video=[types.SimpleNamespace(codec_context=None)])
    container = contextlib.nullcontext(types.SimpleNamespace(streams=streams))
    whole = film(tmp_path / "a.mkv", 10, 4)
    monkeypatch.setattr(av, "open", lambda *_, **__: container)
    assert refusal(whole).startswith("a.mkv: no video that can be read: its pictures")


def test_what_is_no_video(tmp_path):
    whole = film(tmp_path / "a.mkv", 10, 45)
    files = {
        "none.mp4": (None, "no such file"),
        "empty.mp4": (b"", "the file is empty"),
        "text.mp4": (b"no video", "no video that can be read: invalid data"),
        "cut.mkv": (whole.read_bytes()[: whole.stat().st_size // 2], "it breaks off 2 seconds"),
        "cut.mp4": (film(tmp_path / "a.mp4", 10, 45).read_bytes()[:3000], "no video that can"),
        # Playlists, which would open other files or ask the network.
        "list.m3u8": (f"#EXTM3U\n#EXTINF:4,\n{whole}\n#EXT-X-ENDLIST\n".encode(), "no video"),
        "list.txt": (f"ffconcat version 1.0\nfile {whole}\n".encode(), "no video that can"),
    }
    for name, (data, error) in files.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
        assert refusal(tmp_path / name).startswith(f"{name}: {error}")
    assert "more than the 3,071 pixels" in refusal(whole, PIXELS - 1)
    picture(0).save(tmp_path / "image.png")
    assert "no video that can be read" in refusal(tmp_path / "image.png")
    (tmp_path / "folder").mkdir()
    assert refusal(tmp_path / "folder") == "folder: the folder is empty"
