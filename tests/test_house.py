"""Rules of the repository: which folder imports which, how small folders are, how wide prose is."""

import ast
import graphlib
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A room is a folder without its subfolders. Room -> the rooms that its files may import.
ROOMS = {
    "configs": {"configs"},
    "files": {"files"},
    "data": {"data", "data.text", "data.images"},
    "data.images": {"data.images", "data.text"},
    "data.photos": {"data.photos"},
    "data.text": {"data.text"},
    "data.sudoku": {"data", "data.text", "data.sudoku"},
    "data.tasks": {"data", "data.text", "data.sudoku", "data.photos", "data.tasks"},
    "diffusiongemma": {
        "diffusiongemma",
        "diffusiongemma.ops",
        "diffusiongemma.kernels",
        "diffusiongemma.vision",
    },
    # The tower is made of the network's layers, and the network calls the tower. No file of the two
    # rooms is in a circle.
    "diffusiongemma.vision": {
        "diffusiongemma",
        "diffusiongemma.ops",
        "diffusiongemma.vision",
    },
    "diffusiongemma.ops": {"diffusiongemma.ops"},
    "diffusiongemma.kernels": {"diffusiongemma.ops", "diffusiongemma.kernels"},
    "diffusiongemma.formats": {
        "diffusiongemma",
        "diffusiongemma.ops",
        "diffusiongemma.vision",
        "diffusiongemma.formats",
    },
}
for name in set(ROOMS) - {"configs"}:  # the ground floor
    ROOMS[name] = ROOMS[name] | {"files"}
BELOW_SAMPLE = set(ROOMS) - {"configs"}
ROOMS["sample"] = BELOW_SAMPLE | {"sample"}
ROOMS["sample.page"] = ROOMS["sample"] | {"sample.page"}
ROOMS["sample.command"] = ROOMS["sample.page"] | {"sample.command"}
ROOMS["sample.server"] = ROOMS["sample.command"] | {"sample.server"}
ROOMS["train"] = ROOMS["sample.page"] | {"train"}
ROOMS["scripts"] = ROOMS["train"] | {"sample.command", "scripts", "configs"}
for part in ("scripts.benchmark", "scripts.compare_checkouts", "scripts.trials"):
    ROOMS[part] = ROOMS["scripts"] | {part}
# A command may import from the rooms that hold its parts.
DOORS = {
    "sample.main": {"sample.command", "sample.page", "sample.server"},
    "sample.solve": {"sample.command"},
    "scripts.torture": {"scripts.trials"},
}


def tracked(*patterns: str) -> list[Path]:
    """The files of the repository that match a pattern and that git does not ignore."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *patterns]
    found = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True)
    return [Path(name) for name in found.stdout.split() if (ROOT / name).exists()]


def module_of(file: Path) -> str:
    """The name of the module in a file."""
    return ".".join(file.with_suffix("").parts).removesuffix(".__init__")


TOPS = sorted({room.split(".")[0] for room in ROOMS})
MODULES = {module_of(file): file for file in tracked(*(f"{top}/*.py" for top in TOPS))}


def room_of(module: str) -> str:
    """The room of a module. That of a package is the folder of its __init__.py."""
    is_package = MODULES.get(module, Path()).name == "__init__.py"
    return module if is_package or module in ROOMS else module.rpartition(".")[0]


def imported(module: str, source: str) -> set[str]:
    """The modules of this repository that a source imports, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}: write the whole name of what is imported"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
    return {name for name in found if name in MODULES}


def upwards(module: str, source: str) -> list[str]:
    """The modules that a source imports although its room may not import them."""
    allowed = ROOMS[room_of(module)] | DOORS.get(module, set())
    return sorted(name for name in imported(module, source) if room_of(name) not in allowed)


def test_no_import_runs_upwards():
    wrong = {m: upwards(m, (ROOT / file).read_text()) for m, file in MODULES.items()}
    assert {module: names for module, names in wrong.items() if names} == {}


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        (
            "diffusiongemma.layers",
            "from diffusiongemma.formats import hf",
            "diffusiongemma.formats.hf",
        ),
        ("diffusiongemma.ops.masks", "import diffusiongemma.config", "diffusiongemma.config"),
        ("diffusiongemma.kernels.tiling", "def f():\n import data.pipeline", "data.pipeline"),
        ("data.measures", "from sample.step import SamplerConfig", "sample.step"),
        ("sample.step", "from sample.command.session import Session", "sample.command.session"),
        ("sample.prefill", "from train import loss", "train.loss"),
        ("train.loop", "import scripts.plan", "scripts.plan"),
    ],
)
def test_an_import_that_runs_upwards_is_found(module, source, found):
    assert upwards(module, source) == [found]


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The names along a circle of a graph; empty if there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


def test_no_imports_run_in_a_circle():
    graph = {m: imported(m, (ROOT / file).read_text()) - {m} for m, file in MODULES.items()}
    assert circle(graph) == []
    assert circle(graph | {"data.settings": {"data.tasks.registry"}}) != []


def test_the_network_is_few_files():
    files = [file for file in tracked("diffusiongemma/*.py") if len(file.parts) == 2]
    assert 10 < len(files) <= 14, files


def test_prose_is_at_most_120_characters_wide():
    wide = [
        f"{file}:{number}"
        for file in tracked("README.md", "docs/*.md")
        for number, line in enumerate((ROOT / file).read_text().splitlines(), 1)
        if len(line) > 120 and not line.startswith(("|", "!["))
    ]
    assert wide == []


def test_what_is_said_on_stderr_is_printable():
    """Names of tensors, templates and the like steer terminals, unless `tell` prints them."""
    own = {"files/printable.py", "sample/command/typed.py"}  # the latter steers on purpose
    rooms = [f"{top}/*.py" for top in TOPS]
    files = [file for file in tracked(*rooms) if str(file) not in own]
    assert [str(f) for f in files if "file=sys.stderr" in (ROOT / f).read_text()] == []


def test_every_package_that_is_imported_is_pinned():
    pins = re.findall(r"^([\w-]+)==", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE)
    names = {"absl-py": "absl", "orbax-checkpoint": "orbax", "pillow": "PIL"}
    known = {names.get(pin, pin.replace("-", "_")) for pin in pins} | {"tests"}
    # Scripts that compare with transformers run in an environment of their own.
    apart = {"torch", "transformers", "peft"}
    found = set()
    for file in tracked("*.py"):
        for node in ast.walk(ast.parse((ROOT / file).read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(node.module.split(".")[0])
    missing = found - known - set(TOPS) - apart - set(__import__("sys").stdlib_module_names)
    assert missing == set()


# What may read JSON in another way than by files/json_text.py: lines that a process of our own has
# written, and what runs in an environment of its own.
READS_JSON = {
    "files/json_text.py",
    "scripts/benchmark/peer.py",
    "scripts/benchmark/peer_transformers.py",
    "scripts/compare_checkouts/contents.py",
    "scripts/compare_checkouts/probe.py",
    "scripts/compare_checkouts/side.py",
    "scripts/long_context.py",
    "scripts/make_golden.py",
    "scripts/trials/bad_input.py",
    "scripts/trials/bad_inputs.py",
    "scripts/trials/hostile_folders.py",
}


def test_json_is_read_in_one_place():
    reading = re.compile(r"json\.(loads?|JSONDecoder)\(")
    files = [str(file) for top in TOPS for file in tracked(f"{top}/*.py")]
    found = {file for file in files if reading.search((ROOT / file).read_text())}
    assert found - READS_JSON == set()
    assert "files/json_text.py" in found
