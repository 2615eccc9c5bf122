"""The recorder keeps as many answers as a page may have room for."""

import jax
import numpy as np

from data.text.tokenizer import Tokenizer
from sample.page.check import unpack
from sample.page.record import token_texts
from sample.page.recorder import MOST, Recorder
from sample.page.write import write_and_say
from tests.sample.page.recorded import ABOUT, CONFIG, random_generation


def test_the_first_answers_are_kept_in_both_modes(tmp_path):
    recorder, out = Recorder(Tokenizer.load(), model="mine"), random_generation(steps=3)
    nameless = ABOUT._replace(model="")
    for key in range(MOST + 2):
        assert recorder.full == (key >= MOST)
        recorder.add(key, out, 0, CONFIG, nameless if key else ABOUT, None, 2.0)
    for key in (1, MOST):
        recorder.add_left_to_right(key, out.tokens[0, :6], 12, 3.0)
    records = recorder.records()
    assert len(records) == MOST and recorder.left_out == 2
    assert [record["model"] for record in records[:2]] == ["a model", "mine"]
    assert [key for key, record in enumerate(records) if "left_to_right" in record] == [1]
    assert records[1]["left_to_right"]["seconds"] == 1.5  # half as long as the longest answer
    assert records[1]["figures"]["seconds"] == 2.0
    said = write_and_say(tmp_path / "page.html", records[:1], recorder.left_out)
    assert said.endswith("with 1 answer; the page is full, and 2 more are not on it")


def test_a_row_of_a_batch_is_kept_by_itself():
    out, tokenizer = random_generation(), Tokenizer.load()
    other = out._replace(canvas=np.where(out.canvas < 0, -1, out.canvas + 1))
    batch = jax.tree.map(lambda *rows: np.concatenate(rows), out, other)
    recorder = Recorder(tokenizer)
    recorder.add("the second", batch, 1, CONFIG, ABOUT, None, 2.0)
    batch.canvas[:] = 0  # what the recorder keeps is its own
    [record] = recorder.records()
    saw = [record["tokens"][i] for i in unpack(record)[0].canvas[0]]
    assert saw == list(map(token_texts(tokenizer), other.canvas[0, 0, 0].tolist()))
