"""`python -m benchmarks recipe DATA`, `python -m benchmarks engines` or `python -m benchmarks faithfulness --help`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks import engines, faithfulness, recipe

_PATH = click.Path(path_type=Path)


@click.group(context_settings={"show_default": True})
def main() -> None:
    """Measure, side by side in one run, and write a JSON file beside the printed table."""


@main.command("recipe")
@click.argument("data", type=_PATH)
@click.option("--images", default=800, help="Images taken from DATA, the same share of each class.")
@click.option("--out", type=_PATH, default=Path("benchmarks/results/recipe.json"))
def recipe_command(data: Path, images: int, out: Path) -> None:
    """The notebook recipe: neurodense with its activation cache against a faithful plain loop."""
    recipe.measure(data, images, out)


@main.command("engines")
@click.option("--size", default=224, help="Side of the input in pixels.")
@click.option("--rounds", default=7, help="Rounds in which the contestants take turns.")
@click.option("--out", type=_PATH, default=Path("benchmarks/results/engines.json"))
def engines_command(size: int, rounds: int, out: Path) -> None:
    """torch, ONNX Runtime and OpenVINO on the same DenseNet121: images a second, load time, agreement."""
    engines.measure(size, rounds, out)


@main.command("faithfulness")
@click.option("--model", type=_PATH, required=True, help="Model folder.")
@click.option("--volumes", type=_PATH, help="One folder a patient, with Pre_Scan_T1 and Pre_Mask.")
@click.option("--patients", default="02,03", help="Folders of --volumes to take.")
@click.option("--data", type=_PATH, help="Folder of labelled images; needs --split.")
@click.option("--split", type=_PATH, help="The run's split.csv.")
@click.option("--part", type=click.Choice(["train", "validation", "test"]), default="test")
@click.option("--images", default=120, help="Images of the part, evenly taken.")
@click.option("--out", type=_PATH, default=Path("benchmarks/results/faithfulness.json"))
def faithfulness_command(patients: str, **options: Any) -> None:
    """Heat maps: deletion and insertion curves, and whether they find tumours whose masks are known."""
    faithfulness.measure(patients=patients.split(","), **options)


if __name__ == "__main__":
    main()
