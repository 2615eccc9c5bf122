"""Image files of many kinds are read, and those that cannot be are refused in one line."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from data.images import open_image as module
from data.images.open_image import open_image
from tests.data.images.pictures import picture

LOSSLESS = {"lossless": True}


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def opened(image: Image.Image, kind: str, **options) -> np.ndarray:
    found = open_image(saved(image, kind, **options))
    assert found.mode == "RGB"
    return np.asarray(found)


def near(found: np.ndarray, wanted: np.ndarray, most: float = 0) -> bool:
    return found.shape == wanted.shape and np.abs(found.astype(int) - wanted).max() <= most


def test_kinds_of_files_and_pixels():
    image = picture(0)
    pixels, grey = np.asarray(image), np.asarray(image.convert("L"))
    for kind, options in (("PNG", {}), ("BMP", {}), ("TIFF", {}), ("PPM", {}), ("WEBP", LOSSLESS)):
        assert near(opened(image, kind, **options), pixels), kind
    assert near(opened(image, "JPEG2000"), pixels)
    smooth = image.resize((16, 12)).resize((64, 48))
    for kind in ("JPEG", "AVIF"):
        assert near(opened(smooth, kind, quality=98), np.asarray(smooth), 40), kind
    assert near(opened(image.convert("L"), "PNG"), grey[..., None].repeat(3, axis=2))
    bits = image.convert("1")
    assert near(opened(bits, "PNG"), np.asarray(bits.convert("RGB")))
    palette = image.convert("P", palette=Image.Palette.ADAPTIVE)
    assert near(opened(palette, "GIF"), np.asarray(palette.convert("RGB")))
    cmyk = image.convert("CMYK")
    assert near(opened(cmyk, "TIFF"), np.asarray(cmyk.convert("RGB")))


def test_sixteen_bits_keep_their_upper_eight():
    grey = np.arange(0, 65536, 64, np.uint16).reshape(32, 32)
    wanted = (grey >> 8)[..., None].repeat(3, axis=2)
    for kind in ("PNG", "TIFF"):
        assert near(opened(Image.fromarray(grey), kind), wanted), kind
    ppm = b"P5 32 32 65535\n" + grey.astype(">u2").tobytes()
    assert near(np.asarray(open_image(ppm)), wanted)
    with pytest.raises(ValueError, match="its pixels have 32 bits"):
        open_image(saved(Image.fromarray(grey.astype(np.float32)), "TIFF"))


@pytest.mark.parametrize("band", [2**22, 200])
def test_what_is_transparent_is_white(monkeypatch, band):
    monkeypatch.setattr(module, "BAND", band)
    image, (x, y) = picture(0).convert("RGBA"), np.meshgrid(np.arange(64), np.arange(48))
    alpha = (4 * x).astype(np.uint8)
    image.putalpha(Image.fromarray(alpha))
    share = alpha[..., None] / 255
    wanted = np.asarray(picture(0)) * share + 255 * (1 - share)
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True})):
        assert near(opened(image, kind, **options), wanted, 1), kind
    grey = image.convert("LA")
    assert near(opened(grey, "PNG")[:, 0], np.full((48, 3), 255))
    palette = Image.fromarray((y % 3).astype(np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    colours = opened(palette, "PNG", transparency=1)[:3, 0].tolist()
    assert colours == [[255, 0, 0], [255, 255, 255], [0, 0, 255]]
    colours = opened(palette, "PNG", transparency=b"\0\xff\xff")[:3, 0].tolist()
    assert colours == [[255, 255, 255], [0, 255, 0], [0, 0, 255]]


@pytest.mark.parametrize(("orientation", "turned"), [(1, 0), (6, -1), (3, 2), (8, 1)])
def test_a_noted_rotation_is_applied(orientation, turned):
    exif = Image.Exif()
    exif[0x0112] = orientation
    wanted = np.rot90(np.asarray(picture(0)), turned)
    assert near(opened(picture(0), "PNG", exif=exif), wanted)
    assert near(opened(picture(0), "TIFF", exif=exif), wanted)


def test_the_first_frame_is_taken():
    frames = [Image.new("RGB", (9, 7), colour) for colour in ("red", "lime", "blue")]
    for kind in ("GIF", "PNG", "WEBP", "TIFF"):
        found = opened(frames[0], kind, save_all=True, append_images=frames[1:])
        assert near(found, np.asarray(frames[0]), 1), kind


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG file that says that it has this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def refusal(source, **options) -> str:
    with pytest.raises(ValueError) as caught:
        open_image(source, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_bombs_are_refused_before_they_are_decoded():
    limit = "it has more than the 134,217,728 pixels that are read: make it smaller"
    for side in (12_000, 30_000, 2**31 - 1):
        assert refusal(png(side, side, bytes(10**6)), name="a.png") == f"a.png: {limit}"
    assert "the 3,071 pixels" in refusal(saved(picture(0), "PNG"), most_pixels=3071)
    open_image(saved(picture(0), "PNG"), most_pixels=3072)
    said = refusal(b"P6 70000 70000 255\n" + bytes(100))
    assert said.startswith("the image: it has more than the 134,217,728 pixels")


def test_broken_files_are_refused_in_one_line():
    whole = {k: saved(picture(3), k) for k in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "AVIF", "PPM")}
    for kind, data in whole.items():
        for size in (len(data) // 2, len(data) * 9 // 10, 20):
            assert "the image" in refusal(data[:size]), (kind, size)
    assert "the image is broken" in refusal(whole["JPEG"][:3000])
    rng = np.random.default_rng(0)
    for data in whole.values():
        for _ in range(20):  # whatever a decoder raises becomes a ValueError
            wrong = bytearray(data)
            for place in rng.integers(0, len(data), 5):
                wrong[place] = rng.integers(256)
            try:
                open_image(bytes(wrong))
            except ValueError as error:
                assert "\n" not in str(error)


def test_what_is_no_image_is_refused_in_one_line(tmp_path):
    empty, pipe, text = (tmp_path / name for name in ("empty.png", "pipe", "text.png"))
    empty.write_bytes(b"")
    os.mkfifo(pipe)
    text.write_text("no image")
    assert refusal(empty) == f"{empty}: the file is empty"
    assert refusal(b"", name="image 2") == "image 2: the file is empty"
    assert refusal(pipe) == f"{pipe}: it is no regular file"
    assert refusal(tmp_path) == f"{tmp_path}: it is a folder"
    assert refusal(tmp_path / "none.png") == f"{tmp_path}/none.png: no such file or directory"
    assert refusal(text).startswith(f"{text}: not an image of a known kind (PNG, JPEG, ")
    assert refusal("a\0b").endswith("this is not the name of a file")
    assert refusal(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n").startswith("the image: no")


def test_a_strip_is_read(tmp_path):
    file = tmp_path / "strip.png"
    Image.new("RGB", (5000, 1), "red").save(file)
    assert open_image(file).size == (5000, 1)
