"""Turns messages into a prompt with the template of a checkpoint's folder, in jinja2's sandbox.

A template is a program that came with the weights. It runs in a sandbox and sees only the messages,
the tools and a few functions. An error in it is reported in one line with the name of its file.

A message must not be able to end its own turn or to begin the model's turn. Text that contains a
special token is therefore refused unless `allow_special` is given. Escaping the tokens would not
always work, because a template may trim, compare or cut its texts. The check looks at each text by
itself. This is enough for the built-in turn format, and for every template that writes something
between two texts.
"""

import datetime
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

from data.text.chat import STOP, turns
from data.text.messages import Message, checked
from data.text.tokenizer import Tokenizer

SPECIAL_TOKENS = {
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
}
THOUGHT, THOUGHT_END = "<|channel>thought\n", "<channel|>"


class ChatTemplate:
    """Turns messages into text, with a folder's template or in the built-in turn format.

    Attributes:
      tokenizer: the tokenizer that will encode the text.
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
          tokenizer: the tokenizer that will encode the text. It knows the special tokens.
          source: the template's text; None for the built-in turn format.
          name: the template's name in error messages, usually its file.
          variables: texts that the template can use by name, such as bos_token.

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
        """Loads the template of a folder.

        The file chat_template.jinja comes first, then the template in tokenizer_config.json. A
        folder with neither of them gets the built-in turn format. The template can use the texts
        that tokenizer_config.json gives to tokens, such as bos_token.

        Raises:
          ValueError: a file cannot be decoded or parsed, or the template has a syntax error.
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
        if isinstance(source, list):  # several templates, each with a name
            named = {e.get("name"): e.get("template") for e in source if isinstance(e, dict)}
            source = named.get("default", source)
        if source is not None and not isinstance(source, str):
            raise ValueError(f"{config_file}: chat_template is not text and has no default")
        return cls(tokenizer, source, str(config_file), variables)

    def render(
        self,
        messages: list[Message],
        *,
        tools: list[dict[str, Any]] | None = None,
        thinking: bool = False,
        generation: bool = True,
        allow_special: bool = False,
    ) -> str:
        """Writes a prompt. Its text includes the special tokens and <bos>; encode it as it is.

        Args:
          messages: the conversation so far; data/text/messages.py says what a message is.
          tools: declarations (JSON schemas). The template gets them unchanged.
          thinking: whether to ask for thoughts before the answer. A template reads this as
            `enable_thinking`.
          generation: whether to end with the start of the model's turn. A template reads this as
            `add_generation_prompt`.
          allow_special: whether special tokens in messages and tools are kept, with their effect.

        Raises:
          ValueError: a message is malformed or contains a special token; the built-in format cannot
            write the messages; or the template fails, refuses the messages, or tries to leave the
            sandbox.
        """
        messages = checked(messages)
        if not allow_special:
            self._refuse_special(messages, tools)
        return self._render(messages, tools, thinking, generation)

    def example(
        self, messages: list[Message], tools: list[dict[str, Any]] | None = None
    ) -> tuple[str, str]:
        """Writes a training example: the prompt, and the answer that the model should write.

        The answer is the template's text of the last message, up to and including the token that
        ends the turn. If the message has "reasoning" or "reasoning_content", the prompt asks for
        thoughts, and the answer begins with them.

        The text of the whole conversation must begin with the prompt. There is one exception, which
        the larger Gemma 4 templates need: after the start of the model's turn, a prompt may end
        with an empty thought if it asks for none, or with the beginning of a thought if it asks for
        one. The conversation's text does not contain that part.

        Args:
          messages: the conversation. Its last message is the assistant's.
          tools: as in `render`.

        Returns:
          (prompt, answer).

        Raises:
          ValueError: as in `render`; or the conversation's text does not begin with the prompt; or
            the template writes no text or no end of the turn for the last message.
        """
        *asked, last = messages = checked(messages)
        thoughts = last.get("reasoning") or last.get("reasoning_content")
        if not asked or not isinstance(thoughts, str | None):
            raise ValueError("expected a question and its answer; thoughts must be text")
        self._refuse_special(messages, tools)
        # Some templates write the thoughts of a turn without tool calls, and others do not.
        last = {k: v for k, v in last.items() if k not in ("reasoning", "reasoning_content")}
        prompt = self._render(asked, tools, bool(thoughts), generation=True)
        whole = self._render([*asked, last], tools, bool(thoughts), generation=False)
        begun = ""
        if not whole.startswith(prompt):
            begun = THOUGHT if thoughts else THOUGHT + THOUGHT_END
        opening = prompt.removesuffix(begun)
        if not whole.startswith(opening):
            raise ValueError(
                f"{self._name}: the prompt that it writes is not how the conversation with the "
                "answer begins, so the answer's part of the text is not known"
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
        self,
        messages: list[Message],
        tools: list[dict[str, Any]] | None,
        thinking: bool,
        generation: bool,
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
        except Exception as error:  # a template is a program, so it can raise any error
            raise ValueError(f"{self._name}: {_one_line(error)}") from None

    def _refuse_special(self, messages: list[Message], tools: list[dict[str, Any]] | None) -> None:
        """Raises ValueError if a text in the messages or tools contains a special token."""
        parts = {f"message {number}": message for number, message in enumerate(messages, 1)}
        for where, part in (parts | {"tools": tools}).items():
            for text in _texts(part):
                found = self.tokenizer.special_tokens_in(text)
                if found:
                    raise ValueError(f"{where}: {found[0]} is a special token, not plain text")


class _Sandbox(ImmutableSandboxedEnvironment):
    def unsafe_undefined(self, obj: Any, attribute: str) -> jinja2.Undefined:
        # jinja2 itself would return an undefined value, and a template that only prints the value
        # would go on without an error.
        kind = type(obj).__name__
        raise SecurityError(f"the sandbox has no attribute {attribute!r} of {kind}")


def _environment() -> _Sandbox:
    """The environment that templates are written for, with transformers' settings and functions."""
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise
    environment.globals["strftime_now"] = _now
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # jinja2's own filter escapes <, > and & for HTML, and sorts the keys.
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _now(pattern: str) -> str:
    return datetime.datetime.now().strftime(pattern)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _token_texts(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, text) of each token in tokenizer_config.json, given as text or {"content": text}."""
    for name, value in config.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            yield name, text


def _texts(value: Any) -> Iterator[str]:
    """Every text in nested lists and dicts, including the keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
