"""Runs with images: rows carry them, the tower is trained and saved, and answers see them."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from safetensors.numpy import load_file

from data.images.budgets import folder_budgets
from data.images.patches import image_patches
from data.pipeline import Packer, make_dataset
from data.tasks.conversations import ConversationsTask
from data.tasks.read_grid import ReadGridTask
from data.text.conversations import conversation
from diffusiongemma import DiffusionGemma, Images, ModelConfig, load_checkpoint
from diffusiongemma.lora import add_lora
from diffusiongemma.parameters import BOUNDS, in_tower
from diffusiongemma.sharding import MeshConfig, place_batch
from diffusiongemma.vision.images import soft_counts
from diffusiongemma.vision.tower import ClippedLinear
from sample import SamplerConfig
from sample.checkpoint import Checkpoint
from sample.generation import Generation
from tests.data.images.pictures import picture
from tests.diffusiongemma.formats.folders import write_random
from train import evaluation as evaluation_module
from train import loop
from train.asked_items import AskedItems
from train.config import ConfigError, ImagesConfig, RunConfig
from train.evaluation import Evaluation
from train.loop import train
from train.loss import LossConfig, sft_loss
from train.mean_loss import mean_loss
from train.memory_plan import TrainingSetup, plan_training
from train.step import init_state, make_train_step
from train.vision import room_for, with_tower

TOWER = {
    "width": 8,
    "num_layers": 1,
    "num_heads": 2,
    "num_kv_heads": 2,
    "head_dim": 4,
    "mlp_dim": 8,
    "num_places": 16,
    "pool_size": 2,
    "clipped": True,
}
IMAGES = {"per_row": 2, "soft_tokens": 20, "tower": TOWER}
FIELDS = {
    "seed": 0,
    "steps": 2,
    "batch_size": 2,
    "preset": "tiny",
    "overrides": {"vocab_size": 1024, "layer_types": ("full",)},
    "data": {"task": "read_grid", "prompt_length": 40},
    "images": IMAGES,
    "loss": {"canvas_size": 24, "self_conditioning": 0.0, "encoder_weight": 0.0},
    "optimizer": {"name": "adam", "peak_lr": 1e-2, "end_lr": 1e-4, "warmup": 0},
    "checkpoint_every": 1,
}


def start(**overrides) -> Checkpoint:
    return Checkpoint.fresh(ModelConfig.preset("tiny", **(FIELDS["overrides"] | overrides)))


@pytest.fixture(scope="module")
def shape() -> ModelConfig:
    fresh = start()
    return with_tower(fresh.config, ImagesConfig(**IMAGES), fresh.tokenizer)


@pytest.fixture(scope="module")
def packer(shape) -> Packer:
    fresh = start()
    room = room_for(shape, (20, 20), fresh.tokenizer, per_row=2)
    return Packer(fresh.template, 64, 24, 1, room)


def with_images(*paths: str) -> dict:
    parts = [{"type": "image", "image": str(path)} for path in paths]
    asked = {"role": "user", "content": [*parts, {"type": "text", "text": "What is it?"}]}
    return {"messages": [asked, {"role": "assistant", "content": "A cat."}]}


def test_a_row_has_the_images_of_its_image_tokens(packer, tmp_path):
    for number in (0, 2):
        picture(number).save(tmp_path / f"{number}.png")
    record = with_images("0.png", "2.png")
    (tmp_path / "talk.json").write_text(json.dumps([record]))
    (item,) = ConversationsTask().read(str(tmp_path / "talk.json"), None, packer)
    row, vision = packer(item), packer.images.reader
    expected = [image_patches(picture(i), 20, vision.patch_size, 2) for i in (0, 2)]
    assert row["patches"].shape == (2, 80, 768)
    for found, positions, patches in zip(row["patches"], row["positions"], expected, strict=True):
        count = len(patches.patches)
        np.testing.assert_array_equal(found[:count], patches.patches)
        np.testing.assert_array_equal(positions[:count], patches.positions)
        assert not found[count:].any() and (positions[count:] == -1).all()
    tokenizer = packer.template.tokenizer
    begin, soft, end = map(tokenizer.token_id, ("<|image>", "<|image|>", "<image|>"))
    tokens = row["tokens"].tolist()
    counts = [len(patches.patches) // 4 for patches in expected]
    first = tokens.index(begin)
    wanted = [i for n in counts for i in (begin, *[soft] * n, end)]
    assert tokens[first : first + len(wanted)] == wanted and tokens.count(soft) == sum(counts)
    # A row without images has the same arrays, so that one program takes all.
    plain = packer(conversation("Hello", "Hi"))
    assert plain.keys() == row.keys() and (plain["positions"] == -1).all()
    assert plain["patches"].shape == row["patches"].shape
    with pytest.raises(ValueError, match=r"3 images, and a row has room for 2: .*per_row=3"):
        packer(item._replace(messages=with_images(*[tmp_path / "0.png"] * 3)["messages"]))
    with pytest.raises(ValueError, match="2 images or videos, and rows have no room for them"):
        dataclasses.replace(packer, images=None)(item)


def test_a_broken_image_names_its_line(packer, tmp_path, capsys):
    picture(0).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes((tmp_path / "good.png").read_bytes()[:300])
    names = ["good.png"] * 4
    names[2] = "bad.png"
    file = tmp_path / "talk.jsonl"
    file.write_text("".join(json.dumps(with_images(name)) + "\n" for name in names))
    with pytest.raises(ValueError, match=r"1 of 4 records .*\(line 3: .*bad.png: .*broken"):
        ConversationsTask(path=str(file)).open(0, packer)
    found = ConversationsTask(on_error="skip").read(str(file), None, packer)
    assert len(found) == 3 and "line 3: " in capsys.readouterr().err
    # Paths are those of the file's folder, and workers load what they name.
    batches = iter(make_dataset(found, packer, batch_size=1, seed=0, workers=1))
    try:
        batch = next(batches)
    finally:
        batches.close()
    np.testing.assert_array_equal(batch["patches"][0], packer(found[0])["patches"])


@pytest.fixture(scope="module")
def batch(packer) -> dict[str, np.ndarray]:
    task = ReadGridTask()
    items = task.open(0, check=None).train
    rows = [packer(task.conversation(items[i])) for i in range(2)]
    rows[1] |= packer(conversation("Hello", "Hi"))  # a row without an image
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def test_the_loss_sees_images_and_counts_no_image_token(shape, batch):
    """On two devices; the encoder's loss is what one device computes by hand."""
    # A sliding layer, in which the tokens of an image see each other.
    shape = dataclasses.replace(shape, layer_types=("sliding",))
    devices, config = MeshConfig(fsdp=2).make(), LossConfig(24, self_conditioning=0)
    with jax.set_mesh(devices):
        model = DiffusionGemma(shape, rngs=nnx.Rngs(0))
        graphdef, state, frozen = init_state(model, optax.sgd(0.1), devices, tower=True)
        assert not jax.tree.leaves(frozen)
        kernel = state.params["vision"]["projection"]["kernel"].get_value()
        assert not kernel.sharding.is_fully_replicated

        @jax.jit
        def loss(params, batch):
            return sft_loss(nnx.merge(graphdef, params), batch, jax.random.key(3), config)[1]

        figures = jax.device_get(loss(state.params, place_batch(batch, devices)))

    model = DiffusionGemma(shape, rngs=nnx.Rngs(0))
    images = Images(*(batch[k].reshape(-1, *batch[k].shape[2:]) for k in ("patches", "positions")))
    tokens, end = batch["tokens"], batch["prompt_len"] + 24 * batch["num_canvases"]
    logits = jax.jit(lambda m: m.encode(tokens, images=images)[0])(model)
    counts = np.arange(1, tokens.shape[1]) < end[:, None]
    counts &= tokens[:, 1:] != shape.vision.image_id
    by_hand = mean_loss(logits[:, :-1], jnp.asarray(tokens[:, 1:]), counts)
    np.testing.assert_allclose(figures["encoder_loss"], by_hand, rtol=1e-5)


def test_bounds_of_clipped_maps_have_no_gradient():
    clipped = ClippedLinear(2, 2, rngs=nnx.Rngs(0))
    clipped.input_max[...] = jnp.float32(0.5)
    grads = nnx.grad(lambda m: m(jnp.array([[1.0, 0.2]])).sum())(clipped)
    assert not any(grads[name].get_value() for name in BOUNDS)
    assert np.array_equal(grads["kernel"].get_value()[:, 0], np.float32([0.5, 0.2]))


def test_what_is_trained(shape):
    def trained(tower: bool, pattern: str | None = None) -> set[str]:
        def build():
            model = DiffusionGemma(shape, rngs=nnx.Rngs(0))
            if pattern:
                add_lora(model, 2, 4.0, rngs=nnx.Rngs(1), pattern=pattern)
            return model

        model = nnx.eval_shape(build)
        _, state, _ = init_state(model, optax.sgd(0.1), MeshConfig().make(), tower=tower)
        return {".".join(map(str, path)) for path, _ in nnx.to_flat_state(state.params)}

    text, both = trained(False), trained(True)
    assert not any(map(in_tower, text)) and text < both
    assert "vision.projection.kernel" in both and "vision.position_table" in both
    assert not any(map(in_tower, trained(True, ".*")))
    assert any(map(in_tower, trained(True, "vision|layers")))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The workdir of a run. Later runs of the module take its compiled step."""
    made = []

    def make_once(*args, **kwargs):
        made.append(made[0] if made else make_train_step(*args, **kwargs))
        return made[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_train_step", make_once)
        yield run_once(tmp_path_factory)


def run_once(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "read"
    train(RunConfig.from_dict(FIELDS), workdir)
    return workdir


def test_a_run_trains_and_keeps_the_tower_and_goes_on_with_the_same_bits(trained, tmp_path):
    exported = load_file(trained / "model" / "model.safetensors")
    assert any("vision_tower" in name for name in exported)
    model, last = load_checkpoint(trained / "model"), load_checkpoint(trained)
    fresh = load_checkpoint(trained / "checkpoints" / "1")
    paths = {}
    for kind, each in (("model", model), ("last", last), ("first", fresh)):
        flat = nnx.to_flat_state(nnx.state(each, nnx.Param))
        paths[kind] = {".".join(map(str, p)): np.asarray(v[...]) for p, v in flat}
    for path, value in paths["model"].items():
        np.testing.assert_array_equal(value, paths["last"][path], err_msg=path)
    kernel = "vision.patch_projection.kernel"
    assert np.any(paths["first"][kernel] != paths["last"][kernel])
    ids = model.config.vision.image_id, model.config.vision.begin_image_id
    assert ids == tuple(map(Checkpoint.open(trained).tokenizer.token_id, ("<|image|>", "<|image>")))

    stopped = tmp_path / "stopped"
    shutil.copytree(trained, stopped, ignore=shutil.ignore_patterns("metrics.jsonl"))
    shutil.rmtree(stopped / "model")
    shutil.rmtree(stopped / "checkpoints" / "2")
    train(RunConfig.from_dict(FIELDS), stopped)
    again = load_file(stopped / "model" / "model.safetensors")
    for name, tensor in exported.items():
        np.testing.assert_array_equal(tensor, again[name], err_msg=name)


def test_a_model_without_eyes_gets_a_tower_and_keeps_its_text_weights(shape, tmp_path):
    write_random(tmp_path / "base", start().config)
    fields = FIELDS | {"preset": "", "overrides": {}, "init": str(tmp_path / "base")}
    config = RunConfig.from_dict(fields)
    opened = Checkpoint.open(config.init)
    model = loop.build_model(config, opened, MeshConfig().make())
    assert model.config == dataclasses.replace(shape, canvas_size=24)
    (tmp_path / "run").mkdir()
    exported = load_file(loop.export(config, tmp_path / "run", opened, model) / "model.safetensors")
    for name, tensor in load_file(tmp_path / "base" / "model.safetensors").items():
        np.testing.assert_array_equal(exported[name], tensor.astype(np.float32), err_msg=name)
    again = load_checkpoint(tmp_path / "run" / "model")
    assert again.config == model.config
    for a, b in zip(
        jax.tree.leaves(nnx.state(again)), jax.tree.leaves(nnx.state(model)), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_an_evaluation_shows_the_images(trained, monkeypatch):
    """As the run does: the same prompts and pixels, in the size that the folder says."""
    opened = Checkpoint.open(trained / "model")
    assert folder_budgets(opened.companions) == (20, 20)
    task = ReadGridTask()
    items = task.held_out(0, [3], check=None)
    asked = AskedItems(
        opened.template, task, items, lambda: room_for(opened.config, (20, 20), opened.tokenizer)
    )
    room = room_for(opened.config, (20, 20), opened.tokenizer)
    row = Packer(opened.template, asked.tokens.shape[1], 24, 1, room)(task.conversation(items[2]))
    np.testing.assert_array_equal(asked.tokens[2], row["tokens"][: asked.tokens.shape[1]])
    images = asked.images(np.array([0, 2]))
    np.testing.assert_array_equal(images.patches[1], row["patches"][0])
    assert soft_counts(opened.config.vision, images.positions).tolist() == [20, 20]

    model = DiffusionGemma(opened.config, rngs=nnx.Rngs(0))
    evaluation = Evaluation(
        model, opened.template, task, items, images=lambda: room, batch_size=2, canvases=1
    )
    given = []

    def generate(model, tokens, mask, key, config, *, images, **more):
        given.append((len(tokens), images))
        ones = np.ones((len(tokens), 1), np.int32)
        return Generation(np.zeros((len(tokens), 24), np.int32), ones, ones)

    monkeypatch.setattr(evaluation_module, "generate", generate)
    evaluation.run(SamplerConfig(), np.array([2]))
    ((count, images),) = given
    assert count == 1
    np.testing.assert_array_equal(images.patches[0], row["patches"][0])


def test_images_without_eyes_are_refused(shape):
    fresh, task = start(), ReadGridTask()
    model = DiffusionGemma(fresh.config, rngs=nnx.Rngs(0))
    items = task.held_out(0, [1], check=None)

    def room():
        return room_for(fresh.config, (20, 20), fresh.tokenizer)

    with pytest.raises(ValueError, match="no vision tower"):
        Evaluation(model, fresh.template, task, items, images=room)
    with pytest.raises(ConfigError, match=r"the model has no vision tower: .*images.tower"):
        with_tower(fresh.config, ImagesConfig(per_row=1))
    assert with_tower(shape, ImagesConfig(**IMAGES), fresh.tokenizer) == shape
    with pytest.raises(ConfigError, match="a vision tower of another shape already"):
        with_tower(shape, ImagesConfig(per_row=1, tower=TOWER | {"width": 4}), fresh.tokenizer)
    with pytest.raises(ConfigError, match=r"no config field 'images.tower.widht'"):
        with_tower(fresh.config, ImagesConfig(per_row=1, tower=TOWER | {"widht": 3}))
    for wrong in ({"per_row": -1}, {"soft_tokens": 0}, {"freeze": True}, {"per_row": 0}):
        with pytest.raises(ConfigError):
            ImagesConfig(**(IMAGES | wrong))
    with pytest.raises(ConfigError, match="not trained by LoRA"):
        RunConfig.from_dict(FIELDS | {"lora": {"rank": 2}})


def test_a_plan_counts_the_tower_that_is_trained(shape):
    text = RunConfig.from_dict(FIELDS | {"images": {}})
    plain = plan_training(TrainingSetup(text, start().config), None)
    seeing = plan_training(TrainingSetup(RunConfig.from_dict(FIELDS), start().config), None)
    tower = nnx.eval_shape(lambda: DiffusionGemma(shape, rngs=nnx.Rngs(0))).vision
    count = sum(x.size for x in jax.tree.leaves(nnx.state(tower)))
    assert seeing.trained - plain.trained == count == seeing.parameters - plain.parameters
    assert "2 image(s) of 20 soft tokens in a row" in seeing.title
    frozen = RunConfig.from_dict(FIELDS | {"images": {"per_row": 1, "freeze": True}})
    assert plan_training(TrainingSetup(frozen, shape), None).trained == plain.trained
