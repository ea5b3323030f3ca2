"""onnxruntime-web: the three files of it that a site needs. Fetched only when asked, and then checked.

The package is MIT-licensed by Microsoft and is not part of neurodense; its licence is written beside its files.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neurodense import atomic
from neurodense.errors import EngineError

VERSION: Final = "1.30.0"
PACKAGE: Final = f"onnxruntime-web@{VERSION}"
SHA512: Final = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""Of the tarball, as npm's registry states it."""
FILES: Final = {
    "ort.wasm.min.mjs": "ort.js",
    "ort-wasm-simd-threaded.mjs": "ort-wasm.js",
    "ort-wasm-simd-threaded.wasm": "ort-wasm.wasm",
}
"""Files of the package's dist folder, and their names in a site: some servers do not know .mjs for a script."""

_BY_HAND: Final = f"npm pack {PACKAGE} && tar xzf onnxruntime-web-{VERSION}.tgz"


@dataclass(frozen=True)
class Runtime:
    """onnxruntime-web on this machine.

    Attributes:
        folder: Holds `FILES`.
        version: Of the package, or "" where no package.json says it.
    """

    folder: Path
    version: str


def find_runtime(given: Path | None, cache: Path, *, fetch: bool) -> Runtime:
    """Find onnxruntime-web.

    Args:
        given: The unpacked package, its dist folder, or a folder in which npm installed it; None to look in `cache`.
        cache: Where a fetched package is kept.
        fetch: Fetch the package into `cache` if it is not there.

    Raises:
        EngineError: It is not there; the message says how to get it, with and without a network on this machine.
    """
    if given is not None:
        for folder in (given, given / "dist", given / "package" / "dist", given / "node_modules/onnxruntime-web/dist"):
            if all((folder / name).is_file() for name in FILES):
                return Runtime(folder, _version(folder))
        raise EngineError(
            f"{given} holds no onnxruntime-web: {', '.join(FILES)} are not all there.",
            f"{_BY_HAND}   then: --runtime package",
        )
    kept = cache / f"onnxruntime-web-{VERSION}"
    if not all((kept / name).is_file() for name in FILES):
        if not fetch:
            raise EngineError(
                "A site needs onnxruntime-web, which is not on this machine; nothing is fetched without --fetch.",
                f"--fetch   (33 MB, by npm); or, on a machine with a network: {_BY_HAND}   "
                "then bring the folder here: --runtime package",
            )
        _fetch(kept)
    return Runtime(kept, VERSION)


def _version(folder: Path) -> str:
    for place in (folder, folder.parent):
        try:
            about = json.loads((place / "package.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if about.get("name") == "onnxruntime-web":
            return str(about.get("version", ""))
    return ""


def _fetch(kept: Path) -> None:
    elsewhere = f"On a machine with a network: {_BY_HAND}   then bring the folder here: --runtime package"
    npm = shutil.which("npm")
    if npm is None:
        raise EngineError(f"{PACKAGE} is fetched by npm, which is not on this machine.", elsewhere)
    with tempfile.TemporaryDirectory() as room:
        try:
            subprocess.run([npm, "pack", "--silent", PACKAGE], cwd=room, check=True, capture_output=True, timeout=600)  # noqa: S603  (what npm the user has)
            packed = next(Path(room).glob("*.tgz")).read_bytes()
        except (subprocess.SubprocessError, OSError, StopIteration) as error:
            raise EngineError(f"{PACKAGE} cannot be fetched: {error}", elsewhere) from None
    digest = base64.b64encode(hashlib.sha512(packed).digest()).decode("ascii")
    if digest != SHA512:
        raise EngineError(f"What npm gave is not {PACKAGE}: its sha512 is {digest}, not {SHA512}.")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for name in FILES:
            member = archive.extractfile(f"package/dist/{name}")
            assert member is not None  # the digest says what is in it
            with atomic.replacing(kept / name) as temporary:
                temporary.write_bytes(member.read())
