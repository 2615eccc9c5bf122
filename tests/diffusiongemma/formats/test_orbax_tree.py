"""Trees that Orbax saved, read one array at a time: what is damaged or lost is refused."""

import json
import os

import orbax.checkpoint as ocp
import pytest

from diffusiongemma.formats.google import open_google
from tests.diffusiongemma.formats.folders import CONFIGS, nested, refusal, save_by_orbax


def test_damaged_orbax_checkpoint_is_refused(google_tree, tmp_path):
    saved = save_by_orbax(tmp_path / "bad", nested(google_tree))
    metadata = (saved / "_METADATA").read_text()
    for content, why in (
        ("{", "not JSON: "),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "not JSON: its brackets are nested too deeply"),
        ("{}", "does not describe a tree: "),
        ('{"tree_metadata": {"a": {}}}', "does not describe a tree: "),
        ('{"tree_metadata": 3}', "does not describe a tree: "),
    ):
        (saved / "_METADATA").write_text(content)
        message = refusal(saved, config=CONFIGS["two"])
        assert message.startswith(f"{saved / '_METADATA'}: {why}")
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


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a/../x", "..", "a//x", "a\0x"])
def test_a_leaf_cannot_lie_elsewhere(google_tree, tmp_path, name):
    saved = save_by_orbax(tmp_path / "bad", nested(google_tree))
    content = json.loads((saved / "_METADATA").read_text())
    next(iter(content["tree_metadata"].values()))["key_metadata"] = [{"key": name, "key_type": 2}]
    (saved / "_METADATA").write_text(json.dumps(content))
    message = refusal(saved, config=CONFIGS["two"])
    assert message == f"{saved / '_METADATA'}: a leaf cannot have the name {name!r}"


def test_a_pipe_in_a_tree_is_not_waited_for(google_tree, tmp_path):
    saved = save_by_orbax(tmp_path / "bad", nested(google_tree))
    os.mkfifo(saved / "d" / "pipe")
    message = refusal(saved, config=CONFIGS["two"])
    assert message.startswith(f"{saved / 'd' / 'pipe'}: is a pipe, a device or a socket")


def test_a_chunk_is_not_larger_than_its_array(google_tree, tmp_path):
    """TensorStore would ask for 16 TB, and end the process."""
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False)) as checkpointer:
        checkpointer.save(tmp_path / "old", args=ocp.args.PyTreeSave(nested(google_tree)))
    file = tmp_path / "old" / "layer_0.mlp.linear.w" / ".zarray"
    content = json.loads(file.read_text())
    chunks = [*content["chunks"][:-2], 2**21, 2**21]
    file.write_text(json.dumps(content | {"chunks": chunks}))
    message = refusal(tmp_path / "old", config=CONFIGS["two"])
    assert "layer_0.mlp.linear.w has chunks of" in message and "larger than itself" in message
