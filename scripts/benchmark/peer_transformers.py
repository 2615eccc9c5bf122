"""The other side of scripts.benchmark --peer=transformers: torch and transformers.

    python scripts/benchmark/peer_transformers.py FOLDER INPUTS.npz DTYPE

FOLDER is a checkpoint in the released layout. INPUTS.npz has tokens [B, P], canvas and noisy
[B, C], and logits [B, C, V], the logits that this project computes for the canvas. Each line on
stdin is a request, and a line of JSON on stdout answers it:

    check         the largest difference from the given logits
    denoise N     the seconds of one of N denoising steps, with the sampler, as generate() runs them
    prefill       the seconds of reading the tokens
    train         the seconds of a fine-tuning step, and its loss

transformers has several implementations of experts. The fastest one is used, found by trying.
"""

import json
import sys
import time

import numpy as np
import torch
from transformers import DynamicCache, LogitsProcessorList, PreTrainedConfig
from transformers.models.diffusion_gemma import (
    DiffusionGemmaForBlockDiffusion,
    DiffusionGemmaGenerationConfig,
)
from transformers.models.diffusion_gemma.generation_diffusion_gemma import (
    EntropyBoundSamplerConfig,
)

EXPERTS = ("grouped_mm", "eager")


class Peer:
    """A model on the fastest device there is; each public method answers a request."""

    def __init__(self, folder: str, inputs: str, dtype: str):
        arrays = np.load(inputs)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        ids = {
            k: torch.from_numpy(arrays[k].astype(np.int64)) for k in ("tokens", "canvas", "noisy")
        }
        self.tokens, self.canvas, self.noisy = (x.to(self.device) for x in ids.values())
        self.logits = torch.from_numpy(arrays["logits"])
        models = {}
        for experts in EXPERTS:
            self.model = DiffusionGemmaForBlockDiffusion.from_pretrained(
                folder, dtype=getattr(torch, dtype), experts_implementation=experts
            ).to(self.device)
            self._prefill()
            self.denoise(1)
            models[experts] = (min(self.denoise(2)["seconds"] for _ in range(3)), self.model)
        self.experts = min(models, key=lambda name: models[name][0])
        self.tried = {name: seconds for name, (seconds, _) in models.items()}
        self.model = models[self.experts][1]
        self._prefill()
        self.optimizer = None

    def about(self) -> dict:
        """What the figures depend on, and the seconds of each implementation of experts."""
        return {
            "device": self.device,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "experts": self.experts,
            "tried": self.tried,
        }

    @torch.inference_mode()
    def check(self) -> dict:
        """The largest difference from the given logits, and the largest of these."""
        logits = self.model(
            past_key_values=self.cache,
            decoder_input_ids=self.canvas,
            decoder_position_ids=self._positions(),
        ).logits
        return {
            "difference": float((logits.cpu() - self.logits).abs().max()),
            "largest": float(self.logits.abs().max()),
        }

    @torch.inference_mode()
    def denoise(self, steps: int) -> dict:
        """Seconds of one step, in the loop of transformers' generate without early stopping."""
        model = self.model
        config = DiffusionGemmaGenerationConfig(
            max_denoising_steps=steps,
            t_min=0.4,
            t_max=0.8,
            stability_threshold=1,
            confidence_threshold=0.005,
            sampler_config=EntropyBoundSamplerConfig(entropy_bound=0.1),
        )
        sampler = model._prepare_sampler(config)
        processor = model._prepare_logits_processor(config, LogitsProcessorList())
        stopping = model._prepare_diffusion_stopping_criteria(config)
        batch = self.canvas.shape[0]
        self._wait()
        started = time.perf_counter()
        canvas, soft, masks, finished = model._prepare_denoiser_inputs(
            None, self.cache, sampler, stopping, batch, self.canvas.device, {}
        )
        best = canvas
        for step in range(steps, 0, -1):
            canvas, best, soft, _ = model._denoising_step(
                model.forward,
                canvas,
                best,
                self.tokens,
                self._positions(),
                soft,
                masks,
                self.cache,
                finished.clone(),
                step,
                sampler,
                processor,
                stopping,
            )
        self._wait()
        return {"seconds": (time.perf_counter() - started) / steps}

    @torch.inference_mode()
    def _prefill(self) -> None:
        self.cache = self._encode(self.tokens, DynamicCache(config=self._text()), 0)[1]

    def prefill(self) -> dict:
        """Seconds of reading the tokens into an empty cache."""
        started = time.perf_counter()
        self._prefill()
        self._wait()
        return {"seconds": time.perf_counter() - started}

    def train(self) -> dict:
        """Seconds and loss of an Adam step: prompt encoded, canvas denoised twice and encoded."""
        if self.optimizer is None:
            self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4)
        self._wait()
        started = time.perf_counter()
        clean, length = self.canvas, self.tokens.shape[1]
        hidden, cache = self._encode(self.tokens, DynamicCache(config=self._text()), 0)
        arguments = {
            "past_key_values": cache,
            "decoder_input_ids": self.noisy,
            "decoder_position_ids": self._positions(),
        }
        with torch.no_grad():
            first = self.model(**arguments).logits
        logits = self.model(**arguments, self_conditioning_logits=first).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), clean.flatten())
        hidden = torch.cat([hidden, self._encode(clean, cache, length)[0]], 1)[:, :-1]
        cap = self.model.final_logit_softcapping
        predicted = cap * torch.tanh(self.model.lm_head(hidden).float() / cap)
        targets = torch.cat([self.tokens, clean], 1)[:, 1:]
        loss = loss + torch.nn.functional.cross_entropy(predicted.flatten(0, 1), targets.flatten())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self._wait()
        return {"seconds": time.perf_counter() - started, "loss": loss.item()}

    def _encode(
        self, tokens: torch.Tensor, cache: DynamicCache, start: int
    ) -> tuple[torch.Tensor, DynamicCache]:
        positions = torch.arange(start, start + tokens.shape[1], device=tokens.device)[None]
        out = self.model.model.encoder(
            input_ids=tokens, past_key_values=cache, position_ids=positions
        )
        return out.last_hidden_state, cache

    def _positions(self) -> torch.Tensor:
        length, size = self.tokens.shape[1], self.canvas.shape[1]
        return torch.arange(length, length + size, device=self.device)[None]

    def _text(self) -> PreTrainedConfig:
        return self.model.config.get_text_config()

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def main() -> None:
    # Libraries print to stdout; that must not mix with the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    peer = Peer(*sys.argv[1:])
    print(json.dumps(peer.about()), file=answers, flush=True)
    for line in sys.stdin:
        name, *args = line.split()
        print(json.dumps(getattr(peer, name)(*map(int, args))), file=answers, flush=True)


if __name__ == "__main__":
    main()
