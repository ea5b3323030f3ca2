"""`neurodense export`: a model as something that others can use without neurodense."""

from __future__ import annotations

from pathlib import Path

import click

from neurodense.cli.options import MODEL, PATH, PLACE


@click.command()
@click.option("--web", required=True, type=PLACE, metavar="DIR", help="Write a static site there.")
@MODEL
@click.option("--runtime", type=PATH, metavar="DIR", help="onnxruntime-web, unpacked; that of the cache if left out.")
@click.option("--fetch", is_flag=True, help="Fetch onnxruntime-web from npm into the cache, if it is not there.")
def export(web: Path, model: Path, runtime: Path | None, fetch: bool) -> None:
    """Write the page of the service as a static site that runs MODEL inside the browser: no pixel leaves it.

    The site answers as the service does. Any static server will do, such as python -m http.server.
    """
    from platformdirs import user_cache_path

    from neurodense.serving.runtime import find_runtime
    from neurodense.serving.site import check_place, write_site

    if runtime is not None and fetch:
        raise click.UsageError("--runtime and --fetch exclude each other.")
    check_place(web)
    found = find_runtime(runtime, user_cache_path("neurodense", appauthor=False), fetch=fetch)
    site = write_site(model, web, found)
    mb = [f"{size / 1e6:.1f} MB" for size in (site.size, site.model_size, site.runtime_size)]
    click.echo(f"{web}: {mb[0]}, of which {site.graph} {mb[1]} and onnxruntime-web {mb[2]}")
    click.echo(f"  -> python -m http.server --bind 127.0.0.1 --directory {web} 8080   then http://127.0.0.1:8080")
