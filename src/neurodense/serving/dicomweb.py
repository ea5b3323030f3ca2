"""An archive behind DICOMweb (Part 18): QIDO-RS finds, WADO-RS fetches, STOW-RS stores.

What is fetched stays in memory. Nothing that the archive says is quoted in an error, since it may name a patient.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from neurodense.errors import MissingExtra, PacsError
from neurodense.scans.memory import MemoryFile
from neurodense.serving.multipart import boundary_of, joined, parts

if TYPE_CHECKING:
    import httpx2

MAX_BYTES: Final = 2 << 30
"""Of one series."""
MAX_IMAGES: Final = 10_000
"""Of one series."""
FETCH_S: Final = 1800.0
"""Seconds for one series, however the archive trickles."""

_MAX_JSON = 8 << 20
_CONNECT_S = 10.0
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_JSON = {"Accept": "application/dicom+json"}
_DICOM = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*', "Accept-Encoding": "identity"}
_ALREADY_THERE = 0x0111  # Part 7, C.5.8: duplicate SOP instance
_REASONS = {  # Part 18, I.2.2, and Part 7, annex C
    0x0110: "it could not process it",
    0x0117: "the UID is invalid",
    0x0122: "it takes no objects of this kind",
    0x0124: "it does not authorise this",
    0xA700: "it has no room",
    0xA900: "the data do not fit their kind",
    0xC000: "it could not understand it",
    0xC122: "it does not take this transfer syntax",
}


@dataclass(frozen=True)
class Listed:
    """A series as an archive lists it.

    Attributes:
        uid: Series Instance UID.
        number: Series Number, or None.
        images: How many; None where the archive does not say.
    """

    uid: str
    number: int | None
    images: int | None

    def __str__(self) -> str:
        name = "a series without number" if self.number is None else f"series {self.number}"
        return name if self.images is None else f"{name} ({self.images} images)"


def checked_uid(text: str, what: str) -> str:
    """The UID, if it is one (Part 5, 9.1).

    Raises:
        PacsError: It is none.
    """
    if len(text) > 64 or not _UID.fullmatch(text):
        raise PacsError(f"{what} is no UID: digits and dots, at most 64 characters.")
    return text


class Archive:
    """An archive. Certificates are checked against those that the system trusts; redirections are not followed.

    Args:
        url: Where DICOMweb begins, such as https://pacs.example.org/dicom-web.
        token: Sent as Bearer token.
        user: Name and password, sent as basic authentication.
        timeout: Seconds that the archive may keep silent.
        transport: Takes the place of the network, in tests.

    Attributes:
        name: Scheme, host and port, for messages.
        is_local: Whether it is on this machine.

    Raises:
        PacsError: The URL is none of http or https, or has a name and a password in it.
        MissingExtra: httpx2 is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        user: tuple[str, str] | None = None,
        timeout: float = 60.0,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        try:
            import httpx2
        except ModuleNotFoundError:
            raise MissingExtra("httpx2", "pacs") from None
        try:
            where = urlsplit(url)
            port = where.port
        except ValueError:
            raise PacsError("The URL of the archive has no valid host and port.") from None
        if where.scheme not in ("http", "https") or not where.hostname or where.query or where.fragment:
            raise PacsError(
                "The URL of the archive must be http://HOST/PATH or https://HOST/PATH.",
                "Orthanc, for example: http://localhost:8042/dicom-web",
            )
        if where.username is not None or where.password is not None:
            raise PacsError(
                "The URL of the archive has a name and a password in it, where others may read it.", "Use --user NAME."
            )
        self.is_local = where.hostname in ("localhost", "127.0.0.1", "::1")
        self.name = f"{where.scheme}://{where.hostname}{f':{port}' if port else ''}"
        self._client = httpx2.Client(
            base_url=url,
            auth=user,
            headers={"Authorization": f"Bearer {token}"} if token else None,
            timeout=httpx2.Timeout(timeout, connect=min(timeout, _CONNECT_S)),
            follow_redirects=False,
            transport=transport,
        )

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def mr_series(self, study: str) -> list[Listed]:
        """The MR series of a study, by number.

        Raises:
            PacsError: There is no such study, or none of its series is MR; or see `_asked`.
        """
        fields = {"includefield": ["00080060", "0020000E", "00200011", "00201209"]}
        found = self._search(f"studies/{study}/series", {"Modality": "MR", **fields}, may_miss=True)
        listed = [
            Listed(uid, _number(one, "00200011"), _number(one, "00201209"))
            for one in found
            if (uid := str(_value(one, "0020000E") or "")) and _value(one, "00080060") in ("MR", None)
        ]
        for one in listed:
            checked_uid(one.uid, "What the archive gives for a series")
        if listed:
            return sorted(listed, key=lambda one: (one.number is None, one.number or 0, one.uid))
        if not self._search("studies", {"StudyInstanceUID": study}):
            raise PacsError(f"{self.name} has no study with this UID.", "Look the UID up in the archive.")
        raise PacsError("The study has no MR series.", "neurodense reads MRI of the brain and nothing else.")

    def fetch(self, study: str, series: str) -> list[MemoryFile]:
        """The files of a series.

        Raises:
            PacsError: It is too large, or breaks off; or see `_asked`.
        """
        end = time.monotonic() + FETCH_S
        with self._asked("GET", f"studies/{study}/series/{series}", headers=_DICOM) as answer:
            self._expect(answer, "give the series")

            def chunks() -> Iterator[bytes]:
                for chunk in answer.iter_bytes():
                    if time.monotonic() > end:
                        raise PacsError(f"{self.name} needed more than {FETCH_S:.0f} s for the series.")
                    yield chunk

            boundary = boundary_of(answer.headers.get("content-type", ""))
            contents = parts(chunks(), boundary, max_bytes=MAX_BYTES, max_parts=MAX_IMAGES)
            return [MemoryFile(f"series/{number}.dcm", content) for number, content in enumerate(contents, 1)]

    def store(self, study: str, objects: Mapping[str, bytes]) -> None:
        """Store objects in a study. What is there already, since it was sent before, counts as stored.

        Args:
            study: Study Instance UID.
            objects: SOP Instance UID -> the file.

        Raises:
            PacsError: The archive refuses an object; or see `_asked`.
        """
        boundary = secrets.token_hex(16)
        pieces = joined([*objects.values()], boundary.encode(), "application/dicom")
        headers = {
            **_JSON,
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
            "Content-Length": str(sum(map(len, pieces))),
        }
        with self._asked("POST", f"studies/{study}", headers=headers, content=iter(pieces)) as answer:
            if answer.status_code != 409:  # with it comes the list of what was refused, and why
                self._expect(answer, "store the results")
            said = self._json(answer)
            status = answer.status_code
        failed = said.get("00081198", {}).get("Value") or [] if isinstance(said, dict) else []
        reasons = [_number(one, "00081197") for one in failed if isinstance(one, dict)]
        refused = [
            _REASONS.get(one or 0, "it gives no reason that is known") for one in reasons if one != _ALREADY_THERE
        ]
        if refused or (status in (202, 409) and not failed):
            why = f": {', '.join(dict.fromkeys(refused))}" if refused else ""
            count = len(refused) or "some"
            raise PacsError(f"{self.name} refused {count} of {len(objects)} results{why}.")

    def _search(self, path: str, query: Mapping[str, Any], *, may_miss: bool = False) -> list[Mapping[str, Any]]:
        with self._asked("GET", path, params=query, headers=_JSON) as answer:
            if answer.status_code == 204 or (may_miss and answer.status_code == 404):
                return []
            self._expect(answer, "answer the search")
            found = self._json(answer)
        if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
            raise PacsError(f"{self.name} answers a search with something else than DICOM JSON.", _hint())
        return found

    @contextmanager
    def _asked(self, method: str, path: str, **what: Any) -> Iterator[httpx2.Response]:
        """The answer, whose body is still to be read.

        Raises:
            PacsError: The archive cannot be reached, is not trusted, keeps silent, or does not speak HTTP.
        """
        import httpx2

        try:
            with self._client.stream(method, path, **what) as answer:
                yield answer
        except httpx2.ConnectError as error:
            if "CERTIFICATE" in str(error).upper():
                problem = "shows a certificate that this system does not trust", "Add its authority to the system's."
            else:
                problem = "cannot be reached", "Check address and port, and that it runs."
        except httpx2.TimeoutException:
            problem = "keeps silent", "Try again, or raise --timeout."
        except (httpx2.HTTPError, httpx2.StreamError):
            problem = "broke off the connection, or does not speak HTTP", "Try again; check address and port."
        else:
            return
        raise PacsError(f"{self.name} {problem[0]}.", problem[1])  # without the library's words, which have the URL

    def _expect(self, answer: httpx2.Response, what: str) -> None:
        status = answer.status_code
        if 200 <= status < 300:
            return
        if status in (401, 403):
            refuses = "asks who you are" if status == 401 else "does not let you"
            raise PacsError(f"{self.name} {refuses} ({status}).", "Give --token-file FILE or --user NAME.")
        if 300 <= status < 400:
            raise PacsError(f"{self.name} redirects elsewhere ({status}), which is not followed.", _hint())
        raise PacsError(f"{self.name} does not {what} ({status}).", _hint() if status in (404, 405) else None)

    def _json(self, answer: httpx2.Response) -> Any:
        body = bytearray()
        for chunk in answer.iter_bytes():
            body += chunk
            if len(body) > _MAX_JSON:
                raise PacsError(f"{self.name} answers with more than {_MAX_JSON >> 20} MiB of JSON.")
        try:
            return json.loads(body or b"null")
        except (ValueError, RecursionError):
            return None


def _hint() -> str:
    return "--source is where DICOMweb begins; Orthanc, for example: http://localhost:8042/dicom-web"


def _value(one: Mapping[str, Any], tag: str) -> object:
    """The first value of an element of DICOM JSON (Part 18, F.2), or None."""
    element = one.get(tag)
    values: Sequence[object] = element.get("Value") or () if isinstance(element, dict) else ()
    return values[0] if isinstance(values, list) and values else None


def _number(one: Mapping[str, Any], tag: str) -> int | None:
    try:
        return int(str(_value(one, tag)))
    except ValueError:
        return None
