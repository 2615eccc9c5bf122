"""Pages in a real browser: playing, stepping, dragging, both modes, keys, and hostile texts.

They need a Chromium (browser.py), and fail without one. scripts/test.sh leaves them out then, but
not in CI.
"""

import itertools
import re

import numpy as np
import pytest

from sample.page.check import unpack
from sample.page.columns import packed_ids, unpacked_ids
from sample.page.read import from_answer, read_records
from sample.page.write import write_page
from tests.sample.page.hostile import HOSTILE
from tests.sample.page.recorded import COMMITTED, DRAWN, random_record
from tests.sample.page.test_read import ANSWER

# What stands for a character that is not shown: U+202E and the like, and Unicode's own signs.
SIGNS = re.compile("U[+][0-9A-F]{4}|[\u2400-\u2421\u21b5\u21e5]")
WIDTHS = [360, 1280]
TEXTS = "[...document.querySelectorAll('#{} .token')].filter(e => !e.closest('[hidden]'))"
TEXTS += ".map(e => e.textContent)"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A page with a text of two canvases and a grid."""
    text, grid = random_record("A text"), random_record("A grid", steps=9)
    del text["view"]
    path = tmp_path_factory.mktemp("pages") / "page.html"
    write_page(path, [text, grid])
    return path


def clean(browser):
    """Asserts that nothing was complained of, and that nobody was asked."""
    assert browser.faults == [] and browser.asked == []


def status(browser):
    return browser.run("document.querySelector('#status').textContent")


def shown(browser, where="canvas"):
    return [text.strip() for text in browser.run(TEXTS.format(where))]


def decoded(record):
    """The texts of the tokens that a record has left to right."""
    ids = record["left_to_right"]["ids"]
    places = unpacked_ids(ids, record["id_bytes"], len(record["tokens"]))
    return [record["tokens"][i].strip(" ") for i in places]


def drawn(record, step):
    """The texts that a page shows at a step of the first canvas, from 0; -1: the answer."""
    seen = unpack(record)[0]
    ids = seen.best[-1] if step < 0 else seen.canvas[step]
    return [record["tokens"][i].strip(" ") for i in ids]


@pytest.mark.parametrize("width", WIDTHS)
def test_a_text_step_by_step(browser, fresh, width):
    record = read_records(fresh)[0]
    browser.open(fresh, width)
    assert status(browser).startswith("Canvas 1 of 2. Step 1 of 6 (at most 48): mean entropy")
    assert shown(browser) == drawn(record, 0)
    browser.click("#next")
    browser.press(".")
    assert shown(browser) == drawn(record, 2)
    browser.press(",")
    assert shown(browser) == drawn(record, 1)
    browser.run("document.querySelector('#shown').value = 'best'")
    browser.run("document.querySelector('#shown').dispatchEvent(new Event('change'))")
    seen, n = unpack(record)[0], 3
    for _ in range(1, n):
        browser.press(".")
    assert shown(browser) == [record["tokens"][i].strip() for i in seen.best[n]]
    assert 0 < seen.accepted[n, 2:].sum() < 10
    marks = "[...document.querySelectorAll('#canvas .token')].map(e => e.className)"
    for i, name in enumerate(browser.run(marks)[:12]):
        assert ("kept" in name) == (i < 2)
        assert ("accepted" in name) == (i > 1 and bool(seen.accepted[n, i]))
        assert ("renoised" in name) == (i > 1 and not seen.accepted[n, i])
        assert ("changed" in name) == (i > 1 and seen.best[n, i] != seen.best[n - 1, i])
    browser.press("End")
    whole = [record["tokens"][i].strip() for part in unpack(record) for i in part.best[-1]]
    assert shown(browser) == whole and "The answer, after 11 steps" in status(browser)
    browser.press("Home")
    browser.drag("#slider", 0.02, 0.5)
    tick = int(browser.run("document.querySelector('#slider').value"))
    assert 4 <= tick <= 7
    assert status(browser).startswith(f"Canvas {1 + tick // 6} of 2. Step {1 + tick % 6} of")
    assert browser.run("document.documentElement.scrollWidth") <= width
    clean(browser)


def test_playing_goes_to_the_end_and_pauses(browser, fresh):
    browser.open(fresh, 1280)
    browser.run("document.querySelector('#speed').value = '4'")
    browser.press(" ")
    browser.until("document.querySelector('#now').textContent === 'step 3'")
    browser.press(" ")
    stopped = status(browser)
    assert browser.run("document.querySelector('#play').textContent") == "Play"
    browser.click("#play")
    browser.until("document.querySelector('#now').textContent === 'answer'")
    browser.until("document.querySelector('#play').textContent === 'Play'")
    assert status(browser) != stopped
    clean(browser)


@pytest.mark.parametrize("width", WIDTHS)
def test_left_to_right_on_both_clocks(browser, fresh, width):
    record = read_records(fresh)[0]
    texts = decoded(record)
    browser.open(fresh, width)
    browser.click("#other")
    # 12 forward passes and a commit in 0.25 s, 9 tokens in 0.5 s.
    assert "Clock: 0.021 s" in status(browser) and shown(browser, "tokens") == ["·"] * 9
    browser.press("End")
    assert shown(browser, "tokens") == texts and "Clock: 0.500 s" in status(browser)
    browser.run("document.querySelector('#unit').value = 'passes'")
    browser.run("document.querySelector('#unit').dispatchEvent(new Event('change'))")
    browser.press("Home")
    assert "Clock: 1 forward pass." in status(browser)
    assert shown(browser, "tokens") == [texts[0]] + ["·"] * 8
    assert browser.run("document.documentElement.scrollWidth") <= width
    clean(browser)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_grid_and_its_tokens_without_a_mouse(browser, fresh, width):
    record = read_records(fresh)[1]
    browser.open(fresh, width, dark=True)
    browser.run("document.querySelector('#record').selectedIndex = 1")
    browser.run("document.querySelector('#record').dispatchEvent(new Event('change'))")
    cells = record["view"]["cells"]
    assert shown(browser) == [drawn(record, 0)[i] for i in cells]
    assert browser.run("document.querySelectorAll('#canvas .clue').length") == 1
    heights = "[...document.querySelectorAll('#canvas .token')].map(e => e.offsetHeight)"
    assert np.ptp(browser.run(heights)) <= 1
    browser.run("document.querySelector('#canvas').focus()")
    for key in ("ArrowRight", "ArrowRight", "ArrowDown"):
        browser.press(key)
    browser.press(".")
    assert browser.run("document.querySelector('#chosen').textContent") == f"Token {cells[3] + 1}"
    assert browser.run("document.querySelectorAll('#history tr').length") == 9
    tops = unpack(record)[0].candidates.ids[1, cells[3]]
    listed = "[...document.querySelectorAll('#candidates code')].map(e => e.textContent)"
    assert browser.run(listed) == [record["tokens"][i].replace(" ", "␣") for i in tops if i >= 0]
    browser.hover("#canvas .token")
    assert browser.run("document.querySelector('#chosen').textContent") == f"Token {cells[0] + 1}"
    browser.click("#grid")
    assert shown(browser) == drawn(record, 1)
    paper = browser.run("getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(18, 22, 28)"
    assert browser.run("document.documentElement.scrollWidth") <= width
    clean(browser)


@pytest.mark.parametrize(
    ("width", "words"),
    [  # each demand is met at a step, and is not at another one; a number stands in two cells
        (1280, ["w0", "1", "w3", "w2", "w1", "2"]),
        (360, ["w0", "w3", "2", "w1", "1", "w2"]),
    ],
)
def test_a_drawing_with_its_demands(browser, tmp_path, width, words):
    """The page says of each step what Python says of it."""
    record = random_record(vocab=6) | {"view": DRAWN}
    record["tokens"] = words
    write_page(tmp_path / "page.html", [record])
    browser.open(tmp_path / "page.html", width)
    demands = "[...document.querySelectorAll('#canvas .demands li')].map(e => e.textContent)"
    lines = (
        "[...document.querySelectorAll('#canvas .cells line')].map(e => e.getAttribute('class'))"
    )
    cells = "[...document.querySelectorAll('#canvas .cells .token')].map(e => e.className)"
    said = set()
    for step in range(6):
        texts = [drawn(record, step)[i] for i in DRAWN["cells"]]
        assert shown(browser) == texts
        groups = [group_of(text) for text in texts]
        found, joined = browser.run(demands), browser.run(lines)
        now = groups.count(0) - groups.count(1)
        assert found[0] == ("✓ a sum: 2" if now == 2 else f"✗ a sum: {now} instead of 2")
        pairs = itertools.pairwise(texts)
        at = next((i for i, (a, b) in enumerate(pairs) if a in ("w2", "w4") and b == "w1"), -1)
        assert found[1] == ("✗ a run: nowhere" if at < 0 else f"✓ a run: at {at + 1} to {at + 2}")
        ends = [(groups[a], groups[b]) for a, b in DRAWN["links"]]
        good = sum(-1 not in pair and pair[0] != pair[1] for pair in ends)
        assert found[2] == f"{'✓' if good == 3 else '✗'} two groups: {good} of 3"
        on = [{texts[a], texts[b]} == {"1", "2"} for a, b in DRAWN["links"]]
        once = texts.count("1") == texts.count("2") == 1
        assert joined == ["on" if once and each else "" for each in on] + [""]
        assert found[3] == f"{'✓' if once and any(on) else '✗'} a path: {once and sum(on):d} of 1"
        for i, (name, group) in enumerate(zip(browser.run(cells), groups, strict=True)):
            assert ("c-blue" in name, "c-red" in name) == (group == 0, group == 1)
            assert (" run" in name) == (at >= 0 and at <= i < at + 2)
        said |= {line[:6] for line in found}
        browser.press(".")
    assert browser.run("document.querySelector('#grid').textContent") == "Drawn <b>"
    browser.run("document.querySelector('#canvas').focus()")
    for key in ("ArrowRight", "ArrowDown", "ArrowRight", "ArrowRight", "ArrowUp"):
        browser.press(key)
    assert browser.run("document.querySelector('#chosen').textContent") == "Token 5"
    assert len(said) == (8 if width == 1280 else 7)
    assert browser.run("document.documentElement.scrollWidth") <= width
    clean(browser)


def group_of(text):
    return next((i for i, g in enumerate(DRAWN["groups"]) if text in g["texts"]), -1)


def test_answers_with_drafts_show_whole_texts(browser, tmp_path):
    answer = {**ANSWER, "drafts": [[dict(draft) for draft in ANSWER["drafts"][0]]]}
    answer["drafts"][0][1]["text"] = "A line.\n" * 100
    write_page(tmp_path / "page.html", [from_answer(answer, "here")])
    browser.open(tmp_path / "page.html", 360)
    assert shown(browser) == ["<b>a"]
    assert status(browser) == "Step 1 of 2: mean entropy 1.50 nats, 1 accepted."
    browser.press("End")
    assert len(shown(browser)[0].splitlines()) == 100
    clean(browser)


def test_hostile_texts_are_shown_as_texts(browser, tmp_path):
    plain = random_record()
    del plain["view"]
    plain["left_to_right"]["ids"] = packed_ids(np.arange(len(HOSTILE)), 1)
    title = "".join(HOSTILE[:30])
    hostile = {**plain, "tokens": HOSTILE, "title": title, "prompt": title, "model": title}
    found = []
    for record in (plain, hostile):
        write_page(tmp_path / "page.html", [record])
        browser.open(tmp_path / "page.html", 360)
        browser.click("#other")
        browser.press("End")
        browser.run("document.querySelector('#canvas').focus()")
        browser.press("ArrowRight")
        found.append(set(browser.run("[...document.querySelectorAll('*')].map(e => e.tagName)")))
        clean(browser)
    assert found[0] == found[1]
    assert browser.run("document.title") == "Denoising, step by step"
    everything = browser.run("document.querySelector('main').textContent")
    for hidden in "\x00\x1b\u202e\u2066\u2028\u200b\U000e0041\ud800":
        assert hidden not in everything, hex(ord(hidden))
    for text, seen in zip(HOSTILE, browser.run(TEXTS.format("tokens")), strict=True):
        if text.isprintable() and len(text) <= 120:
            assert seen == text
        else:
            assert SIGNS.search(seen) or seen.endswith(" characters)") or "\u200d" in text
    assert browser.run("document.documentElement.scrollWidth") <= 360


def test_hostile_texts_of_a_drawing_are_texts(browser, tmp_path):
    view = {**DRAWN, "right": [*"abcdef"], "clues": [1]}
    title, found = "".join(HOSTILE[:30]), []
    hostile = {"name": title, "names": HOSTILE[:6], "right": HOSTILE[6:12]}
    hostile["groups"] = [{**group, "name": title} for group in DRAWN["groups"]]
    hostile["demands"] = [{**demand, "title": title} for demand in DRAWN["demands"]]
    for fields in ({"view": view}, {"view": view | hostile, "tokens": HOSTILE}):
        write_page(tmp_path / "page.html", [random_record() | fields])
        browser.open(tmp_path / "page.html", 360)
        browser.run("document.querySelector('#other').click()")
        browser.press("End")
        found.append(browser.run("[...document.querySelectorAll('main *')].map(e => e.tagName)"))
        clean(browser)
    assert found[0] == found[1] and found[0].count("LI") > 8
    everything = browser.run("document.querySelector('main').textContent")
    for hidden in "\x00\x1b\u202e\u2066\u2028\u200b\U000e0041\ud800":
        assert hidden not in everything, hex(ord(hidden))
    assert browser.run("document.documentElement.scrollWidth") <= 360


def same(texts, wanted):
    """Whether the page shows these texts, and signs for those that must not be shown."""
    pairs = list(zip(texts, wanted, strict=True))
    return all(a == b if b.isprintable() and b else len(a) > 0 for a, b in pairs)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("path", COMMITTED, ids=[path.name for path in COMMITTED])
def test_the_committed_pages(browser, path, width):
    record = read_records(path)[0]
    browser.open(path, width)
    positions = record.get("view", {}).get("cells", range(record["canvas_size"]))
    first = unpack(record)[0]
    assert same(shown(browser), [drawn(record, 0)[i] for i in positions])
    middle = len(first.best) // 2
    for _ in range(middle):
        browser.press(".")
    assert same(shown(browser), [drawn(record, middle)[i] for i in positions])
    browser.press("End")
    assert same(shown(browser), [drawn(record, -1)[i] for i in positions])
    if "left_to_right" in record:
        browser.click("#other")
        browser.press("End")
        texts = decoded(record)
        places = positions if "view" in record else range(len(texts))
        wanted = [texts[i] if i < len(texts) else "·" for i in places]
        assert same(shown(browser, "tokens"), wanted)
    assert browser.run("document.documentElement.scrollWidth") <= width
    clean(browser)
