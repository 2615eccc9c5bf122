"""Images and videos that want to do harm, and a word of the one line that refuses each.

A case begins with a copy of checkpoints/read_grid, a model with eyes. Pictures that are odd and
good are in ODD_PICTURES: each must be read. Anyone may add a row to either table.
"""

import base64
import io
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from scripts.trials.bad_input import BadInput, nothing, written

CHECKPOINT = "checkpoints/read_grid"
ASK = ("sample.main", "--checkpoint={folder}", "--prompt=x", "--max-steps=1")
LINES = ("sample.main", "--checkpoint={folder}", "--prompts={folder}/p.jsonl", "--max-steps=1")
PIXELS, KIND = "more than the 134,217,728 pixels", "not an image of a known kind"
SIZE = (24, 16)
IMAGE, VIDEO = "shown/x.png", "shown/x.mp4"  # a pipe in the checkpoint itself is no picture


def picture(mode: str = "RGB", size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture with a slope from black to white."""
    slope = np.linspace(0, 255, size[0] * size[1]).astype(np.uint8).reshape(size[::-1])
    return Image.fromarray(slope).convert(mode)


def file_of(image: Image.Image, kind: str, **settings: object) -> bytes:
    """The contents of a file of a picture."""
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(columns: int, rows: int, data: bytes = b"", *more: bytes) -> bytes:
    """A PNG file that says that it has this size."""
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, 2, 0, 0, 0))
    body = _chunk(b"IDAT", zlib.compress(data, 1))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + body + _chunk(b"IEND", b"")


def _gif(columns: int, rows: int) -> bytes:
    return file_of(picture("L"), "GIF").replace(
        struct.pack("<HH", *SIZE), struct.pack("<HH", columns, rows)
    )


def _bmp(columns: int, rows: int) -> bytes:
    data = file_of(picture(), "BMP")
    return data[:18] + struct.pack("<ii", columns, rows) + data[26:]


def _avi(frames: int, columns: int = 16, rows: int = 16) -> bytes:
    """The head of an AVI file that says that it has so many frames, and has none."""
    main = struct.pack("<14I", 40_000, 0, 0, 16, frames, 0, 1, 0, columns, rows, 0, 0, 0, 0)
    about = struct.pack(
        "<4s4sIHHI7I4H", b"vids", b"MJPG", 0, 0, 0, 0, 1, 25, 0, frames, 0, 0, 0, *[0] * 4
    )
    form = struct.pack("<IiiHH4sIiiII", 40, columns, rows, 1, 24, b"MJPG", 0, 0, 0, 0, 0)
    stream = _riff(b"LIST", b"strl" + _riff(b"strh", about) + _riff(b"strf", form))
    head = _riff(b"LIST", b"hdrl" + _riff(b"avih", main) + stream)
    return _riff(b"RIFF", b"AVI " + head + _riff(b"LIST", b"movi"))


def _riff(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data


def _text_bomb() -> bytes:
    """A PNG file with a text of 100 MB, which takes 100 kB."""
    return _png(4, 4, b"", _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8), 1)))


def _late(name: str, data: bytes | Callable[[], bytes]) -> Callable[[Path], None]:
    """Writes a file, whose contents are made only then if they are large."""
    return lambda folder: written(name, data if isinstance(data, bytes) else data())(folder)


def made(name: str, make: Callable[[Path], None]) -> Callable[[Path], None]:
    """Makes something that is no file, such as a pipe."""

    def prepare(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        make(folder / name)

    return prepare


def _in_line(kind: str, source: Callable[[], str]) -> Callable[[Path], None]:
    """A file of one prompt with an image or a video."""

    def data() -> bytes:
        content = [{"type": kind, kind: source()}, {"type": "text", "text": "x"}]
        return json.dumps({"messages": [{"role": "user", "content": content}]}).encode()

    return _late("p.jsonl", data)


def _images() -> Iterator[BadInput]:
    png, jpeg = file_of(picture(), "PNG"), file_of(picture(), "JPEG")
    for name, data, word in (
        ("a PNG of 50,000 x 50,000", _png(50_000, 50_000), PIXELS),
        ("a PNG of 2**31 columns", _png(2**31 - 1, 2**31 - 1), PIXELS),
        ("a GIF of 65,535 x 65,535", _gif(65_535, 65_535), PIXELS),
        ("a BMP of 2**30 columns", _bmp(2**30, 2**30), "x.png: "),
        ("a PPM of 10**9 columns", b"P6 1000000000 1000000000 255\n\0", "x.png: "),
        ("a PNG without rows", _png(10, 0), "x.png: "),
        ("a PNG without data", _png(100, 100), "the image is broken"),
        ("a text of 100 MB in a PNG", _text_bomb, "the image is broken"),
        ("half of a PNG", png[: len(png) // 2], "the image is broken"),
        ("half of a JPEG", jpeg[: len(jpeg) // 2], "the image is broken"),
        ("a PNG of 20 bytes", png[:20], "x.png: "),
        ("nothing", b"", "the file is empty"),
        ("a drawing (SVG)", b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", KIND),
        ("a page", b"<!doctype html><script>alert(1)</script>", KIND),
        ("PostScript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", KIND),
        ("a PDF", b"%PDF-1.7\n1 0 obj\n", KIND),
        ("a program", b"\x7fELF" + bytes(100), KIND),
        ("zeros", bytes(10**6), KIND),
        ("a picture of 32 bits", file_of(Image.new("F", SIZE), "TIFF"), "32 bits"),
    ):
        yield BadInput(f"image: {name}", _late(IMAGE, data), _shown("image", IMAGE), word)
    for name, make, word in (
        ("a pipe", os.mkfifo, "no regular file"),
        ("a folder", os.mkdir, "it is a folder"),
        ("a device", lambda path: os.symlink("/dev/zero", path), "no regular file"),
        ("a link in a circle", lambda path: os.symlink(path, path), "too many levels"),
        ("no file", lambda path: None, "no such file"),
    ):
        yield BadInput(f"image: {name}", made(IMAGE, make), _shown("image", IMAGE), word)
    for name, source, word in (
        ("an address", "http://127.0.0.1:1/a.png", "nothing is fetched from the network"),
        ("a long name", "a" * 5000, "file name too long"),
        ("no base64", "data:image/png;base64,????", "no base64"),
        ("text as data", "data:text/plain,hello", "must be base64"),
        ("no image as data", "data:image/png;base64,QUFB", KIND),
    ):
        asked = (*ASK, f"--image={source}")
        yield BadInput(f"image: {name}", nothing, asked, word)


def _videos() -> Iterator[BadInput]:
    for name, data, word in (
        ("a million frames", _avi(10**6), "x.mp4: "),
        ("2**32 frames", _avi(2**32 - 1), "x.mp4: "),
        ("frames of 65,000 x 65,000", _avi(10, 65_000, 65_000), "x.mp4: "),
        ("no frames", _avi(0), "x.mp4: "),
        ("a playlist of addresses", b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/a.ts\n", "no video"),
        ("a list of files", b"ffconcat version 1.0\nfile /etc/passwd\n", "no video"),
        ("a picture", file_of(picture(), "PNG"), "x.mp4: "),
        ("text", b"no video\n" * 1000, "no video"),
        ("nothing", b"", "the file is empty"),
        ("an MP4 that is cut", b"\0\0\0\x18ftypisom\0\0\2\0isomiso2\0\0\xff\xffmoov", "x.mp4: "),
        ("boxes of 2**64 bytes", b"\0\0\0\1ftyp" + b"\xff" * 8 + b"isom", "no video"),
    ):
        yield BadInput(f"video: {name}", written(VIDEO, data), _shown("video", VIDEO), word)
    for name, make, word in (
        ("a pipe", os.mkfifo, "no regular file"),
        ("an empty folder", os.mkdir, "the folder is empty"),
        ("no file", lambda path: None, "no such file"),
    ):
        yield BadInput(f"video: {name}", made(VIDEO, make), _shown("video", VIDEO), word)
    page = written("film/1.png", b"<svg/>")
    yield BadInput("video: a folder of pages", page, _shown("video", "film"), KIND)


def _lines() -> Iterator[BadInput]:
    for name, kind, source, word in (
        ("broken base64", "image", "data:;base64,A", "no base64"),
        ("a video as data", "video", "data:video/mp4;base64,AA", "from a file"),
        ("a NUL", "image", "a\0b", "not the name of a file"),
        ("an address", "image", "ftp://x/a.png", "nothing is fetched"),
    ):
        yield BadInput(name, _in_line(kind, lambda source=source: source), LINES, word)

    def many() -> str:
        return f"data:image/png;base64,{base64.b64encode(bytes(75_000_000)).decode()}"

    yield BadInput("100 MB of data", _in_line("image", many), LINES, KIND)


def _shown(kind: str, name: str) -> tuple[str, ...]:
    return (*ASK, f"--{kind}={{folder}}/{name}")


HOSTILE_MEDIA: tuple[BadInput, ...] = (*_images(), *_videos())
# Records of prompts that show such things. A line says what is wrong with each, and others go on.
HOSTILE_LINES: tuple[BadInput, ...] = tuple(_lines())


def odd_pictures() -> Iterator[tuple[str, bytes]]:
    """Files that are odd and good: (name, contents). All show the slope of `picture`."""
    grey = np.asarray(picture("L"))
    sixteen = Image.fromarray(grey.astype(np.uint16) * 257)
    with_alpha = picture("RGBA")
    frames = [picture("P")] * 500
    yield from (
        ("16 bits, PNG", file_of(sixteen, "PNG")),
        ("16 bits, TIFF", file_of(sixteen, "TIFF")),
        ("CMYK, JPEG", file_of(picture("CMYK"), "JPEG", quality=100, subsampling=0)),
        ("CMYK, TIFF", file_of(picture("CMYK"), "TIFF")),
        ("a palette", file_of(picture("P"), "PNG")),
        ("grey with alpha", file_of(picture("LA"), "PNG")),
        ("with alpha, WebP", file_of(with_alpha, "WEBP", lossless=True)),
        ("Adam7", file_of(picture("L"), "PNG", optimize=True)),
        ("YCbCr, TIFF", file_of(picture("YCbCr"), "TIFF")),
        ("500 frames", file_of(frames[0], "GIF", save_all=True, append_images=frames)),
        ("a damaged rotation", file_of(picture(), "JPEG", quality=100, exif=b"Exif\0\0II*\0\xff")),
        ("garbage behind its end", file_of(picture(), "PNG") + b"<script>" * 1000),
    )
