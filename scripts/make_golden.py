"""Writes tests/golden: tiny random checkpoints, an adapter, and transformers' outputs for them.

The results are committed, so that tests need neither torch nor transformers. To write them again,
use an environment of its own:

    pip install torch==2.13.0 transformers==5.23.0 peft==0.21.2
    python scripts/make_golden.py

Each folder tests/golden/hf_<name>/ is a checkpoint in the released layout (float32), written by
save_pretrained, with outputs.npz beside it. The outputs for a prompt of P tokens have names that
begin with "p<P>_":

    prompt [1, P]
    encode_logits [1, P, V]
    canvas [3, 1, C]: the canvases of three steps
    logits [3, 1, C, V]: step 0 has no self-conditioning; step i has the soft embedding of
        logits[i-1] / TEMPERATURES[i-1]
    soft [2, 1, C, D]: these soft embeddings
    commit [2, 1, C]: canvases that are then encoded, one after the other
    commit_logits [2, 1, C, V]
    after [2, 1, C, V]: logits of canvas[0] without self-conditioning after each commit

tests/golden/peft_six/ is an adapter for hf_six as PEFT saves it, with the outputs for one prompt.
Layers 4 and 5 lack the factors of one of the experts' two stacks, because PEFT's names depend on
that. The factors of encoder and decoder are equal. tests/golden/peft_apart/ is another one, whose
factors are not: some maps have two pairs, and some have a pair in one of the two parts only.

Every weight that starts as ones (norms, scalars, scales) is random here, and the encoder's layer
scalars differ from the decoder's. With ones, a parity test would prove little.
"""

import json
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import DiffusionGemmaConfig, DiffusionGemmaTextConfig, DynamicCache
from transformers.models.diffusion_gemma import DiffusionGemmaForBlockDiffusion
from transformers.models.gemma4.configuration_gemma4 import Gemma4VisionConfig

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden"
TEMPERATURES = (0.7, 0.5)
# A change in the last bit of every weight moves transformers' own outputs. With these seeds, out of
# 0 to 7, it moves them least (by 1e-5 and 5e-5), so the tests' tolerance lets no real error pass.
SEEDS = {"six": 3, "twelve": 2}
PROMPTS = (5, 21)  # shorter and longer than every window below

# PEFT has factors for both parts, and does not tie them.
PARTS = ("model.decoder.layers", "model.encoder.language_model.layers")
LINEAR_MAPS = (
    r"model\.(decoder|encoder\.language_model)\.(layers\.\d\.(self_attn\.[qkvo]_proj|router\.proj"
    r"|mlp\.(gate|up|down)_proj)|self_conditioning\.(gate|up|down)_proj)"
)
STACKS = [
    f"{part}.{n}.experts.{stack}"
    for part in PARTS
    for stack, layers in (("gate_up_proj", (0, 1, 2, 3, 4)), ("down_proj", (0, 1, 2, 3, 5)))
    for n in layers
]
# Names as trl and unsloth give them: the ends of modules' names.
APART_MAPS = [
    "layers.0.self_attn.q_proj",
    "layers.5.self_attn.o_proj",
    "router.proj",
    "model.decoder.layers.1.mlp.gate_proj",
    "model.encoder.language_model.layers.2.self_attn.v_proj",
    "self_conditioning.up_proj",
]
APART_STACKS = [
    "layers.3.experts.gate_up_proj",
    "layers.3.experts.down_proj",
    "decoder.layers.4.experts.gate_up_proj",
    "language_model.layers.4.experts.down_proj",
]

# Text config and canvas length. The second has other ratios between its sizes, and RoPE thetas that
# change the outputs visibly.
MODELS = {
    "six": (
        dict(
            vocab_size=64,
            hidden_size=32,
            intermediate_size=24,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            global_head_dim=16,
            num_global_key_value_heads=1,
            sliding_window=8,
            num_experts=4,
            top_k_experts=2,
            moe_intermediate_size=8,
            max_position_embeddings=512,
        ),
        12,
    ),
    "twelve": (
        dict(
            vocab_size=80,
            hidden_size=24,
            intermediate_size=20,
            num_hidden_layers=12,
            num_attention_heads=6,
            num_key_value_heads=3,
            head_dim=8,
            global_head_dim=24,
            num_global_key_value_heads=2,
            sliding_window=11,
            num_experts=5,
            top_k_experts=3,
            moe_intermediate_size=6,
            max_position_embeddings=1024,
            final_logit_softcapping=20.0,
            rope_parameters={
                "sliding_attention": {"rope_type": "default", "rope_theta": 500.0},
                "full_attention": {
                    "rope_type": "proportional",
                    "rope_theta": 3000.0,
                    "partial_rotary_factor": 0.5,
                },
            },
        ),
        7,
    ),
}


def build(text: dict, canvas_length: int, seed: int) -> DiffusionGemmaForBlockDiffusion:
    """A float32 model with eager attention, in which every weight is random and matters."""
    config = DiffusionGemmaConfig(
        text_config=DiffusionGemmaTextConfig(use_bidirectional_attention="vision", **text),
        # The smallest vision tower there is: this golden is of texts. make_golden_vision.py has one
        # of images.
        vision_config=Gemma4VisionConfig(
            hidden_size=4,
            intermediate_size=4,
            num_hidden_layers=0,
            num_attention_heads=1,
            num_key_value_heads=1,
            head_dim=4,
            patch_size=2,
            position_embedding_size=2,
        ),
        canvas_length=canvas_length,
    )
    config._attn_implementation = "eager"
    config._experts_implementation = "eager"
    model = DiffusionGemmaForBlockDiffusion(config).eval()
    rng = torch.Generator().manual_seed(seed)
    scalars = {n: b for n, b in model.named_buffers() if n.endswith("layer_scalar")}
    for name, tensor in sorted({**dict(model.named_parameters()), **scalars}.items()):
        random_weight(name, tensor, rng)
    return model


def random_weight(name: str, tensor: torch.Tensor, rng: torch.Generator) -> None:
    """Fills a weight with random numbers, at a scale that its name tells."""
    if "embed_tokens" in name:
        mean, std = 0.0, 0.5
    elif tensor.ndim >= 2:
        mean, std = 0.0, tensor.shape[-1] ** -0.5
    # Rounding errors of float32 grow through the layers, because the softmax has no factor
    # 1/sqrt(head_dim) and the layers nearly replace the residual. The next two kinds of weights
    # are small to prevent that.
    elif name.endswith("q_norm.weight"):
        mean, std = 0.5, 0.15
    elif name.split(".")[-2] in ("post_attention_layernorm", "post_feedforward_layernorm"):
        mean, std = 0.3, 0.1
    else:  # norms, layer scalars, router scale, per-expert scale
        mean, std = 1.0, 0.25
    tensor.data.copy_(mean + std * torch.randn(tensor.shape, generator=rng))


class Session:
    """The two modes of a model on one row's cache, which is of transformers' default class."""

    def __init__(self, model: DiffusionGemmaForBlockDiffusion):
        self.model = model
        self.cache = DynamicCache(config=model.config.get_text_config())
        self.length = 0

    def encode(self, tokens: torch.Tensor) -> torch.Tensor:
        """Writes tokens [1, T] to the cache, and returns their logits [1, T, V]."""
        out = self.model.model.encoder(
            input_ids=tokens,
            past_key_values=self.cache,
            position_ids=self._positions(tokens),
        )
        self.length += tokens.shape[1]
        # transformers' encoder has no head, so the tied head and the softcap are applied here.
        cap = self.model.config.text_config.final_logit_softcapping
        return cap * torch.tanh(self.model.lm_head(out.last_hidden_state) / cap)

    def denoise(
        self, canvas: torch.Tensor, tempered: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits [1, C, V] of a canvas [1, C], and the soft embedding [1, C, D] that they had.

        Args:
          canvas: [1, C] int64.
          tempered: [1, C, V], the last step's logits over its temperature; None at the first step.
        """
        seen = []
        conditioner = self.model.model.decoder.self_conditioning
        with conditioner.register_forward_pre_hook(lambda _, args: seen.append(args[1])):
            logits = self.model(
                past_key_values=self.cache,
                decoder_input_ids=canvas,
                decoder_position_ids=self._positions(canvas),
                self_conditioning_logits=tempered,
            ).logits
        return logits, seen[0].clone()

    def _positions(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.arange(self.length, self.length + tokens.shape[1])[None]


@torch.no_grad()
def run(
    model: DiffusionGemmaForBlockDiffusion, prompt_length: int, seed: int
) -> dict[str, np.ndarray]:
    """The outputs that the top of this file lists, for one random prompt."""
    rng = torch.Generator().manual_seed(seed)
    vocab, size = model.config.text_config.vocab_size, model.config.canvas_length

    def tokens(*shape: int) -> torch.Tensor:
        return torch.randint(0, vocab, shape, generator=rng)

    prompt, canvas, commit = tokens(1, prompt_length), tokens(3, 1, size), tokens(2, 1, size)
    session = Session(model)
    encode_logits = session.encode(prompt)
    first, zeros = session.denoise(canvas[0])
    assert not zeros.any(), "the first step's soft embedding must be exact zeros"
    logits, soft = [first], []
    for step, temperature in enumerate(TEMPERATURES):
        step_logits, step_soft = session.denoise(canvas[step + 1], logits[-1] / temperature)
        logits.append(step_logits)
        soft.append(step_soft)
    commit_logits, after = [], []
    for tokens_ in commit:
        commit_logits.append(session.encode(tokens_))
        after.append(session.denoise(canvas[0])[0])
    out = {
        "prompt": prompt,
        "encode_logits": encode_logits,
        "canvas": canvas,
        "logits": torch.stack(logits),
        "soft": torch.stack(soft),
        "commit": commit,
        "commit_logits": torch.stack(commit_logits),
        "after": torch.stack(after),
    }
    return {
        f"p{prompt_length}_{k}": v.numpy().astype(np.float32 if v.is_floating_point() else np.int32)
        for k, v in out.items()
    }


def save_adapter(
    folder: Path,
    model: DiffusionGemmaForBlockDiffusion,
    base: str,
    modules: str | list[str],
    parameters: list[str],
    apart: bool = False,
) -> None:
    """Saves random LoRA factors, and what the model computes with them.

    Args:
      folder: a new folder.
      model: gets the factors, in place.
      base: path of the model's checkpoint, for the adapter's config.
      modules: the linear maps that get factors, as PEFT takes them.
      parameters: the stacks of experts that get factors, as PEFT takes them.
      apart: whether encoder and decoder have factors of their own; else they are equal.
    """
    # The scale alpha / r is 1.5, which is neither alpha nor one.
    config = LoraConfig(r=2, lora_alpha=3, target_modules=modules, target_parameters=parameters)
    model.name_or_path = base
    adapted = get_peft_model(model, config).eval()
    rng = torch.Generator().manual_seed(0)
    factors = {name: p for name, p in adapted.named_parameters() if ".lora_" in name}
    for name, factor in sorted(factors.items()):
        if apart or PARTS[1] not in name:
            factor.data.copy_(0.2 * torch.randn(factor.shape, generator=rng))
            if not apart:
                factors[name.replace(*PARTS)].data.copy_(factor.data)
    adapted.save_pretrained(folder)
    (folder / "adapter_model.safetensors").chmod(0o644)
    (folder / "README.md").unlink()  # PEFT's template of a model card
    about = json.loads((folder / "adapter_config.json").read_text())
    if isinstance(modules, list):
        about["target_modules"].sort()  # PEFT writes a set, in another order every time
    (folder / "adapter_config.json").write_text(json.dumps(about, indent=2))
    outputs = run(adapted.base_model.model, PROMPTS[0], seed=PROMPTS[0])
    np.savez(folder / "outputs.npz", **outputs)
    print(folder.name, sum(f.stat().st_size for f in folder.iterdir()), "bytes")


def main() -> None:
    torch.set_num_threads(1)  # sums in the same order, so that the files are the same every time
    for name, (text, canvas_length) in MODELS.items():
        folder = GOLDEN / f"hf_{name}"
        model = build(text, canvas_length, SEEDS[name])
        model.save_pretrained(folder)
        (folder / "model.safetensors").chmod(0o644)
        outputs = {}
        for prompt_length in PROMPTS:
            outputs |= run(model, prompt_length, seed=100 * SEEDS[name] + prompt_length)
        np.savez(folder / "outputs.npz", **outputs)
        spread = {k: round(float(np.abs(v).max()), 2) for k, v in outputs.items() if v.ndim > 2}
        print(folder.name, sum(f.stat().st_size for f in folder.iterdir()), "bytes", spread)
    for name, *options in (
        ("peft_six", LINEAR_MAPS, STACKS),
        ("peft_apart", APART_MAPS, APART_STACKS, True),
    ):
        model = build(*MODELS["six"], SEEDS["six"])
        save_adapter(GOLDEN / name, model, "../hf_six", *options)


if __name__ == "__main__":
    main()
