"""The client of an archive, against archives that err in every way; the real one is in `test_orthanc.py`."""

import http.server
import io
import json
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

httpx2 = pytest.importorskip("httpx2")
pytest.importorskip("highdicom")
from click.testing import CliRunner
from test_dicom_results import PATIENT, STUDY, write_series

from neurodense.cli import cli
from neurodense.errors import PacsError
from neurodense.serving import dicomweb
from neurodense.serving.dicomweb import Archive, checked_uid
from neurodense.serving.multipart import boundary_of, joined, parts
from neurodense.serving.pacs import chosen_series

SERIES = f"{STUDY}.3"
URL = "https://pacs.example.org/dicom-web"
Handler = Callable[[httpx2.Request], httpx2.Response]


def archive(handler: Handler, **options) -> Archive:
    return Archive(URL, transport=httpx2.MockTransport(handler), **options)


def element(value: object) -> dict:
    return {"vr": "XX", "Value": [value]}


def listed(uid: str = SERIES, number: int | None = 3, images: int = 6) -> dict:
    found = {"0020000E": element(uid), "00080060": element("MR"), "00201209": element(images)}
    return found if number is None else {**found, "00200011": element(number)}


def always(status: int, content: object = None, **headers: str) -> Handler:
    body = json.dumps(content).encode() if content is not None else b""
    return lambda request: httpx2.Response(status, content=body, headers=headers)


# ---- multipart -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 10_000])
def test_parts_are_found_however_the_body_is_cut(size: int) -> None:
    contents = [b"one", b"", b"\r\n--", b"with \r\n--other in it", bytes(range(256)) * 9]
    body = b"preamble" + b"\r\n" + b"".join(joined(contents, b"edge", "application/dicom")) + b"epilogue"
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    assert [*parts(chunks, b"edge", max_bytes=10**6, max_parts=5)] == contents
    with pytest.raises(PacsError, match="more than the 4 images"):
        [*parts(chunks, b"edge", max_bytes=10**6, max_parts=4)]
    with pytest.raises(PacsError, match="larger than"):
        [*parts(chunks, b"edge", max_bytes=len(body) // 2, max_parts=5)]


@pytest.mark.parametrize("kept", [0, 5, 40, 80, 100])
def test_a_body_that_breaks_off_is_no_series(kept: int) -> None:
    body = b"".join(joined([b"x" * 50, b"y" * 50], b"edge", "application/dicom"))
    with pytest.raises(PacsError, match="broke off"):
        [*parts([body[:kept]], b"edge", max_bytes=10**6, max_parts=5)]


def test_boundaries() -> None:
    assert boundary_of('multipart/related; type="application/dicom"; boundary="a b"') == b"a b"
    assert boundary_of("Multipart/Related; boundary=xyz; type=application/dicom") == b"xyz"
    for other in ("application/dicom", "text/html; boundary=x", "multipart/related"):
        with pytest.raises(PacsError, match="no multipart/related"):
            boundary_of(other)


# ---- what an archive may answer ------------------------------------------------------------------------------------


def test_the_series_of_a_study() -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        assert request.url.path == f"/dicom-web/studies/{STUDY}/series"
        assert request.url.params["Modality"] == "MR"
        assert request.headers["authorization"] == "Bearer key"
        return httpx2.Response(200, json=[listed("1.9", 9, 176), listed(), listed("1.7", None)])

    one = archive(handler, token="key")
    assert [str(found) for found in one.mr_series(STUDY)] == [
        "series 3 (6 images)", "series 9 (176 images)", "a series without number (6 images)",
    ]  # fmt: skip
    assert chosen_series(one, STUDY, "9").uid == "1.9"
    assert chosen_series(one, STUDY, "1.7").uid == "1.7"
    with pytest.raises(PacsError, match=r"series 3 \(6 images\), series 9 .*one is looked at at a time"):
        chosen_series(one, STUDY, None)
    with pytest.raises(PacsError, match="No MR series of the study is the one of --series"):
        chosen_series(one, STUDY, "4")


def test_no_such_study_and_no_mr_in_it_are_told_apart() -> None:
    with pytest.raises(PacsError, match="has no study with this UID"):
        archive(always(200, [])).mr_series(STUDY)
    with pytest.raises(PacsError, match="has no study with this UID"):
        archive(always(204)).mr_series(STUDY)

    def handler(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json=[] if request.url.path.endswith("/series") else [{}])

    with pytest.raises(PacsError, match="has no MR series"):
        archive(handler).mr_series(STUDY)


@pytest.mark.parametrize(
    ("handler", "part"),
    [
        (always(401), "asks who you are (401)"),
        (always(403), "does not let you (403)"),
        (always(302, Location="https://elsewhere.example.org"), "redirects elsewhere (302)"),
        (always(500, {"PatientName": "Secret"}), "does not answer the search (500)"),
        (always(200, {"not": "a list"}), "something else than DICOM JSON"),
        (lambda request: httpx2.Response(200, content=b"<html>"), "something else than DICOM JSON"),
        (lambda request: httpx2.Response(200, content=b"[" * 10**6), "something else than DICOM JSON"),
        (always(200, [listed("../../other")]), "is no UID"),
    ],
)
def test_answers_that_are_none(handler: Handler, part: str) -> None:
    with pytest.raises(PacsError) as caught:
        archive(handler).mr_series(STUDY)
    assert part in str(caught.value)
    assert "Secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (httpx2.ConnectError("refused"), "cannot be reached"),
        (httpx2.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED]"), "a certificate that this system does not trust"),
        (httpx2.ReadTimeout("slow"), "keeps silent"),
        (httpx2.RemoteProtocolError("odd"), "broke off the connection"),
    ],
)
def test_an_archive_that_cannot_be_talked_to(error: Exception, part: str) -> None:
    def handler(request: httpx2.Request) -> httpx2.Response:
        raise error

    with pytest.raises(PacsError, match=part) as caught:
        archive(handler).mr_series(STUDY)
    assert STUDY not in str(caught.value)


def test_a_large_answer_is_not_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicomweb, "_MAX_JSON", 1000)
    with pytest.raises(PacsError, match="MiB of JSON"):
        archive(lambda request: httpx2.Response(200, content=b" " * 5000)).mr_series(STUDY)


def test_a_series_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dicomweb, "FETCH_S", -1.0)
    kind = {"content-type": "multipart/related; boundary=x"}
    with pytest.raises(PacsError, match="needed more than"):
        archive(lambda request: httpx2.Response(200, content=b"--x", headers=kind)).fetch(STUDY, SERIES)


def refused(reason: int) -> dict:
    return {"00081198": {"vr": "SQ", "Value": [{"00081197": element(reason)}]}}


@pytest.mark.parametrize(
    ("handler", "part"),
    [
        (always(409, refused(0xA700)), "refused 1 of 2 results: it has no room."),
        (always(202, refused(0x0122)), "refused 1 of 2 results: it takes no objects of this kind."),
        (always(200, refused(0x9999)), "refused 1 of 2 results: it gives no reason that is known."),
        (always(409), "refused some of 2 results."),
        (always(413), "does not store the results (413)"),
        (always(401), "asks who you are"),
    ],
)
def test_results_that_are_refused(handler: Handler, part: str) -> None:
    with pytest.raises(PacsError) as caught:
        archive(handler).store(STUDY, {"1.2": b"one", "1.3": b"two"})
    assert part in str(caught.value)


def test_what_was_sent_before_counts_as_stored() -> None:
    taken = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        body = request.read()
        assert int(request.headers["content-length"]) == len(body)
        kind = request.headers["content-type"]
        taken.extend(parts([body], boundary_of(kind), max_bytes=10**6, max_parts=9))
        return httpx2.Response(409, json=refused(0x0111))

    archive(handler).store(STUDY, {"1.2": b"one", "1.3": b"two"})
    assert taken == [b"one", b"two"]
    archive(always(200)).store(STUDY, {"1.2": b"one"})


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("ftp://host/x", "must be http"),
        ("pacs.example.org", "must be http"),
        ("https://host:port/x", "no valid host and port"),
        ("https://name:secret@host/x", "a name and a password in it"),
    ],
)
def test_urls(url: str, part: str) -> None:
    with pytest.raises(PacsError, match=part) as caught:
        Archive(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "1..2", "1.2/../3", "1.2\n", "x", "1." * 40 + "1"])
def test_what_is_no_uid_goes_into_no_url(text: str) -> None:
    with pytest.raises(PacsError, match="--study is no UID"):
        checked_uid(text, "--study")


def test_a_certificate_that_nobody_vouches_for_is_not_accepted(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-keyout", tmp_path / "key.pem", "-out", tmp_path / "certificate.pem"),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    asked: list[str] = []

    class Quiet(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)

        def log_message(self, *_: object) -> None: ...

    class Server(http.server.HTTPServer):
        def handle_error(self, *_: object) -> None: ...

    with Server(("127.0.0.1", 0), Quiet) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(PacsError, match="a certificate that this system does not trust"):
                Archive(f"https://localhost:{server.server_port}/dicom-web").mr_series(STUDY)
        finally:
            server.shutdown()
            thread.join()
    assert not asked


# ---- the command ---------------------------------------------------------------------------------------------------


class Memory:
    """An archive with one series, which keeps what is stored."""

    def __init__(self, folder: Path) -> None:
        self.files = [path.read_bytes() for path in sorted(folder.iterdir())]
        self.stored: list[bytes] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            boundary = boundary_of(request.headers["content-type"])
            self.stored += parts([request.read()], boundary, max_bytes=10**9, max_parts=9)
            return httpx2.Response(200, json={})
        if request.url.path.endswith("/series"):
            return httpx2.Response(200, json=[listed()])
        body = b"".join(joined(self.files, b"edge", "application/dicom"))
        return httpx2.Response(200, content=body, headers={"content-type": "multipart/related; boundary=edge"})


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Memory:
    made = Memory(write_series(tmp_path / "series"))
    real = httpx2.Client
    mock = httpx2.MockTransport(made)
    monkeypatch.setattr(httpx2, "Client", lambda **options: real(**{**options, "transport": mock}))
    return made


def pacs(finished_run: Path, *more: str, study: str = STUDY):
    model = ["--model", str(finished_run / "model"), "--slices", "middle", "--threads", "1"]
    return CliRunner().invoke(cli, ["pacs", "--source", URL, "--study", study, *model, *more])


def test_fetched_predicted_and_sent(memory: Memory, finished_run: Path, tmp_path: Path, caplog, monkeypatch) -> None:
    import pydicom

    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    dry = pacs(finished_run, "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "nothing was stored" in dry.stderr
    assert not memory.stored
    done = pacs(finished_run, "--format", "json")
    answer = json.loads(done.stdout)
    assert answer["stored"] is True
    assert answer["source"] == "series 3"
    kinds = [pydicom.dcmread(io.BytesIO(file)).Modality for file in memory.stored]
    assert kinds == ["SR", "OT"]
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written"
    said = dry.output + done.output + caplog.text
    for word in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "ReferringPhysicianName"):
        assert PATIENT[word] not in said, word
    assert STUDY not in dry.output + done.output


def test_images_of_another_study_are_not_reported_on(memory: Memory, finished_run: Path) -> None:
    result = pacs(finished_run, study="1.2.3")
    assert isinstance(result.exception, PacsError)
    assert "another study" in str(result.exception)
    assert not memory.stored


def test_a_series_that_cannot_be_read_is_not_reported_on(memory: Memory, finished_run: Path) -> None:
    memory.files[2] = b"no DICOM"
    result = pacs(finished_run)
    assert isinstance(result.exception, PacsError)
    assert "1 of the 6 images of the series cannot be read: series/3.dcm is no DICOM file" in str(result.exception)
    assert not memory.stored


@pytest.mark.parametrize("content", ["", "\n", "two words", "tök"])
def test_a_token_file_must_hold_a_token(tmp_path: Path, finished_run: Path, content: str) -> None:
    (tmp_path / "token").write_text(content, encoding="utf-8")
    result = pacs(finished_run, "--token-file", str(tmp_path / "token"))
    assert "holds no token" in str(result.exception)
    if content.strip():
        assert content not in str(result.exception)


def test_token_and_user_exclude_each_other(finished_run: Path) -> None:
    result = pacs(finished_run, "--token-file", "x", "--user", "y")
    assert result.exit_code == 2
    assert "exclude each other" in result.stderr
