"""`python -m benchmarks recipe DATA` or `python -m benchmarks engines [MODEL]`."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks import engines, recipe

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


if __name__ == "__main__":
    main()
