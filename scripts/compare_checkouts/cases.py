"""What is compared between two checkouts."""

import dataclasses
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from flax import nnx

from data.sudoku.grids import prompt
from data.sudoku.sources import SudokuSource
from data.text.chat_template import ChatTemplate
from data.text.tokenizer import Tokenizer
from diffusiongemma import DiffusionGemma, ModelConfig, save_checkpoint
from sample.batch import pad_prompts
from scripts.compare_checkouts import contents
from scripts.compare_checkouts.side import Side

# Steps of the tiny model settle after different numbers of steps, within three canvases.
TINY_SAMPLER = {
    "max_steps": 10,
    "entropy_bound": 1.0,
    "stop_threshold": 0.3,
    "stop_ids": (1,),
    "max_new_tokens": 30,
}
SUDOKU_SAMPLER = {"min_temperature": 1.0, "max_temperature": 1.2}
TRAINING = (
    *("--config.steps=5", "--config.log_every=1", "--config.checkpoint_every=5"),
    *("--config.eval.every=0", "--config.mesh.data=1"),
)
# The conversions: a name, the source, the format, and options of convert_checkpoint.
CONVERSIONS = (
    ("base to hf", "base", "hf", {}),
    ("base to hf in shards, bfloat16", "base", "hf", {"dtype": "bfloat16", "shard_bytes": 10**6}),
    ("base to orbax", "base", "orbax", {}),
    ("base to orbax, int8", "base", "orbax", {"quantize": "int8"}),
    ("base to orbax, int4", "base", "orbax", {"quantize": "int4"}),
    ("tiny to google", "tiny", "google", {}),
    ("tiny to google, flat", "tiny", "google", {"flat": True}),
)


@dataclasses.dataclass(frozen=True)
class Shared:
    """What both checkouts get.

    Attributes:
      folder: for files of both.
      checkpoints: name -> folder.
      prompts: name of a checkpoint -> .npz of its prompts.
    """

    folder: Path
    checkpoints: dict[str, Path]
    prompts: dict[str, Path]


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table: one result of both checkouts, as named pieces of bytes."""

    name: str
    then: dict[str, bytes]
    now: dict[str, bytes]

    @property
    def equal(self) -> bool:
        return bool(self.now) and self.then == self.now

    def line(self) -> str:
        """The line in Markdown; it names some pieces that differ."""
        verdict = "equal"
        if not self.equal:
            names = contents.differences(self.then, self.now)
            verdict = f"DIFFERENT in {len(names)}: {'; '.join(names[:3]) or 'nothing was written'}"
        digests = f"{contents.digest(self.then)} | {contents.digest(self.now)}"
        return f"| {self.name} | {len(self.now)} | {digests} | {verdict} |"


def prepare(checkout: Path, folder: Path) -> Shared:
    """Makes a random tiny checkpoint, and prompts of different lengths for it and for Sudoku."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    tiny = _lively_model(rng)
    save_checkpoint(tiny, folder / "tiny")
    checkpoints = {name: checkout / "checkpoints" / name for name in ("base", "sudoku")}
    template = ChatTemplate.load(checkpoints["sudoku"], Tokenizer.load())
    source = SudokuSource(7, 6, 3, (26, 60), "test")
    puzzles = [[{"role": "user", "content": prompt(source[i]["puzzle"])}] for i in range(6)]
    # Cut short they have different lengths, so that the batch is padded.
    sudoku = [template.tokenizer.encode(template.render(p)) for p in puzzles]
    sudoku[1], sudoku[3] = sudoku[1][:60], sudoku[3][-31:]
    words = [rng.integers(2, tiny.config.vocab_size, n).tolist() for n in (5, 17, 2, 11)]
    prompts = {}
    for name, rows in (("sudoku", sudoku), ("tiny", words)):
        tokens, mask = pad_prompts(rows, tiny.config.pad_id)
        prompts[name] = folder / f"{name}.npz"
        np.savez(prompts[name], tokens=tokens, mask=mask)
    return Shared(folder, checkpoints | {"tiny": folder / "tiny"}, prompts)


def _lively_model(rng: np.random.Generator) -> DiffusionGemma:
    """A random model with vectors away from one and with sharp logits, so that canvases settle."""
    config = ModelConfig.preset("tiny", layer_types=("sliding", "full"))
    model = DiffusionGemma(config, rngs=nnx.Rngs(1))
    params = {".".join(map(str, p)): x for p, x in nnx.to_flat_state(nnx.state(model, nnx.Param))}
    for name, param in sorted(params.items()):
        if "scale" in name or "scalar" in name:
            factor = rng.uniform(0.7, 1.3, param.shape).astype(np.float32)
            factor *= 8.0 if "final_norm" in name else 0.5 if "self_conditioner" in name else 1.0
            param[...] = param[...] * factor
    for name, param in params.items():
        if "denoise_scalar" in name:  # Google's layout has one scalar for both modes
            param[...] = params[name.replace("denoise", "encode")][...]
    return model


def generation(shared: Shared, then: Side, now: Side) -> Iterator[Row]:
    """Tokens, steps and entropies of a ragged batch, canvas by canvas and left to right."""
    quantized = shared.folder / "sudoku_int4"
    options = {"source": str(shared.checkpoints["sudoku"]), "target": str(quantized)}
    now.ask("convert", format="orbax", quantize="int4", **options)
    for name, checkpoint, prompts, sampler in (
        ("tiny", shared.checkpoints["tiny"], "tiny", TINY_SAMPLER),
        ("sudoku", shared.checkpoints["sudoku"], "sudoku", SUDOKU_SAMPLER),
        ("sudoku in int4", quantized, "sudoku", SUDOKU_SAMPLER),
    ):
        found = []
        for side in (then, now):
            outputs = side.scratch / f"{name}.npz"
            side.ask(
                "generate",
                checkpoint=str(checkpoint),
                inputs=str(shared.prompts[prompts]),
                outputs=str(outputs),
                sampler=sampler,
            )
            found.append(contents.of_arrays(outputs))
        yield Row(f"generated by {name}", *found)


def training(shared: Shared, then: Side, now: Side) -> Iterator[Row]:
    """Losses and weights of five steps of three runs on one device."""
    init = f"--config.init={shared.checkpoints['base']}"
    for name, config, flags in (
        ("base", "base", ()),
        ("needle", "needle", ()),
        ("sudoku", "sudoku", (init,)),
        ("sudoku with LoRA", "sudoku", (init, "--config.lora.rank=2")),
    ):
        folders = []
        for side in (then, now):
            workdir = side.scratch / f"run {name}"
            command = ("-m", "train.main", f"--config=configs/{config}.py", f"--workdir={workdir}")
            side.run(*command, *TRAINING, *flags)
            folders.append(workdir)
        metrics = [contents.of_metrics(folder / "metrics.jsonl") for folder in folders]
        both = metrics[0].keys() & metrics[1].keys()  # one side may log figures of its own
        shared = ({name: figures[name] for name in both} for figures in metrics)
        yield Row(f"figures of 5 steps of {name}", *shared)
        models = (contents.of_folder(folder / "model") for folder in folders)
        yield Row(f"model after 5 steps of {name}", *models)
        if (folders[1] / "adapter").exists():
            adapters = (contents.of_folder(folder / "adapter") for folder in folders)
            yield Row(f"PEFT adapter of {name}", *adapters)


def conversion(shared: Shared, then: Side, now: Side) -> Iterator[Row]:
    """Files, or keys and values, of converted checkpoints."""
    for name, source, format, options in CONVERSIONS:
        found = []
        for side in (then, now):
            target = side.scratch / name
            source_path = str(shared.checkpoints[source])
            side.ask("convert", source=source_path, target=str(target), format=format, **options)
            found.append(contents.of_folder(target))
        yield Row(name, *found)


def times(then: Side, now: Side, repeats: int) -> Iterator[str]:
    """Lines with the milliseconds of each step, taken in turn.

    A line has both medians, the median of the ratios of one turn with its quartiles, and the ratio
    of the fastest times, which other work on the machine disturbs least.
    """
    for name, title in (("denoise", "denoising step"), ("train", "training step")):
        for side in (then, now):
            for _ in range(2):  # compiles, and warms up
                side.ask(name)
        pairs = []
        for i in range(repeats):
            order = (then, now) if i % 2 else (now, then)
            seconds = {side: side.ask(name)["seconds"] for side in order}
            pairs.append((seconds[then], seconds[now]))
        before, after = zip(*pairs, strict=True)
        medians = " | ".join(f"{1e3 * statistics.median(side):.2f}" for side in (before, after))
        low, ratio, high = np.percentile([b / a for a, b in pairs], (25, 50, 75))
        fastest = min(after) / min(before)
        yield f"| {title} | {medians} | {ratio:.3f} [{low:.3f}, {high:.3f}] | {fastest:.3f} |"


EXACT: dict[str, Callable[[Shared, Side, Side], Iterator[Row]]] = {
    "generation": generation,
    "training": training,
    "conversion": conversion,
}
ALL = (*EXACT, "times")
