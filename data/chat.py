"""The turn format, the only place that writes it."""


def chat_prompt(user: str, system: str | None = None) -> str:
    """The text of a prompt, up to and with the start of the model's turn."""
    head = "" if system is None else f"<|turn>system\n{system}<turn|>\n"
    return f"<bos>{head}<|turn>user\n{user}<turn|>\n<|turn>model\n"


def chat_answer(text: str) -> str:
    """The text of the model's turn, with its end."""
    return f"{text}<turn|>"
