"""`neurodense quantise`: an int8 graph for a model folder that has none."""

from __future__ import annotations

from pathlib import Path

import click

from neurodense.cli.options import CHANGED, PATH


@click.command()
@click.argument("model", type=CHANGED)
@click.option("--data", required=True, type=PATH, help="Folder of images that the model was trained on.")
@click.option("--split", required=True, type=PATH, metavar="CSV", help="Its parts, such as RUN/split.csv.")
def quantise(model: Path, data: Path, split: Path) -> None:
    """Give the model folder MODEL an int8 graph, if it is good enough; every training does this by itself.

    Images of the training part give the ranges. On the validation part macro F1 may fall by 0.3 points at most and the
    recall of each class by 1 point, else MODEL stays as it is.
    """
    from neurodense.data.split_table import read_part
    from neurodense.evaluation.readme import describe
    from neurodense.screen import Screen
    from neurodense.training.quantise import quantise as add_int8
    from neurodense.training.quantise import summary

    screen = Screen.on_stderr()
    card = add_int8(model, data, read_part(split, data, "train"), read_part(split, data, "validation"), screen)
    assert card.int8 is not None
    describe(model, card)
    click.echo(summary(card.int8))
