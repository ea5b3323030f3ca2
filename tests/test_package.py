"""What the package promises as a whole: its public names, its import directions, its command line."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import neurodense

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "neurodense"
ROOMS = ["scans", "data", "inference", "evaluation", "training", "serving"]
LAST = {"training", "serving"}
"""In the order of the flow of imports: a room imports from itself and from those before it."""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "neurodense", *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def test_all_names_exist_and_nothing_else_is_public() -> None:
    assert neurodense.__all__ == sorted(neurodense.__all__, key=lambda name: (name[0].islower(), name))
    for name in neurodense.__all__:
        assert getattr(neurodense, name).__doc__, name
    assert set(neurodense._HOME) == set(neurodense.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = neurodense.nothing


def imports(path: Path) -> set[str]:
    """Modules of neurodense that a file imports, at any level but for typing alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return {name for name in found if name.startswith("neurodense.")}


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_imports_point_one_way(path: Path) -> None:
    room = path.relative_to(SOURCE).parts[0]
    for name in imports(path):
        other = name.split(".")[1]
        if path.name != "__main__.py" and room != "cli":
            assert other != "cli", f"{path} imports the command line"
        if room in ROOMS and other in ROOMS:
            assert ROOMS.index(other) <= ROOMS.index(room), f"{path} imports {name}"
            assert room == other or not {room, other} <= LAST, f"{path} imports {name}"


@pytest.mark.parametrize(
    "module", ["cli", "inference.predictor", "evaluation.evaluate", "training.recipe", "demo", "data.audit.run"]
)
def test_torch_is_not_imported_without_need(module: str) -> None:
    code = f"import sys, neurodense.{module}; assert not {{'torch', 'sklearn', 'matplotlib'}} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_files_are_short() -> None:
    long = {path.name: n for path in SOURCE.rglob("*.py") if (n := len(path.read_text().splitlines())) > 300}
    assert not long


def test_version_is_said_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["version"] == neurodense.__version__
    assert neurodense.__version__ in run("--version").stdout


def test_help_names_every_command_and_the_notice() -> None:
    out = run("--help").stdout
    names = ("train", "sweep", "audit", "evaluate", "compare", "predict", "serve", "dicom", "pacs", "recipes", "demo")
    assert all(name in out for name in names)
    assert "not a medical device" in out
    for name in names:
        assert run(name, "--help").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["train"], ["DATA", "--out"]),
        (["train", "nowhere", "--out", "x"], ["nowhere does not exist", "one sub-folder a class"]),
        (["train", "x", "--out", "y", "--recipe", "finetun"], ["no recipe 'finetun'", "finetune"]),
        (["train", "--continue-epochs", "3"], ["--resume"]),
        (["train", "--resume", "nowhere"], ["holds no run", "run.json"]),
        (["train", "--resume", "x", "--seed", "3"], ["--seed"]),
        (["train", "x", "--out", "y", "--precision", "int8"], ["'auto', 'fp32', 'bf16', 'fp16'"]),
        (["train", "x", "--out", "y", "--cache", "c", "--no-cache"], ["exclude"]),
        (["train", "x", "--out", "y", "--partial", "z"], ["'z' does not say which classes", "FOLDER=CLASS,CLASS"]),
        (["train", "x", "--out", "y", "--tracking-uri", "sqlite:///z.db"], ["--tracking-uri", "--track mlflow"]),
        (["sweep", "x"], ["--out"]),
        (["predict"], ["FILE_OR_FOLDER"]),
        (["predict", "x.png", "--model", "nowhere"], ["nowhere is not a folder", "card.json"]),
        (["predict", "x.nii", "--model", "nowhere", "--slices", "some"], ["allowed are brain, all, middle, every:N"]),
        (["evaluate", "x", "--model", "nowhere"], ["card.json"]),
        (["evaluate", "x", "--model", "nowhere", "--slices", "range:9-2"], ["range:A-B needs 1 <= A <= B"]),
        (["compare", "x", "--model", "y"], ["--model must be given twice", "Got 1"]),
        (["compare", "x", "--model", "y", "--model", "z"], ["card.json"]),
        (["dicom", "x"], ["--out"]),
        (["dicom", "nowhere.png", "--out", "y"], ["nowhere.png is no DICOM file", "neurodense predict"]),
        (["pacs", "--study", "1.2"], ["--source"]),
        (["pacs", "--source", "http://x", "--study", "1/2"], ["--study is no UID"]),
        (["pacs", "--source", "x", "--study", "1.2"], ["http://HOST/PATH", "localhost:8042/dicom-web"]),
        (["audit"], ["DATA"]),
        (["audit", "nowhere"], ["nowhere does not exist", "one sub-folder a class"]),
        (["recipes", "notebok"], ["Did you mean notebook?"]),
        (["nonsense"], ["nonsense"]),
    ],
)
def test_wrong_use_is_one_clear_error(arguments: list[str], parts: list[str], tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "neurodense", *arguments], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_recipes_can_be_shown_and_given_back(tmp_path: Path) -> None:
    text = run("recipes", "finetune").stdout
    path = tmp_path / "mine.toml"
    path.write_text(text)
    assert neurodense.load_recipe(path) == neurodense.load_recipe("finetune")
    assert "notebook" in run("recipes").stdout


def test_without_torch_the_error_names_the_extra(tmp_path: Path) -> None:
    """A server without torch: predict's modules load, train says what to install."""
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['neurodense', 'train', 'd', '--out', 'o']\n"
        "from neurodense.cli import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 2
    assert "pip install 'neurodense[train]'" in result.stderr


def test_demo_data_only(tmp_path: Path) -> None:
    out = run("demo", "--data-only", str(tmp_path / "d"), "--seed", "4")
    assert out.returncode == 0, out.stderr
    catalogue = neurodense.scan_folder(tmp_path / "d")
    assert catalogue.synthetic
    assert len(catalogue.classes) == 4
    assert Path(out.stdout.strip()) == tmp_path / "d" / "groups.csv"
