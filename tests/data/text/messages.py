"""Messages for the tests of chats, with and without a template, and files of conversations."""

import json

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "2 + 2?"}
MODEL = {"role": "assistant", "content": "4"}
AGAIN = {"role": "user", "content": "Sure?"}
TOOLS = [{"type": "function", "function": {"name": "clock", "description": "Zeit für <b>"}}]
CALL = {"role": "assistant", "tool_calls": [{"function": {"name": "clock", "arguments": {"n": 1}}}]}
RESULT = {"role": "tool", "name": "clock", "content": "noon"}


def chat_prompt(user: str, system: str | None = None) -> str:
    """The prompt of a question in the turn format, written independently of data/text/chat.py."""
    head = "" if system is None else f"<|turn>system\n{system}<turn|>\n"
    return f"<bos>{head}<|turn>user\n{user}<turn|>\n<|turn>model\n"


def chat_answer(text: str) -> str:
    """The text of the model's turn after its start."""
    return f"{text}<turn|>"


def question(i: int) -> dict[str, str]:
    """A line of a file: a question with an answer of its own."""
    return {"prompt": f"Copy: {' '.join(str(i))}", "response": " ".join(str(i))}


def write_lines(path, lines):
    """Writes each object as a line of JSON, and returns the path."""
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path
