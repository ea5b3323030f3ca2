"""A Ray cluster of two nodes of one CPU on this machine, its worker processes, and a command that works on it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CODE = """
import sys
from ray.cluster_utils import Cluster
node = {"num_cpus": 1, "object_store_memory": 2**27}
cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
cluster.add_node(**node)
cluster.wait_for_nodes()
print("address", cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""

ENVIRONMENT = {
    **os.environ,
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on the loopback address
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_worker_niceness": "0",
    "AUTOSCALER_METRIC_PORT": "0",
}


class Nodes:
    """The cluster.

    Attributes:
        address: Of its head.
    """

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self._process, self.address = process, address

    def workers(self) -> list[int]:
        """Process numbers of the actors that classify, on both nodes. Linux only."""
        return [pid for pid, title in descendants(self._process.pid).items() if "MapWorker" in title]

    def kill_worker(self, out: Path, after: int, seconds: float = 300) -> int:
        """Once `after` shards of `out` are done, end one worker by SIGKILL; gives its process number."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if finished(out) >= after and (workers := self.workers()):
                os.kill(workers[0], signal.SIGKILL)
                return workers[0]
            time.sleep(0.02)
        raise TimeoutError(f"no worker and {after} shards after {seconds:g} s")


@contextmanager
def two_nodes() -> Iterator[Nodes]:
    """Start them; end them."""
    words = [sys.executable, "-W", "ignore", "-c", _CODE]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith("address "):
                    break
            else:
                raise RuntimeError("the cluster did not start")
            yield Nodes(process, line.split()[1])
        finally:
            process.stdin.close()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def descendants(pid: int) -> dict[int, str]:
    """The command lines of the processes that a process started, and of those that they did. Linux only."""
    parents, titles = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                status = (folder / "stat").read_text()
                titles[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue  # it has ended
            parents[int(folder.name)] = int(status.rpartition(")")[2].split()[1])
    found = {pid}
    while more := {one for one, parent in parents.items() if parent in found} - found:
        found |= more
    return {one: titles[one] for one in found - {pid}}


def listening(pid: int) -> set[str]:
    """The addresses on which a process listens, as /proc/net has them: hexadecimal, 0100007F is 127.0.0.1."""
    sockets = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":  # LISTEN
                sockets[f"socket:[{words[9]}]"] = words[1].partition(":")[0]
    try:
        held = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()]
    except OSError:  # it has ended
        return set()
    return {sockets[name] for name in held if name in sockets}


def command(inputs: list[str], out: Path, *options: str) -> list[str]:
    """`neurodense predict --engine ray` as a process."""
    return [sys.executable, "-m", "neurodense", "predict", "--engine", "ray", *inputs, "--out", str(out), *options]


def finished(out: Path) -> int:
    """Shards that are done."""
    return sum(1 for _ in (out / "predictions").glob("part-*.parquet"))


def twice_and_lost(out: Path) -> tuple[int, int, int]:
    """Files that are in the results more than once, files that are missing, and files that nobody asked for."""
    from pyarrow import parquet

    asked = {name.decode() for name in parquet.read_table(out / "listing.parquet")["source"].to_pylist()}
    got: list[str] = []
    for kind in ("predictions", "errors"):
        for part in (out / kind).glob("part-*.parquet"):
            got += parquet.read_table(part, columns=["source"])["source"].to_pylist()
    return len(got) - len(set(got)), len(asked - set(got)), len(set(got) - asked)
