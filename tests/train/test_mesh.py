"""Meshes of 8 virtual devices compute what one device does, and runs go on on other meshes."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import PartitionSpec as P

from diffusiongemma import DiffusionGemma, ModelConfig, load_checkpoint, save_checkpoint
from diffusiongemma.lora import add_lora
from diffusiongemma.moe import MoE
from diffusiongemma.sharding import MeshConfig, param_sharding, param_spec, place_batch
from sample import SamplerConfig, generate
from train.config import RunConfig
from train.loop import train
from train.loss import LossConfig, sft_loss
from train.optimizer import OptimizerConfig, make_optimizer
from train.step import init_state, make_train_step

CONFIG = ModelConfig.preset("tiny", layer_types=("sliding",), num_experts=8)
LOSS = LossConfig(canvas_size=12, noise_draws=2)
MESH = MeshConfig(2, 2, 2)
BATCH = {
    "tokens": np.random.default_rng(0).integers(0, 64, (8, 32)).astype(np.int32),
    "prompt_len": np.random.default_rng(1).integers(10, 20, 8).astype(np.int32),
    "answer_len": np.full(8, 9, np.int32),
    "num_canvases": np.ones(8, np.int32),
}


def build(lora: bool = False, config: ModelConfig = CONFIG) -> DiffusionGemma:
    model = DiffusionGemma(config, rngs=nnx.Rngs(0))
    if lora:
        add_lora(model, 2, 4.0, rngs=nnx.Rngs(1))
    return model


def gradients(mesh: MeshConfig, lora: bool):
    """(loss, gradients) as NumPy arrays."""
    devices = mesh.make()
    with jax.set_mesh(devices):
        graphdef, state, frozen = init_state(build(lora), optax.sgd(0.1), devices)

        @jax.jit
        def grad(params, frozen, batch):
            def loss_fn(params):
                model = nnx.merge(graphdef, params, frozen)
                return sft_loss(model, batch, jax.random.key(3), LOSS)[0]

            return jax.value_and_grad(loss_fn)(params)

        return jax.device_get(grad(state.params, frozen, place_batch(BATCH, devices)))


@functools.lru_cache
def gradients_of_one(lora: bool):
    return gradients(MeshConfig(), lora)


@pytest.mark.parametrize(
    ("mesh", "lora"),
    [(MESH, True), (MeshConfig(fsdp=8), False), (MeshConfig(data=2, expert=4), False)],
    ids=str,
)
def test_loss_and_gradients_are_those_of_one_device(mesh, lora):
    wanted_loss, wanted = gradients_of_one(lora)
    loss, found = gradients(mesh, lora)
    np.testing.assert_allclose(loss, wanted_loss, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(wanted), jax.tree.leaves(found), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=2e-6)
    assert max(np.abs(x).max() for x in jax.tree.leaves(wanted)) > 0.01


def test_experts_are_gathered_where_they_are_used_and_their_gradients_summed_in_parts():
    graphdef, state = nnx.split(MoE(CONFIG, rngs=nnx.Rngs(0)))
    x = np.ones((8, 4, CONFIG.width), np.float32)

    def loss_fn(state):
        return nnx.merge(graphdef, state)(x, x).sum()

    with jax.set_mesh(MeshConfig(fsdp=8).make()):
        program = str(jax.make_jaxpr(jax.grad(loss_fn))(state))
    assert program.count(" all_gather[") == program.count(" reduce_scatter[") == 2


def three_steps(mesh: MeshConfig, optimizer: optax.GradientTransformation, **options):
    devices = mesh.make()
    accumulate = options.pop("accumulate", 1)
    with jax.set_mesh(devices):
        model = build()
        model.remat = options.pop("remat", False)
        graphdef, state, frozen = init_state(model, optimizer, devices, **options)
        del model
        step = make_train_step(graphdef, optimizer, LOSS, 0, accumulate, 0.5, like=state)
        for _ in range(3):
            state, figures = step(state, frozen, place_batch(BATCH, devices))
    return state, {k: float(v) for k, v in figures.items()}


@functools.lru_cache
def three_steps_of_one(optimizer: str, accumulate: int):
    return three_steps(MeshConfig(), OPTIMIZERS[optimizer], accumulate=accumulate)


# Adam divides tiny gradients by their own size, rounding and all; SGD shows the steps as they are.
OPTIMIZERS = {
    "sgd": optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, momentum=0.9)),
    "adam": make_optimizer(OptimizerConfig("adam", 1e-3, 1e-4, 1, "hold"), 10),
    "adafactor": make_optimizer(OptimizerConfig("adafactor", 1e-3, 1e-4, 1, "hold"), 10),
    "muon": make_optimizer(OptimizerConfig("muon", 1e-3, 1e-4, 1, "hold"), 10),
}


@pytest.mark.parametrize("name", ["adam", "adafactor", "muon"])
def test_the_optimizers_state_lies_where_its_weights_do(name):
    optimizer = OPTIMIZERS[name]

    def after_two_updates(mesh: MeshConfig):
        state = init_state(build(), optimizer, mesh.make())[1]
        places = jax.tree.map(lambda x: x.sharding, (state.params, state.opt_state))

        @functools.partial(jax.jit, out_shardings=places)
        def update(params, opt_state):
            updates, opt_state = optimizer.update(jax.tree.map(jnp.sin, params), opt_state, params)
            return optax.apply_updates(params, updates), opt_state

        params, opt_state = update(*update(state.params, state.opt_state))
        return state._replace(params=params, opt_state=opt_state)

    wanted, state = map(after_two_updates, (MeshConfig(), MESH))
    for a, b in zip(jax.tree.leaves(wanted), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(jax.device_get(b), jax.device_get(a), rtol=1e-4, atol=1e-6)
    specs = {x.sharding.spec for x in jax.tree.leaves(state.params) if x.ndim > 1}
    assert P("expert", "fsdp", None) in specs and P(None, "fsdp") in specs
    moments = [x for x in jax.tree.leaves(state.opt_state) if x.ndim > 1]
    if name == "adam":
        assert len(moments) == 2 * sum(x.ndim > 1 for x in jax.tree.leaves(state.params))
    if name in ("adam", "muon"):
        assert {x.sharding.spec for x in moments} == specs


def test_accumulated_gradients_and_remat_on_a_mesh():
    wanted, figures = three_steps_of_one("sgd", 2)
    state, found = three_steps(MESH, OPTIMIZERS["sgd"], accumulate=2, remat=True, ema=True)
    wanted, state = wanted._replace(ema=None), state._replace(ema=None)
    for a, b in zip(jax.tree.leaves(wanted), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(jax.device_get(b), jax.device_get(a), rtol=1e-4, atol=3e-6)
    np.testing.assert_allclose(found["loss"], figures["loss"], rtol=1e-5)


@pytest.mark.parametrize(
    ("mesh", "rows"),
    [(MESH, 4), (MeshConfig(expert=8), 1)],
    ids=str,
)
def test_generate_gives_the_same_tokens(mesh, rows, tmp_path):
    model = build(config=dataclasses.replace(CONFIG, layer_types=("sliding", "full")))
    # Rounding grows from step to step in a random model that listens to itself.
    for linear in (model.self_conditioner.mlp.gate, model.self_conditioner.mlp.down):
        linear.kernel[...] = linear.kernel[...] * 0.5
    save_checkpoint(model, tmp_path)
    tokens = BATCH["tokens"][:rows, :10]
    sampler = SamplerConfig(max_steps=4, max_new_tokens=24, stop_ids=(), trajectory=True)
    key = jax.random.key(0)
    wanted = generate(model, tokens, None, key, sampler)
    devices = mesh.make()
    with jax.set_mesh(devices):
        loaded = load_checkpoint(tmp_path, sharding=param_sharding(devices))
        found = generate(loaded, tokens, None, key, sampler)
    np.testing.assert_array_equal(found.tokens, wanted.tokens)
    np.testing.assert_array_equal(found.steps, wanted.steps)
    np.testing.assert_allclose(found.entropy, wanted.entropy, atol=1e-4)


@pytest.fixture
def compile_cache(tmp_path):
    """Keeps compiled programs in a folder, so that none is compiled twice."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path / "xla"),
        "jax_persistent_cache_min_compile_time_secs": 0,
    }
    before = {name: getattr(jax.config, name) for name in settings}

    def use(values):
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()

    use(settings)
    yield
    use(before)


def test_a_run_goes_on_on_other_meshes(tmp_path, compile_cache):
    fields = {
        "seed": 0,
        "steps": 6,
        "batch_size": 8,
        "preset": "tiny",
        "overrides": {"vocab_size": 1024, "layer_types": ("full",)},
        "data": {"task": "sudoku", "prompt_length": 40, "box": 2, "clues": "6-8"},
        "loss": {"canvas_size": 24, "noise_draws": 2},
        "optimizer": {"name": "adam", "peak_lr": 1e-3, "end_lr": 1e-4, "warmup": 2},
        "eval": {"every": 0},
        "log_every": 1,
        "checkpoint_every": 2,
        "ema": 0.5,
    }

    def losses(workdir):
        lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
        return [line["loss"] for line in lines if "loss" in line]

    class Stopped(Exception):
        pass

    def run(workdir, mesh, until=None):
        config = RunConfig.from_dict(fields | {"mesh": mesh})
        with pytest.MonkeyPatch.context() as patch:
            if until:
                stop_after(patch, until)
            try:
                train(config, workdir)
            except Stopped:
                return

    def stop_after(patch, step):
        from train import loop

        def stop(batch, mesh):
            steps.append(1)
            if len(steps) > step:
                raise Stopped
            return place_batch(batch, mesh)

        steps = []
        patch.setattr(loop, "place_batch", stop)

    run(tmp_path / "one", {})
    moved = tmp_path / "moved"
    run(moved, {"data": 2, "fsdp": 2, "expert": 2}, until=3)
    run(moved, {"fsdp": 2}, until=3)
    run(moved, {})
    np.testing.assert_allclose(losses(moved), losses(tmp_path / "one"), rtol=1e-4)
    one, other = (load_checkpoint(tmp_path / name / "model") for name in ("one", "moved"))
    for a, b in zip(
        jax.tree.leaves(nnx.state(one)), jax.tree.leaves(nnx.state(other)), strict=True
    ):
        np.testing.assert_allclose(b, a, atol=2e-3)


def test_where_parameters_go():
    assert param_spec("embedder.embedding", 2) == P("fsdp", None)
    assert param_spec("layers.3.attention.q.kernel", 2) == P("fsdp", None)
    assert param_spec("layers.3.attention.o.kernel", 2) == P(None, "fsdp")
    assert param_spec("layers.10.moe.down.kernel", 3) == P("expert", None, "fsdp")
    assert param_spec("layers.10.moe.down.lora_a", 3) == P("expert")
    assert param_spec("layers.3.attention.q.lora_b", 2) == P()
    assert param_spec("final_norm.scale", 1) == P()


@pytest.mark.parametrize(
    "mesh, message",
    [
        (MeshConfig(expert=3), "mesh.expert 3 does not divide 8 experts"),
        (MeshConfig(fsdp=3), "mesh.fsdp 3 does not divide the width 32"),
        (MeshConfig(data=2, fsdp=8), "= 16 does not divide the batch of 8"),
    ],
)
def test_a_mesh_that_does_not_divide(mesh, message):
    with pytest.raises(ValueError, match=message):
        mesh.check(CONFIG, batch_size=8)


def test_a_mesh_of_too_many_devices():
    with pytest.raises(ValueError, match="takes 16 devices, and there are 8"):
        MeshConfig(data=16).make()
    with pytest.raises(ValueError, match=r"mesh\.data must be at least 1, not 0"):
        MeshConfig(data=0)
