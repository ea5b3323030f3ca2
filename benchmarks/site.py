"""A static site made by `neurodense export --web`, opened in headless Chromium: what it answers, how fast."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from neurodense.data.catalogue import scan_folder
from neurodense.inference.predictor import Predictor
from neurodense.scans.study import Failure
from neurodense.serving.runtime import find_runtime
from neurodense.serving.site import write_site

ASK = """async (inputs) => {
    const { Client } = await import("./page/client.js"), client = new Client();
    await client.model();
    const files = [...document.getElementById("files").files], found = [], start = performance.now();
    await Promise.all(files.map(async (file, k) => {
        const asked = [{ file, path: file.name }];
        found[k] = (await client.predict(asked).catch((error) => error.problem)).predictions[0];
    }));
    return { found, seconds: (performance.now() - start) / 1000 };
}"""
"""Asks for the files that were put into the page's input, by the page's own module."""
INPUT = """() => document.getElementById("files").replaceWith(
    Object.assign(document.createElement("input"), { id: "files", type: "file", multiple: true }))"""
"""Puts an input in the place of the page's, which would ask for the files by itself."""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002  (its name there)
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The folder behind Python's own static server; gives its address."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def measure(model: Path, images: Path, count: int, runtime: Path | None, out: Path) -> None:
    """Images a second of the site in Chromium, beside the same graph in the command's engine on one thread."""
    from platformdirs import user_cache_path
    from playwright.sync_api import sync_playwright

    from benchmarks.machine import describe

    every = [record.path for record in scan_folder(images).records]
    paths = [images / every[k] for k in np.unique(np.linspace(0, len(every) - 1, count).round().astype(int))]
    with tempfile.TemporaryDirectory() as folder:
        found = find_runtime(runtime, user_cache_path("neurodense", appauthor=False), fetch=False)
        site = write_site(model, Path(folder) / "site", found)
        with served(site.folder) as address, sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page()
            start = time.monotonic()
            page.goto(address)
            page.locator("#model", has_text=re.compile("^Model .*, (int8|fp32)")).wait_for(timeout=120_000)
            ready_s = time.monotonic() - start
            page.set_default_timeout(0)
            page.evaluate(INPUT)
            page.set_input_files("#files", paths)
            said: dict[str, Any] = page.evaluate(ASK)
            version = browser.version
            browser.close()
    predictor = Predictor(model, precision="int8" if "int8" in site.graph else "fp32", threads=1)
    start = time.monotonic()
    answers = list(predictor.predict(paths))
    seconds = time.monotonic() - start
    here = [answer.probabilities for answer in answers if not isinstance(answer, Failure)]
    there = [one["probabilities"] for one in said["found"]]
    gaps = np.array([[abs(a[name] - b[name]) for name in a] for a, b in zip(here, there, strict=True)])
    same = np.mean([max(a, key=a.__getitem__) == max(b, key=b.__getitem__) for a, b in zip(here, there, strict=True)])
    result = {
        "machine": describe(),
        "chromium": version,
        "onnxruntime_web": found.version,
        "graph": site.graph,
        "images": len(paths),
        "site_mb": site.size / 1e6,
        "ready_s": ready_s,
        "browser_images_per_s": len(paths) / said["seconds"],
        "engine": f"{predictor.engine}, one thread",
        "engine_images_per_s": len(paths) / seconds,
        "largest_difference": float(gaps.max()),
        "mean_difference": float(gaps.mean()),
        "same_class": float(same),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for name, value in result.items():
        print(f"{name:22} {value:.4g}" if isinstance(value, float) else f"{name:22} {value}")
