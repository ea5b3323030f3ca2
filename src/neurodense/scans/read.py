"""Read one file as a `Scan`, whatever it is: the checks that every kind of file passes, and one kind of error."""

from __future__ import annotations

import stat
from io import BytesIO

from neurodense.errors import ScanError
from neurodense.scans.memory import File, as_file
from neurodense.scans.raster import read_raster
from neurodense.scans.scan import Scan

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".tif", ".tiff", ".bmp", ".webp", ".gif"})
"""What a folder is searched for, in lower case. A file named directly is read whatever its name."""

_AT_ONCE = 2**22  # bytes of a file that is read whole: a decoder asks for some dozen pieces, each a call of the system


def read_scan(path: str | File, source: str | None = None) -> Scan:
    """Read `path` as a grey image in [0, 1]; how is said in `scans.raster`.

    Args:
        path: A JPEG, PNG, TIFF, BMP, WebP or GIF file; the content decides, not the name.
        source: The name the scan carries; the path where None.

    Raises:
        ScanError: The file is missing, empty, damaged, not one of the formats, or of an impossible size.
    """
    path = as_file(path)
    source = str(path) if source is None else source
    try:
        kind = path.stat()
        if stat.S_ISDIR(kind.st_mode):
            raise ScanError(f"{source} is a folder, not an image file.")
        if not stat.S_ISREG(kind.st_mode):  # to open a pipe would wait for someone to write into it
            raise ScanError(f"{source} is a pipe, a socket or a device, not an image file.")
        if kind.st_size == 0:
            raise ScanError(f"{source} is empty (0 bytes).")
        # By name, Pillow maps an uncompressed TIFF into memory and then scrambles one that lies on its side.
        with path.open("rb") as file:
            return read_raster(BytesIO(file.read()) if kind.st_size <= _AT_ONCE else file, source)
    except FileNotFoundError:
        raise ScanError(f"{source} does not exist.") from None
    except ScanError:
        raise
    except MemoryError:
        raise ScanError(f"{source} does not fit into memory.") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        if isinstance(error, OSError) and error.strerror:  # the system's own, not a decoder's
            raise ScanError(f"{source} cannot be opened: {error.strerror}.") from error
        raise ScanError(f"{source} cannot be decoded: {error or type(error).__name__}.") from error
