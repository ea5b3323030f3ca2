"""A bearer token in a file: what a client must show to the service, or what an archive is shown."""

from __future__ import annotations

from pathlib import Path

from neurodense.errors import DataError

_MOST = 1 << 14  # bytes; no server takes a longer header


def read_token(path: Path, *, least: int = 1) -> str:
    """The first line of a file: one word of visible ASCII characters. No error quotes it.

    Args:
        path: The file.
        least: Characters that it must have.

    Raises:
        DataError: It cannot be read, or holds no token of this length.
    """
    try:
        with path.open("rb") as file:
            token = file.readline(_MOST).strip().decode("ascii")
    except OSError as error:
        raise DataError(f"The token file {path} cannot be read: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        token = ""
    if not token.isprintable() or " " in token:
        token = ""
    if len(token) < least:
        need = f"of at least {least} characters " if least > 1 else ""
        raise DataError(
            f"{path} holds no token {need}that can be used: its first line must be one word of ASCII characters.",
            f"python -c 'import secrets; print(secrets.token_urlsafe())' > {path}" if least > 1 else None,
        )
    return token
