"""`python -m benchmarks recipe DATA`, `folds DATA`, `engines [MODEL]` or `twins DATA GROUPS`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks import engines, recipe, twins
from benchmarks import folds as folds_

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


@main.command("folds")
@click.argument("data", type=_PATH)
@click.option("--images", default=800, help="Images taken from DATA, the same share of each class.")
@click.option("--folds", default=5, type=click.IntRange(min=2))
@click.option("--recipe", "name", default="notebook")
@click.option("--precision", default="auto", type=click.Choice(["auto", "fp32", "bf16", "fp16"]))
@click.option("--rounds", default=1, help="Rounds in which the two take turns.")
@click.option("--out", type=_PATH, default=Path("benchmarks/results/folds.json"))
def folds_command(data: Path, images: int, folds: int, name: str, precision: Any, rounds: int, out: Path) -> None:
    """K folds with a shared activation cache against K runs, each with its own."""
    folds_.measure(data, images, folds, name, precision, rounds, out)


@main.command("engines")
@click.option("--size", default=224, help="Side of the input in pixels.")
@click.option("--rounds", default=7, help="Rounds in which the contestants take turns.")
@click.option("--out", type=_PATH, default=Path("benchmarks/results/engines.json"))
def engines_command(size: int, rounds: int, out: Path) -> None:
    """torch, ONNX Runtime and OpenVINO on the same DenseNet121: images a second, load time, agreement."""
    engines.measure(size, rounds, out)


@main.command("twins")
@click.argument("data", type=_PATH)
@click.argument("groups", type=_PATH)
@click.option("--planted", "what", flag_value="planted", help="Plant copies of known kinds and count what is found.")
@click.option("--folder", "what", flag_value="folder", default="folder", help="Find the twins of DATA.")
@click.option("--growth", "what", flag_value="growth", help="Time and memory at 1,000, 10,000 and 100,000 images.")
@click.option("--half", type=click.Choice(["development", "report"]), default="report", help="Groups to plant among.")
@click.option("--sizes", type=int, multiple=True, default=[1_000, 10_000, 100_000], help="For --growth.")
@click.option("--out", type=_PATH, help="Default: benchmarks/results/twins-<what>.json.")
def twins_command(
    data: Path, groups: Path, what: str, half: twins.Half, sizes: tuple[int, ...], out: Path | None
) -> None:
    """Twins found among planted ones, in a folder, or how time grows; GROUPS is a table of path, label, group."""
    out = out or Path(f"benchmarks/results/twins-{what}.json")
    if what == "planted":
        twins.planted(data, groups, half, out)
    elif what == "growth":
        twins.growth(data, groups, sizes, out)
    else:
        twins.folder(data, groups, out)


if __name__ == "__main__":
    main()
