"""Finds the chat template of a checkpoint's folder.

The file chat_template.jinja comes first, then the "chat_template" in chat_template.json and in
tokenizer_config.json. The latter two may hold several templates, each with a name. The one named
default is used. Other templates, such as those in additional_chat_templates/, are named on stderr.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from files.inside import check_inside
from files.json_file import read_json_object
from files.json_text import read_json
from files.printable import tell
from files.text_file import read_text


def find_template(folder: Path) -> tuple[str | None, str, dict[str, str]]:
    """The chat template of a folder.

    Returns:
      (source, name, variables): the template's text, or None if the folder has none; the name of
      its file, for errors; and the texts that tokenizer_config.json gives to tokens, such as
      bos_token, by their names.

    Raises:
      ValueError: a file cannot be decoded or parsed, is what a failed download left, is a link that
        leads out of the folder, has templates but none named default, or an empty one.
    """
    files = [folder / "chat_template.json", folder / "tokenizer_config.json"]
    for file in files:
        check_inside(folder, file)
    configs = {file: read_json_object(file) for file in files if file.is_file()}
    file, source, others = folder / "chat_template.jinja", None, []
    check_inside(folder, file)
    if file.is_file():
        source = read_text(file)
    for config_file, config in configs.items():
        if source is None:
            file = config_file
            source, others = _default(file, config.get("chat_template"))
    if source is not None and not source.strip():
        raise ValueError(f"{file}: the chat template is empty: download it again, or remove it")
    if source is not None and _is_json(source):
        why = "it is JSON and not a template: write the text of its chat_template instead"
        raise ValueError(f"{file}: {why}")
    others += map(str, sorted((folder / "additional_chat_templates").glob("*.jinja")))
    if others:
        line = f"{folder}: warning: chat templates that are not used: {', '.join(others)}"
        tell(line)
    return source, str(file), dict(_token_texts(configs.get(files[1], {})))


def _is_json(text: str) -> bool:
    """Whether a text is a JSON object, list or text."""
    try:
        return isinstance(read_json(text), dict | list | str)
    except ValueError:
        return False


def _default(file: Path, given: Any) -> tuple[str | None, list[str]]:
    """The template in a file's "chat_template", and the names of its others."""
    if given is None or isinstance(given, str):
        return given, []
    named = given  # several templates, each with a name
    if isinstance(given, list):
        named = {e.get("name"): e.get("template") for e in given if isinstance(e, dict)}
    if not isinstance(named, dict):
        raise ValueError(f"{file}: chat_template: expected text")
    if not isinstance(named.get("default"), str):
        names = ", ".join(map(str, named)) or "no template"
        raise ValueError(
            f"{file}: chat_template has no template named default, but {names}: name the one to "
            "use default, or write it to chat_template.jinja"
        )
    return named["default"], [f"{name} in {file}" for name in named if name != "default"]


def _token_texts(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, text) of each token in tokenizer_config.json, given as text or {"content": text}."""
    for name, value in config.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            yield name, text
