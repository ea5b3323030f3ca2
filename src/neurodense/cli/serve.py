"""`neurodense serve`: a model behind HTTP, with a page."""

from __future__ import annotations

from typing import Any

import click

from neurodense.cli.options import MODEL, PATH, engine_options, kept_graphs


@click.command()
@MODEL
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 256), help="Processes.")
@click.option("--token-file", type=PATH, metavar="FILE", help="Its first line is what clients must show as a token.")
@click.option("--insecure", is_flag=True, help="Listen beyond this machine without a token.")
@click.option(
    "--max-upload", default=512, show_default=True, type=click.IntRange(1), metavar="MIB", help="Of a request."
)
@click.option("--max-files", default=2000, show_default=True, type=click.IntRange(1), help="Of a request.")
@click.option(
    "--queue", default=64, show_default=True, type=click.IntRange(1), help="Requests that are taken on at once."
)
@click.option("--timeout", default=60.0, show_default=True, type=click.FloatRange(1), help="Seconds for an answer.")
@click.option(
    "--batch-wait", default=2.0, show_default=True, type=click.FloatRange(0, 1000), metavar="MS",
    help="How long a picture may wait for others to be run with.",
)  # fmt: skip
@engine_options(precision="auto")
def serve(max_upload: int, max_files: int, queue: int, timeout: float, batch_wait: float, **options: Any) -> None:
    """Serve MODEL: REST under /v1, described by /openapi.json, and a page at /, for this machine alone.

    Nothing that is uploaded is written to disk or to the log. SIGTERM ends it when what was accepted is answered.
    """
    from neurodense.serving.limits import Limits
    from neurodense.serving.server import serve as run

    size = max_upload * 2**20
    limits = Limits(
        request_bytes=size, files=max_files, held_bytes=max(2 * size, 2**30), requests=queue, answer_s=timeout,
        batch_wait_s=batch_wait / 1000,
    )  # fmt: skip
    run(cache=kept_graphs(), limits=limits, **options)
