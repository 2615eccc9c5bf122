"""What the text of an answer must be, as flags and records say it: always a regular expression."""

from pathlib import Path
from typing import Any

from data.text.json_schema import schema_regex
from files.json_file import read_json_file

FIELDS = ("regex", "schema")


def from_flags(regex: str | None, schema: str | None) -> str | None:
    """The expression that --regex or --schema=FILE demands; None if neither is given.

    Raises:
      OSError: the file cannot be read.
      ValueError: both are given, the file is not JSON, or the schema cannot be kept.
    """
    if regex is not None and schema is not None:
        raise ValueError("give one of --regex and --schema")
    if schema is None:
        return regex
    found = read_json_file(Path(schema))
    try:
        return schema_regex(found)
    except ValueError as error:
        raise ValueError(f"--schema={schema}: {error}") from None


def from_record(record: Any) -> str | None:
    """The expression that the fields "regex" or "schema" of a record demand; None without them.

    Raises:
      ValueError: both are given, or one that cannot be used.
    """
    given = record if isinstance(record, dict) else {}
    regex, schema = (given.get(name) for name in FIELDS)
    if regex is not None and schema is not None:
        raise ValueError("both regex and schema: keep one")
    if schema is not None:
        return schema_regex(schema)
    if regex is not None and not isinstance(regex, str):
        raise ValueError("regex: expected text")
    return regex
