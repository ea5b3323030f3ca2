"""What the service takes on at once, and for how long. Beyond that it says no instead of falling over."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds, all of them checked while a request is read, not after.

    Attributes:
        request_bytes: Of one request's body, and of what its zip archives hold.
        files: In one request, those inside of archives counted.
        held_bytes: Of all requests that are being read or answered; what would go beyond is turned away.
        requests: That are read, wait or are answered at once; one more is turned away.
        idle_s: Longest wait for the next bytes of a body.
        answer_s: Longest time from the last byte of a request to its answer.
        batch_wait_s: How long a picture may wait for others that are being read, to be run with them, while a stream of
            the engine is free.
        name_length: Characters of a file's name.
    """

    request_bytes: int = 512 * 2**20
    files: int = 2000
    held_bytes: int = 2**30
    requests: int = 64
    idle_s: float = 20.0
    answer_s: float = 60.0
    batch_wait_s: float = 0.002
    name_length: int = 1024
