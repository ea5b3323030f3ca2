"""`neurodense calibrate`: calibrated probabilities, prediction sets and rejection for a model folder that has none."""

from __future__ import annotations

from pathlib import Path

import click

from neurodense.cli.options import CHANGED, PATH


@click.command()
@click.argument("model", type=CHANGED)
@click.option("--data", required=True, type=PATH, help="Folder of images that the model was trained on.")
@click.option("--split", required=True, type=PATH, metavar="CSV", help="Its parts, such as RUN/split.csv.")
def calibrate(model: Path, data: Path, split: Path) -> None:
    """Give the model folder MODEL what it needs to say "I don't know"; every training does this by itself.

    On the validation part a temperature is fitted, thresholds of prediction sets for errors of 5, 10 and 20%, and the
    limit beyond which an image does not look like those of the training part. The test part is not read.
    """
    from neurodense.data.split_table import read_part
    from neurodense.evaluation.calibrate import calibrate as add_certainty
    from neurodense.evaluation.calibrate import summary
    from neurodense.evaluation.readme import describe
    from neurodense.screen import Screen

    screen = Screen.on_stderr()
    card = add_certainty(model, data, read_part(split, data, "train"), read_part(split, data, "validation"), screen)
    describe(model, card)
    for line in summary(card):
        click.echo(line)
    if card.metrics is not None:
        screen.say("The figures of the test part in card.json are as they were; neurodense evaluate measures again.")
