"""Pages: what a model writes stays text, and nothing is asked of a network."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sample.page.check import check_record
from sample.page.read import read_records
from sample.page.write import FOLDER, LIMIT, Live, check_page, escaped, page, write_page
from tests.sample.page.hostile import HOSTILE
from tests.sample.page.recorded import COMMITTED, random_record


class Tags(HTMLParser):
    """The tags of a page, with their attributes, and the text of the element with the records."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.tags, self.comments, self.records, self._inside = [], 0, "", False

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = dict(attrs).get("id") == "records"

    def handle_endtag(self, tag):
        self.tags.append((f"/{tag}", {}))
        self._inside = False

    def handle_comment(self, data):
        self.comments += 1

    def handle_data(self, data):
        if self._inside:
            self.records += data


def parsed(text: str) -> Tags:
    found = Tags()
    found.feed(text)
    found.close()
    return found


def hostile_record() -> dict:
    """A record in which every text is hostile."""
    record = random_record()
    record["tokens"] = HOSTILE[: len(record["tokens"])]
    record["title"] = record["prompt"] = record["model"] = "".join(HOSTILE)
    record["view"]["right"] = HOSTILE[:4]
    return record


def test_there_are_forty_hostile_strings_and_each_token_is_one():
    assert len(set(HOSTILE)) == len(HOSTILE) == 40 == len(random_record()["tokens"])


def test_what_a_model_writes_stays_text(tmp_path):
    record = check_record(hostile_record(), "here")
    path = tmp_path / "page.html"
    assert write_page(path, [record]) == 1
    written, plain = parsed(path.read_text()), parsed(page([]))
    kinds = [[tag for tag, _ in found.tags] for found in (written, plain)]
    assert kinds[0] == kinds[1] and written.comments == plain.comments == 0
    assert json.loads(written.records) == [record]
    # An editor or a terminal that shows the file obeys none of it either.
    obeyed = "[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]"
    assert not re.search(obeyed, path.read_text())


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_string_comes_back_equal_from_safe_characters(text):
    record = {"text": text}
    safe = escaped([record])
    assert not re.search(r"[<>&\u2028\u2029]", safe) and safe.encode()
    assert json.loads(safe) == [record]


def test_the_page_may_run_its_own_script_and_ask_nobody():
    text = page([])
    policy = dict(parsed(text).tags[[t for t, _ in parsed(text).tags].index("meta") + 1][1])
    assert policy["http-equiv"] == "Content-Security-Policy"
    script = (FOLDER / "page.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in policy["content"].split(";"))
    assert rules["default-src"] == rules["connect-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{digest}'"
    assert f"<script>{script}</script>" in text
    assert "connect-src 'self'" in page([], Live("", ""))
    assert not re.search(r"""(src|href|url)\s*[=(]|@import|innerHTML|fetch\(""", text)


def test_the_page_is_small():
    parts = [(FOLDER / f"page.{kind}").read_text() for kind in ("html", "css", "js")]
    assert sum(len(part.splitlines()) for part in parts) < 600
    assert max(len(line) for part in parts for line in part.splitlines()) <= 120


def test_a_page_takes_what_fits_and_at_least_one_record(tmp_path):
    path = tmp_path / "page.html"
    record = random_record()
    big = {**record, "prompt": "x" * 350_000}
    assert write_page(path, [record, big, big]) == 2
    assert path.stat().st_size <= LIMIT
    assert write_page(path, [{**big, "prompt": "x" * LIMIT}, record]) == 1


def test_the_committed_pages_are_what_is_written_today():
    for path in COMMITTED:
        assert path.read_text() == page(read_records(path)), (
            f"{path} has an older script: python -m sample.page --from={path} --page={path}"
        )
        assert path.stat().st_size <= LIMIT
    assert COMMITTED


def test_where_no_page_can_be_written_is_said(tmp_path):
    check_page(tmp_path / "page.html")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        check_page(tmp_path / "none" / "page.html")
    for path in (tmp_path, Path("/dev/null")):  # a device must not be replaced by a file
        with pytest.raises(OSError, match="is no file: give the name of a file"):
            check_page(path)
