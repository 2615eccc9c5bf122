"""The figures of scripts.benchmark as a table and as a plot.

`found` is everywhere what figures.benchmark returns.
"""

from typing import Any

from train import plots


def table(found: dict[str, Any]) -> str:
    """All figures as lines of text."""
    kind = found["quantize"] or found["dtype"]
    touched = found["experts_touched"]
    touched = f"{min(touched)} to {max(touched)} experts a layer" if touched else "all experts"
    lines = [
        found["device"],
        f"{found['preset']}, {kind}, batch {found['batch']}, {found['context']} tokens of context, "
        f"{found['weights_gb']:.3f} GB of weights",
        "",
        f"{'ms':28}{'median':>10}{'fastest':>10}{'slowest':>10}{'compile s':>11}{'temp. MB':>10}",
        _row("denoising step", found["step_ms"], found, "steps"),
    ]
    lines += [_row(f"  {name}", ms, found, name) for name, ms in found["parts_ms"].items()]
    lines.append(_row("prefill", found["prefill_ms"]))
    if "lora_step_ms" in found:
        lines.append(_row("LoRA training step", found["lora_step_ms"]))
    lines += [
        "",
        f"least time by bytes: {found['floor_gb']:.3f} GB ({touched}) at "
        f"{found['copy_gb_s']:.1f} GB/s, as a copy was measured: {found['floor_ms']:.2f} ms",
        f"least time by arithmetic: {found['floor_gflop']:.1f} GFLOP at "
        f"{found['matmul_gflop_s']:.0f} GFLOP/s, as a matmul was measured: "
        f"{found['arithmetic_ms']:.2f} ms",
        f"a step takes {found['ratio_to_floor']:.2f} times the larger of both",
        f"{found['tokens_s']:.0f} tokens/s at {found['tpf']:g} tokens per forward; prefill "
        f"{found['prefill_tokens_s']:.0f} tokens/s; peak memory {found['peak_gb']:.2f} GB",
    ]
    for num, row in found.get("moe_by_experts_ms", {}).items():
        lines.append(
            f"MoE part, {num:>4} experts: {row['routed']:9.2f} ms; every expert on every row: "
            f"{row['every expert']:9.2f} ms"
        )
    return "\n".join(lines + _peer_lines(found.get("peer")))


def _row(name: str, ms: dict[str, float], found: dict | None = None, program: str = "") -> str:
    """A line of the table; with `found`, it ends in the program's compile time and memory."""
    line = f"{name:28}{ms['median']:10.2f}{ms['min']:10.2f}{ms['max']:10.2f}"
    if found:
        line += f"{found['compile_s'][program]:11.1f}{found['temporaries_mb'][program]:10.1f}"
    return line


def _peer_lines(peer: dict[str, Any] | None) -> list[str]:
    if peer is None:
        return []
    about, check = peer["about"], peer["check"]
    lines = [
        "",
        f"transformers (torch {about['torch']}, {about['device']}, {about['threads']} threads, "
        f"experts by {about['experts']}) on the same weights; logits equal to "
        f"{check['difference']:.1e} of {check['largest']:.1f}; measured in turn: medians, their "
        "ratio, and the lowest and highest ratio of one turn",
        f"{'ms':28}{'this':>10}{'peer':>10}{'ratio':>10}{'lowest':>10}{'highest':>10}",
    ]
    titles = {"denoise": "denoising step", "prefill": "prefill", "train": "training step"}
    for name, title in titles.items():
        if row := peer.get(name):
            ratios = row["ratios"]
            lines.append(
                f"{title:28}{row['ours_ms']['median']:10.2f}{row['theirs_ms']['median']:10.2f}"
                f"{row['ratio']:10.2f}{ratios['min']:10.2f}{ratios['max']:10.2f}"
            )
    if "train" in peer:
        ours, theirs = peer["train"]["first losses"]
        lines.append(f"loss of the first training step: {ours:.5f} and {theirs:.5f}")
    return lines


def plot(found: dict[str, Any]) -> bytes:
    """A PNG with bars: the step, its parts, its least times, and the peer's step."""
    bars = {"step": found["step_ms"]["median"]}
    bars |= {name: ms["median"] for name, ms in found["parts_ms"].items()}
    bars |= {"least, by bytes": found["floor_ms"], "least, by arithmetic": found["arithmetic_ms"]}
    if "peer" in found:
        bars["transformers' step"] = found["peer"]["denoise"]["theirs_ms"]["median"]
    kind = found["quantize"] or found["dtype"]
    title = f"{found['preset']}, {kind}, batch {found['batch']}"
    others = frozenset(name for name in bars if "least" in name or "transformers" in name)
    return plots.bar_plot(bars, others, "ms", title)
