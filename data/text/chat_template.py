"""Turns messages into a prompt with the template of a checkpoint's folder, in jinja2's sandbox.

A template is a program that came with the weights. It runs in a sandbox and sees only the messages,
the tools and a few functions (data/text/template_sandbox.py). The sandbox is in a helper process
with little time and memory. An error in a template is reported in one line with the name of its
file.

A message must not be able to end its own turn or to begin the model's turn. So only the special
tokens that stand in the template's own texts have an effect. A special token in a message, or one
that is put together from the texts of several messages, is plain text. For this the special tokens
of the template are marked when it is compiled (data/text/marked_text.py). The texts of messages
stay as they are, so that a template may trim, compare and cut them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.text.answer_part import THOUGHT, THOUGHT_END, find_answer
from data.text.chat import TURN, turns
from data.text.contents import PLACEHOLDERS, with_sources
from data.text.generation_blocks import BLOCK, BLOCK_END, END_NAME, START_NAME
from data.text.marked_text import MarkedText, mark, token_pattern, unmark
from data.text.messages import Message, checked
from data.text.template_files import find_template
from data.text.tokenizer import Tokenizer
from files.limited import LimitError, limited
from files.printable import tell

SPECIAL_TOKENS = {
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
}


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
          ValueError: the template cannot be compiled, takes too much time or memory, or puts
            special tokens together from pieces.
        """
        self.tokenizer, self._name, self._source = tokenizer, name, source
        self._variables = SPECIAL_TOKENS | (variables or {})
        self._has_blocks = False
        # A placeholder has its effect although the vocabulary may lack it.
        self._tokens = tuple(sorted({*tokenizer.special_tokens, *PLACEHOLDERS.values()}))
        if source is not None:
            pattern = token_pattern(self._tokens)
            self._marked = {name: mark(text, pattern) for name, text in self._variables.items()}
            self._has_blocks = bool(self._run(self._tokens))
            self._refuse_pieces()

    @classmethod
    def load(cls, folder: str | Path, tokenizer: Tokenizer) -> "ChatTemplate":
        """Loads the template of a folder.

        A folder without a template gets the built-in turn format. data/text/template_files.py says
        where templates are looked for.

        A warning on stderr says if the template may be that of another model.

        Raises:
          ValueError: a file cannot be decoded or parsed, or the template cannot be compiled, takes
            too much time or memory, or leaves out what the user says.
        """
        template = cls(tokenizer, *find_template(Path(folder)))
        template._check_question()
        return template

    def render(
        self,
        messages: list[Message],
        *,
        tools: list[dict[str, Any]] | None = None,
        thinking: bool = False,
        generation: bool = True,
        allow_special: bool = False,
    ) -> MarkedText:
        """Writes a prompt. Its text includes the special tokens and <bos>.

        `Tokenizer.encode` gives its ids. A special token in a message or a tool is plain text.

        Args:
          messages: the conversation so far; data/text/messages.py says what a message is. A thought
            at the beginning of an assistant's content counts as its "reasoning"
            (data/text/thoughts.py).
          tools: declarations (JSON schemas). The template gets them unchanged.
          thinking: whether to ask for thoughts before the answer. A template reads this as
            `enable_thinking`.
          generation: whether to end with the start of the model's turn. A template reads this as
            `add_generation_prompt`.
          allow_special: whether special tokens in messages and tools have their effect.

        Raises:
          ValueError: a message is malformed; the built-in format cannot write the messages; or the
            template fails, refuses the messages, tries to leave the sandbox, or takes too much time
            or memory.
        """
        messages = self._checked(messages, tools)
        if allow_special:
            text = self._write(messages, tools, thinking, generation=generation, marks=False)
            return MarkedText(text, special=None)
        return MarkedText.read(self._write(messages, tools, thinking, generation=generation))

    def example(
        self, messages: list[Message], tools: list[dict[str, Any]] | None = None
    ) -> tuple[MarkedText, MarkedText]:
        """Writes a training example: the prompt, and the answer that the model should write.

        The answer is the template's text of the last message, up to and including the token that
        ends the turn. After tool calls, this token is <|tool_response>. If the message itself holds
        the results of its calls, only the text after them is the answer. If the message has
        "reasoning" or "reasoning_content", the prompt asks for thoughts. The answer begins with
        them, written by the template or, if it leaves them out, in Gemma's form.

        The prompt is what `render` gives, and the text of the whole conversation must begin with
        it. There are exceptions, because released templates need them. After the start of the
        model's turn, the prompt may end with an empty thought if it asks for none, or with the
        beginning of a thought if it asks for one. After the result of a tool, it may end a turn
        that the whole text goes on with, and it may lack the start of a turn that the whole text
        begins there.

        If the template has {% generation %} blocks, the last block is the answer, and all before it
        is the prompt. (Where that is the prompt of `render` but for the exceptions above, the
        prompt of `render` is taken.) Blocks with nothing or only white space between them count as
        one block. Between other blocks there is text that the model does not write, such as the
        result of a tool; then the blocks before it belong to the prompt. A token that ends the turn
        directly after the last block belongs to the answer, because the model must write it.

        Args:
          messages: the conversation. Its last message is the assistant's.
          tools: as in `render`.

        Returns:
          (prompt, answer).

        Raises:
          ValueError: as in `render`; or the conversation's text does not begin with the prompt; or
            the template writes no text, no block or no end of the turn for the last message.
        """
        *asked, last = messages = self._checked(messages, tools)
        thoughts = last.get("reasoning") or last.get("reasoning_content")
        if not asked or not isinstance(thoughts, str | None):
            raise ValueError("expected a question and its answer; thoughts must be text")
        thinking = bool(thoughts)

        def write_all(answer: Message) -> str:
            return self._write([*asked, answer], tools, thinking, generation=False, blocks=True)

        # Some templates write the thoughts of a turn, and others do not.
        silent = {k: v for k, v in last.items() if k not in ("reasoning", "reasoning_content")}
        whole = write_all(silent)
        if thinking and (spoken := write_all(last)) != whole:
            whole, thoughts = spoken, None
        prompt = self._write(asked, tools, thinking, generation=True)
        if self._has_blocks and BLOCK not in whole:
            raise ValueError(f"{self._name}: it writes no {{% generation %}} block for the answer")
        try:
            part = find_answer(whole, prompt, thinking, asked[-1]["role"] == "tool")
        except ValueError as error:
            raise ValueError(f"{self._name}: {error}") from None
        answer = f"{THOUGHT}{thoughts}\n{THOUGHT_END}{part.answer}" if thoughts else part.answer
        return MarkedText.read(part.prompt), MarkedText.read(answer.removeprefix(part.begun))

    def _checked(
        self, messages: list[Message], tools: list[dict[str, Any]] | None
    ) -> list[Message]:
        """The messages as templates get them."""
        messages = checked(messages)
        parts = {f"message {number}": message for number, message in enumerate(messages, 1)}
        for where, part in (parts | {"tools": tools}).items():
            for text in _texts(part):
                try:
                    text.encode()
                except UnicodeEncodeError:
                    raise ValueError(
                        f"{where}: half of a surrogate pair, or bytes that are not UTF-8: no text"
                    ) from None
        return messages

    def _write(
        self,
        messages: list[Message],
        tools: list[dict[str, Any]] | None,
        thinking: bool,
        *,
        generation: bool,
        blocks: bool = False,
        marks: bool = True,
    ) -> str:
        """Writes messages.

        Args:
          blocks: whether marks stand around {% generation %} blocks.
          marks: whether marks stand around the special tokens that have an effect.
        """
        if self._source is None:
            if tools:
                raise ValueError("tools need a chat_template.jinja in the checkpoint's folder")
            text = turns(messages, thinking, generation)
            return text if marks else unmark(text)
        variables = dict(
            self._marked if marks else self._variables,
            messages=with_sources(messages, None),
            tools=tools or None,
            documents=None,
            add_generation_prompt=generation,
            enable_thinking=thinking,
            **{START_NAME: BLOCK * blocks, END_NAME: BLOCK_END * blocks},
        )
        return self._run(self._tokens if marks else (), variables)

    def _run(self, tokens: tuple[str, ...], variables: dict[str, Any] | None = None) -> str:
        """Calls data/text/template_sandbox.run in a helper process."""
        run = limited("data.text.template_sandbox:run")
        try:
            return run(self._name, self._source, tokens, data=(variables,))
        except LimitError as error:
            raise LimitError(f"{self._name}: {error}: use another template") from None

    def _tried(self, messages: list[Message]) -> str | None:
        """The text of a prompt; None if the template takes other messages."""
        try:
            return self._write(messages, None, False, generation=True)
        except LimitError:
            raise
        except ValueError:
            return None

    def _check_question(self) -> None:
        """Raises ValueError, or warns, if the template does not write a question as a turn."""
        said = "What is 2 + 2?"
        text = self._tried([{"role": "user", "content": said}])
        if text is None:
            return
        if said not in text:
            raise ValueError(
                f"{self._name}: it leaves out the user's message: use another template"
            )
        if TURN not in text:
            line = "warning: it writes no <|turn>, so it may be the template of another model"
            tell(f"{self._name}: {line}")

    def _refuse_pieces(self) -> None:
        """Raises ValueError if special tokens have no marks although no message holds them."""
        said = [("user", "a"), ("assistant", "b"), ("user", "c")]
        messages = [{"role": role, "content": content} for role, content in said]
        if (tried := self._tried(messages)) is None:
            return
        text = MarkedText.read(tried)
        for found in self.tokenizer.special_pattern.finditer(text.text):
            if found.span() not in text.special:
                raise ValueError(
                    f"{self._name}: it puts {found[0]} together from pieces, so it cannot be told "
                    "from the text of a message: write the token in one piece"
                )


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
