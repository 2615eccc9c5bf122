"""Bombs: small inputs that want much time or memory. Each is refused within seconds.

The seconds are of processor time, those of helper processes included, from the time that the
command's modules are imported. Anyone may add a row.
"""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from scripts.trials.bad_input import CONFIG, BadInput, nothing, written
from scripts.trials.hostile_folders import ASK, TEMPLATE, WEIGHTS

MOST_SECONDS = 3
ADAPTER = "adapter_config.json"
TIME, MEMORY, NESTED = "it takes too much time", "it needs too much memory", "nested"
LONG = "a b" * 7_000_000
TOO_SLOW = "([a-z0-9._]+)+!"
LOOPS = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
LOOPS_IN_LOOPS = "".join(f"{{% for a{i} in [1] %}}" for i in range(25)) + "{% endfor %}" * 25
GROWING = (
    "{% set s = namespace(v='ab') %}{% for i in range(60) %}{% set s.v = s.v ~ s.v %}{% endfor %}"
)

TEMPLATES = {
    "a power of a power": ("{{ 9**(9**9) }}", TIME),
    "three loops of a hundred thousand": (LOOPS, TIME),
    "a number of two billion digits": ("{{ '%02000000000d' % 1 }}", MEMORY),
    "a number of a billion digits": ("{{ '{:01000000000d}'.format(1) }}", MEMORY),
    "a hundred million paragraphs": ("{{ lipsum(n=100000000) }}", TIME),
    "25 loops in each other": (LOOPS_IN_LOOPS, NESTED),
    "20,000 brackets": ("{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}", NESTED),
    "3,000 conditions in each other": ("{% if 1 %}" * 3_000 + "{% endif %}" * 3_000, NESTED),
    "a text of ten billion letters": ("{{ 'a' * 10**10 }}", MEMORY),
    "a joined text": ("{{ (['a' * 10000] * 10000000) | join('b') }}", "it "),
    "a centred text": ("{{ 'a' | center(10**9) }}", MEMORY),
    "an indented text": ("{{ [1] | tojson(indent=10**9) }}", MEMORY),
    # On a slow machine, the time runs out before the memory does.
    "a replaced text": ("{{ 'a'.replace('', 'b' * 10**8) }}", f"{TIME}|{MEMORY}"),
    "a text that doubles": (GROWING, MEMORY),
    "a macro without end": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", NESTED),
    "far too long a prompt": ("{{ 'a' * 10**7 }}", "it writes 10,000,000 characters"),
    "300,000 statements": ("a{{ 1 }}" * 300_000, TIME),
}

# Texts of JSON that are deep or wide, and a word of what a reader says of them.
JSON_BOMBS = {
    "a million lists in each other": ("[" * 1_000_000, "nested too deeply"),
    "a million objects in each other": ('{"a":' * 1_000_000, "nested too deeply"),
    "closed lists, 100,000 deep": ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
    "a number of a million digits": ('{"a": ' + "9" * 1_000_000 + "}", "too many digits"),
    "50 MB of spaces": (" " * 50_000_000, "more than 8,000,000 bytes"),
}
JSON_FILES = (CONFIG, "generation_config.json", "tokenizer_config.json", "chat_template.json")


def huge_header(folder: Path) -> None:
    """A header of 99 MB."""
    text = b'{"a": {}' + b" " * 99_000_000 + b"}"
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text)


def adapter(**fields: object) -> Callable[[Path], None]:
    """An adapter of PEFT without factors, with these fields in its config."""

    def prepare(folder: Path) -> None:
        base = folder.rename(folder.with_name("base"))
        folder.mkdir()
        usual = {"peft_type": "LORA", "r": 4, "lora_alpha": 4, "target_modules": ["q_proj"]}
        usual["base_model_name_or_path"] = str(base)
        (folder / ADAPTER).write_text(json.dumps(usual | fields))
        save_file({"base_model.model.x": np.zeros(1)}, folder / "adapter_model.safetensors")

    return prepare


BOMBS = [
    *(
        BadInput(f"a template with {name}", written(TEMPLATE, source), ASK, word)
        for name, (source, word) in TEMPLATES.items()
    ),
    *(
        BadInput(f"{name} in {file}", written(file, text), ASK, f"{file}: .*{word}")
        for file in JSON_FILES
        for name, (text, word) in JSON_BOMBS.items()
    ),
    BadInput("a slow pattern", adapter(target_modules=TOO_SLOW), ASK, f"target_modules: {TIME}"),
    BadInput(
        "a large pattern", adapter(target_modules="((a{999}){999}){999}"), ASK, "target_modules"
    ),
    BadInput("a header of 99 MB", huge_header, ASK, "too many to read"),
    BadInput("a prompt of 20 MB", nothing, (*ASK[:2], f"--prompt={LONG}"), "more tokens than"),
    BadInput("a large expression", nothing, (*ASK, "--regex=((a{999}){999}){999}"), "too large"),
]
