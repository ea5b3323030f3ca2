"""The embedded default: synthetic brain images, then the whole flow on them, offline."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from neurodense.data.phantom import write_phantoms

if TYPE_CHECKING:
    from neurodense.screen import Screen

PATIENTS = 20
"""Of each class."""
SLICES = 5
"""Of each patient."""


def make_demo_data(folder: str | Path, *, seed: int = 0) -> Path:
    """Write the synthetic images, one sub-folder a class, and their group table; gives the table's path.

    Raises:
        DataError: The folder holds something else.
    """
    return write_phantoms(folder, PATIENTS, SLICES, seed=seed)


def run_demo(out: str | Path, *, seed: int = 0, screen: Screen | None = None) -> Path:
    """Make the images, train the `demo` recipe on them, evaluate, predict and report; gives the report's path.

    Args:
        out: Folder for `data/` and `run/`; a demo that was stopped goes on where it was.
        seed: Of the images and the training.
        screen: Told what happens; None is quiet.

    Raises:
        DataError: OUT/data holds something else.
        MissingExtra: The training libraries are not installed.
    """
    from neurodense.data.split_table import read_part
    from neurodense.inference.prediction import Prediction
    from neurodense.inference.predictor import Predictor
    from neurodense.screen import Screen as Screens
    from neurodense.training.run import resume, train

    screen = screen or Screens()
    out = Path(out)
    data, run = out / "data", out / "run"
    screen.say("neurodense demo: the images are synthetic, made by a computer; no figure says anything about patients")
    groups = make_demo_data(data, seed=seed)
    if (run / "run.json").exists():
        model = resume(run, screen=screen)
    else:
        model = train(data, run, recipe="demo", groups=groups, seed=seed, cache=out / "cache", screen=screen)
    screen.say("predicting one synthetic image of each class, of the test part:")
    predictor = Predictor(model)
    first = {record.label: data / record.path for record in reversed(read_part(run / "split.csv", data, "test"))}
    for answer in predictor.predict(first[name] for name in predictor.card.classes):
        if isinstance(answer, Prediction):
            sure, said = answer.probabilities[answer.named], answer.verdict if answer.has_verdict else answer.named
            screen.say(f"  {Path(answer.source).parent.name}/{Path(answer.source).name}: {said} ({sure:.2f})")
    report = run / "report" / "index.html"
    screen.say(f"the report: {report}")
    return report
