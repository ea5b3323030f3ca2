"""A run folder copied elsewhere as it grows (a bucket, a mounted Google Drive, any fsspec URL), and copied back.

The local files are the run, the mirror is a second copy: nothing here may end or stall a run. One background thread
copies, an error becomes a warning, and what failed is tried again at the next checkpoint. A copy cut off half-way must
not look whole: each file goes to `.NAME.partial`, is read back and compared (size, SHA-256), and only then moved to its
name. `run.json` goes last, there and back, so that it names nothing that is not there.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from fsspec import AbstractFileSystem, url_to_fs
from fsspec.implementations.local import LocalFileSystem

from neurodense.atomic import replacing
from neurodense.errors import RunError
from neurodense.screen import Screen

# What pip calls the package behind a protocol; fsspec's own message names the rarer ones.
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "sftp": "paramiko"}


class Mirror:
    """Copies a run folder elsewhere in the background, verified and retried.

    Args:
        run: The run folder. What has a name that starts with a dot is temporary and stays behind.
        destination: A plain folder or a URL such as s3://bucket/run; becomes the copy. RunError if it cannot.
        attempts: How often a file is tried in one pass.
        first_wait_s: Seconds before the second try, doubled before each later one.
        warn: Gets one message a pass that left something behind, on the background thread.
    """

    def __init__(
        self, run: Path, destination: str, *, attempts: int = 4, first_wait_s: float = 1.0, warn: Callable[[str], None]
    ) -> None:
        self._run = Path(run).resolve()
        self._fs, self._root, self._shown = _connect(destination, made_for=self._run)
        self._attempts, self._first_wait_s, self._warn = attempts, first_wait_s, warn
        self._copied: dict[str, tuple[int, int]] = {}  # name -> (size, mtime_ns) of what was last sent
        self._abandoned = threading.Event()  # nobody waits for the thread any more
        self._news = threading.Condition()  # guards the rest
        self._asked = self._served = 0  # passes asked for; the latest of them that a finished pass answers
        self._closing = self._whole = False  # the next pass is the last; the latest pass left nothing behind
        self._thread = threading.Thread(target=self._serve, name="neurodense-mirror", daemon=True)
        self._thread.start()

    def holds_run(self) -> bool:
        """True when there is a run at the destination already; False also where nobody can tell yet."""
        try:
            return bool(self._fs.exists(f"{self._root}/run.json"))
        except Exception:
            return False

    def push(self) -> None:
        """Ask for a copy of whatever is new or changed, and return at once."""
        with self._news:
            if not self._closing:
                self._asked += 1
                self._news.notify_all()

    def close(self, timeout_s: float = 600) -> bool:
        """Copy what is left, wait for it for `timeout_s` at most, say whether all is there. Only Ctrl-C raises."""
        deadline = time.monotonic() + timeout_s
        try:
            with self._news:
                self.push()
                self._closing = True
                while self._served < self._asked and self._thread.is_alive() and time.monotonic() < deadline:
                    self._news.wait(0.2)  # Windows delivers Ctrl-C only between two waits
                done, whole = self._served == self._asked, self._whole
        finally:
            self._abandoned.set()
        if not done:
            self._tell("everything", TimeoutError(f"not done after {timeout_s:g} s"))
        return done and whole

    def _serve(self) -> None:
        """Answer requests until close(). Those that come during a pass lead to one more."""
        last = False
        while not last and not self._abandoned.is_set():
            with self._news:
                self._news.wait_for(lambda: self._asked > self._served)
                asked, last = self._asked, self._closing
            failures = self._copy_changed(last)
            if failures and not self._abandoned.is_set():
                (name, error), *others = failures.items()
                self._tell(f"{name} and {len(others)} more" if others else name, error)
            with self._news:
                self._served, self._whole = asked, not failures
                self._news.notify_all()

    def _copy_changed(self, last: bool) -> dict[str, Exception]:
        """One pass over the run folder: what could not be copied, and why."""
        failures: dict[str, Exception] = {}
        paths = (Path(folder, file) for folder, _, files in os.walk(self._run) for file in files)
        for name in _in_order(path.relative_to(self._run).as_posix() for path in paths):
            try:
                stat = (self._run / name).stat()
                same = self._copied.get(name) == (stat.st_size, stat.st_mtime_ns)
                # At the end believe what is there, not what is remembered: a bucket may have been emptied.
                if not same or (last and not self._fs.exists(f"{self._root}/{name}")):
                    # One file that failed every try is patience enough: when the destination is down, all fail.
                    self._try(name, 1 if failures else self._attempts)
            except Exception as error:
                if (self._run / name).exists():  # else deleted since it was listed
                    failures[name] = error
        return failures

    def _try(self, name: str, attempts: int) -> None:
        """Send one file, trying again ever later."""
        for attempt in range(1, attempts + 1):
            if self._abandoned.is_set():
                raise TimeoutError("stopped")
            try:
                self._copied[name] = self._send(name)
                return
            except Exception:
                if attempt == attempts or not (self._run / name).exists():
                    raise
            self._abandoned.wait(self._first_wait_s * 2 ** (attempt - 1))

    def _send(self, name: str) -> tuple[int, int]:
        """Copy one whole version of a file, verified: its size and mtime_ns."""
        local = isinstance(self._fs, LocalFileSystem)
        if local and not Path(self._root).is_dir():  # made again, it would hide that the drive is unmounted
            raise FileNotFoundError(f"the folder {self._root} is gone")
        folder, _, base = f"{self._root}/{name}".rpartition("/")
        partial = f"{folder}/.{base}.partial"
        # Read in one go (a checkpoint is about 100 MB): one handle is one version of a file that is replaced or grows,
        # and Windows, where nobody can replace an open file, does not have to wait for the upload.
        with (self._run / name).open("rb") as source:
            stat = os.fstat(source.fileno())
            content = source.read(stat.st_size)
        try:
            if not self._fs.async_impl:  # object stores have no folders, and asking one for a folder may make a bucket
                self._fs.makedirs(folder, exist_ok=True)
            with self._fs.open(partial, "wb") as target:
                target.write(content)
            self._fs.invalidate_cache(folder)
            with self._fs.open(partial, "rb") as copy:
                back = hashlib.file_digest(copy, "sha256")
            if self._fs.size(partial) != len(content) or back.digest() != hashlib.sha256(content).digest():
                raise OSError("what arrived differs from the file (size or SHA-256)")
            (os.replace if local else self._fs.mv)(partial, f"{folder}/{base}")
        except BaseException:
            with suppress(Exception):
                self._fs.rm_file(partial)
            raise
        return stat.st_size, stat.st_mtime_ns

    def _tell(self, what: str, error: Exception) -> None:
        step = "Copy it by hand" if self._closing else "It is tried again at the next checkpoint"
        with suppress(Exception):  # a warning that cannot be shown is no reason to end the run
            self._warn(f"Mirror: {what} did not reach {self._shown}: {error!r}. {step}; {self._run} has it all.")


def open_mirror(run: Path, address: str, screen: Screen) -> Mirror:
    """The mirror of a new run: a place that holds no run yet, and an address that may be written down.

    Raises:
        RunError: The place cannot be used, holds a run, or its address holds a password.
    """
    if re.search(r"//[^/@]*:[^/@]*@", address):
        raise RunError(
            "The address that --mirror was given holds a password, which would be written to run.json.",
            "Give the credentials the way the storage's own tools take them, such as environment variables.",
        )
    mirror = Mirror(run, address, warn=screen.warn)
    if mirror.holds_run():
        raise RunError(
            f"{address} already holds a run, and two runs would be mixed.",
            f"Give another --mirror, or go on with that run: neurodense train --resume NEW_FOLDER --mirror {address}",
        )
    return mirror


def reopen_mirror(run: Path, address: str | None, screen: Screen) -> Mirror | None:
    """The mirror of a resumed run. One that cannot be reached is a warning: its failure never ends a run."""
    if address is None:
        return None
    try:
        if "://" not in address and not Path(address).is_dir():  # made again, it would hide that a drive is unmounted
            raise RunError(f"The folder {address}, which the run is copied to, is not there.")
        return Mirror(run, address, warn=screen.warn)
    except RunError as error:
        screen.warn(f"{error.message} The run goes on without a mirror; --mirror ADDRESS gives another.")
        return None


def absolute(address: str) -> str:
    """A folder by its full path, so that a resumed run finds it from anywhere; a URL as it is."""
    return address if "://" in address else str(Path(address).resolve())


def restore(destination: str, run: Path) -> None:
    """Copy a mirrored run back into the folder `run`. Files that are there already stay as they are.

    Raises:
        RunError: There is no run at the destination, or it cannot be read.
    """
    fs, root, shown = _connect(destination)
    try:
        fs.invalidate_cache()
        sizes = {path.removeprefix(f"{root}/"): info["size"] for path, info in fs.find(root, detail=True).items()}
        for name in _in_order(sizes) if "run.json" in sizes else ():
            if not (Path(run) / name).exists():
                with replacing(Path(run) / name) as temporary:
                    fs.get_file(f"{root}/{name}", str(temporary))
                    if (arrived := temporary.stat().st_size) != sizes[name]:
                        raise OSError(f"{arrived} bytes of {name} arrived, not {sizes[name]}")
    except Exception as error:
        raise RunError(f"{shown} could not be copied back: {error}.", "Try again: what arrived is kept.") from error
    if "run.json" not in sizes:
        found = f"{', '.join(sorted(sizes)[:3])} ({len(sizes)} in all)" if sizes else "nothing"
        raise RunError(f"{shown} has no run.json. Found: {found}.", "Give the folder that --mirror was given.")


def _connect(destination: str, made_for: Path | None = None) -> tuple[AbstractFileSystem, str, str]:
    """File system, path in it and printable name of a destination. A plain folder is made for the run it is to hold."""
    shown = re.sub(r"//[^/@]*:[^/@]*@", "//", destination)  # without a password
    try:
        fs, root = url_to_fs(destination)
        if made_for and isinstance(fs, LocalFileSystem):
            if Path(root).resolve().is_relative_to(made_for):
                raise ValueError("it lies inside the run folder")
            Path(root).mkdir(parents=True, exist_ok=True)
    except Exception as error:
        package = PACKAGES.get(destination.partition("://")[0]) if isinstance(error, ImportError) else None
        hint = f"pip install {package}" if package else "Give a folder, or a URL such as s3://bucket/run."
        raise RunError(f"{shown} cannot be used as a mirror: {error}.", hint) from error
    return fs, root.rstrip("/"), shown


def _in_order(names: Iterable[str]) -> list[str]:
    """The names that are not temporary (nor climb out of the folder with ..): checkpoints late, run.json last.

    A copy that is cut off then has a log at least as long as its checkpoint knows of, and a resumed run cuts it there.
    The run.json of a fold, fold-1/run.json, goes after the folds' other files and before the run's own.
    """
    whole = (name for name in names if "/." not in f"/{name}")
    return sorted(
        whole,
        key=lambda name: (name == "run.json", name.endswith("/run.json"), "checkpoints/" in name, name),
    )
