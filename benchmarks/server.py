"""`neurodense serve` as a process to measure: started, watched, ended."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

BOUNDARY = "neurodense-benchmark"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"


class Server:
    """A running server; a context manager.

    Args:
        model: The model folder.
        options: Of the command.

    Attributes:
        port: That it listens on.
    """

    def __init__(self, model: Path, *options: str) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (as long as the server lives)
        words = [sys.executable, "-m", "neurodense", "serve", "--model", str(model), "--port", "0", *options]
        self.process = subprocess.Popen(words, stderr=self._log)
        self.port = 0
        while not self.port:
            if self.process.poll() is not None:
                raise SystemExit(f"the server ended: {self.log()}")
            time.sleep(0.05)
            if found := re.search(r"http://\S+:(\d+)$", self.log(), re.MULTILINE):
                self.port = int(found[1])

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.stop()
        self._log.close()

    def log(self) -> str:
        """What it has written so far."""
        place = self._log.tell()
        self._log.seek(0)
        text = self._log.read()
        self._log.seek(place)
        return text

    def url(self, path: str) -> str:
        """Of one of its routes."""
        return f"http://127.0.0.1:{self.port}{path}"

    def rss_mib(self) -> float:
        """Resident memory of its processes now; what they share counts for each."""
        texts = [(place / "status").read_text() for place in self._places()]
        return sum(int(text.partition("VmRSS:")[2].split()[0]) for text in texts) / 1024

    def cpu_s(self) -> float:
        """CPU seconds that its processes have used."""
        fields = [(place / "stat").read_text().rpartition(")")[2].split() for place in self._places()]
        return sum(int(row[11]) + int(row[12]) for row in fields) / os.sysconf("SC_CLK_TCK")  # utime, stime: proc(5)

    def _places(self) -> list[Path]:
        """Below /proc, of the process and of those that it started."""
        found = [self.process.pid]
        for pid in found:  # which grows
            found += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return [Path(f"/proc/{pid}") for pid in found]

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)


def form(*files: tuple[str, bytes]) -> bytes:
    """The body of a request of these files."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode() + content
        for name, content in files
    ]
    return b"\r\n".join([*parts, f"--{BOUNDARY}--\r\n".encode()])
