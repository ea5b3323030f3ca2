"""What README and documents show is run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from neurodense.training.recipe import Recipe

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
