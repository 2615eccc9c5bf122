"""Reads the body of a request for a chat completion, as OpenAI's clients write it.

Every field is used or refused by its name. None is passed over, except for those that only say who
asks. A field that is null counts as missing. docs/FORMATS.md lists the fields.
"""

import dataclasses
import math
from typing import Any, NamedTuple

from data.images.patches import BUDGETS
from data.text.contents import sources
from data.text.declarations import read_tools
from data.text.holes import Pieces, read_pieces
from data.text.json_object import any_object
from data.text.json_schema import schema_regex
from data.text.records import parse_record
from files.fields import LARGEST_SEED
from sample.command.prompt_rows import PromptRow, from_pieces
from sample.server.errors import Refused, wrong
from sample.step import SamplerConfig

MOST_CHOICES = 16
MOST_STOPS = 16
MOST_IMAGES = 64  # images and videos, whose patches take 8 MB each and more
MOST_STEPS = 1024  # of a canvas, which runs to its end although nobody may wait for it any more
MOST_STARTS = 16
LONGEST = 2**30  # tokens of an answer; the model's context ends before

ASIDE = ("user", "metadata", "safety_identifier", "prompt_cache_key")  # they only say who asks
# Fields that cannot be honoured -> the values that ask for nothing, and what to do instead.
NOT_TAKEN: dict[str, tuple[tuple, str]] = {
    "audio": ((), "this model writes text only"),
    "frequency_penalty": ((0,), "the sampler has no penalties"),
    "function_call": ((), "it is no longer in use: give tools"),
    "functions": (([],), "it is no longer in use: give tools"),
    "logit_bias": (({},), "the sampler has no biases"),
    "logprobs": ((False,), "a canvas is written at once, and not token by token"),
    "min_p": ((0,), "denoising draws from whole distributions"),
    "modalities": ((["text"],), "this model writes text only"),
    "parallel_tool_calls": ((True,), "the number of calls is the model's choice"),
    "prediction": ((), "give fill, or edit and spans"),
    "presence_penalty": ((0,), "the sampler has no penalties"),
    "reasoning_effort": ((), "give thinking, which is true or false"),
    "repetition_penalty": ((1,), "the sampler has no penalties"),
    "service_tier": (("auto", "default"), "there is one kind of service"),
    "store": ((False,), "nothing is stored"),
    "tool_choice": (("auto",), "the choice is the model's: leave the tools out for no calls"),
    "top_k": ((0, -1), "denoising draws from whole distributions"),
    "top_logprobs": ((0,), "a canvas is written at once, and not token by token"),
    "top_p": ((1,), "denoising draws from whole distributions"),
    "verbosity": ((), "say in the prompt how long the answer should be"),
    "web_search_options": ((), "nothing is searched"),
}


class Defaults(NamedTuple):
    """What holds for requests that do not say otherwise.

    Attributes:
      model: the name of the model.
      sampler: the sampler's settings.
      seed: random seed.
      stop_texts: texts that end an answer.
      thinking: whether to ask for thoughts.
    """

    model: str
    sampler: SamplerConfig
    seed: int = 0
    stop_texts: tuple[str, ...] = ()
    thinking: bool = False


class ChatRequest(NamedTuple):
    """What is asked.

    Attributes:
      row: the conversation, the tools, the text to fill in or edit, and the demand.
      sampler: the sampler's settings.
      seed, stop_texts, thinking: as in Defaults.
      choices: number of answers, each drawn with noise of its own.
      stream: whether the answer is sent canvas by canvas.
      include_usage: whether the last event of a stream has the usage.
      steps: whether every step is sent.
      left_to_right: whether the answer is decoded left to right, and every token is sent.
      image_tokens: largest number of soft tokens of an image; None for the session's.
    """

    row: PromptRow
    sampler: SamplerConfig
    seed: int
    stop_texts: tuple[str, ...]
    thinking: bool
    choices: int = 1
    stream: bool = False
    include_usage: bool = False
    steps: bool = False
    left_to_right: bool = False
    image_tokens: int | None = None


def read_chat(body: Any, defaults: Defaults) -> ChatRequest:
    """Reads a body.

    Args:
      body: what JSON gave.
      defaults: what holds for fields that are missing.

    Raises:
      Refused: something in it is wrong, or is not taken. The error names the field.
    """
    if not isinstance(body, dict):
        raise Refused(400, "the body must be a JSON object with messages")
    fields = _Fields(body)
    model = fields.text("model")
    if model not in (None, defaults.model):
        fault = f"there is no {model[:80]!r} here: the model is {defaults.model!r}"
        raise Refused(404, f"model: {fault}", "model", "model_not_found")
    pieces = _pieces(fields)
    demand = _demand(fields)
    row = _row(fields, pieces)._replace(demand=demand)
    stop_texts, thinking = _stops(fields), fields.flag("thinking")
    stream, include_usage = fields.flag("stream") or False, _include_usage(fields)
    if include_usage and not stream:
        raise wrong("stream_options", "it is for stream alone")
    asked = ChatRequest(
        row,
        _sampler(fields, defaults.sampler),
        _or(fields.number("seed", 0, LARGEST_SEED), defaults.seed),
        _or(stop_texts, defaults.stop_texts),
        _or(thinking, defaults.thinking),
        _or(fields.number("n", 1, MOST_CHOICES), 1),
        stream,
        include_usage,
        image_tokens=_image_tokens(fields),
    )
    for name in ASIDE:
        fields.take(name)
    fields.refuse_others()
    _check_together(asked)
    return asked


class _Fields:
    """The fields of a body, which are read one by one."""

    def __init__(self, body: dict[str, Any]):
        self._left = {name: value for name, value in body.items() if value is not None}

    def take(self, name: str) -> Any:
        """The value of a field; None if it is missing."""
        return self._left.pop(name, None)

    def text(self, name: str) -> str | None:
        value = self.take(name)
        if not isinstance(value, str | None):
            raise wrong(name, f"expected a text, found {_kind(value)}")
        return value

    def flag(self, name: str) -> bool | None:
        value = self.take(name)
        if not isinstance(value, bool | None):
            raise wrong(name, f"expected true or false, found {_kind(value)}")
        return value

    def number(self, name: str, least: int, most: int) -> int | None:
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong(name, f"expected a whole number, found {_kind(value)}")
        if not least <= value <= most:
            raise wrong(name, f"expected a number from {least} to {most}")
        return value

    def amount(self, name: str) -> float | None:
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong(name, f"expected a number, found {_kind(value)}")
        if not -1e9 <= value <= 1e9:  # not a NaN either
            raise wrong(name, "the number is out of range")
        return float(value)

    def refuse_others(self) -> None:
        """Raises Refused for a field that was not read, if it asks for anything."""
        for name, value in self._left.items():
            if name not in NOT_TAKEN:
                raise wrong(name[:80], "there is no such field", "unknown_parameter")
            neutral, instead = NOT_TAKEN[name]
            if not any(_same(value, each) for each in neutral):
                raise wrong(name, f"it is not taken: {instead}", "unsupported_parameter")


def _pieces(fields: _Fields) -> Pieces | None:
    names = ("fill", "edit", "spans")
    try:
        return read_pieces(*map(fields.text, names))
    except ValueError as error:
        word = str(error).split()[0].rstrip(":")
        raise Refused(400, str(error), word if word in names else "fill") from None


def _demand(fields: _Fields) -> str | None:
    """The expression that the answer must match; None for none."""
    regex, form = fields.text("regex"), fields.take("response_format")
    if form is None:
        return regex
    name = "response_format"
    if not isinstance(form, dict):
        raise wrong(name, f"expected an object, found {_kind(form)}")
    kind = form.get("type")
    if kind == "text" and len(form) == 1:
        return regex
    if regex is not None:
        raise wrong("regex", "both regex and response_format: keep one")
    if kind == "json_object" and len(form) == 1:
        return any_object()
    if kind != "json_schema" or form.keys() - {"type", "json_schema"}:
        raise wrong(name, "expected the type text, json_object or json_schema, and no other field")
    given = form.get("json_schema")
    if not isinstance(given, dict) or not isinstance(given.get("schema"), dict):
        raise wrong(name, "json_schema: expected an object with a schema, which is an object")
    if unknown := sorted(given.keys() - {"name", "schema", "strict", "description"}):
        raise wrong(name, f"json_schema: there is no field {unknown[0][:80]!r}")
    try:
        return schema_regex(given["schema"])
    except ValueError as error:
        raise wrong(name, str(error)) from None


def _row(fields: _Fields, pieces: Pieces | None) -> PromptRow:
    tools = fields.take("tools")
    try:
        tools = read_tools({"tools": tools})
    except ValueError as error:
        raise Refused(400, str(error), "tools") from None
    messages = fields.take("messages")
    if messages is None and pieces is not None:
        return from_pieces(pieces)._replace(tools=tools)
    if not isinstance(messages, list):
        found = "" if messages is None else f", found {_kind(messages)}"
        raise wrong("messages", f"expected a list of at least one message{found}")
    try:
        record = parse_record({"messages": messages})
    except ValueError as error:
        raise wrong("messages", str(error)) from None
    if record.unused:
        raise wrong(
            "messages", f"the field {record.unused[0][:80]} is not understood", "unknown_parameter"
        )
    if len(sources(record.messages)) > MOST_IMAGES:
        raise wrong("messages", f"expected at most {MOST_IMAGES} images and videos")
    if record.messages[-1]["role"] == "assistant":
        raise wrong("messages", "the last one is the assistant's: there is nothing to answer")
    return PromptRow(None, record.messages, tools, pieces=pieces)


def _image_tokens(fields: _Fields) -> int | None:
    given = fields.number("image_tokens", min(BUDGETS), max(BUDGETS))
    if given not in (None, *BUDGETS):
        *most, last = map(str, BUDGETS)
        raise wrong("image_tokens", f"expected {', '.join(most)} or {last}")
    return given


def _stops(fields: _Fields) -> tuple[str, ...] | None:
    given = fields.take("stop")
    if given is None:
        return None
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise wrong("stop", "expected a text or a list of texts")
    if len(texts) > MOST_STOPS:
        raise wrong("stop", f"expected at most {MOST_STOPS} texts, found {len(texts)}")
    if "" in texts:
        raise wrong("stop", "a text is empty")
    if any("\ud800" <= character <= "\udfff" for text in texts for character in text):
        raise wrong("stop", "half of a surrogate pair, which is no text")
    return tuple(dict.fromkeys(texts))


def _include_usage(fields: _Fields) -> bool:
    given = fields.take("stream_options")
    if given is None:
        return False
    if not isinstance(given, dict):
        raise wrong("stream_options", f"expected an object, found {_kind(given)}")
    options = _Fields(given)
    try:
        include, obfuscation = map(options.flag, ("include_usage", "include_obfuscation"))
        options.refuse_others()
    except Refused as error:
        raise wrong("stream_options", error.message) from None
    if obfuscation:
        raise wrong("stream_options", "include_obfuscation is not taken: nothing is obfuscated")
    return include or False


def _sampler(fields: _Fields, usual: SamplerConfig) -> SamplerConfig:
    """The sampler's settings. A temperature holds for all steps, in the place of the schedule."""
    lengths = [fields.number(n, 1, LONGEST) for n in ("max_completion_tokens", "max_tokens")]
    given = [length for length in lengths if length is not None]
    if len(set(given)) > 1:
        raise wrong("max_tokens", "it differs from max_completion_tokens: keep one")
    settings: dict[str, Any] = {
        "max_new_tokens": given[0] if given else None,
        "max_steps": fields.number("max_steps", 1, MOST_STEPS),
        "starts": fields.number("starts", 1, MOST_STARTS),
        "restart_every": fields.number("restart_every", 1, MOST_STEPS),
        "early_stop": fields.flag("early_stop"),
    }
    schedule = ("min_temperature", "max_temperature")
    for name in ("entropy_bound", "stop_threshold", *schedule):
        settings[name] = fields.amount(name)
    temperature = fields.amount("temperature")
    if temperature is not None:
        if any(settings[name] is not None for name in schedule):
            raise wrong("temperature", f"both temperature and {' or '.join(schedule)}: keep one")
        if not temperature > 0:
            raise wrong(
                "temperature",
                "expected a number above 0, because denoising always draws: leave it out for the "
                f"schedule from {usual.max_temperature:g} to {usual.min_temperature:g}",
            )
        settings |= dict.fromkeys(schedule, temperature)
    settings = {name: value for name, value in settings.items() if value is not None}
    try:
        return dataclasses.replace(usual, **settings)
    except ValueError as error:
        named = [n for n in settings if n in str(error)] or [n for n in schedule if n in settings]
        raise Refused(400, str(error), named[0]) from None


def _check_together(asked: ChatRequest) -> None:
    """Raises Refused for fields that do not go together."""
    own = "it is for answers of the model's own, not for a text to fill in or edit"
    obeys = "the whole answer must obey an expression or a schema, so there is no place for it"
    for name, given in (
        ("stop", asked.stop_texts),
        ("thinking", asked.thinking),
        ("tools", asked.row.tools),
    ):
        if given and asked.row.pieces:
            raise wrong(name, own)
        if given and asked.row.demand is not None:
            raise wrong(name, obeys)


def _or(value: Any, usual: Any) -> Any:
    return usual if value is None else value


def _same(value: Any, other: Any) -> bool:
    """Whether two JSON values are equal; true is not 1."""
    return isinstance(value, bool) == isinstance(other, bool) and value == other


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "true or false", str: "a text", list: "a list", dict: "an object"}
    if isinstance(value, float) and not math.isfinite(value):
        return "no number"
    return names.get(type(value), "a number")
