"""The formats into each other and back to the bit, and as Orbax itself reads and writes them."""

import dataclasses
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from flax import nnx
from safetensors.numpy import load_file

from diffusiongemma import hf_checkpoint, orbax_tree, staging
from diffusiongemma.checkpoint import (
    CheckpointError,
    convert_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from diffusiongemma.convert import GOOGLE, HF, file_tensors
from diffusiongemma.google_checkpoint import open_google
from diffusiongemma.lora import add_lora, merge_lora
from tests.diffusiongemma.folders import (
    CONFIGS,
    assert_same_tensors,
    make_folder,
    mapped_files,
    read_all,
)


@pytest.fixture(scope="module", params=CONFIGS)
def folder(request, tmp_path_factory) -> Path:
    """A released folder of each shape; tests leave it as it is."""
    return make_folder(tmp_path_factory.mktemp("formats") / request.param, request.param)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Path:
    return make_folder(tmp_path_factory.mktemp("formats") / "two", "two")


@pytest.fixture(scope="module")
def google_tree(two) -> dict[str, np.ndarray]:
    """The tensors of "two" by their official names."""
    config, released = CONFIGS["two"], read_all(two)
    params = {}
    for name, tensor in file_tensors(config, HF).items():
        params |= tensor.to_params(released[name])
    return {k: t.from_params(params) for k, t in file_tensors(config, GOOGLE).items()}


def nested(tensors: dict) -> dict:
    tree: dict = {}
    for name, value in tensors.items():
        *parents, leaf = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


def flat(tensors: dict) -> dict:
    tree: dict = {}
    for name, value in tensors.items():
        module, leaf = name.rsplit("/", 1)
        tree.setdefault(f"transformer/{module}", {})[leaf] = value
    return tree


def with_dense_w(tensors: dict) -> dict:
    def name(key: str) -> str:
        dense = "mlp2/" in key or "/ffw/" in key
        return f"{key}/w" if dense else key

    return {name(key): value for key, value in tensors.items()}


def save_by_orbax(folder: Path, tree: dict) -> Path:
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder, tree)
    return folder


def weights(model) -> dict[str, np.ndarray]:
    state = nnx.to_flat_state(nnx.state(model, nnx.Param))
    return {".".join(map(str, path)): np.asarray(value[...]) for path, value in state}


def assert_same(one, other) -> None:
    one, other = weights(one), weights(other)
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert value.dtype == other[key].dtype and value.tobytes() == other[key].tobytes(), key


def refusal(folder: Path, **kwargs) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(folder, **kwargs)
    return str(caught.value)


# Round trips.


@pytest.mark.parametrize(
    "format, options",
    [("google", {}), ("google", {"flat": True}), ("orbax", {})],
    ids=["google", "google-flat", "orbax"],
)
def test_round_trip_through_another_format_changes_no_bit(folder, tmp_path, format, options):
    convert_checkpoint(folder, tmp_path / "other", format, **options)
    assert not list((tmp_path / "other").glob("*.safetensors"))
    convert_checkpoint(tmp_path / "other", tmp_path / "back", "hf")
    assert_same_tensors(folder, tmp_path / "back")
    configs = [hf_checkpoint.read_config(f / "config.json") for f in (folder, tmp_path / "back")]
    assert configs[0] == configs[1]


@pytest.mark.parametrize("format", ["hf", "google", "orbax"])
def test_saved_model_loads_from_every_format(two, tmp_path, format):
    model = load_checkpoint(two)
    save_checkpoint(model, tmp_path / "out", format=format)
    loaded = load_checkpoint(tmp_path / "out")
    assert loaded.config == model.config
    assert_same(loaded, model)


@pytest.mark.parametrize("format", ["hf", "google", "orbax"])
def test_conversion_casts_on_request(two, tmp_path, format):
    convert_checkpoint(two, tmp_path / "out", format, dtype="float32")
    loaded = load_checkpoint(tmp_path / "out")
    assert_same(loaded, load_checkpoint(two, jnp.float32))


# Google's layout as Orbax itself saves and restores it.


@pytest.mark.parametrize("form", [nested, flat], ids=["nested", "flat"])
@pytest.mark.parametrize("names", [dict, with_dense_w], ids=["", "w"])
def test_google_tree_saved_by_orbax_loads_in_every_form(two, google_tree, tmp_path, form, names):
    saved = save_by_orbax(tmp_path / "google", form(names(google_tree)))
    model = load_checkpoint(saved, config=CONFIGS["two"])
    assert_same(model, load_checkpoint(two))


@pytest.mark.parametrize("form", [nested, flat], ids=["nested", "flat"])
def test_google_tree_written_here_is_restored_by_orbax(two, google_tree, tmp_path, form):
    convert_checkpoint(two, tmp_path / "out", "google", flat=form is flat)
    with ocp.StandardCheckpointer() as checkpointer:
        restored = checkpointer.restore(tmp_path / "out", form(google_tree))

    def compare(one, other):
        assert one.keys() == other.keys()
        for key, value in one.items():
            if isinstance(value, dict):
                compare(value, other[key])
            else:
                assert value.dtype == other[key].dtype
                assert value.tobytes() == np.asarray(other[key]).tobytes(), key

    compare(form(google_tree), restored)
    metadata = json.loads((tmp_path / "out" / "_METADATA").read_text())
    assert len(metadata["tree_metadata"]) == len(google_tree)


def test_config_of_a_google_checkpoint(two, google_tree, tmp_path):
    saved = save_by_orbax(tmp_path / "google", nested(google_tree))
    assert "Google's layout without a config.json" in refusal(saved)
    assert "neither a preset (26b_a4b, small, tiny) nor a file" in refusal(saved, config="huge")
    assert load_checkpoint(saved, config=two / "config.json").config == CONFIGS["two"]
    assert load_checkpoint(saved, config=two).config == CONFIGS["two"]
    shutil.copy(two / "config.json", saved)
    assert load_checkpoint(saved).config == CONFIGS["two"]
    assert "shape (" in refusal(saved, config="tiny")
    assert refusal(two, config="tiny").endswith("so it has its own config")


def test_google_faults_are_reported_together(google_tree, tmp_path):
    tree = dict(google_tree)
    del tree["final_norm/scale"]
    tree["layer_1/attn/v_einsum/w"] = np.zeros((2, 24, 6), np.float32)
    tree["layer_0/mlp2/linear"] = np.zeros((24, 20), np.float32)
    tree["layer_0/mlp/router_scale"] = np.ones(24, np.int32)
    message = refusal(save_by_orbax(tmp_path / "bad", nested(tree)), config=CONFIGS["two"])
    assert "missing (1): final_norm/scale" in message
    assert "extra (1): layer_1/attn/v_einsum/w" in message
    assert "shape (1): layer_0/mlp2/linear is [24, 20], not [20, 24]" in message
    assert "dtype (1): layer_0/mlp/router_scale is int32" in message


def test_google_vision_tensors_are_left_aside(two, google_tree, tmp_path):
    tree = flat(google_tree)
    tree["transformer/embedder/mm_input_projection"] = {"w": np.ones((3, 24), np.float32)}
    tree["transformer/vision_encoder/entry"] = {"kernel": np.ones((3, 3), np.int8)}
    saved = save_by_orbax(tmp_path / "google", tree)
    assert_same(load_checkpoint(saved, config=CONFIGS["two"]), load_checkpoint(two))


def test_google_tensor_under_both_names_is_refused(google_tree, tmp_path):
    tree = flat(google_tree)
    tree["transformer/layer_0/mlp2/linear"] = {"w": google_tree["layer_0/mlp2/linear"]}
    message = refusal(save_by_orbax(tmp_path / "bad", tree), config=CONFIGS["two"])
    assert "twice (1): layer_0/mlp2/linear" in message


def test_google_tensors_that_are_not_finite_are_named(google_tree, tmp_path):
    tree = {key: value.copy() for key, value in google_tree.items()}
    tree["layer_1/mlp/linear/w"].flat[-1] = np.nan
    saved = save_by_orbax(tmp_path / "bad", nested(tree))
    assert "inf or nan (1): layer_1/mlp/linear/w" in refusal(saved, config=CONFIGS["two"])
    shutil.copy(save_config(tmp_path), saved)
    with pytest.raises(CheckpointError, match=r"inf or nan \(1\): layer_1/mlp/linear/w"):
        convert_checkpoint(saved, tmp_path / "out", "hf")
    assert not (tmp_path / "out").exists()


def save_config(folder: Path) -> Path:
    config = hf_checkpoint.config_to_hf(CONFIGS["two"])
    (folder / "config.json").write_text(json.dumps(config))
    return folder / "config.json"


def test_damaged_orbax_checkpoint_is_refused(google_tree, tmp_path):
    saved = save_by_orbax(tmp_path / "bad", nested(google_tree))
    metadata = (saved / "_METADATA").read_text()
    for content in ("{", "[]", "{}", '{"tree_metadata": {"a": {}}}'):
        (saved / "_METADATA").write_text(content)
        message = refusal(saved, config=CONFIGS["two"])
        assert message.startswith(f"{saved / '_METADATA'}: no description of a tree: ")
    (saved / "_METADATA").write_text(metadata)
    for file in saved.rglob("d/*"):
        file.write_bytes(file.read_bytes()[:-200])
    message = refusal(saved, config=CONFIGS["two"])
    assert message.startswith(f"{saved}: damaged, or not Orbax's: ") and "\n" not in message


def test_array_that_was_lost_is_not_read_as_zeros(google_tree, tmp_path):
    """Without OCDBT an array is a folder, and a chunk a file."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False)) as checkpointer:
        checkpointer.save(tmp_path / "old", args=ocp.args.PyTreeSave(nested(google_tree)))
    stored = open_google(tmp_path / "old", CONFIGS["two"])
    for name, value in google_tree.items():
        assert stored.read(name).tobytes() == value.tobytes(), name
    (tmp_path / "old" / "layer_0.mlp.linear.w" / "0.0.0").unlink()
    message = refusal(tmp_path / "old", config=CONFIGS["two"])
    assert message.startswith(f"{tmp_path / 'old'}: damaged, or not Orbax's: ")


def test_google_layout_refuses_modes_with_scalars_of_their_own(two, tmp_path):
    model = load_checkpoint(two)
    model.layers[1].encode_scalar[...] *= 2
    said = r"they differ \(1\): layers\.1\.encode_scalar and layers\.1\.denoise_scalar"
    with pytest.raises(CheckpointError, match=said):
        save_checkpoint(model, tmp_path / "new" / "out", format="google")
    assert not list(tmp_path.iterdir())


def test_google_layout_refuses_to_stack_two_dtypes(two, tmp_path):
    model = load_checkpoint(two)
    kernel = model.layers[0].attention.v.kernel
    model.layers[0].attention.v.kernel = nnx.Param(kernel[...].astype(jnp.float32))
    with pytest.raises(CheckpointError, match=r"dtypes differ \(1\): layers\.0\.attention\.k"):
        save_checkpoint(model, tmp_path / "out", format="google")


# This project's own, and runs.


def test_own_checkpoint_is_one_that_orbax_restores(two, tmp_path):
    model = load_checkpoint(two)
    save_checkpoint(model, tmp_path / "own", format="orbax")
    handler = ocp.CompositeCheckpointHandler()
    args = ocp.args.Composite(
        params=ocp.args.StandardRestore(nnx.state(model, nnx.Param)), model=ocp.args.JsonRestore()
    )
    with ocp.Checkpointer(handler) as checkpointer:
        restored = checkpointer.restore(tmp_path / "own", args=args)
    assert restored["model"]["dtype"] == "bfloat16"
    assert restored["model"]["config"]["width"] == 24
    nnx.update(model, restored["params"])
    assert_same(model, load_checkpoint(two))


def save_run(workdir: Path, model, kind, lora: dict) -> None:
    """Checkpoints of a run as train/checkpoints.py saves them, the earlier ones of other values."""
    about = {
        "config": dataclasses.asdict(model.config),
        "dtype": "bfloat16",
        "init": lora.pop("init", ""),
        "lora": lora,
    }
    state = nnx.state(model, kind)
    with ocp.CheckpointManager((workdir / "checkpoints").absolute()) as manager:
        for step in (9, 10):
            params = jax.tree.map(jnp.zeros_like, state) if step == 9 else state
            items = ocp.args.Composite(
                params=ocp.args.StandardSave(params), model=ocp.args.JsonSave(about)
            )
            manager.save(step, args=items)
            manager.wait_until_finished()


def test_a_runs_workdir_is_its_latest_step_and_converts(two, tmp_path):
    model = load_checkpoint(two)
    save_run(tmp_path / "run", model, nnx.Param, {"rank": 0})
    assert_same(load_checkpoint(tmp_path / "run"), model)
    assert_same(load_checkpoint(tmp_path / "run" / "checkpoints" / "10"), model)
    convert_checkpoint(tmp_path / "run", tmp_path / "out", "hf")
    assert_same_tensors(two, tmp_path / "out")
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    assert refusal(tmp_path / "empty").endswith("has not saved a checkpoint yet")


def test_a_lora_run_loads_with_its_factors_and_converts_merged(two, tmp_path):
    model = load_checkpoint(two)
    lora = {"rank": 2, "alpha": 4.0, "pattern": r"attention\.q$|gate_up"}
    add_lora(model, 2, 4.0, rngs=nnx.Rngs(1), pattern=lora["pattern"])
    for path, value in nnx.to_flat_state(nnx.state(model, nnx.LoRAParam)):
        value[...] = jnp.full(value.shape, 0.125 * (1 + len(path)))
    save_run(tmp_path / "run", model, nnx.LoRAParam, lora | {"init": str(two)})
    loaded = load_checkpoint(tmp_path / "run")
    assert_same(loaded, model)
    assert loaded.layers[0].attention.q.lora_a.dtype == jnp.float32
    merge_lora(model)
    convert_checkpoint(tmp_path / "run", tmp_path / "out", "orbax")
    assert_same(load_checkpoint(tmp_path / "out"), model)
    name = "layers.0.attention.q.kernel"
    assert np.any(weights(model)[name] != weights(load_checkpoint(two))[name])


@pytest.mark.parametrize("content", ["{", "{}", '{"config": {"width": 3}, "dtype": "float32"}'])
def test_damaged_description_is_refused(two, tmp_path, content):
    convert_checkpoint(two, tmp_path / "own", "orbax")
    (tmp_path / "own" / "model" / "metadata").write_text(content)
    assert str(Path("own", "model", "metadata")) in refusal(tmp_path / "own")


# Shards.


def test_large_weights_are_written_in_shards(two, tmp_path):
    largest = max(value.nbytes for value in read_all(two).values())
    convert_checkpoint(two, tmp_path / "out", "hf", shard_bytes=10_000)
    assert_same_tensors(two, tmp_path / "out")
    assert_same(load_checkpoint(tmp_path / "out"), load_checkpoint(two))
    files = sorted(f.name for f in (tmp_path / "out").glob("*.safetensors"))
    count = len(files)
    assert count > 3
    assert files == [f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    sizes = {}
    for file in files:
        tensors = load_file(tmp_path / "out" / file)
        assert {k for k, v in index["weight_map"].items() if v == file} == set(tensors)
        sizes[file] = sum(value.nbytes for value in tensors.values())
    assert max(sizes.values()) <= max(10_000, largest)
    assert index["metadata"]["total_size"] == sum(sizes.values())


def test_shards_of_two_dtypes_are_aligned(tmp_path):
    source = make_folder(tmp_path / "three", "three")
    convert_checkpoint(source, tmp_path / "out", "hf", shard_bytes=6_000)
    assert_same_tensors(source, tmp_path / "out")
    for file in (tmp_path / "out").glob("*.safetensors"):
        data = file.read_bytes()
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + size])
        header.pop("__metadata__")
        for entry in header.values():
            width = {"F32": 4, "BF16": 2}[entry["dtype"]]
            assert (8 + size + entry["data_offsets"][0]) % width == 0


def test_failure_in_a_later_shard_leaves_nothing(two, tmp_path, monkeypatch):
    model = load_checkpoint(two)
    save_checkpoint(model, tmp_path / "old")
    before = {f.name: f.read_bytes() for f in (tmp_path / "old").iterdir()}
    write, calls = hf_checkpoint._write_array, []

    def failing(*args):
        calls.append(args)
        if len(calls) == 20:
            raise OSError(28, "No space left on device")
        write(*args)

    monkeypatch.setattr(hf_checkpoint, "_write_array", failing)
    for folder, shard_bytes in ((tmp_path / "new" / "out", 10_000), (tmp_path / "old", 10**9)):
        calls.clear()
        with pytest.raises(CheckpointError, match=r"could not be saved: No space left on device$"):
            save_checkpoint(model, folder, shard_bytes=shard_bytes)
        assert len(calls) == 20
    assert [f.name for f in tmp_path.iterdir()] == ["old"]
    assert {f.name: f.read_bytes() for f in (tmp_path / "old").iterdir()} == before


def test_failure_while_orbax_saves_leaves_nothing(two, tmp_path, monkeypatch):
    def failing(tensor, weights):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("diffusiongemma.google_checkpoint.assembled", failing)
    with pytest.raises(CheckpointError, match="No space left on device"):
        convert_checkpoint(two, tmp_path / "new" / "out", "google")
    assert not list(tmp_path.iterdir())


def test_shards_do_not_mix_with_other_weights(two, tmp_path):
    model = load_checkpoint(two)
    save_checkpoint(model, tmp_path / "whole")
    with pytest.raises(CheckpointError, match=r"in the way \(1\): model\.safetensors$"):
        save_checkpoint(model, tmp_path / "whole", shard_bytes=10_000)
    save_checkpoint(model, tmp_path / "parts", shard_bytes=10_000)
    save_checkpoint(model, tmp_path / "parts", shard_bytes=10_000)
    with pytest.raises(CheckpointError, match="in the way"):
        save_checkpoint(model, tmp_path / "parts")
    assert_same(load_checkpoint(tmp_path / "parts"), model)
    for file in (tmp_path / "parts").glob("*.safetensors"):
        file.unlink()
    with pytest.raises(
        CheckpointError, match=r"in the way \(1\): model\.safetensors\.index\.json$"
    ):
        save_checkpoint(model, tmp_path / "parts")


def test_a_replaced_folder_never_looks_complete_while_it_is_mixed(tmp_path, monkeypatch):
    """The config.json goes first and comes last."""
    folder = tmp_path / "model"
    with staging.staged(folder) as temporary:
        for name in ("config.json", "model.safetensors", "z"):
            (temporary / name).write_text("old")
    seen, replace = [], Path.replace

    def watched(self, target):
        seen.append((self.name, (folder / "config.json").exists()))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    with staging.staged(folder, replace=True) as temporary:
        for name in ("config.json", "model.safetensors"):
            (temporary / name).write_text("new")
    assert seen == [("model.safetensors", False), ("config.json", False)]
    assert {f.name: f.read_text() for f in folder.iterdir()} == {
        "config.json": "new",
        "model.safetensors": "new",
        "z": "old",
    }


# Memory: what was read is let go.


def test_no_file_stays_mapped_by_a_loaded_model(two):
    model = load_checkpoint(two)
    assert not mapped_files(two)
    assert weights(model)


def test_conversion_maps_a_few_tensors_at_a_time(two, tmp_path, monkeypatch):
    counts, write = [], hf_checkpoint._write_array

    def counting(*args):
        counts.append(len(mapped_files(two)))
        write(*args)

    monkeypatch.setattr(hf_checkpoint, "_write_array", counting)
    convert_checkpoint(two, tmp_path / "out", "hf")
    assert len(counts) > 40 and max(counts) == 1
    assert not mapped_files(two)


def test_long_tensors_are_written_in_slices(two, tmp_path, monkeypatch):
    monkeypatch.setattr(hf_checkpoint, "SLICE_BYTES", 100)
    convert_checkpoint(two, tmp_path / "out", "hf")
    assert_same_tensors(two, tmp_path / "out")


def test_orbax_saves_leaves_in_batches(two, tmp_path, monkeypatch):
    monkeypatch.setattr(orbax_tree, "BATCH_BYTES", 20_000)
    convert_checkpoint(two, tmp_path / "other", "orbax")
    convert_checkpoint(tmp_path / "other", tmp_path / "back", "hf")
    assert_same_tensors(two, tmp_path / "back")
