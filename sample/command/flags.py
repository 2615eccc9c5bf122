"""The flags of sample.main. Those of the samplers come from the fields of their dataclasses."""

import dataclasses
import re
from pathlib import Path

from absl import flags

from data.images.patches import BUDGETS, USUAL_BUDGET
from sample import cli
from sample.autoregressive import AutoregressiveConfig
from sample.command.console import complain
from sample.config_flags import define_fields
from sample.step import SamplerConfig

SAMPLER = tuple(f.name for f in dataclasses.fields(SamplerConfig))
AUTOREGRESSIVE = tuple(f.name for f in dataclasses.fields(AutoregressiveConfig))
SHARED = set(SAMPLER) & set(AUTOREGRESSIVE)
LOOPBACK = "127.0.0.1"
# What says which answers to make, and where they go. A server is told by its requests.
ASKS = ("prompt", "prompts", "fill", "edit", "spans", "out", "page", "draft", "batch_size")
SHOWS = ("image", "video")


def define_flags() -> flags.FlagValues:
    """Defines all flags, in a set of their own."""
    values = flags.FlagValues()

    def text(name: str, help: str) -> None:
        flags.DEFINE_string(name, None, help, flag_values=values)

    def number(
        name: str, default: int | None, help: str, least: int, most: int | None = None
    ) -> None:
        flags.DEFINE_integer(
            name, default, help, lower_bound=least, upper_bound=most, flag_values=values
        )

    def switch(name: str, default: bool | None, help: str) -> None:
        flags.DEFINE_bool(name, default, help, flag_values=values)

    text("checkpoint", "Folder of a checkpoint or an adapter, or the workdir of a training run.")
    text("base", "Folder of an adapter's base model. Default: the folder that the adapter names.")
    text("tokenizer", "A tokenizer.json. Default: the checkpoint's, else this project's.")
    text("dtype", "Dtype of the weights: float32, bfloat16 or float16. Default: as stored.")
    text(
        "prompt",
        "One prompt. Without --prompt and --prompts, the text that is piped in is the prompt, and "
        "beside them it is refused. If nothing is piped in, a chat begins.",
    )
    text(
        "prompts",
        "File of prompts, or - for standard input: JSON records with a prompt or messages, one in "
        "each line or in an array, or a text with one prompt in each line. The content decides "
        "which of them it is, and not the file's name.",
    )
    text(
        "fill",
        "Text in which the model writes the holes and nothing else: <fill:12> takes at most 12 "
        "tokens, and <fill:4-24> tries lengths from 4 to 24. --prompt may give an instruction. "
        'Records of --prompts have "fill".',
    )
    text(
        "edit",
        "Text to change, within --spans and within as many tokens as it has. --prompt may give an "
        'instruction. Records of --prompts have "edit" and "spans".',
    )
    text(
        "spans",
        "Where the text of --edit may change: a regular expression, or numbers of lines such as "
        "3-5,9.",
    )
    help = "Image to show with the prompt. Repeat the flag for more; they come in this order."
    flags.DEFINE_multi_string("image", [], help, flag_values=values)
    help = "Video to show with the prompt, after the images: a file, or a folder of frames."
    flags.DEFINE_multi_string("video", [], help, flag_values=values)
    help = (
        "Largest number of soft tokens of an image. Default: that of the checkpoint's processor, "
        f"else {USUAL_BUDGET}."
    )
    budgets = list(map(str, BUDGETS))
    flags.DEFINE_enum("image_tokens", None, budgets, help, flag_values=values)
    text("system", "System turn for prompts that have none.")
    switch("thinking", False, "Ask the model to think before it answers.")
    switch("show_thoughts", False, "Print the model's thoughts before its answer.")
    text(
        "out",
        "FILE.jsonl that answers are appended to. A prompt is not asked again if the file has this "
        "checkpoint's answer to it, with the same settings.",
    )
    text(
        "page",
        "FILE.html that shows every denoising step of the first answers, for a browser. With "
        "--mode=both it shows the answers left to right beside them. Each of these answers is "
        "generated several times, so that its time is measured without the recording.",
    )
    number(
        "serve",
        None,
        "Port to serve a live page and an OpenAI-compatible /v1 at, until Ctrl-C. With 0, any free "
        "port is taken.",
        least=0,
        most=65535,
    )
    text(
        "host",
        f"Address or name to listen at, with --serve. Default: {LOOPBACK}, so that nobody "
        "but this machine can ask.",
    )
    text(
        "image_folder",
        "Folder whose images and videos requests to the server may name by their paths. Default: "
        "requests may name no file, and send images as data URLs.",
    )
    text("regex", "Regular expression that every answer matches as a whole.")
    text("schema", "FILE of a JSON schema. Every answer is JSON that it accepts.")
    help = "Text before which an answer ends. It does not count in thoughts and tool calls"
    flags.DEFINE_multi_string("stop", [], help, flag_values=values)
    help = "Number of answers to each prompt, each drawn with noise of its own."
    number("num_samples", 1, help, least=1)
    modes = ["diffusion", "ar", "both"]
    help = "Denoise canvases, decode left to right, or compare the two on the same prompts."
    flags.DEFINE_enum("mode", "diffusion", modes, help, flag_values=values)
    switch(
        "draft",
        None,
        "Redraw the canvas at every step. Default: do so if answers go to a terminal one by one.",
    )
    cli.define_seed(values, 0, "Random seed.")
    help = "Number of answers that are made together. Default: --num-samples."
    number("batch_size", None, help, least=1)
    define_fields(values, SamplerConfig, SAMPLER)
    define_fields(values, AutoregressiveConfig, [n for n in AUTOREGRESSIVE if n not in SHARED])
    cli.define_jit(values)
    return values


def rows_together(values: flags.FlagValues) -> int:
    """The number of answers that are made together."""
    return values.batch_size or values.num_samples


def check_flags(values: flags.FlagValues) -> None:
    """Raises ValueError for flags that are missing or do not go together."""
    if not values.checkpoint:
        raise ValueError("--checkpoint=DIR is needed")
    _check_server(values)
    if values.prompt is not None and values.prompts is not None:
        raise ValueError("give one of --prompt and --prompts")
    if values.prompts is not None and not values.fill is values.edit is values.spans is None:
        raise ValueError(
            "--fill, --edit and --spans are for one text: a record of --prompts has them as fields"
        )
    if values.prompts is not None and (values.image or values.video):
        raise ValueError(
            "--image and --video are for one prompt: a record of --prompts has them as parts, such "
            'as {"type": "image", "image": "FILE"}'
        )
    for name in SHOWS:
        if "" in values[name].value:
            raise ValueError(f"--{name}= has no file")
    for name in ("base", "tokenizer", "dtype", "prompts", "out", "page", "host", "regex", "schema"):
        if values[name].value == "":
            raise ValueError(f"--{name}= has no text")
    mode = values.mode
    for other, names in (("diffusion", SAMPLER), ("ar", AUTOREGRESSIVE)):
        wrong = [n for n in names if n not in SHARED and values[n].value is not None]
        if wrong and mode not in (other, "both"):
            name = wrong[0].replace("_", "-")
            raise ValueError(f"--{name} is for --mode={other}, not for --mode={mode}")
    if values.draft and (mode != "diffusion" or rows_together(values) > 1 or values.out):
        raise ValueError("--draft is for one answer at a time, in --mode=diffusion, without --out")
    demands = [name for name in ("regex", "schema") if values[name].value is not None]
    others = [name for name in ("thinking", "stop") if values[name].value]
    if demands and others:
        raise ValueError(
            f"--{others[0]} and --{demands[0]} do not go together: the whole answer must obey, and "
            "it has neither thoughts nor a text that cuts it off"
        )
    if "" in values.stop:
        raise ValueError("--stop= has no text")
    if any("\ud800" <= character <= "\udfff" for text in values.stop for character in text):
        raise ValueError("--stop has bytes that are not UTF-8")
    asked = [("fill", values.fill or ""), ("edit", values.edit or "")]
    for name, text in [*(("stop", stop) for stop in values.stop), *asked]:
        if "\n" in text:  # whoever has written a line break knows how
            continue
        if escape := re.search(r"\\[nrt](?![A-Za-z])", text):
            complain(
                f"warning: --{name}={text} has a backslash and the letter {escape[0][1]}, as it is "
                f"written: in bash, --{name}=$'{escape[0]}' is the character that you may mean"
            )
    greedy = values.temperature == 0 or values.top_k == 1
    if mode != "diffusion" and values.num_samples > 1 and greedy:
        raise ValueError(
            "all samples would be equal: --num-samples needs a --temperature above 0, and no "
            "--top-k=1"
        )
    if values.out == "-":
        raise ValueError("--out needs the name of a file; without --out, answers go to stdout")
    if values.page and mode == "ar":
        raise ValueError("--page shows denoising: use --mode=diffusion, or --mode=both")
    if values.page and values.draft:
        raise ValueError("--draft and --page do not go together: the page shows every step")
    if values["candidates"].value is not None and not values.page:
        raise ValueError("--candidates is for --page=FILE.html")
    if values.trajectory and not values.out:
        raise ValueError("--trajectory is for --out=FILE.jsonl")
    if mode == "both" and values.out:
        raise ValueError("--out is for one mode, not for --mode=both")


def _check_server(values: flags.FlagValues) -> None:
    """Raises ValueError for flags that do not go with --serve, or that need it."""
    if values.serve is None:
        for name in ("host", "image_folder"):
            if values[name].value is not None:
                raise ValueError(f"--{name.replace('_', '-')} is for --serve=PORT")
        return
    if values.image_folder is not None and not Path(values.image_folder).is_dir():
        raise ValueError(f"--image-folder={values.image_folder}: there is no such folder")
    asks = [name for name in SHOWS if values[name].value]
    asks += [name for name in ASKS if values[name].value is not None]
    asks += [name for name in ("trajectory", "candidates") if values[name].value]
    asks += ["num_samples"] * (values.num_samples > 1) + ["show_thoughts"] * values.show_thoughts
    if asks:
        name = asks[0].replace("_", "-")
        raise ValueError(f"--{name} and --serve do not go together: requests say what is asked")
    if values.mode != "diffusion":
        raise ValueError(f"--serve is for --mode=diffusion, not for --mode={values.mode}")
