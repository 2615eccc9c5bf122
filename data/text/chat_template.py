"""Messages to a prompt through the template in a checkpoint's folder, in jinja2's sandbox.

A template is a program that came with the weights. It runs sandboxed and sees the messages, the
tools and a few functions; whatever it does wrong is one line with the name of its file.

What people write must not be able to end their turn or begin the model's: text that holds a
special token is refused unless `allow_special` is given. Escaping instead is no option in general,
since a template may trim, compare or cut what it is given. The check looks at each text by itself.
It is sound for the built-in turn format, and for templates that put something between the texts.
"""

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

from data.text.chat import STOP, Message, checked, turns
from data.text.tokenizer import Tokenizer

SPECIAL_TOKENS = {
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
}
THOUGHT, THOUGHT_END = "<|channel>thought\n", "<channel|>"


class ChatTemplate:
    """How messages become text: a folder's template, or the turn format.

    Attributes:
      tokenizer: what the text is for.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        source: str | None = None,
        name: str = "the chat template",
        variables: dict[str, str] | None = None,
    ):
        """Compiles the template.

        Args:
          tokenizer: knows the special tokens.
          source: the template; None for the built-in turn format.
          name: how errors call it, its file.
          variables: texts that it may name, such as bos_token.

        Raises:
          ValueError: the template has a syntax error.
        """
        self.tokenizer, self._name = tokenizer, name
        self._variables = SPECIAL_TOKENS | (variables or {})
        self._template = None
        if source is not None:
            try:
                self._template = _environment().from_string(source)
            except jinja2.TemplateSyntaxError as error:
                line = f"{name}, line {error.lineno}: {_one_line(error)}"
                raise ValueError(line) from None

    @classmethod
    def load(cls, folder: str | Path, tokenizer: Tokenizer) -> "ChatTemplate":
        """The template of a folder: chat_template.jinja, else the one in tokenizer_config.json.

        The texts that tokenizer_config.json gives its tokens (bos_token and the like) are there for
        the template. A folder with neither file gets the built-in turn format.

        Raises:
          ValueError: a file cannot be read as what it should be, or a template is at fault.
        """
        file = Path(folder) / "chat_template.jinja"
        config_file = Path(folder) / "tokenizer_config.json"
        config = {}
        if config_file.is_file():
            try:
                config = json.loads(config_file.read_text(encoding="utf-8"))
            except ValueError as error:  # bad JSON, or bad UTF-8
                raise ValueError(f"{config_file}: {_one_line(error)}") from None
            if not isinstance(config, dict):
                raise ValueError(f"{config_file}: expected an object")
        variables = dict(_token_texts(config))
        if file.is_file():
            try:
                return cls(tokenizer, file.read_text(encoding="utf-8"), str(file), variables)
            except UnicodeDecodeError as error:
                raise ValueError(f"{file}: {error}") from None
        source = config.get("chat_template")
        if isinstance(source, list):  # several, by name
            named = {e.get("name"): e.get("template") for e in source if isinstance(e, dict)}
            source = named.get("default", source)
        if source is not None and not isinstance(source, str):
            raise ValueError(f"{config_file}: chat_template is no text and has no default")
        return cls(tokenizer, source, str(config_file), variables)

    def render(
        self,
        messages: list[Message],
        *,
        tools: list[dict] | None = None,
        thinking: bool = False,
        generation: bool = True,
        allow_special: bool = False,
    ) -> str:
        """The text of a prompt, special tokens and <bos> included: encode it as it is.

        Args:
          messages: see `data.chat`.
          tools: declarations (JSON schemas), handed to the template as they are.
          thinking: asks for thoughts before the answer; `enable_thinking` in a template.
          generation: end with the start of the model's turn; `add_generation_prompt`.
          allow_special: let special tokens in messages and tools stand, and act.

        Raises:
          ValueError: a message is malformed, holds a special token, or asks of the built-in
              format what it does not have; the template fails, refuses the messages, or reaches
              out of the sandbox.
        """
        messages = checked(messages)
        if not allow_special:
            self._refuse_special(messages, tools)
        return self._render(messages, tools, thinking, generation)

    def example(self, messages: list[Message], tools: list[dict] | None = None) -> tuple[str, str]:
        """The texts of a training example: the prompt, and what the model is to write after it.

        That is what the template writes for the last message, up to and with the token that ends
        the turn. If the message has "reasoning" or "reasoning_content", the prompt asks for
        thoughts, and they come first in the answer.

        The prompt must be how the whole conversation begins, but for one thing: after the start of
        the model's turn a template may write an empty thought when none is asked for, as the larger
        Gemma 4 templates do, or begin a thought when one is. The conversation has no trace of it.

        Args:
          messages: the last is the assistant's.
          tools: as of `render`.

        Raises:
          ValueError: as of `render`; or the prompt is not how the conversation begins, or nothing
              or no turn end is written for the last message.
        """
        *asked, last = messages = checked(messages)
        thoughts = last.get("reasoning") or last.get("reasoning_content")
        if not asked or not isinstance(thoughts, str | None):
            raise ValueError("expected a question, its answer, and thoughts as text if at all")
        self._refuse_special(messages, tools)
        # Templates differ in whether they write the thoughts of a turn without tool calls.
        last = {k: v for k, v in last.items() if k not in ("reasoning", "reasoning_content")}
        prompt = self._render(asked, tools, bool(thoughts), generation=True)
        whole = self._render([*asked, last], tools, bool(thoughts), generation=False)
        begun = ""
        if not whole.startswith(prompt):
            begun = THOUGHT if thoughts else THOUGHT + THOUGHT_END
        opening = prompt.removesuffix(begun)
        if not whole.startswith(opening):
            raise ValueError(
                f"{self._name}: the prompt it writes is not how the conversation with its answer "
                "begins, so what follows the prompt is not known"
            )
        turn = whole[len(opening) :]
        end = STOP.search(turn)
        if end is None or not turn[: end.start()].strip():
            what = "no end of the turn" if end is None else "nothing"
            raise ValueError(f"{self._name}: it writes {what} for the answer")
        answer = turn[: end.end()]
        if thoughts:
            answer = f"{THOUGHT}{thoughts}\n{THOUGHT_END}{answer}".removeprefix(begun)
        return prompt, answer

    def _render(
        self, messages: list[Message], tools: list[dict] | None, thinking: bool, generation: bool
    ) -> str:
        if self._template is None:
            if tools:
                raise ValueError("tools need a chat_template.jinja in the checkpoint's folder")
            return turns(messages, thinking, generation)
        try:
            return self._template.render(
                self._variables,
                messages=messages,
                tools=tools or None,
                documents=None,
                add_generation_prompt=generation,
                enable_thinking=thinking,
            )
        except Exception as error:  # it is a program, so it can raise anything
            raise ValueError(f"{self._name}: {_one_line(error)}") from None

    def _refuse_special(self, messages: list[Message], tools: list[dict] | None) -> None:
        parts = {f"message {number}": message for number, message in enumerate(messages, 1)}
        for where, part in (parts | {"tools": tools}).items():
            for text in _texts(part):
                found = self.tokenizer.special_tokens_in(text)
                if found:
                    raise ValueError(f"{where}: {found[0]} is a special token, and no plain text")


class _Sandbox(ImmutableSandboxedEnvironment):
    def unsafe_undefined(self, obj: Any, attribute: str) -> jinja2.Undefined:
        # jinja2 gives an undefined value here, which prints as nothing if nothing is done with it.
        kind = type(obj).__name__
        raise SecurityError(f"the sandbox has no attribute {attribute!r} of {kind}")


def _environment() -> _Sandbox:
    """The environment that templates are written for: transformers' settings and functions."""
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _now
    return environment


def _to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False) -> str:
    # jinja2's own escapes <, > and & for HTML, and sorts the keys.
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.datetime.now().strftime(pattern)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _token_texts(config: dict) -> Iterator[tuple[str, str]]:
    """The fields of tokenizer_config.json that name a token, as text or as {"content": text}."""
    for name, value in config.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            yield name, text


def _texts(value: Any) -> Iterator[str]:
    """Every text in nested lists and dicts, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
