"""The live page: its source, and asking, watching, stopping and hostile texts in a real browser."""

import json
import re
import threading

import pytest

from sample.page.check import unpack
from sample.page.record import make_record
from sample.server.errors import Refused
from sample.server.events import Decoded, Grown, Said, Started, Stepped
from sample.server.live_page import live_page
from sample.server.steps import StepEvents
from tests.sample.page.hostile import HOSTILE
from tests.sample.page.recorded import ABOUT, CONFIG, VIEW, random_generation, word
from tests.sample.server.serving import DEFAULTS, served, until
from tests.sample.server.stepping import snapshots

OUT = random_generation()
TEXTS = "[...document.querySelectorAll('#canvas .token')].filter(e => !e.closest('[hidden]'))"
TEXTS += ".map(e => e.textContent.trim())"


@pytest.fixture(scope="module")
def server():
    with served(answer) as found:
        found.go = go
        yield found
        assert found.faults == []


go = threading.Semaphore(0)  # lets the model take a step


def answer(job):
    """Answers with the steps of a generation of no model. The prompt says in which way."""
    said = job.asked.row.messages[-1]["content"]
    if said == "refuse":
        raise Refused(400, "<b>no</b>", "messages")
    text_of = word if said != "hostile" else lambda token: HOSTILE[token % len(HOSTILE)]
    if job.asked.left_to_right:
        job.send(Started(5))
        for token in OUT.tokens[0, :9]:
            if said == "slowly":
                until(lambda: job.cancelled or go.acquire(timeout=0.05))
            if job.cancelled:
                raise KeyboardInterrupt
            job.send(Decoded([text_of(int(token))]))
        job.send(Said(0, {"content": "there"}, "", Grown(0, "there", ""), "stop", [9], [9]))
        return
    job.send(Started(5, said, VIEW if said == "drawn" else None))
    maker = StepEvents(text_of, (), 22)
    for seen in snapshots(OUT):
        if said == "slowly":
            until(lambda: job.cancelled or go.acquire(timeout=0.05))
        if job.cancelled:
            raise KeyboardInterrupt
        job.send(Stepped(maker.event(seen)))
    if said == "slowly":
        until(lambda: job.cancelled or go.acquire(timeout=0.05))
    message, rest = {"role": "assistant", "content": "there"}, Grown(0, "there", "")
    job.send(Said(0, message, "", rest, "length", [6, 5], [12, 10]))


def run(browser, script):
    return browser.run(f"(() => {{ {script} }})()")


def visit(browser, server, width=1280):
    url = f"http://127.0.0.1:{server.port}/"
    device = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.call("Emulation.setDeviceMetricsOverride", **device)
    browser.faults, browser.asked = [], []
    browser.call("Page.navigate", url=url)
    browser.until(f"location.href === '{url}' && document.readyState === 'complete'")
    return url


def ask(browser, text):
    run(browser, f"document.querySelector('#asked-text').value = {json.dumps(text)}")
    browser.click("#send")


def told(browser):
    return browser.run("document.querySelector('#told').textContent")


def test_the_page_has_the_settings_of_the_session():
    page = live_page(DEFAULTS, 24)
    fields = dict(re.findall(r'type="number" name="(\w+)" value="([^"]*)"', page))
    assert fields == {
        "max_tokens": "24", "seed": "0", "max_steps": "48", "entropy_bound": "0.1", "starts": "1",
        "stop_threshold": "0.005", "max_temperature": "0.8", "min_temperature": "0.4",
    }  # fmt: skip
    assert "{{" not in page and "connect-src 'self'" in page


@pytest.mark.parametrize("width", [360, 1280])
def test_an_answer_step_by_step(browser, server, width):
    url = visit(browser, server, width)
    assert browser.run("document.querySelector('main').hidden")
    browser.click("#asked-text")
    for key in "slow ly,.":  # keys that the page would take, if they were not typed into a field
        browser.press(key)
    assert browser.run("document.querySelector('#asked-text').value") == "slow ly,."
    ask(browser, "slowly")
    record = make_record(OUT, 0, word, CONFIG, ABOUT)
    steps = [(k, n) for k, seen in enumerate(unpack(record)) for n in range(len(seen.best))]
    for k, n in steps:
        server.go.release()
        browser.until(f"document.querySelector('#told').textContent.includes('step {n + 1} ')")
        begin = f"{f'Canvas {k + 1} of {k + 1}. ' if k else ''}Step {n + 1} of {n + 1} (at most 48)"
        browser.until(f"document.querySelector('#status').textContent.startsWith('{begin}')")
        seen = unpack(record)[k]
        shown = browser.run(TEXTS)[12 * k :]
        assert shown == [record["tokens"][i].strip() for i in seen.canvas[n]]
    server.go.release()
    browser.until("document.querySelector('#told').textContent.includes('cut off')")
    whole = [record["tokens"][i].strip() for seen in unpack(record) for i in seen.best[-1]]
    assert browser.run(TEXTS) == whole
    assert "The answer, after 11 steps" in browser.run(
        "document.querySelector('#status').textContent"
    )
    run(browser, "document.querySelector('#slider').focus()")
    browser.click("#back")
    browser.click("#back")
    assert browser.run(TEXTS)[12:] == [
        record["tokens"][i].strip() for i in unpack(record)[1].canvas[3]
    ]
    run(browser, "document.querySelector('#canvas').focus()")
    browser.press("ArrowRight")
    assert browser.run("document.querySelectorAll('#candidates li').length") > 0
    assert browser.run("document.querySelectorAll('#panels .pad').length") == 0
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.faults == []
    assert set(browser.asked) <= {url, f"{url}live", f"{url}favicon.ico"}


@pytest.mark.parametrize("pressed", [False, True], ids=["asked behind", "asked at once"])
def test_left_to_right_beside_the_answer(browser, server, pressed):
    """The button of recorded pages asks for it, and its tokens are shown as they come."""
    visit(browser, server)
    ask(browser, "Hi")
    browser.until("document.querySelector('#told').textContent.includes('cut off')")
    if pressed:
        browser.click("#other")
        browser.until("document.querySelector('#told').textContent === 'Both answers are there.'")
        browser.until("document.querySelector('#send').disabled === false")
    ask(browser, "slowly")
    for _ in range(12):
        server.go.release()
    if not pressed:
        browser.until("document.querySelector('#told').textContent.includes('cut off')")
        assert not browser.run("document.querySelector('#other').hidden")
        browser.until("document.querySelector('#send').disabled === false")
        browser.click("#other")
    there = "[...document.querySelectorAll('#tokens .token')].map(e => e.textContent.trim())"
    texts = [word(int(token)).strip() for token in OUT.tokens[0, :9]]
    for count in range(1, 10):
        server.go.release()
        browser.until(
            f"document.querySelector('#told').textContent.includes('token {count} ')"
            + (" || true" if count == 9 else "")
        )
        browser.until(f"{there}.length === {count}")
        assert browser.run(there) == texts[:count]
    browser.until("document.querySelector('#told').textContent === 'Both answers are there.'")
    assert "9 of 9 tokens" in browser.run("document.querySelector('#decoded').textContent")
    assert len(browser.run(TEXTS)) == 24 and browser.faults == []
    browser.press("Home")
    assert browser.run(there) == [texts[0]] + ["·"] * 8


def test_a_puzzle_is_drawn_as_a_grid(browser, server):
    visit(browser, server)
    ask(browser, "drawn")
    browser.until("document.querySelector('#told').textContent.includes('cut off')")
    assert browser.run("document.querySelectorAll('#canvas .cells .token').length") == 4
    browser.click("#other")
    browser.until("document.querySelector('#told').textContent === 'Both answers are there.'")
    there = "[...document.querySelectorAll('#tokens .cells .token')].map(e => e.textContent.trim())"
    assert browser.run(there) == [word(int(OUT.tokens[0, i])).strip() for i in VIEW["cells"]]
    browser.click("#grid")
    assert len(browser.run(TEXTS)) == 24 and browser.faults == []


def test_stopping_frees_the_model_and_keeps_what_was_seen(browser, server):
    visit(browser, server)
    ask(browser, "slowly")
    server.go.release()
    browser.until("document.querySelector('#told').textContent.includes('step 1 ')")
    browser.click("#stop")
    browser.until("document.querySelector('#told').textContent === 'Stopped.'")
    until(lambda: server.jobs.count == 0)
    assert len(browser.run(TEXTS)) == 12 and browser.faults == []
    ask(browser, "Hi")
    browser.until("document.querySelector('#told').textContent.includes('cut off')")


def test_a_refusal_is_told_as_text(browser, server):
    visit(browser, server)
    ask(browser, "refuse")
    browser.until("document.querySelector('#told').textContent === '<b>no</b>'")
    run(browser, "document.querySelector('[name=max_steps]').value = 0")
    ask(browser, "Hi")
    browser.until("document.querySelector('#told').textContent.startsWith('max_steps: expected')")
    assert browser.run("document.querySelector('#told').className") == "error"
    assert not browser.run("document.querySelector('#send').disabled")


def test_hostile_texts_are_texts(browser, server):
    visit(browser, server)
    tags = "[...new Set([...document.querySelectorAll('*')].map(e => e.tagName))].sort()"
    found = []
    for text in ("Hi", "hostile"):
        ask(browser, text)
        browser.until("document.querySelector('#told').textContent.includes('cut off')")
        browser.until("document.querySelector('#send').disabled === false")
        found.append(browser.run(tags))
        run(browser, "document.querySelector('#told').textContent = ''")
    assert found[0] == found[1] and browser.faults == []
    assert browser.run("document.title") == "Denoising, step by step"
