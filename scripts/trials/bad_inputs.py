"""Bad inputs, and a word of the one line that refuses each. Anyone may add a row."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from diffusiongemma.formats.config_file import read_config
from scripts.trials.bad_input import CONFIG, BadInput, changed, nothing, replaced, written

DEEP = "[" * 100_000
HUGE = 10**400
PLAN = ("scripts.plan", "--checkpoint={folder}", "--target=none")
ASK = ("sample.main", "--checkpoint={folder}", "--prompt=Hi", "--max-steps=1")
TRAIN = ("train.main", "--config=configs/sudoku.py", "--workdir={folder}/run", "--config.steps=200")
EVALUATE = ("train.evaluate", "--checkpoint={folder}", "--out={folder}/report", "--budgets=")
GENERATION, ADAPTER, METADATA = "generation_config.json", "adapter_config.json", "model/metadata"
PUZZLE = "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79"


def _config() -> Iterator[BadInput]:
    """Fields of a config.json."""

    def of(name: str, to: object, word: str, *path: str) -> BadInput:
        path = path or ("text_config", name)
        return BadInput(f"config {name}={str(to)[:50]}", changed(CONFIG, *path, to=to), PLAN, word)

    for name, values in {
        "rms_norm_eps": (float("nan"), float("inf")),
        "final_logit_softcapping": (float("nan"), -float("inf")),
    }.items():
        for value in values:
            yield of(name, value, "is no number of JSON")
    for name, value, word in (
        ("rms_norm_eps", 0, "rms_norm_eps: 0 is out of range"),
        ("rms_norm_eps", HUGE, "rms_norm_eps: one of .* bits is out of range"),
        ("rms_norm_eps", "1e-6", "rms_norm_eps: expected a number"),
        ("hidden_size", 2**40, "hidden_size: .* is out of range"),
        ("hidden_size", 32.0, "hidden_size: expected a number"),
        ("num_attention_heads", 0, "num_attention_heads: 0 is out of range"),
        ("num_key_value_heads", 0, "num_key_value_heads: 0 is out of range"),
        ("num_key_value_heads", True, "num_key_value_heads: expected a number"),
        ("layer_types", [], "layer_types: 0 entries for 1 layers"),
        ("layer_types", [[]], r"layer_types: unknown \[\]"),
        ("layer_types", "full_attention", "layer_types: expected a list"),
        ("num_hidden_layers", 0, "num_hidden_layers: 0 is out of range"),
        ("global_head_dim", [16], r"head dim of full layers: expected a number, got \[16\]"),
        ("num_global_key_value_heads", {}, "KV heads of full layers: expected a number"),
        ("pad_token_id", 10**9, "pad_id: 1000000000 is no token"),
        ("pad_token_id", -1, "pad_token_id: -1 is out of range"),
        ("bos_token_id", 1024, "bos_id: 1024 is no token: the vocabulary has 0 to 1023"),
        ("eos_token_id", "<eos>", "eos_token_id: expected token ids from 0 to 1023"),
    ):
        yield of(name, value, word)
    for value in (-5, [1, -5], [1, 1024], ["1"], [], True):
        yield of("eos", value, "eos_token_id: expected token ids from 0 to 1023", "eos_token_id")
    yield of("layers", {"0": {"head_dim": []}}, "head dim of", "text_config", "per_layer_config")
    rope = ("text_config", "rope_parameters", "full_attention")
    yield of("theta", HUGE, "rope_theta: .* out of range", *rope, "rope_theta")
    yield of("theta", "x", "rope_theta: expected a number", *rope, "rope_theta")
    yield of("share", 2.0, "full_rope_fraction must be at most 1", *rope, "partial_rotary_factor")


def _json() -> Iterator[BadInput]:
    """Files that are no JSON, or more than a reader should bear."""
    twice = replaced(CONFIG, '"hidden_size"', '"hidden_size": 8, "hidden_size"')
    yield BadInput("config: a key twice", twice, PLAN, "the key 'hidden_size' twice")
    overflow = replaced(CONFIG, '"rms_norm_eps": 1e-06', '"rms_norm_eps": 1e999')
    yield BadInput("config: 1e999", overflow, PLAN, "the number 1e999 is too large")
    for name, text, word in (
        ("deep", DEEP, "nested too deeply"),
        ("objects", '{"a":' * 100_000, "nested too deeply"),
        ("cut", '{"text_config": ', "not JSON"),
        ("empty", "", "is empty"),
        ("list", "[]", "not a JSON object"),
        ("null", "null", "not a JSON object"),
        ("utf-16", "{}".encode("utf-16"), "UTF-16 text: save it as UTF-8"),
        ("latin-1", b'{"a": "\xe9"}', "no UTF-8 text: save it as UTF-8"),
        ("large", " " * 8_000_001, "more than 8,000,000 bytes"),
        ("digits", '{"text_config": ' + "9" * 5000 + "}", "too many digits"),
    ):
        yield BadInput(f"config: {name}", written(CONFIG, text), PLAN, f"{CONFIG}: .*{word}")
        generation = written(GENERATION, text)
        yield BadInput(f"generation: {name}", generation, ASK, f"{GENERATION}: .*{word}")
    for file in ("tokenizer_config.json", "chat_template.json", "model.safetensors.index.json"):

        def prepare(folder: Path, file: str = file) -> None:
            (folder / file).write_text(DEEP)
            if "index" in file:
                (folder / "model.safetensors").rename(folder / "model-1.safetensors")

        yield BadInput(f"{file}: deep", prepare, ASK, f"{file}: not JSON: .* too deeply")
    schema = written("schema.json", DEEP)
    asked = (*ASK, "--schema={folder}/schema.json")
    yield BadInput("schema: deep", schema, asked, "schema.json: not JSON: .* too deeply")
    prompts = written("prompts.jsonl", '{"prompt": ' + DEEP)
    asked = ("sample.main", "--checkpoint={folder}", "--prompts={folder}/prompts.jsonl")
    yield BadInput("prompts: deep", prompts, asked, "nested too deeply")
    records = ("sample.page.__main__", "--from={folder}/records", "--page={folder}/page.html")
    yield BadInput("records: deep", written("records", DEEP), records, "nested too deeply")
    puzzles = written("puzzles.json", '[{"puzzle": ' + DEEP)
    asked = ("sample.solve", "{folder}/puzzles.json", "--checkpoint={folder}")
    yield BadInput("puzzles: deep", puzzles, asked, "nested too deeply")


def _generation() -> Iterator[BadInput]:
    """Fields of a generation_config.json, and flags of the sampler."""
    for name, value, word in (
        ("eos_token_id", -5, "stop_ids: -5 is no token: the vocabulary has 0 to 1023"),
        ("eos_token_id", [1, 1024], "stop_ids: 1024 is no token"),
        ("eos_token_id", "1", "eos_token_id: expected int, got '1'"),
        ("t_max", HUGE, "t_max: expected a finite number"),
        ("t_min", "0.4", "t_min: expected float"),
        ("max_denoising_steps", 2**40, "max_steps: expected a number from"),
        ("max_new_tokens", 0, "max_new_tokens must be at least 1"),
        ("sampler_config", {"entropy_bound": 0}, "entropy_bound must be above 0"),
    ):
        text = f"generation {name}={str(value)[:50]}"
        yield BadInput(text, changed(GENERATION, name, to=value), ASK, word)
    ours = written("sampler.json", '{"restart_every": "often"}')
    yield BadInput("sampler.json", ours, ASK, "restart_every: expected int, got 'often'")
    for flag, word in (
        ("--max-temperature=nan", "max-temperature=nan: expected a finite number"),
        ("--stop-threshold=inf", "stop-threshold=inf: expected a finite number"),
        ("--entropy-bound=0", "entropy_bound must be above 0"),
        ("--max-steps=99999999999", "max-steps: expected a number from"),
        ("--max-new-tokens=99999999999", "max-new-tokens: expected a number from"),
        ("--batch-size=99999999999999999999", "batch-size: expected a number from"),
        ("--stop-ids=-3", "-3 is no token"),
        ("--stop-ids=99999999999", "stop-ids: expected a number from"),
        ("--stop-ids=eos", "expected numbers"),
        ("--seed=-1", "seed"),
        ("--seed=4294967296", r"\[0, 4294967295\]"),
        ("--seed=99999999999999999999", r"\[0, 4294967295\]"),
        ("--seed=x", "expected a whole number"),
    ):
        yield BadInput(f"sample.main {flag}", nothing, (*ASK, flag), word)
    for flag in ("--temperature=nan", "--top-p=inf", "--temperature=-inf"):
        asked = (*ASK[:3], "--mode=ar", flag)
        yield BadInput(f"sample.main {flag}", nothing, asked, "expected a finite number")
    for flag in ("--gpu=nan", "--gpu=inf", "--gpu=-1"):
        yield BadInput(f"plan {flag}", nothing, (*PLAN, flag), "gpu")
    context = (*PLAN, "--context=99999999999")
    yield BadInput("plan --context", nothing, context, "context: expected a number from")


def _tokenizer() -> Iterator[BadInput]:
    def spread(folder: Path) -> None:
        """Gives the last token an id that the model does not have; there are as many as before."""
        file = folder / "tokenizer.json"
        content = json.loads(file.read_text())
        vocab = content["model"]["vocab"]
        vocab[max(vocab, key=vocab.get)] = 5000
        file.write_text(json.dumps(content))

    yield BadInput("tokenizer: a large id", spread, ASK, "5001 tokens for a model of 1024")
    for name, text, word in (
        ("deep", DEEP, "tokenizer.json"),
        ("empty", "", "tokenizer.json"),
        ("no tokenizer", '{"a": 1}', "tokenizer.json"),
    ):
        yield BadInput(f"tokenizer: {name}", written("tokenizer.json", text), ASK, word)


def _adapters() -> Iterator[BadInput]:
    """Configs of PEFT, and descriptions of this project's own checkpoints."""
    good = {
        "peft_type": "LORA",
        "base_model_name_or_path": "base",
        "r": 2,
        "lora_alpha": 4,
        "target_modules": "all-linear",
    }
    for name, value, word in (
        ("r", "8", "r: expected int, got '8'"),
        ("r", 0, "r: expected at least 1"),
        ("r", 2**40, "r: expected a number from"),
        ("lora_alpha", "16", "lora_alpha: expected float, got '16'"),
        ("lora_alpha", float("nan"), "NaN is no number of JSON"),
        ("lora_alpha", HUGE, "lora_alpha: expected a finite number"),
        ("lora_alpha", -1, "lora_alpha: expected at least 0"),
        ("target_modules", "(", "target_modules: expected names, or a regular expression"),
        ("target_modules", 3, "target_modules: expected names, or a regular expression"),
        ("base_model_name_or_path", [], "base_model_name_or_path: expected a path"),
    ):
        prepare = written(ADAPTER, json.dumps(good | {name: value}))
        yield BadInput(f"adapter {name}={str(value)[:50]}", prepare, ASK, f"{ADAPTER}: .*{word}")

    def own(*path: str, to: object) -> Callable[[Path], None]:
        def prepare(folder: Path) -> None:
            """What a checkpoint says of its model is read before its weights, which lack here."""
            shape = read_config(folder / CONFIG)
            (folder / "model.safetensors").unlink()
            about = {
                "config": shape.to_fields(),
                "dtype": "float32",
                "init": "",
                "lora": {"rank": 0},
            }
            written("params/_METADATA", "{}")(folder)
            written(METADATA, json.dumps(about))(folder)
            changed(METADATA, *path, to=to)(folder)

        return prepare

    for path, value, word in (
        (("config", "num_heads"), 0, "num_heads must be at least 1, not 0"),
        (("config", "num_kv_heads"), 0, "num_kv_heads must be at least 1"),
        (("config", "num_heads"), "4", "num_heads: expected int, got '4'"),
        (("config", "width"), 32.5, "width: expected int, got 32.5"),
        (("config", "layer_types"), [], "layer_types must name at least one layer"),
        (("config", "layer_types"), "full", "layer_types: expected a list"),
        (("config", "layer_types"), [1], r"layer_types\[0\]: expected one of 'sliding', 'full'"),
        (("config", "norm_eps"), HUGE, "norm_eps: expected a finite number"),
        (("config", "stop_ids"), [-3], "stop_ids: -3 is no token"),
        (("config", "pad_id"), 10**9, "pad_id: 1000000000 is no token"),
        (("config", "vision"), [1], "does not describe a model"),
        (("config", "colour"), 1, "no field 'colour'"),
        (("config",), [], "does not describe a model"),
        (("lora",), [], "does not describe a model"),
        (("lora",), {"rank": "8", "alpha": 1, "pattern": "."}, "rank: expected int, got '8'"),
        (("lora",), {"rank": 8, "alpha": "1", "pattern": "."}, "alpha: expected float"),
        (("lora",), {"rank": 8, "alpha": 1, "pattern": "("}, "lora.pattern is no regular"),
        (("lora",), {"rank": 8, "alpha": 1, "pattern": 3}, "pattern: expected str"),
        (("init",), 3, "init: expected str"),
        (("dtype",), [], "dtype"),
    ):
        name = f"metadata {'.'.join(path)}={str(value)[:50]}"
        yield BadInput(name, own(*path, to=value), PLAN, word)


def _training() -> Iterator[BadInput]:
    """Fields of a run's config."""
    for flag, word in (
        ("lora.pattern=(", r"lora.pattern '\(' is no regular expression"),
        ("lora.alpha=x", "lora.alpha: expected float, got 'x'"),
        ("lora.rank=x", "lora.rank: expected int, got 'x'"),
        ("lora.alpha=nan", "lora.alpha: expected"),
        ("eval.every=-1", "eval.every must be 0 or more"),
        ("eval.num=0", "eval.num must be at least 1"),
        ("seed=-1", "seed: expected a number from 0 to 4294967295"),
        ("seed=4294967296", "seed: expected a number from 0 to 4294967295"),
        ("steps=99999999999", "steps: expected a number from"),
        ("data.prompt_length=0", "data.prompt_length must be at least 1"),
        ("data.prompt_length=99999999999", "data.prompt_length: expected a number from"),
        ("data.prompt_length=True", "data.prompt_length=True: expected a whole number"),
        ("optimizer.name=sgd", "optimizer.name"),
        ("mesh.data=0", "mesh.data must be at least 1"),
        ("sampler.entropy_bound=0.0", "entropy_bound must be above 0"),
    ):
        yield BadInput(f"train {flag}", nothing, (*TRAIN, f"--config.{flag}"), word)
    fresh = (*TRAIN, "--config.init=", "--config.preset=tiny")
    for flag, word in (
        ("overrides.colour=1", "no field 'colour' of a model"),
        ("overrides.num_heads=0", "num_heads must be at least 1, not 0"),
        ("overrides.width=x", "width: expected int, got 'x'"),
    ):
        yield BadInput(f"train {flag}", nothing, (*fresh, f"--config.{flag}"), word)
    for name, text, word in (
        ("syntax", "def get_config(:\n", "line 1: SyntaxError"),
        ("nothing", "x = 1\n", "config.py: it has no function get_config"),
        ("raises", "def get_config():\n    return 1 / 0\n", "line 2: ZeroDivisionError"),
        ("no config", "def get_config():\n    return 3\n", "config.py: its get_config.. gives no"),
        ("deep", f"x = {'(' * 1000}", "config.py"),
    ):
        asked = ("train.main", "--config={folder}/config.py", "--workdir={folder}/run")
        yield BadInput(f"config file: {name}", written("config.py", text), asked, word)


def _puzzles() -> Iterator[BadInput]:
    row = f"{PUZZLE},{PUZZLE}\n"
    table = written("puzzles.csv", f"puzzle,puzzle\n{row}")
    asked = ("sample.solve", "{folder}/puzzles.csv", "--checkpoint={folder}")
    yield BadInput("a column twice", table, asked, "several columns are named puzzle")
    asked = (*EVALUATE, "--puzzles={folder}/puzzles.csv")
    yield BadInput("a column twice, evaluated", table, asked, "several columns are named puzzle")
    for flag, word in (
        ("--generate=4", "--clues=99999999999-5"),
        ("--generate=4", "--seed=4294967296"),
    ):
        yield BadInput(f"evaluate {word}", nothing, (*EVALUATE, flag, word), "clues|4294967295")


BAD_INPUTS: tuple[BadInput, ...] = (
    *_config(),
    *_json(),
    *_generation(),
    *_tokenizer(),
    *_adapters(),
    *_training(),
    *_puzzles(),
)
