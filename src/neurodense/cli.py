"""The command line: parse, call one function, print.

Exit status: 0 done, 1 some inputs failed (the rest were done), 2 usage or nothing could be done, 130 interrupted.
"""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any, Literal

import click

from neurodense import __version__
from neurodense.errors import MissingExtra, NeurodenseError

_EXISTING = click.Path(exists=True, path_type=Path)
_PATH = click.Path(path_type=Path)
_TRAIN_ONLY = {"torch", "torchvision", "onnx", "onnxscript", "fsspec", "filelock", "tomli_w", "tensorboard"}

_SLICES = click.option(
    "--slices",
    default="brain",
    show_default=True,
    metavar="brain|all|middle|every:N|range:A-B",
    help="Slices of a volume or series to look at, numbered from 1.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="neurodense")
@click.option("--debug", is_flag=True, help="Show a traceback where something goes wrong.")
def cli(debug: bool) -> None:
    """From a folder of brain MRI images, one sub-folder a class, to a tumour classifier that can be trusted.

    Research software, not a medical device: not for diagnosis.
    """


@cli.command()
@click.argument("data", required=False, type=_PATH)
@click.option("--out", type=_PATH, metavar="RUN", help="Run folder to make.")
@click.option("--recipe", default="finetune", show_default=True, metavar="NAME|FILE", help="See `neurodense recipes`.")
@click.option("--weights", metavar="imagenet|none|FILE", help="Starting weights; what the recipe says if left out.")
@click.option("--groups", type=_PATH, metavar="CSV", help="path,group (or patient): whole groups stay in one part.")
@click.option("--split", type=_PATH, metavar="CSV", help="path,part: the parts to use, such as RUN/split.csv.")
@click.option("--split-by", type=click.Choice(["group", "image"]), help="Image by image is how the notebook does it.")
@click.option("--folds", type=click.IntRange(min=2), metavar="K", help="Cross-validation: K runs in RUN/fold-1 ...")
@click.option("--final", is_flag=True, help="With --folds: one more model in RUN/final, trained on all images.")
@click.option("--leave-out", metavar="COLUMN=VALUE|REGEX", help="Test on one source, by a column of --groups or path.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1), help="Of everything random.")
@click.option("--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda", "mps"]))
@click.option("--precision", default="auto", show_default=True, type=click.Choice(["auto", "fp32", "bf16", "fp16"]))
@click.option("--cache", type=_PATH, metavar="FOLDER", help="Activation cache; the user's cache folder if left out.")
@click.option("--no-cache", is_flag=True, help="Run the frozen layers in every epoch, as the notebook does.")
@click.option("--workers", type=click.IntRange(0, 64), help="Processes that decode images.")
@click.option("--mirror", metavar="URL_OR_PATH", help="Copy checkpoints and results there as they appear.")
@click.option("--resume", type=_PATH, metavar="RUN", help="Go on with a run that was stopped.")
@click.option("--continue-epochs", type=click.IntRange(min=1), metavar="N", help="With --resume: N more epochs.")
def train(
    data: Path | None,
    out: Path | None,
    resume: Path | None,
    continue_epochs: int | None,
    no_cache: bool,
    cache: Path | None,
    **options: Any,
) -> None:
    r"""Train on DATA, one sub-folder a class, and measure the result on images kept apart.

    \b
    neurodense train DATA --out RUN --groups groups.csv
    neurodense train DATA --out RUN --groups groups.csv --folds 5 --final
    neurodense train DATA --out RUN --groups groups.csv --leave-out source=br35h
    neurodense train --resume RUN
    neurodense train --resume RUN --mirror PLACE    (copied back from there first, where RUN is missing)
    neurodense train --resume RUN --continue-epochs 3
    """
    if no_cache and cache is not None:
        raise click.UsageError("--cache and --no-cache exclude each other.")
    if resume is not None:
        _refuse_with_resume()
    elif continue_epochs is not None:
        raise click.UsageError("--continue-epochs needs --resume RUN: the run to train further.")
    elif data is None or out is None:
        raise click.UsageError("DATA and --out RUN are needed (or --resume RUN).")

    from neurodense.screen import Screen
    from neurodense.training import run

    screen = Screen.on_stderr()
    if resume is not None:
        changes = {name: options[name] for name in ("workers", "mirror")}
        if click.get_current_context().get_parameter_source("device") is click.core.ParameterSource.COMMANDLINE:
            changes["device"] = options["device"]
        kept: Path | Literal[False] | None = False if no_cache else cache
        run.resume(resume, continue_epochs=continue_epochs or 0, data=data, cache=kept, screen=screen, **changes)
    elif data is not None and out is not None:
        run.train(data, out, cache=False if no_cache else cache, screen=screen, **options)


def _refuse_with_resume() -> None:
    """A resumed run keeps its own settings; an option that would be ignored is an error instead."""
    context, typed = click.get_current_context(), click.core.ParameterSource.COMMANDLINE
    allowed = {"data", "resume", "continue_epochs", "device", "cache", "no_cache", "workers", "mirror"}
    options = {p.name: p.opts[0] for p in context.command.params if p.name is not None and p.name not in allowed}
    given = [option for name, option in options.items() if context.get_parameter_source(name) is typed]
    if given:
        raise click.UsageError(f"--resume goes on with what the run began with; leave out {', '.join(given)}.")


@cli.command()
@click.argument("data", type=_PATH)
@click.option("--against", type=_PATH, metavar="OTHER", help="Another folder, such as a test set: what is in both?")
@click.option("--groups", type=_PATH, metavar="CSV", help="path,group (or patient): what is known to belong together.")
@click.option("--split", type=_PATH, metavar="CSV", help="path,part, such as RUN/split.csv: what is on both sides?")
@click.option("--sources", metavar="CSV|COLUMN", help="path,source, or a column of --groups: where images come from.")
@click.option("--out", type=_PATH, metavar="DIR", help="Write audit.html, audit.json and groups.csv there.")
@click.option("--cache", type=_PATH, metavar="FOLDER", help="Where looks at images are kept; the user's cache folder.")
@click.option(
    "--seed", default=0, show_default=True, type=click.IntRange(0, 2**32 - 1), help="Of samples and shuffles."
)
@click.option("--format", "form", default="table", show_default=True, type=click.Choice(["table", "json"]))
def audit(data: Path, form: str, **options: Any) -> None:
    r"""Ask what would make a score on DATA too good, and which files need a person's eye.

    \b
    neurodense audit DATA --out AUDIT
    neurodense train DATA --groups AUDIT/groups.csv --out RUN
    neurodense audit DATA --split RUN/split.csv --against TESTSET
    """
    from rich.console import Console

    from neurodense.data.audit.run import audit as look_through
    from neurodense.data.audit.table import print_audit
    from neurodense.screen import Screen

    screen = Screen.on_stderr()
    found = look_through(data, screen=screen, **options).audit
    if form == "json":
        click.echo(found.model_dump_json())
    else:
        print_audit(found, Console(highlight=False))
    if found.unreadable:
        screen.warn("left out:\n  " + "\n  ".join(found.unreadable[:20]))
        sys.exit(1)


@cli.command()
@click.argument("data", type=_PATH)
@click.option("--model", required=True, type=_PATH, help="Model folder, such as RUN/model.")
@click.option("--split", type=_PATH, metavar="CSV", help="path,part: with --part, which images to take.")
@click.option("--part", type=click.Choice(["train", "validation", "test"]), help="Part of --split.")
@click.option("--groups", type=_PATH, metavar="CSV", help="path,group (or patient), carried into predictions.csv.")
@_SLICES
@click.option("--out", type=_PATH, metavar="DIR", help="Write metrics.json, predictions.csv and figures there.")
@click.option("--format", "form", default="table", show_default=True, type=click.Choice(["table", "json"]))
def evaluate(
    data: Path,
    model: Path,
    split: Path | None,
    part: Any,
    groups: Path | None,
    slices: str,
    out: Path | None,
    form: str,
) -> None:
    """Measure MODEL on DATA: one sub-folder a class, named as the model's classes are.

    A volume or a DICOM series counts once, by the softmax of the mean of its slices' logits over the card's
    temperature; slices.csv in --out has a row for each slice.
    """
    from rich.console import Console

    from neurodense.evaluation.evaluate import evaluate as measure
    from neurodense.evaluation.evaluate import write_evaluation
    from neurodense.evaluation.tables import print_metrics
    from neurodense.inference.card import model_notes
    from neurodense.inference.predictor import Predictor
    from neurodense.scans.slices import Slices
    from neurodense.screen import Screen

    chosen = Slices.parse(slices)
    screen, predictor = Screen.on_stderr(), Predictor(model)
    result = measure(data, predictor, split=split, part=part, groups=groups, slices=chosen, screen=screen)
    title = f"{data.resolve().name}{f', {part} part' if part else ''}, model {predictor.card.name}"
    notes = [*result.notes, *model_notes(predictor.card)]
    note = "trained on synthetic images" if predictor.card.data.synthetic else ""
    if form == "json":
        unread = [failure.as_dict() for failure in result.failures]
        click.echo(json.dumps({**result.metrics.as_dict(), "unreadable": unread}, ensure_ascii=False))
    else:
        print_metrics(result.metrics, Console(highlight=False), title, notes)
    for failure in result.failures:
        screen.warn(f"left out: {failure.message}")
    if out is not None:
        try:
            write_evaluation(result, out, subject=title, note=note, history=predictor.card.history)
        except MissingExtra as error:
            screen.warn(f"{out} has metrics.json and predictions.csv but no figures. {error.message} {error.hint}")
    if result.failures:
        sys.exit(1)


@cli.command()
@click.argument("inputs", nargs=-1, required=True, type=_PATH, metavar="FILE_OR_FOLDER...")
@click.option("--model", required=True, type=_PATH, help="Model folder, such as RUN/model.")
@_SLICES
@click.option("--explain", type=_PATH, metavar="DIR", help="Write heat maps there: what speaks for the class, where.")
@click.option("--format", "form", default="table", show_default=True, type=click.Choice(["table", "json", "csv"]))
def predict(inputs: tuple[Path, ...], model: Path, slices: str, explain: Path | None, form: str) -> None:
    """Name the class of each image or study, with the probability of every class. A bad file gets an error row.

    Images are PNG, JPEG and the like, or single DICOM files. A study is a NIfTI volume, a DICOM file of several
    frames, or the DICOM files of one series in a folder: its slices are predicted one by one, and the study by the
    softmax of the mean of their logits over the card's temperature. With --explain every image, and every slice looked
    at, gets a PNG.
    """
    from rich.console import Console

    from neurodense.inference.predictor import Predictor
    from neurodense.inference.table import print_answers
    from neurodense.scans.slices import Slices
    from neurodense.scans.study import Failure, find_studies

    chosen = Slices.parse(slices)
    predictor = Predictor(model)
    found = find_studies(inputs)
    if explain is None:
        answers = predictor.predict(found, chosen)
    else:
        from neurodense.inference.overlay import write_overlays

        answers = write_overlays(predictor.explained(found, chosen), explain)
    failed = 0
    if form == "table":
        failed = print_answers(list(answers), predictor.card, Console(highlight=False))
    else:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        classes = predictor.card.classes
        if form == "csv":
            writer.writerow(("source", "slices", "label", *(f"p:{name}" for name in classes), "error"))
        for answer in answers:
            failed += isinstance(answer, Failure)
            if form == "json":
                click.echo(json.dumps(answer.as_dict(), ensure_ascii=False))
            elif isinstance(answer, Failure):
                writer.writerow((answer.source, "", "", *("" for _ in classes), answer.message))
            else:
                for row in (*answer.slices, answer):
                    writer.writerow(
                        (row.source, len(row.slices) or "", row.label, *map(repr, row.probabilities.values()), "")
                    )
    if failed:
        sys.exit(1)


@cli.command()
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


@cli.command()
@click.option("--out", type=_PATH, default=Path("neurodense-demo"), show_default=True, help="Folder to make.")
@click.option(
    "--data-only", type=_PATH, metavar="DIR", help="Write the synthetic images and groups.csv there, no more."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1))
def demo(out: Path, data_only: Path | None, seed: int) -> None:
    """Make synthetic brain images, then train, evaluate, predict and report on them, offline."""
    from neurodense.demo import make_demo_data, run_demo
    from neurodense.screen import Screen

    if data_only is not None:
        click.echo(make_demo_data(data_only, seed=seed))
        return
    run_demo(out, seed=seed, screen=Screen.on_stderr())


def main() -> None:
    """Run the command line; every error that the library raises becomes one message and an exit status."""
    debug = "--debug" in sys.argv[1:]
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may hold bytes that are no text
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except KeyboardInterrupt:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        sys.stderr.close()
        sys.exit(0)
    except NeurodenseError as error:
        if debug:
            raise
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    except ModuleNotFoundError as error:
        if debug or (error.name or "").split(".")[0] not in _TRAIN_ONLY:
            raise
        click.echo(f"error: {MissingExtra(str(error.name), 'train')}", err=True)
        sys.exit(2)
    except OSError as error:
        if debug:
            raise
        where = f" ({error.filename})" if error.filename else ""
        click.echo(f"error: {error.strerror or error}{where}", err=True)
        click.echo("  -> check the path, its permissions and the room on the disk", err=True)
        sys.exit(2)
    except Exception as error:  # out of memory on a GPU, a worker that the system killed, or a mistake of ours
        if debug:
            raise
        click.echo(
            f"error: {type(error).__name__}: {error}\n  -> neurodense --debug shows where it came from", err=True
        )
        sys.exit(2)
