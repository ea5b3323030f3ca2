"""Damaged uploads against a running server: damaged files, damaged archives, damaged bodies. No 5xx, memory flat."""

from __future__ import annotations

import http.client
import io
import random
import re
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.mutations import Seed, damaged, picture, seeds
from benchmarks.server import TYPE, Server, form
from neurodense import atomic

_ROUTES = ("/v1/predict?slices=middle", "/v1/predict", "/v1/explain?side=32&slices=middle")


def fuzz(model: Path, uploads: int, data: Path | None, seed: int, out: Path) -> bool:
    """Send `uploads` damaged uploads; print a table of how they were answered. True where none was a 5xx or nothing."""
    found = seeds(picture(data))
    statuses: Counter[str] = Counter()
    slowest, memory = 0.0, []
    with Server(model) as server:
        line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=120)
        for number in range(uploads):
            chance = random.Random(f"{seed} {number}")
            route = chance.choice(_ROUTES)
            start = time.perf_counter()
            try:
                line.request("POST", route, _body(found, chance), {"Content-Type": TYPE})
                answer = line.getresponse()
                content = answer.read()
                end = str(answer.status)
                problem = answer.headers["Content-Type"] == "application/problem+json"
                if problem != (answer.status != 200) or not content:
                    end += " without its body"
            except (OSError, http.client.HTTPException) as error:
                end = type(error).__name__
                line.close()
            statuses[end] += 1
            slowest = max(slowest, time.perf_counter() - start)
            if number % max(1, uploads // 20) == 0:
                memory.append(server.rss_mib())
        memory.append(server.rss_mib())
        alive = server.process.poll() is None
        for said in sorted(set(re.findall(r" ERROR (.*)", server.log()))):
            print(said)
    print(f"{uploads:,} damaged uploads: " + ", ".join(f"{end}: {n:,}" for end, n in sorted(statuses.items())))
    print(f"slowest {slowest:.2f} s; MiB: " + " ".join(f"{mib:.0f}" for mib in memory))
    record: dict[str, Any] = {"uploads": uploads, "answers": statuses, "slowest_s": slowest, "rss_mib": memory}
    atomic.write_json(out, record)
    return alive and all(end.isdecimal() and int(end) < 500 for end in statuses)


def _body(found: list[Seed], chance: random.Random) -> bytes:
    """A damaged file, an archive of damaged files or with damages, or a damaged body of sound files."""
    kind = chance.random()
    if kind < 0.6:
        return form(*((_name(chance), damaged(chance.choice(found), chance)) for _ in range(chance.choice((1, 1, 3)))))
    if kind < 0.8:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
            for number in range(chance.randint(0, 4)):
                archive.writestr(f"{number}/{_name(chance)}", damaged(chance.choice(found), chance))
        content = file.getvalue()
        return form(("a.zip", content if chance.random() < 0.5 else damaged(Seed("zip", content), chance)))
    return damaged(Seed("body", form((_name(chance), chance.choice(found).content))), chance)


def _name(chance: random.Random) -> str:
    return chance.choice(("a.png", "b.jpg", "c.dcm", "IM0001", "d.nii.gz", "e.nii", "x/y.tif", "../f", "ä .gif"))
