"""Run pydicom over a file that may be damaged, and let nothing out that the file says.

pydicom warns and logs about what it finds, and its errors quote values. Such a value may be a patient's name. Here
warnings and log records are dropped, and an error becomes a `ScanError` with words of our own and no chain behind it.
"""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from neurodense.errors import NeurodenseError, ScanError

T = TypeVar("T")

NO_HEADER = "is damaged: its header cannot be read."
NO_PIXELS = "is damaged: its pixels cannot be read."

_LOGGERS = ("pydicom", "pydicom.pixels.decoders.base", "pydicom.pixels.utils", "pylibjpeg.utils", "openjpeg.decode")
_warnings = threading.RLock()  # the filters of `warnings` are one for the whole process
_quiet = threading.local()


def _silent(record: logging.LogRecord) -> bool:
    """A filter of log records: False while this thread reads a file under guard."""
    return not getattr(_quiet, "on", False)


@cache
def _silence() -> None:
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_silent)


def guarded(source: str, fault: str, job: Callable[[], T]) -> T:
    """Give what `job` gives.

    Args:
        source: The name of the file in errors.
        fault: What to say of `source` if the job fails and nothing better is known, such as `NO_HEADER`.
        job: Reads the file. It raises ScanError for what it finds wrong itself.

    Raises:
        ScanError: The file is missing, cannot be opened, does not fit into memory, or any library failed on it.
    """
    _silence()
    with _warnings, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outer = getattr(_quiet, "on", False)
        _quiet.on = True
        try:
            return job()
        except NeurodenseError:
            raise
        except FileNotFoundError:
            problem = "does not exist."
        except MemoryError:
            problem = "does not fit into memory."
        except RecursionError:
            problem = "holds sequences nested deeper than any picture needs."
        except Exception as error:  # a parser fed with anything raises anything
            reason = error.strerror if isinstance(error, OSError) else None
            problem = f"cannot be opened: {reason}." if reason else fault
        finally:
            _quiet.on = outer
    raise ScanError(f"{source} {problem}")  # outside the handler, so that no chain leads to the library's words
