"""Regular expressions of others: what they match, and those that would take for ever."""

import pytest

from files.foreign_pattern import find_places, matching
from files.limited import LimitError

TEXTS = ["model.layers.0.q_proj", "model.layers.1.k_proj", "q_proj", ""]


def test_what_matches():
    assert matching(r".*\.\d\.q_proj", TEXTS, whole=True) == TEXTS[:1]
    assert matching(r"\.\d\.", TEXTS, whole=True) == []
    assert matching(r"\.\d\.", TEXTS, whole=False) == TEXTS[:2]
    assert matching(r"^(?!.*layers).*q", TEXTS, whole=False) == ["q_proj"]  # as unsloth writes
    assert matching("", TEXTS, whole=False) == TEXTS
    assert matching("a", [], whole=True) == []


def test_where_it_matches():
    assert find_places("[0-9]+|$", "a 12 é3") == [(2, 4), (6, 7), (7, 7)]
    assert find_places("x", "a") == [] and find_places("[[a]", "a[") == [
        (0, 1),
        (1, 2),
    ]  # Python warns of it


@pytest.mark.parametrize("pattern", ["(", "a{2,1}", "(?P<a>.)(?P<a>.)", "\\", "(" * 5000])
def test_what_is_no_expression_is_refused(pattern):
    with pytest.raises(ValueError):
        matching(pattern, TEXTS, whole=True)


def test_one_that_takes_for_ever_is_refused():
    with pytest.raises(LimitError, match="it takes too much time"):
        matching("([a-z0-9._]+)+!", ["a" * 40], whole=True)
    assert matching("a", ["a"], whole=True) == ["a"]
