"""The page as a static site that answers by itself: the model runs inside the browser, and no pixel leaves it.

The files of `page/`, of which `client.js`, the one that asks the server, is replaced by that of `browser/`; beside them
`model.json` (what `/v1/model` says, and the colours), the graph, and onnxruntime-web. Any static server will do.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from neurodense.errors import DataError
from neurodense.inference.card import Card, check_file, model_notes, read_card
from neurodense.inference.predictor import GRAPH, INT8_GRAPH
from neurodense.inference.rejection import REJECTION
from neurodense.inference.shipped import model_folder
from neurodense.notice import NOTICE
from neurodense.serving.maps import scale
from neurodense.serving.runtime import FILES, Runtime

POLICY: Final = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; style-src 'self'; "
    "img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'"
)
"""Content security policy. Without it a page could reach other hosts; with it neither page nor workers can."""

_HEAD: Final = '<meta charset="utf-8">\n'
_KINDS: Final = (".js", ".css", ".svg")


@dataclass(frozen=True)
class Site:
    """A site that was written; sizes in bytes.

    Attributes:
        folder: Where.
        graph: Name of the graph.
        size: Of everything.
        model_size: Of the graph.
        runtime_size: Of onnxruntime-web.
    """

    folder: Path
    graph: str
    size: int
    model_size: int
    runtime_size: int


def write_site(model: Path, out: Path, runtime: Runtime) -> Site:
    """Write the site for a model folder, whole or not at all; the int8 graph where it has one, else the fp32 graph.

    Args:
        model: The model folder, or "brain".
        out: A folder that is empty or not there yet.
        runtime: onnxruntime-web.

    Raises:
        ModelError: No model folder, or a file of it is damaged.
        DataError: `out` is not empty.
    """
    model = model_folder(model)
    card = read_card(model)
    graph = INT8_GRAPH if INT8_GRAPH in card.files else GRAPH
    names = [graph, *([REJECTION] if card.out_of_distribution is not None else [])]
    check_place(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        made = Path(temporary) / "site"
        (made / "page").mkdir(parents=True)
        (made / "runtime").mkdir()
        for name in names:
            check_file(model / name, card)
            shutil.copyfile(model / name, made / name)
        _write_page(made)
        for name, named in FILES.items():
            shutil.copyfile(runtime.folder / name, made / "runtime" / named)
        (made / "runtime" / "LICENSE").write_bytes(_own("browser", "LICENSE.onnxruntime"))
        said = json.dumps(_model(card, graph, runtime.version), ensure_ascii=False, allow_nan=False)
        (made / "model.json").write_text(said, encoding="utf-8")
        if out.exists():
            out.rmdir()
        made.rename(out)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    runtime_size = sum(path.stat().st_size for path in (out / "runtime").iterdir())
    return Site(out, graph, size, (out / graph).stat().st_size, runtime_size)


def check_place(out: Path) -> None:
    """See that a site can be written there, before anything is fetched for it.

    Raises:
        DataError: `out` is no folder, or one that is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is there and not empty.", f"rm -r {out}   or give another folder")


def _write_page(made: Path) -> None:
    """`browser/` after `page/`: its client.js takes the other's place."""
    for room in ("page", "browser"):
        for file in files("neurodense.serving").joinpath(room).iterdir():
            if file.name.endswith(_KINDS):
                (made / "page" / file.name).write_bytes(file.read_bytes())
    html = _own("page", "index.html").decode("utf-8")
    policy = (
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n<meta name="referrer" content="no-referrer">'
    )
    (made / "index.html").write_text(html.replace(_HEAD, f"{_HEAD}{policy}\n", 1), encoding="utf-8", newline="\n")


def _own(room: str, name: str) -> bytes:
    return files("neurodense.serving").joinpath(room, name).read_bytes()


def _model(card: Card, graph: str, version: str) -> dict[str, Any]:
    return {
        "card": card.model_dump(mode="json"),
        "graph": graph,
        "engine": f"onnxruntime-web {version}".strip(),
        "precision": "int8" if graph == INT8_GRAPH else "fp32",
        "notes": model_notes(card),
        "notice": NOTICE,
        "scale": scale(),
    }
