"""Trees that Orbax saved, read one array at a time: what is damaged or lost is refused."""

import orbax.checkpoint as ocp

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
