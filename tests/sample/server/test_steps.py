"""Steps as events: together they say what a record says, and each of them is small."""

import json

import numpy as np

from sample.page.check import unpack
from sample.page.record import make_record
from sample.server.steps import StepEvents
from tests.sample.page.recorded import ABOUT, CONFIG, random_generation, word
from tests.sample.server.stepping import same, snapshots

LARGEST = 30_000  # bytes of the event of 256 positions with 5 candidates each


def test_events_say_what_the_record_says():
    out = random_generation()
    keep = np.zeros((2, 12), bool)
    keep[0, :2] = True
    out.entropy[0, 0][:, :2] = 0
    record = make_record(out, 0, word, CONFIG, ABOUT, kept=keep.reshape(-1))
    maker = StepEvents(word, (), 22)
    events = [maker.event(seen) for seen in snapshots(out, keep)]
    same(events, record, unpack(record))
    for k, part in enumerate(record["canvases"]):
        steps = [event for event in events if event["canvas"] == k]
        means = [event["mean_entropy"] for event in steps]
        np.testing.assert_allclose(means, part["mean_entropy"], rtol=1e-3)
        assert steps[-1]["valid"] == part["valid"] == (12, 10)[k]


def test_a_stop_token_ends_what_is_valid_unless_kept_tokens_follow():
    [seen, *_] = snapshots(random_generation(canvases=1), np.zeros((1, 12), bool))
    stop = int(seen.best[0, 4])
    first = seen.best[0].tolist().index(stop)
    assert StepEvents(word, (stop,), 12).event(seen)["valid"] == first + 1
    goes_on = np.ones((1, 12), bool)
    goes_on[0, 9:] = False
    seen = seen._replace(given=seen.given._replace(goes_on=goes_on))
    later = [i for i, token in enumerate(seen.best[0]) if token == stop and i >= 9]
    wanted = later[0] + 1 if later else 12
    assert StepEvents(word, (stop,), 12).event(seen)["valid"] == wanted
    assert StepEvents(word, (), 5).event(seen)["valid"] == 5


def test_a_row_that_did_not_take_the_step_has_no_event():
    seen = next(snapshots(random_generation()))._replace(live=np.zeros(1, bool))
    assert StepEvents(word, (), 12).event(seen) is None


def test_events_are_small():
    out = random_generation(canvases=1, size=256, steps=20, vocab=262_144, pool=8)
    maker = StepEvents(word, (), 256)
    sizes = [len(json.dumps(maker.event(seen), separators=(",", ":"))) for seen in snapshots(out)]
    assert max(sizes) < LARGEST, sizes
