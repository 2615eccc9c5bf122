"""Folders of checkpoints that want to do harm, and a word of the one line that refuses each.

A case begins with a copy of checkpoints/base. It is spoilt, and a command is called with it. The
command must end within seconds, with status 2 and one line on stderr that has the case's word in it
and no character that steers a terminal. To add a case, add a line to HOSTILE_FOLDERS.
"""

import json
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from diffusiongemma.formats.load_save import convert_checkpoint
from scripts.trials.bad_input import CONFIG, BadInput, changed, written

WEIGHTS, TEMPLATE = "model.safetensors", "chat_template.jinja"
ASK = ("sample.main", "--checkpoint={folder}", "--prompt=x")
CONVERT = ("scripts.convert", "--from={folder}", "--to={folder}-out", "--format=hf")
SECRET = "secret.json"  # a file beside the spoilt folder, for links


def pipe(name: str) -> Callable[[Path], None]:
    """A named pipe in the place of a file."""

    def prepare(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return prepare


def link(name: str, target: str) -> Callable[[Path], None]:
    """A link in the place of a file."""

    def prepare(folder: Path) -> None:
        (folder.parent / SECRET).write_text("{}")
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return prepare


def header(change: Callable[[dict], str | dict]) -> Callable[[Path], None]:
    """Another header of the weights: a text, or what json makes of a dict."""

    def prepare(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        found = change(json.loads(data[8 : 8 + size]))
        text = (found if isinstance(found, str) else json.dumps(found)).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])

    return prepare


def first_tensor(**fields: object) -> Callable[[Path], None]:
    """Other fields of the entry of the first tensor in the weights."""

    def change(entries: dict) -> dict:
        name = next(n for n in entries if n != "__metadata__")
        return entries | {name: entries[name] | fields}

    return header(change)


def renamed_tensor(name: str) -> Callable[[Path], None]:
    """Another name of the first tensor."""

    def change(entries: dict) -> dict:
        first = next(n for n in entries if n != "__metadata__")
        return {name if key == first else key: value for key, value in entries.items()}

    return header(change)


def index(file: str) -> Callable[[Path], None]:
    """An index of one file, in the place of the weights."""

    def prepare(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"weight_map": {"a": file}}))

    return prepare


def overlap(entries: dict) -> dict:
    """The second tensor begins where the first one does."""
    one, other = sorted(
        (n for n in entries if n != "__metadata__"), key=lambda n: entries[n]["data_offsets"]
    )[:2]
    end = entries[other]["data_offsets"][1]
    start = entries[one]["data_offsets"][0]
    return entries | {other: entries[other] | {"data_offsets": [start, end]}}


def twice(entries: dict) -> str:
    """The first tensor is there twice, each time with the same place."""
    name = next(n for n in entries if n != "__metadata__")
    return f"{{{json.dumps(name)}: {json.dumps(entries[name])}, {json.dumps(entries)[1:]}"


def orbax(spoil_tree: Callable[[Path], None]) -> Callable[[Path], None]:
    """A checkpoint of this project's own format, whose tree is spoilt."""

    def prepare(folder: Path) -> None:
        source = folder.rename(folder.with_name("source"))
        convert_checkpoint(source, folder, "orbax")
        spoil_tree(folder / "params")

    return prepare


def leaf(name: str) -> Callable[[Path], None]:
    """Another name of the first leaf of a tree."""

    def prepare(tree: Path) -> None:
        file = tree / "_METADATA"
        content = json.loads(file.read_text())
        entry = next(iter(content["tree_metadata"].values()))
        entry["key_metadata"] = [{"key": name, "key_type": 2}]
        file.write_text(json.dumps(content))

    return prepare


def listening(name: str) -> Callable[[Path], None]:
    """A socket in the place of a file."""

    def prepare(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        before = os.getcwd()
        os.chdir(folder)  # a socket's path must be short
        try:
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(name)
        finally:
            os.chdir(before)

    return prepare


PIPE, OUTSIDE = "is a pipe, a device or a socket", "is a link to a file outside of its folder"
DAMAGED = "is cut short or damaged"

TEMPLATES = {
    "a terminal's escapes": ("{{ raise_exception('\\x1b]0;mine\\x07\\u202e') }}", "\ufffd]0;mine"),
    "a class": ("{{ ''.__class__.__mro__ }}", "the sandbox has no attribute"),
}
HOSTILE_FOLDERS = [
    *(
        BadInput(f"a pipe as {name}, {command[0]}", pipe(name), command, f"{name}: {PIPE}")
        for command in (ASK, CONVERT)
        for name in (WEIGHTS, "config.json", "tokenizer.json", TEMPLATE, "generation_config.json")
    ),
    BadInput("a pipe as an index", pipe(f"{WEIGHTS}.index.json"), ASK, PIPE),
    BadInput("a socket as the weights", listening(WEIGHTS), ASK, PIPE),
    BadInput("a device as the tokenizer", link("tokenizer.json", "/dev/zero"), ASK, PIPE),
    *(
        BadInput(f"a link as {name}, {command[0]}", link(name, f"../{SECRET}"), command, OUTSIDE)
        for command in (ASK, CONVERT)
        for name in ("tokenizer.json", TEMPLATE, "tokenizer_config.json", "generation_config.json")
    ),
    BadInput(
        "a tokenizer that is none", written("tokenizer.json", b"\x7fELF"), CONVERT, "is no JSON"
    ),
    BadInput("a template that is no text", written(TEMPLATE, b"\xff"), CONVERT, "is no UTF-8 text"),
    *(
        BadInput(f"a template with {name}", written(TEMPLATE, source), ASK, word)
        for name, (source, word) in TEMPLATES.items()
    ),
    BadInput(
        "escapes in a config",
        changed(CONFIG, "model_type", to="\x1b[2J\u202e"),
        ASK,
        "is another model",
    ),
    BadInput("escapes in an index", index("\x1b[2J\u202e.safetensors"), ASK, "\ufffd\\[2J\ufffd"),
    BadInput("a path in an index", index("../model.safetensors"), ASK, "no weight_map"),
    BadInput("the folder above in an index", index(".."), ASK, "cannot be read"),
    BadInput(
        "escapes in a tensor's name", renamed_tensor("\x1b[2Ja\u202e"), ASK, "\ufffd\\[2Ja\ufffd"
    ),
    BadInput("a tensor twice", header(twice), ASK, "twice"),
    BadInput("tensors in one place", header(overlap), ASK, DAMAGED),
    BadInput("a gap before a tensor", first_tensor(data_offsets=[8, 16]), ASK, DAMAGED),
    BadInput("a place before the file", first_tensor(data_offsets=[-8, 8]), ASK, DAMAGED),
    BadInput("a shape beyond 64 bits", first_tensor(shape=[2**63, 4]), ASK, DAMAGED),
    BadInput("a product beyond 64 bits", first_tensor(shape=[2**40, 2**40]), ASK, DAMAGED),
    BadInput("a dtype that is none", first_tensor(dtype="\x1b[2J"), ASK, DAMAGED),
    BadInput("a leaf outside", orbax(leaf("../../x")), ASK, "cannot have the name"),
    BadInput("a leaf with a path", orbax(leaf("/etc/x")), ASK, "cannot have the name"),
    BadInput("a pipe in a tree", orbax(lambda tree: os.mkfifo(tree / "pipe")), ASK, PIPE),
]
