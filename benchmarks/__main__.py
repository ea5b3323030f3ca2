"""`python -m benchmarks COMMAND`: each measures one thing, `all` the table; --help lists them. No COMMAND is `all`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

_PATH = click.Path(path_type=Path)


class _AllByItself(click.Group):
    """Without a command, `all` is run, with the options that are there."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] != "--help"):
            args = ["all", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_AllByItself, context_settings={"show_default": True})
def main() -> None:
    """Measure, side by side in one run, and write a JSON file beside the printed table; by itself it is `all`."""


@main.command("all")
@click.option("--data", type=_PATH, help="Folder of images, one sub-folder a class; phantoms are drawn without it.")
@click.option("--images", default=640, help="Images that the notebook recipe is run on; other jobs take a share.")
@click.option(
    "--jobs", "names", metavar="NAME,...", help="decode, second, evaluate, finetune, recipe, folds; else all."
)
@click.option("--rounds", default=3, type=click.IntRange(min=1), help="Rounds in which the contestants take turns.")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="cuda where there is a GPU, if left out.")
@click.option("--quick", is_flag=True, help="Small subsets and one round: does it run, not how fast.")
@click.option("--out", type=_PATH, default=Path("benchmarks/results/all.json"))
@click.option("--document", type=_PATH, help="Markdown file whose marked section gets the table: docs/performance.md.")
def all_command(
    data: Path | None,
    images: int,
    names: str | None,
    rounds: int,
    device: Any,
    quick: bool,
    out: Path,
    document: Path | None,
) -> None:
    """Every job beside its floor, its peer and its bar."""
    import tempfile

    import torch

    from benchmarks import everything
    from neurodense.data.phantom import write_phantoms

    chosen = names.split(",") if names else list(everything.JOBS)
    if unknown := set(chosen) - set(everything.JOBS):
        raise click.UsageError(f"no job {', '.join(sorted(unknown))}; there are {', '.join(everything.JOBS)}")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as room:
        if data is None:
            data = Path(room) / "phantoms"
            write_phantoms(data, patients_per_class=5 if quick else 40, slices_per_patient=2 if quick else 5)
        if not everything.measure(data, images, chosen, rounds, device, quick, out, document):
            raise SystemExit(1)


@main.command("growth")
@click.argument("data", type=_PATH)
@click.option("--sizes", type=int, multiple=True, default=[1_000, 10_000, 100_000], help="May be repeated.")
@click.option("--size", default=224, help="Side of the training's input in pixels.")
@click.option("--out", type=_PATH, default=Path("benchmarks/results/growth.json"))
def growth_command(data: Path, sizes: tuple[int, ...], size: int, out: Path) -> None:
    """Time, memory and disk of filling the cache, a head epoch and predicting, for ever more changed copies of DATA."""
    from benchmarks import growth

    growth.measure(data, sizes, size, out)


@main.command("recipe")
@click.argument("data", type=_PATH)
@click.option("--images", default=800, help="Images taken from DATA, the same share of each class.")
@click.option("--out", type=_PATH, default=Path("benchmarks/results/recipe.json"))
def recipe_command(data: Path, images: int, out: Path) -> None:
    """The notebook recipe: neurodense with its activation cache against a faithful plain loop."""
    from benchmarks import recipe

    recipe.measure(data, images, out)


@main.command("prefix")
@click.argument("data", type=_PATH)
@click.option("--images", default=400, help="Images taken from DATA, the same share of each class.")
@click.option("--seeds", default=3)
@click.option("--rounds", default=3)
@click.option("--out", type=_PATH, default=Path("benchmarks/results/prefix.json"))
def prefix_command(data: Path, images: int, seeds: int, rounds: int, out: Path) -> None:
    """The frozen layers on each engine: images/s, distance from float32, and what the training makes of it."""
    from benchmarks import prefix

    prefix.measure(data, images, seeds, rounds, out)


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
    from benchmarks import folds as cross_validation

    cross_validation.measure(data, images, folds, name, precision, rounds, out)


@main.command("processes")
@click.argument("data", type=_PATH)
@click.option("--images", default=400, help="Images taken from DATA, the same share of each class.")
@click.option("--processes", "count", default=2, type=click.IntRange(min=2), help="Processes, and threads of the one.")
@click.option("--recipe", default="demo")
@click.option("--precision", default="fp32", type=click.Choice(["auto", "fp32", "bf16"]))
@click.option("--rounds", default=3, help="Rounds in which the two take turns.")
@click.option("--out", type=_PATH, default=Path("benchmarks/results/processes.json"))
def processes_command(**options: Any) -> None:
    """N processes of one thread each against one process of N threads, on a CPU."""
    from benchmarks import processes

    processes.measure(**options)


@main.command("offsource")
@click.argument("data", type=_PATH)
@click.argument("split", type=_PATH)
@click.argument("tumours", type=_PATH)
@click.option("--model", "models", required=True, multiple=True, help="Model folder, or brain; may be repeated.")
@click.option("--part", default="validation", type=click.Choice(["validation", "test"]))
@click.option("--volumes", type=_PATH, help="Folder of volumes with tumour masks, one sub-folder a patient.")
@click.option("--healthy", type=_PATH, multiple=True, help="Folder of healthy images from elsewhere; may be repeated.")
@click.option("--out", type=_PATH, default=Path("benchmarks/results/offsource.json"))
def offsource_command(
    data: Path,
    split: Path,
    tumours: Path,
    models: tuple[str, ...],
    part: Any,
    volumes: Path | None,
    healthy: tuple[Path, ...],
    out: Path,
) -> None:
    """Tumour or source: DATA by its SPLIT, the folder TUMOURS of another collection, and volumes with masks."""
    from benchmarks import offsource

    offsource.measure(models, data, split, part, tumours, volumes, healthy, out)


@main.command("teacher")
@click.argument("file", type=_PATH)
@click.argument("data", type=_PATH)
@click.argument("split", type=_PATH)
@click.option("--part", default="validation", type=click.Choice(["validation", "test"]))
@click.option("--side", default=224, help="Pixels a side that the pictures are shrunk to first.")
@click.option("--out", type=_PATH, default=Path("benchmarks/results/teacher.json"))
def teacher_command(file: Path, data: Path, split: Path, part: Any, side: int, out: Path) -> None:
    """A teacher's ONNX file on a part of the SPLIT of DATA, and whose its mistakes are."""
    from benchmarks import teacher

    teacher.measure(file, data, split, part, side, out)


@main.command("engines")
@click.option("--size", default=224, help="Side of the input in pixels.")
@click.option("--rounds", default=7, help="Rounds in which the contestants take turns.")
@click.option("--model", type=_PATH, help="Model folder whose weights are taken; random ones if left out.")
@click.option("--out", type=_PATH, default=Path("benchmarks/results/engines.json"))
def engines_command(size: int, rounds: int, model: Path | None, out: Path) -> None:
    """torch, ONNX Runtime and OpenVINO on the same DenseNet121: images a second, load time, agreement."""
    from benchmarks import engines

    engines.measure(size, rounds, out, model)


@main.command("folder")
@click.option("--model", type=_PATH, required=True, help="Model folder with an int8 graph.")
@click.option("--images", type=_PATH, required=True, help="Folder of images.")
@click.option("--files", default=2000, help="Files to predict; images are taken again where there are fewer.")
@click.option("--rounds", default=3, help="Rounds in which engine and folder take turns.")
@click.option("--size", type=int, help="Side of the input for which the weights are exported again; the model's own.")
@click.option("--out", type=_PATH, default=Path("benchmarks/results/folder.json"))
def folder_command(model: Path, images: Path, files: int, rounds: int, size: int | None, out: Path) -> None:
    """A folder of files against the engine's own rate; memory at 100 and 10,000 files; how soon the command starts."""
    from benchmarks import folder

    folder.measure_folder(model, images, files, rounds, size, out)


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
    from benchmarks import faithfulness

    faithfulness.measure(patients=patients.split(","), **options)


@main.command("intervals")
@click.option("--speed", "what", flag_value="speed", default="speed", help="Seconds for all figures.")
@click.option("--coverage", "what", flag_value="coverage", help="How often the intervals hold the true figure.")
@click.option("--images", default=10_000, help="For --speed.")
@click.option("--rounds", default=3, help="For --speed.")
@click.option("--patients", default=135, help="For --coverage: in a test part.")
@click.option("--ease", default=3.0, help="For --coverage: how far classes lie apart.")
@click.option("--trials", default=400, help="For --coverage: test parts that are drawn.")
@click.option("--out", type=_PATH, help="Default: benchmarks/results/intervals-<what>.json.")
def intervals_command(
    what: str, images: int, rounds: int, patients: int, ease: float, trials: int, out: Path | None
) -> None:
    """Bootstrap intervals of every figure: how long they take, and how often they hold what they should."""
    from benchmarks import intervals

    out = out or Path(f"benchmarks/results/intervals-{what}.json")
    if what == "coverage":
        intervals.coverage(patients, trials, ease, out)
    else:
        intervals.speed(images, rounds, out)


@main.command("fuzz")
@click.option("--mutations", default=20_000, help="Damaged files in all.")
@click.option("--data", type=_PATH, help="A picture to make the sound files from; else one is drawn.")
@click.option("--only", default="", help="Only formats whose name holds this.")
@click.option("--workers", default=2, help="Processes at a time.")
@click.option("--seconds", default=10.0, help="A file that takes longer is a hang.")
@click.option("--megabytes", default=2048, help="What a process may ask for beyond what it begins with.")
@click.option("--seed", default=0, help="The same seed gives the same files.")
@click.option("--keep", type=_PATH, default=Path("benchmarks/results/fuzz"), help="Where files that failed are put.")
def fuzz_command(
    mutations: int, data: Path | None, only: str, workers: int, seconds: float, megabytes: int, seed: int, keep: Path
) -> None:
    """Read damaged files of every format: each must give a scan or the one error, in bounded time and memory."""
    from benchmarks import fuzz

    if not fuzz.fuzz(mutations, data, only, workers, seconds, megabytes, seed, keep):
        raise SystemExit(1)


@main.command("serve")
@click.option("--model", type=_PATH, required=True, help="Model folder.")
@click.option("--image", type=_PATH, required=True, help="The picture that all clients send.")
@click.option("--seconds", default=10, help="Of each load.")
@click.option("--rounds", default=5, help="Of each rate, in turns.")
@click.option("--workers", default=1, help="Processes of the service.")
@click.option("--soak", default=0.0, metavar="SECONDS", help="A long load at 80% of the engine's own rate; 0: none.")
@click.option("--out", type=_PATH, default=Path("benchmarks/results/serve.json"))
def serve_command(model: Path, image: Path, seconds: int, rounds: int, workers: int, soak: float, out: Path) -> None:
    """The service under load from `hey`: rate beside the engine's own, latency, SIGTERM under load, memory."""
    from benchmarks import serve

    serve.measure(model, image, seconds, rounds, workers, soak, out)


@main.command("serve-fuzz")
@click.option("--model", type=_PATH, required=True, help="Model folder.")
@click.option("--uploads", default=10_000, help="Damaged uploads in all.")
@click.option("--data", type=_PATH, help="A picture to make the sound files from; else one is drawn.")
@click.option("--seed", default=0, help="The same seed gives the same uploads.")
@click.option("--out", type=_PATH, default=Path("benchmarks/results/serve-fuzz.json"))
def serve_fuzz_command(model: Path, uploads: int, data: Path | None, seed: int, out: Path) -> None:
    """Send damaged files, archives and bodies to a running service: no 5xx, memory flat."""
    from benchmarks import serve_fuzz

    if not serve_fuzz.fuzz(model, uploads, data, seed, out):
        raise SystemExit(1)


@main.command("site")
@click.option("--model", type=_PATH, required=True, help="Model folder.")
@click.option("--images", type=_PATH, required=True, help="Folder of labelled images.")
@click.option("--count", default=64, help="Images to ask for, evenly taken.")
@click.option("--runtime", type=_PATH, help="onnxruntime-web, unpacked; that of the cache if left out.")
@click.option("--out", type=_PATH, default=Path("benchmarks/results/site.json"))
def site_command(model: Path, images: Path, count: int, runtime: Path | None, out: Path) -> None:
    """The static site of `export --web` in headless Chromium: images a second, agreement with the command."""
    from benchmarks import site

    site.measure(model, images, count, runtime, out)


@main.command("twins")
@click.argument("data", type=_PATH)
@click.argument("groups", type=_PATH)
@click.option("--planted", "what", flag_value="planted", help="Plant copies of known kinds and count what is found.")
@click.option("--folder", "what", flag_value="folder", default="folder", help="Find the twins of DATA.")
@click.option("--growth", "what", flag_value="growth", help="Time and memory at 1,000, 10,000 and 100,000 images.")
@click.option("--half", type=click.Choice(["development", "report"]), default="report", help="Groups to plant among.")
@click.option("--sizes", type=int, multiple=True, default=[1_000, 10_000, 100_000], help="For --growth.")
@click.option("--out", type=_PATH, help="Default: benchmarks/results/twins-<what>.json.")
def twins_command(data: Path, groups: Path, what: str, half: Any, sizes: tuple[int, ...], out: Path | None) -> None:
    """Twins found among planted ones, in a folder, or how time grows; GROUPS is a table of path, label, group."""
    from benchmarks import twins

    out = out or Path(f"benchmarks/results/twins-{what}.json")
    if what == "planted":
        twins.planted(data, groups, half, out)
    elif what == "growth":
        twins.growth(data, groups, sizes, out)
    else:
        twins.folder(data, groups, out)


@main.command("coverage")
@click.option("--model", type=_PATH, help="Model folder; synthetic groups where it is left out.")
@click.option("--data", type=_PATH, help="Folder of labelled images.")
@click.option("--split", type=_PATH, help="The run's split.csv.")
@click.option("--out", type=_PATH, default=Path("benchmarks/results/coverage.json"))
def coverage_command(**options: Any) -> None:
    """Prediction sets: how often they hold the true class, over 20 random halves of the groups."""
    from benchmarks import coverage

    coverage.measure(**options)


@main.command("collection")
@click.option("--model", type=_PATH, required=True, help="Model folder.")
@click.option("--data", type=_PATH, required=True, help="Folder of labelled images.")
@click.option("--split", type=_PATH, required=True, help="The run's split.csv.")
@click.option("--shifted", type=_PATH, multiple=True, help="Folder of brain MRI from another source.")
@click.option("--rounds", default=200, help="Batches of each size.")
@click.option("--out", type=_PATH, default=Path("benchmarks/results/collection.json"))
def collection_command(**options: Any) -> None:
    """The alarm for a whole collection: how often it rings, for the model's own kind and for others."""
    from benchmarks import collection

    collection.measure(**options)


@main.command("rejection")
@click.option("--model", type=_PATH, required=True, help="Model folder.")
@click.option("--data", type=_PATH, required=True, help="Folder of labelled images.")
@click.option("--split", type=_PATH, required=True, help="The run's split.csv.")
@click.option("--shifted", type=_PATH, multiple=True, help="Folder or file of brain MRI from another source.")
@click.option("--out", type=_PATH, default=Path("benchmarks/results/rejection.json"))
def rejection_command(**options: Any) -> None:
    """Scores that tell what is no brain MRI: how much of it is rejected where 95% of brain MRI pass."""
    from benchmarks import rejection

    rejection.measure(**options)


@main.command("archive")
@click.option("--files", default=20_000, help="Files to classify, one of which is no picture.")
@click.option("--shard", default=500, help="Files that are written together.")
@click.option("--rounds", default=2, help="Rounds in which one worker and two take turns.")
@click.option("--model", type=_PATH, default=Path("brain"), help="Model folder.")
@click.option("--data", type=_PATH, default=Path("../shared/data/brain-mri"), help="Folder of pictures.")
@click.option(
    "--plan", type=int, metavar="FILES", help="Measure nothing: what so many take, from the figures in --out."
)
@click.option("--cores", default=16, help="For --plan: of a node.")
@click.option("--hours", default=1.0, help="For --plan: that it may take.")
@click.option("--out", type=_PATH, default=Path("benchmarks/results/archive.json"))
def archive_command(plan: int | None, cores: int, hours: float, out: Path, **options: Any) -> None:
    """An archive on two Ray nodes of this machine: nothing lost, nothing twice, one worker against two."""
    from benchmarks import archive

    if plan is None:
        archive.measure(out=out, **options)
    else:
        archive.plan(plan, cores, hours, out)


if __name__ == "__main__":
    main()
