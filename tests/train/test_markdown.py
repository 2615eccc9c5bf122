"""Markdown: what is broken into lines, and what stays whole."""

import shlex

from train.markdown import WIDTH, document, shell, table, wrapped

LONG = "word " * 40


def test_prose_is_broken_and_the_rest_is_not():
    broken = wrapped(LONG.strip()).split("\n")
    assert len(broken) == 2 and " ".join(broken) == LONG.strip() and max(map(len, broken)) <= WIDTH
    first, second, third = wrapped(f"- {LONG.strip()}\n- short").split("\n")
    assert first.startswith("- word") and second.startswith("  word") and third == "- short"
    assert wrapped(f"{'a' * 116} 50 % b") == f"{'a' * 116}\n50 % b"
    for whole in (f"| {LONG}", f"![{LONG}](a.png)", f"# {LONG}", f"    {LONG}", "a-" * 100):
        assert wrapped(whole) == whole


def test_a_document_has_the_parts_that_are_not_empty():
    parts = ["# Title", "", table(["", "a"], [["b", 1]])]
    assert document(parts) == b"# Title\n\n|  | a |\n| --- | --- |\n| b | 1 |\n"


def test_a_command_line_stays_one_for_a_shell():
    words = [
        "python",
        "-m",
        "train.main",
        "--text=two words",
        *(f"--flag{i}=value" for i in range(20)),
    ]
    block = shell(shlex.join(words))
    lines = block.split("\n")
    assert len(lines) > 2 and max(map(len, lines)) <= WIDTH
    assert lines[0].startswith("    python -m") and all(
        line.startswith(" " * 8) for line in lines[1:]
    )
    assert shlex.split(block.replace("\\\n", "")) == words
    assert shell("python -m x") == "    python -m x"
