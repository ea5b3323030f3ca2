"""The command line, one file a command or two: parse, call one function, print.

Exit status: 0 done, 1 some inputs failed (the rest were done), 2 usage or nothing could be done, 130 interrupted.
"""

from __future__ import annotations

import io
import sys

import click

from neurodense import __version__
from neurodense.cli.audit import audit
from neurodense.cli.calibrate import calibrate
from neurodense.cli.compare import compare
from neurodense.cli.dicom import dicom
from neurodense.cli.export import export
from neurodense.cli.model import evaluate, predict
from neurodense.cli.pacs import pacs
from neurodense.cli.quantise import quantise
from neurodense.cli.serve import serve
from neurodense.cli.start import demo, recipes
from neurodense.cli.sweep import sweep
from neurodense.cli.train import train
from neurodense.errors import MissingExtra, NeurodenseError

_EXTRA_OF = {
    **dict.fromkeys(("torch", "torchvision", "onnx", "fsspec", "filelock", "tomli_w", "tensorboard"), "train"),
    **dict.fromkeys(("fastapi", "h11", "multipart", "prometheus_client", "uvicorn"), "serve"),
}
"""Module that only some commands need -> the extra that brings it."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="neurodense")
@click.option("--debug", is_flag=True, help="Show a traceback where something goes wrong.")
def cli(debug: bool) -> None:
    """From a folder of brain MRI images, one sub-folder a class, to a tumour classifier that can be trusted.

    Research software, not a medical device: not for diagnosis.
    """


for command in (
    train, sweep, audit, evaluate, compare, predict, serve, export, dicom, pacs, quantise, calibrate, recipes, demo,
):  # fmt: skip
    cli.add_command(command)


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
        extra = _EXTRA_OF.get((error.name or "").partition(".")[0])
        if debug or extra is None:
            raise
        click.echo(f"error: {MissingExtra(str(error.name), extra)}", err=True)
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
