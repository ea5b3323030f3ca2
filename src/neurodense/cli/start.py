"""`neurodense recipes` and `neurodense demo`: where a new user begins."""

from __future__ import annotations

from pathlib import Path

import click

from neurodense.cli.options import PATH


@click.command()
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the recipes, or show one: `neurodense recipes finetune > mine.toml` is a start for your own."""
    from neurodense.training.recipe import load_recipe, recipe_names, recipe_text

    if name is not None:
        click.echo(recipe_text(name), nl=False)
        return
    width = max(map(len, recipe_names()))
    for each in recipe_names():
        click.echo(f"{each:<{width}}  {load_recipe(each).summary}")


@click.command()
@click.option("--out", type=PATH, default=Path("neurodense-demo"), show_default=True, help="Folder to make.")
@click.option("--data-only", type=PATH, metavar="DIR", help="Write the synthetic images and groups.csv there, no more.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1))
def demo(out: Path, data_only: Path | None, seed: int) -> None:
    """Make synthetic brain images, then train, evaluate, predict and report on them, offline."""
    from neurodense.demo import make_demo_data, run_demo
    from neurodense.screen import Screen

    if data_only is not None:
        click.echo(make_demo_data(data_only, seed=seed))
        return
    run_demo(out, seed=seed, screen=Screen.on_stderr())
