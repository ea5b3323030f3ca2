"""What happened, as it happened: log.jsonl (one JSON object a line) and TensorBoard event files.

Events in log.jsonl: `start` and `resume` (time, epoch, arithmetic, threads, processes, versions), `batch` (stage,
epoch, step, loss, learning_rate), `epoch` (stage, epoch, train_loss, validation_loss, validation_accuracy,
validation_macro_f1, seconds, view) and `trained` (time). `epoch` counts from 1 over the whole run; `time` is in
seconds since 1970, UTC.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Protocol

from torch.utils.tensorboard import SummaryWriter


class Log(Protocol):
    """What is told of a training as it happens: a `Journal`, or something else that listens."""

    def batch(self, step: int, stage: str, epoch: int, loss: float, learning_rate: float) -> None:
        """One training batch; `step` counts over the whole run."""

    def epoch(self, step: int, values: dict[str, Any]) -> None:
        """One epoch's figures; `step` counts batches over the whole run."""

    def flush(self) -> int:
        """Bring everything to disk; gives the length of log.jsonl, 0 where there is none."""


class NoLog:
    """The log of a process beside the one that writes."""

    def batch(self, step: int, stage: str, epoch: int, loss: float, learning_rate: float) -> None:
        """Nothing."""

    def epoch(self, step: int, values: dict[str, Any]) -> None:
        """Nothing."""

    def flush(self) -> int:
        """Nothing is on disk."""
        return 0


class Journal:
    """The log of a run, opened for appending.

    Args:
        run: The run folder.
        keep_bytes: Cut log.jsonl to this length first: what came after the checkpoint is about to happen again.
        keep_steps: Likewise for TensorBoard, in batches.
    """

    def __init__(self, run: Path, keep_bytes: int, keep_steps: int) -> None:
        self._path = run / "log.jsonl"
        if self._path.exists():
            kept = self._path.read_bytes()[:keep_bytes]
            # Copied back from a mirror, a log may be shorter than the checkpoint knows, and end within a line.
            os.truncate(self._path, kept.rfind(b"\n") + 1)
        self._file = self._path.open("a", encoding="utf-8", newline="\n")
        # TensorBoard purges this step and what came after it.
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=keep_steps + 1)

    def event(self, event: str, **values: Any) -> None:
        """Append one event."""
        self._file.write(json.dumps({"event": event, **values}, ensure_ascii=False) + "\n")

    def batch(self, step: int, stage: str, epoch: int, loss: float, learning_rate: float) -> None:
        """One training batch; `step` counts over the whole run."""
        self.event("batch", stage=stage, epoch=epoch, step=step, loss=loss, learning_rate=learning_rate)
        self._board.add_scalar("batch/loss", loss, step)
        self._board.add_scalar("batch/learning_rate", learning_rate, step)

    def epoch(self, step: int, values: dict[str, Any]) -> None:
        """One epoch's figures; `step` counts batches over the whole run."""
        self.event("epoch", **values)
        for name in ("train_loss", "validation_loss", "validation_accuracy", "validation_macro_f1"):
            self._board.add_scalar(f"epoch/{name}", values[name], step)
        self._board.flush()

    def flush(self) -> int:
        """Bring everything to disk; gives the length of log.jsonl."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._path.stat().st_size

    def close(self) -> None:
        """Close both."""
        self._file.close()
        self._board.close()


def read_history(run: Path) -> list[dict[str, Any]]:
    """The `epoch` events of a run, in order."""
    path = run / "log.jsonl"
    if not path.exists():
        return []
    events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [event for event in events if event["event"] == "epoch"]
