"""A session answers left to right too, and in both modes."""

import jax

from diffusiongemma import load_checkpoint
from sample import AutoregressiveConfig, generate_autoregressive
from sample import main as command
from sample.command.session import Session
from tests.sample.asking import NEW, PROMPTS, answer_text, padded_prompt


def test_left_to_right_and_both(folder, capsys, monkeypatch):
    config = AutoregressiveConfig(NEW, temperature=0)
    prompt = padded_prompt(PROMPTS[0])
    out = generate_autoregressive(load_checkpoint(folder), *prompt, jax.random.key(5), config)
    arguments = ["main", f"--checkpoint={folder}", f"--max_new_tokens={NEW}", "--temperature=0"]
    assert command.main([*arguments, f"--prompt={PROMPTS[0]}", "--mode=ar"]) == 0
    said = capsys.readouterr()
    valid = int(out.valid_tokens[0])
    assert said.out == f"{answer_text(out.tokens[0, :valid])}\n"
    assert f"{valid} tokens, {valid} steps, TPF 1.00" in said.err

    clocks, generate_once = [], Session._generate

    def watched(session, tokens, mask, keys, clock):
        clocks.append((session.mode, clock is not None))
        return generate_once(session, tokens, mask, keys, clock)

    monkeypatch.setattr(Session, "_generate", watched)
    arguments += [f"--prompt={PROMPTS[0]}", "--mode=both", "--max_steps=3"]
    assert command.main(arguments) == 0
    # Each program runs once before it is timed.
    assert clocks == [(mode, timed) for mode in ("diffusion", "ar") for timed in (False, True)]
    table = capsys.readouterr().out.splitlines()
    assert table[0] == "| | diffusion | autoregressive |"
    cells = {row.split("|")[1].strip(): row.split("|")[2:4] for row in table[2:-2]}
    assert [cell.strip() for cell in cells["prompts"]] == ["1", "1"]
    assert cells["forward passes"][1].strip() == str(valid)
    assert float(cells["tokens per forward"][0]) > 1 == float(cells["tokens per forward"][1])
    assert table[-1].startswith("r = ")
