"""This process among N: torchrun starts them, and each computes its share of every batch.

With one process all of this does nothing: a share is the whole, and what is gathered or added up is what one has. With
N the first process leads: it alone reads the folder, decides, writes and speaks. What goes between processes goes over
gloo where a tensor is in main memory and over NCCL where it is on a GPU, and every process has to take part in it.
"""

from __future__ import annotations

import itertools
import json
import os
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import torch
from torch import Tensor, distributed, nn

from neurodense.errors import RunError
from neurodense.training.precision import Arithmetic

_PATIENCE = timedelta(days=1)  # the others wait while the first reads images, waits for a cache and makes the report
_jobs = itertools.count()
_GRACE_S = 1.0  # torchrun ends everybody when one has ended: until then, who has something to say has said it


def size() -> int:
    """The number of processes."""
    return distributed.get_world_size() if _joined() else 1


def first() -> bool:
    """True in the one process that decides, writes and speaks."""
    return not _joined() or distributed.get_rank() == 0


def _joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def on_this_machine() -> int:
    """The number of processes that share this machine's cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if size() > 1 else 1


def share(count: int) -> slice:
    """This process's part of a batch of `count` rows; the parts follow each other, and differ by one row at most."""
    if size() == 1:
        return slice(0, count)
    rank = distributed.get_rank()
    return slice(count * rank // size(), count * (rank + 1) // size())


def gather(rows: Tensor, count: int) -> Tensor:
    """The rows (count, ...) of all processes, from each one's share of them; nothing flows back through it."""
    if size() == 1:
        return rows
    whole = torch.zeros(count, *rows.shape[1:], dtype=rows.dtype, device=rows.device)
    whole[share(count)] = rows.detach()
    distributed.all_reduce(whole.view(torch.uint8))  # elsewhere all bytes are 0, so their sum is the rows, to the bit
    return whole


def total(value: Tensor) -> Tensor:
    """The sum of the values of all processes; nothing flows back through it."""
    value = value.detach()
    if size() > 1:
        value = value.clone()
        distributed.all_reduce(value)
    return value


def told(value: Any) -> Any:
    """What the first process gives here, as JSON carries it; what the others give is passed over."""
    if size() == 1:
        return value
    text = json.dumps(value).encode() if first() else b""
    length = torch.tensor([len(text)])
    distributed.broadcast(length, 0)
    content = torch.zeros(int(length), dtype=torch.uint8)
    if first():
        content[:] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    distributed.broadcast(content, 0)
    return json.loads(content.numpy().tobytes())


def parallel(network: nn.Module) -> nn.Module:
    """The network with gradients that are the mean over the processes, and with the first one's weights in all."""
    return network if size() == 1 else nn.parallel.DistributedDataParallel(network)


def take_device(arithmetic: Arithmetic) -> None:
    """Let each process of a machine have a GPU of its own, where the training runs on GPUs.

    Raises:
        RunError: There are too few, or it is a device that works alone.
    """
    if size() == 1 or arithmetic.device.type == "cpu":
        return
    if arithmetic.device.type != "cuda":
        raise RunError(f"Several processes do not train on {arithmetic.device.type}.", "--device cpu, or one process.")
    rank, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    if rank >= there:
        raise RunError(
            f"{on_this_machine()} processes on a machine with {there} GPUs; each needs one of its own.",
            f"torchrun --nproc-per-node {there}, or --device cpu.",
        )
    torch.cuda.set_device(rank)


@contextmanager
def joined(run: Path) -> Iterator[None]:
    """Be one of the processes that torchrun has started, inside the block; the first to fail speaks for all.

    Ctrl-C is for the first process: the others end when it has.

    Args:
        run: The run folder, for the message.

    Raises:
        RunError: Another process has died, or all were told to end.
        SystemExit: Another process has failed before, and said why.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ or _joined():
        yield
        return
    from torch.distributed.rendezvous import rendezvous  # not every build of torch has it

    root, rank, count = next(rendezvous("env://"))
    # A script may train more than once, and no process should take an address of the time before for one of now.
    store = distributed.PrefixStore(f"neurodense/{next(_jobs)}", root)  # type: ignore[attr-defined]
    there = torch.cuda.is_available() and distributed.is_nccl_available()
    backend = "cpu:gloo,cuda:nccl" if there else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=_PATIENCE)
    lost = RunError(
        "A process of this job has died, or all of them were told to end.",
        f"Whole epochs are kept. With any number of processes: neurodense train --resume {shlex.quote(str(run))}",
    )

    def end(number: int, frame: FrameType | None) -> NoReturn:
        _ignore_signals()
        raise lost

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        _ignore_signals()  # torchrun passes on what the terminal has sent already
        raise KeyboardInterrupt

    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, end),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN if rank else interrupt),
    }
    try:
        yield
    except BaseException as error:
        _ignore_signals()
        if not _is_first_to_fail(store):
            time.sleep(_GRACE_S)
            raise SystemExit(1) from None
        if _is_of_the_network(error):
            raise lost from error
        raise
    else:
        distributed.destroy_process_group()
    for number, handler in before.items():
        signal.signal(number, handler)


def _ignore_signals() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _is_first_to_fail(store: Any) -> bool:
    try:
        return bool(store.add("failed", 1) == 1)
    except RuntimeError:  # torchrun itself is gone
        return first()


def _is_of_the_network(error: BaseException) -> bool:
    """True for what gloo and NCCL raise when another process is gone; gloo's errors have no type of their own."""
    return isinstance(error, distributed.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
