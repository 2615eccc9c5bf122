"""Frames of videos: one a second, with their times, from a file or from a folder of images.

The frames and the way in which times are written are those of transformers' processor when it is
asked for one frame a second: of n whole seconds there are n frames, evenly spaced. Of a video of
more than MOST_FRAMES seconds there are MOST_FRAMES, evenly spaced too.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import av
from PIL import Image

from data.images.open_image import open_file, open_image

MOST_FRAMES = 60
# Other kinds of files are playlists, which name files and addresses that would be opened.
KINDS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,flv,ogg,asf,gif,m4v,h264,hevc"
NEAR = 10.0  # seconds up to which decoding on to a frame is cheaper than seeking it


def read_frames(path: Path, most_pixels: int, name: str) -> Iterator[tuple[str, Image.Image]]:
    """The frames of a video, one by one.

    Args:
      path: a file, or a folder with an image for each second, in the order of their names.
      most_pixels: the largest number of pixels of a frame.
      name: the name of the video in errors.

    Returns:
      (time, image) of each frame: mm:ss, and an image of the mode RGB.

    Raises:
      ValueError: it cannot be read. The error is one line.
    """
    if path.is_dir():
        yield from _from_folder(path, most_pixels, name)
        return
    with open_file(path, name) as file:
        if not file.read(1):
            raise ValueError(f"{name}: the file is empty")
        file.seek(0)
        try:
            yield from _from_file(file, most_pixels)
        except av.FFmpegError as error:
            why = " ".join((error.strerror or str(error)).split()).lower()
            raise ValueError(f"{name}: no video that can be read: {why}") from None
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None


def evenly(total: int, count: int) -> list[int]:
    """`count` of the numbers from 0 to total - 1, evenly spaced from 0 on."""
    return [i * total // count for i in range(count)]


def written(seconds: float) -> str:
    """A time as prompts have it, mm:ss."""
    return f"{int(seconds // 60):02d}:{int(seconds % 60):02d}"


def _from_folder(folder: Path, most_pixels: int, name: str) -> Iterator[tuple[str, Image.Image]]:
    files = [file for file in folder.iterdir() if not file.name.startswith(".")]
    if not files:
        raise ValueError(f"{name}: the folder is empty")
    files.sort(key=lambda file: [_number(part) for part in re.split(r"(\d+)", file.name)])
    for i in evenly(len(files), min(len(files), MOST_FRAMES)):
        yield written(i), open_image(files[i], most_pixels, f"{name}/{files[i].name}")


def _number(text: str) -> tuple[int, str]:
    """A key by which 2 comes before 10."""
    return (int(text), "") if text.isdecimal() else (-1, text)


def _from_file(file: BinaryIO, most_pixels: int) -> Iterator[tuple[str, Image.Image]]:
    closed = {"format_whitelist": KINDS, "protocol_whitelist": "none"}
    with av.open(file, options=closed) as container:
        if not container.streams.video:
            raise ValueError("it has no pictures")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise ValueError("no video that can be read: its pictures are of an unknown kind")
        if stream.width * stream.height > most_pixels:
            raise ValueError(f"its frames have more than the {most_pixels:,} pixels that are read")
        rate = stream.average_rate or stream.guessed_rate
        length = stream.duration and float(stream.duration * stream.time_base)
        length = length or (container.duration or 0) / av.time_base
        total = stream.frames or round(length * (rate or 0))
        if not rate or total < 1:
            raise ValueError("it does not say how many frames it has")
        begin = float((stream.start_time or 0) * stream.time_base)
        stream.thread_type = "AUTO"
        frames, at = container.decode(stream), begin
        for i in evenly(total, min(max(1, int(total / rate)), MOST_FRAMES)):
            time = float(i / rate)
            if begin + time - at > NEAR:
                container.seek(int((begin + time) / stream.time_base), stream=stream)
                frames = container.decode(stream)
            for frame in frames:
                at = frame.time or 0.0
                if at >= begin + time - 0.5 / float(rate):
                    yield written(time), frame.to_image()
                    break
            else:
                raise ValueError(f"it breaks off {at - begin:.0f} seconds after its beginning")
