"""The flags of sample.main; those of the samplers come from their dataclasses' fields."""

import dataclasses
import inspect
import re
import types
import typing
from typing import Any

from absl import flags

from sample.autoregressive import AutoregressiveConfig
from sample.step import SamplerConfig

SAMPLER = tuple(f.name for f in dataclasses.fields(SamplerConfig))
AUTOREGRESSIVE = tuple(f.name for f in dataclasses.fields(AutoregressiveConfig))
SHARED = set(SAMPLER) & set(AUTOREGRESSIVE)


def define_flags() -> flags.FlagValues:
    """All flags, in a set of their own."""
    values = flags.FlagValues()

    def text(name: str, help: str) -> None:
        flags.DEFINE_string(name, None, help, flag_values=values)

    def switch(name: str, default: bool | None, help: str) -> None:
        flags.DEFINE_bool(name, default, help, flag_values=values)

    text("checkpoint", "Folder of a checkpoint or an adapter, or a training run's workdir.")
    text("base", "Of an adapter; default: the folder that it names.")
    text("tokenizer", "A tokenizer.json; default: the checkpoint's.")
    text("dtype", "Of the weights: float32, bfloat16, float16; default: each one's own.")
    text("prompt", "One prompt. Without it and --prompts: what is piped in, else a chat.")
    text("prompts", "FILE.jsonl of lines with prompt or messages, or a text file, one a line.")
    text("system", "System turn of prompts that have none.")
    switch("thinking", False, "Ask for thoughts before the answer.")
    switch("show_thoughts", False, "Print the thoughts before the answer.")
    text("out", "FILE.jsonl that answers are appended to; those it has are not made again.")
    modes = ["diffusion", "ar", "both"]
    help = "Denoise canvases, decode left to right, or compare the two on the same prompts."
    flags.DEFINE_enum("mode", "diffusion", modes, help, flag_values=values)
    switch("draft", None, "Redraw the canvas at every step; default: on a terminal.")
    help = "Of the random numbers."
    flags.DEFINE_integer("seed", 0, help, lower_bound=0, flag_values=values)
    help = "Prompts answered together."
    flags.DEFINE_integer("batch_size", 1, help, lower_bound=1, flag_values=values)
    define_fields(values, SamplerConfig, SAMPLER)
    define_fields(values, AutoregressiveConfig, [n for n in AUTOREGRESSIVE if n not in SHARED])
    return values


def define_fields(values: flags.FlagValues, cls: type, names: typing.Iterable[str]) -> None:
    """A flag for each named field of a dataclass, with the field's type and docstring, unset."""
    hints, helps = typing.get_type_hints(cls), _helps(cls)
    for name in names:
        hint, rest = hints[name], []
        if typing.get_origin(hint) in (types.UnionType, typing.Union):
            hint, *rest = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        define = {
            bool: flags.DEFINE_bool,
            int: flags.DEFINE_integer,
            float: flags.DEFINE_float,
            str: flags.DEFINE_string,
            tuple[int, ...]: flags.DEFINE_list,
        }.get(hint)
        if define is None or rest:
            raise TypeError(f"no kind of flag for {cls.__name__}.{name}: {hints[name]}")
        define(name, None, helps[name], flag_values=values)


def given_fields(values: flags.FlagValues, names: typing.Iterable[str]) -> dict[str, Any]:
    """Field -> value of the flags that are set; raises ValueError for a list not of numbers."""
    given = {name: values[name].value for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    for name, value in given.items():
        if isinstance(value, list):
            try:
                given[name] = tuple(int(item) for item in value)
            except ValueError:
                raise ValueError(f"--{name}={','.join(value)}: expected numbers") from None
    return given


def check_flags(values: flags.FlagValues) -> None:
    """Raises ValueError for flags that are missing or do not go together."""
    if not values.checkpoint:
        raise ValueError("--checkpoint=DIR is needed")
    if values.prompt is not None and values.prompts is not None:
        raise ValueError("give one of --prompt and --prompts")
    mode = values.mode
    for other, names in (("diffusion", SAMPLER), ("ar", AUTOREGRESSIVE)):
        wrong = [n for n in names if n not in SHARED and values[n].value is not None]
        if wrong and mode not in (other, "both"):
            raise ValueError(f"--{wrong[0]} is for --mode={other}, not for --mode={mode}")
    if values.draft and (mode != "diffusion" or values.batch_size > 1 or values.out):
        raise ValueError("--draft is for one prompt at a time, in --mode=diffusion, without --out")
    if values.trajectory and not values.out:
        raise ValueError("--trajectory is for --out=FILE.jsonl")
    if mode == "both" and values.out:
        raise ValueError("--out is for one mode, not for --mode=both")


def with_underscores(argv: list[str], values: flags.FlagValues) -> list[str]:
    """argv with --max-new-tokens as --max_new_tokens, and so on."""

    def known(match: re.Match) -> str:
        name = match[1].replace("-", "_")
        return f"--{name}" if name in values or name.removeprefix("no") in values else match[0]

    return [re.sub(r"\A--([a-z-]+)", known, argument) for argument in argv]


def _helps(cls: type) -> dict[str, str]:
    """The section Attributes of a docstring: name -> what is said of it."""
    section = inspect.getdoc(cls).partition("Attributes:\n")[2].partition("\n\n")[0]
    helps = {}
    for entry in re.split(r"^  (?=\w)", section, flags=re.MULTILINE)[1:]:
        names, _, meaning = entry.partition(": ")
        helps |= dict.fromkeys(names.split(", "), " ".join(meaning.split()))
    return helps
