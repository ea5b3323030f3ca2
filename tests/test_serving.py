"""The REST service in this process: answers, limits, problems, and what must not be in them."""

import asyncio
import contextlib
import io
import itertools
import json
import logging
import re
import socket
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")
pytest.importorskip("httpx2", reason="httpx2 is not installed")

from conftest import head_slices, write_dicom_slice, write_volume
from PIL import Image
from starlette.testclient import TestClient

from neurodense.inference.predictor import Predictor
from neurodense.serving.app import build
from neurodense.serving.limits import Limits
from neurodense.serving.server import Loop
from neurodense.serving.service import Service

TOKEN = "correct horse battery staple"
LIMITS = Limits(request_bytes=2**20, files=12, held_bytes=2**21, requests=8, idle_s=0.3, answer_s=20)


@pytest.fixture(scope="module")
def predictor(finished_run: Path) -> Predictor:
    return Predictor(finished_run / "model", precision="fp32", threads=1)


@pytest.fixture
def service(predictor: Predictor) -> Iterator[Service]:
    service = Service(predictor, LIMITS)
    yield service
    service.close()


@pytest.fixture
def client(service: Service) -> TestClient:
    return TestClient(build(service), "http://localhost", raise_server_exceptions=True)


@pytest.fixture
def picture(phantoms: Path) -> Path:
    return sorted(phantoms.rglob("*.png"))[0]


def sent(*files: tuple[str, bytes], kind: str = "application/octet-stream") -> list[tuple[str, Any]]:
    return [("files", (name, content, kind)) for name, content in files]


def predicted(client: TestClient, *files: tuple[str, bytes], **query: Any) -> list[dict[str, Any]]:
    answer = client.post("/v1/predict", files=sent(*files), params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def problem(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    said = answer.json()
    assert said["status"] == status
    assert said["title"]
    assert said["detail"]
    return said


def zipped(*files: tuple[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return file.getvalue()


def png(side: int, value: int = 90) -> bytes:
    file = io.BytesIO()
    Image.new("L", (side, side), value).save(file, "PNG")
    return file.getvalue()


def test_command_line_api_and_rest_give_one_answer(
    finished_run: Path, predictor: Predictor, client: TestClient, picture: Path, tmp_path: Path
) -> None:
    volume = write_volume(tmp_path / "head.nii", head_slices())
    for path in (picture, volume):
        command = [sys.executable, "-m", "neurodense", "predict", path.name, "--model", str(finished_run / "model")]
        printed = subprocess.run(
            [*command, "--precision", "fp32", "--format", "json"], cwd=path.parent, capture_output=True, check=True
        )
        by_cli = json.loads(printed.stdout)
        (answer,) = predictor.predict([path])
        by_api = {**answer.as_dict(), "source": path.name}
        (by_rest,) = predicted(client, (path.name, path.read_bytes()))
        assert by_cli.keys() == by_api.keys() == by_rest.keys()
        assert by_cli["label"] == by_api["label"] == by_rest["label"]
        for name, value in by_cli["probabilities"].items():
            assert by_api["probabilities"][name] == pytest.approx(value, abs=1e-5)
            assert by_rest["probabilities"][name] == pytest.approx(value, abs=1e-5)
        if "slices" in by_cli:
            assert by_rest["total"] == by_cli["total"] == 10
            names = [one["source"] for one in by_rest["slices"]]
            assert names == [one["source"] for one in by_cli["slices"]]


def test_many_files_of_every_kind_and_a_bad_one(client: TestClient, picture: Path, tmp_path: Path) -> None:
    series = []
    for number, pixels in enumerate(head_slices(6)):
        path = write_dicom_slice(tmp_path / f"IM{number}", pixels, 3.0 * number, number=number + 1)
        series.append((f"t1/IM{number}", path.read_bytes()))
    volume = write_volume(tmp_path / "v.nii", head_slices()).read_bytes()
    answers = predicted(
        client, ("a.png", picture.read_bytes()), *series, ("v.nii", volume), ("letter.txt", b"Dear Sir"), slices="all"
    )
    by_name = {one["source"]: one for one in answers}
    assert by_name.keys() == {"a.png", "t1", "v.nii", "letter.txt"}
    assert (by_name["t1"]["total"], by_name["v.nii"]["total"]) == (6, 10)
    assert by_name["letter.txt"]["error"]["type"] == "ScanError"
    assert sum(by_name["a.png"]["probabilities"].values()) == pytest.approx(1)
    (study,) = predicted(client, ("s.zip", zipped(*series)), slices="middle")
    assert study["source"] == "s.zip/t1"
    assert [one["source"] for one in study["slices"]] == ["s.zip/t1#3"]
    assert problem(client.post("/v1/predict", files=sent(("x", b"x"))), 422)["predictions"][0]["error"]


def test_what_a_file_is_decides_not_what_it_is_said_to_be(client: TestClient, picture: Path) -> None:
    for kind in ("text/html", "application/zip", "application/dicom"):
        answer = client.post("/v1/predict", files=sent(("x.dcm", picture.read_bytes()), kind=kind))
        assert answer.status_code == 200
    problem(client.post("/v1/predict", files=sent(("x.png", b"<html>"), kind="image/png")), 422)


def test_heat_maps_as_arrays_and_as_a_picture(client: TestClient, predictor: Predictor, picture: Path) -> None:
    import base64

    from neurodense.inference.explain import enlarge

    answer = client.post("/v1/explain", files=sent(("a.png", picture.read_bytes())), params={"side": 32}).json()
    (explained,) = answer["explanations"]
    (one,) = explained["slices"]
    pixels = np.frombuffer(base64.b64decode(one["pixels"]), "<u2").reshape(one["rows"], one["columns"])
    whole = np.asarray(Image.open(picture).convert("L"), np.float64) / 255
    assert pixels.shape == (32, 32)
    assert pixels.mean() / 65535 == pytest.approx(whole.mean(), abs=0.01)
    label = explained["prediction"]["label"]
    truth = predictor.explain(picture)
    assert truth.label == label
    heat = enlarge(np.array(one["evidence"][label], np.float32), truth.heat.shape, truth.window)
    np.testing.assert_allclose(heat, truth.heat, atol=2e-3)
    assert sum(np.array(grid) for grid in one["evidence"].values()) == pytest.approx(0, abs=0.01)
    assert len(answer["scale"]["colours"]) == 33

    drawn = client.post("/v1/explain", files=sent(("a.png", picture.read_bytes())), headers={"Accept": "image/png"})
    assert drawn.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(drawn.content)).size[0] > 600
    two = sent(("a.png", picture.read_bytes()), ("b.png", picture.read_bytes()))
    problem(client.post("/v1/explain", files=two, headers={"Accept": "image/png"}), 400)
    problem(client.post("/v1/explain", files=two, headers={"Accept": "text/html"}), 406)
    problem(client.post("/v1/explain", files=two, params={"label": "nonsense"}), 422)


def test_limits_hold_while_the_stream_is_read(client: TestClient, service: Service) -> None:
    boundary = {"Content-Type": "multipart/form-data; boundary=b"}
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="x"\r\n\r\n'
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        yield head
        while True:
            taken += 2**16
            yield bytes(2**16)

    async def push() -> int:
        """A body without a length, by hand: the test client would read all of it first."""
        source, statuses = endless(), []

        async def receive() -> Any:
            return {"type": "http.request", "body": next(source), "more_body": True}

        async def send(message: Any) -> None:
            statuses.append(message.get("status"))

        headers = [(b"host", b"localhost"), (b"content-type", boundary["Content-Type"].encode())]
        scope = {
            "type": "http", "method": "POST", "path": "/v1/predict", "raw_path": b"/v1/predict", "query_string": b"",
            "headers": headers, "scheme": "http", "http_version": "1.1", "server": ("localhost", 80),
            "client": ("127.0.0.1", 1), "root_path": "",
        }  # fmt: skip
        await build(service)(scope, receive, send)
        return statuses[0]

    assert asyncio.run(push()) == 413
    assert taken <= LIMITS.request_bytes + 2**17, "it stopped at the limit"
    assert service._held.total == 0
    problem(client.post("/v1/predict", content=b"", headers={**boundary, "Content-Length": "99999999999"}), 413)
    problem(client.post("/v1/predict", files=sent(*((f"{k}", b"x") for k in range(13)))), 413)
    problem(client.post("/v1/predict", files=sent(("n" * 1025, b"x"))), 400)
    for body in (b"", b"junk", head, head + b"abc", head.replace(b"files", b"other") + b"x\r\n--b--\r\n", b"--b--\r\n"):
        problem(client.post("/v1/predict", content=body, headers=boundary), 400)
    problem(client.post("/v1/predict", content=b"{}", headers={"Content-Type": "application/json"}), 415)
    problem(client.post("/v1/predict", content=b"x", headers={"Content-Type": "multipart/form-data"}), 400)


def test_a_stalled_body_is_given_up(service: Service) -> None:
    app = build(service)

    async def go() -> int:
        statuses = []

        async def receive() -> Any:
            await asyncio.sleep(60)

        async def send(message: Any) -> None:
            statuses.append(message.get("status"))

        headers = [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=b")]
        scope = {
            "type": "http", "method": "POST", "path": "/v1/predict", "raw_path": b"/v1/predict", "query_string": b"",
            "headers": headers, "scheme": "http", "http_version": "1.1", "server": ("localhost", 80),
            "client": ("127.0.0.1", 1), "root_path": "",
        }  # fmt: skip
        await app(scope, receive, send)
        return statuses[0]

    assert asyncio.run(go()) == 408


@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_who_does_not_finish_the_headers_is_let_go(
    service: Service, before: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    import uvicorn
    from uvicorn.server import ServerState

    from neurodense.serving.server import Protocol

    monkeypatch.setattr(Protocol, "headers_s", 0.2)
    config = uvicorn.Config(build(service), http=Protocol, log_config=None)
    config.load()

    async def go() -> bytes:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Protocol(config=config, server_state=ServerState(), app_state={}), "127.0.0.1", 0
        )
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(before)
        answer = await reader.readuntil(b"}") if before else b""
        writer.write(b"GET /healthz HT")
        async with asyncio.timeout(4):  # uvicorn lets go of who sends nothing after 5 s
            assert await reader.read() == b""
        writer.close()
        server.close()
        return answer

    assert asyncio.run(go()).startswith(b"HTTP/1.1 200" if before else b"")


def test_the_queue_is_bounded_and_says_when_to_come_again(predictor: Predictor, picture: Path) -> None:
    service = Service(predictor, replace(LIMITS, requests=1))
    client = TestClient(build(service), "http://localhost")
    service._requests = 1
    answer = client.post("/v1/predict", files=sent(("a.png", picture.read_bytes())))
    problem(answer, 429)
    assert int(answer.headers["retry-after"]) >= 1
    service._requests = 0
    service._held.total = LIMITS.held_bytes
    problem(client.post("/v1/predict", files=sent(("a.png", picture.read_bytes()))), 429)
    service._held.total = 0
    predicted(client, ("a.png", picture.read_bytes()))
    text = client.get("/metrics").text
    assert re.search(r'neurodense_rejections_total{status="429"} 2\.0', text)
    assert re.search(r'neurodense_requests_total{route="/v1/predict",status="200"} 1\.0', text)
    assert re.search(r"neurodense_batch_slices_count 1\.0", text)
    service.close()
    problem(client.get("/readyz"), 503)
    problem(client.post("/v1/predict", files=sent(("a.png", b"x"))), 503)
    assert client.get("/healthz").status_code == 200


def test_an_answer_that_takes_too_long(predictor: Predictor, picture: Path) -> None:
    service = Service(predictor, replace(LIMITS, answer_s=0.0001))
    client = TestClient(build(service), "http://localhost")
    answer = client.post("/v1/predict", files=sent(("a.png", picture.read_bytes())))
    assert "longer than" in problem(answer, 503)["detail"]
    assert service._requests == 0
    service.close()


def test_bombs_and_lies_in_archives(client: TestClient, picture: Path) -> None:
    good = picture.read_bytes()
    bomb = zipped(("zeros.png", bytes(2**24)))
    assert len(bomb) < 2**16
    lying = bytearray(zipped(("a.png", good)))
    entry = lying.rfind(b"PK\x01\x02")
    struct.pack_into("<I", lying, entry + 24, 10)  # the directory says ten bytes
    locked = bytearray(zipped(("a.png", good)))
    locked[locked.rfind(b"PK\x01\x02") + 8] |= 1
    many = zipped(*((f"{k}.png", b"") for k in range(400)), how=zipfile.ZIP_STORED)
    for content, said in (
        (bomb, "unpacks to more than"),
        (bytes(lying), "damaged"),
        (bytes(locked), "encrypted"),
        (many, "more files than a request may have"),
        (zipped(("a.png", good), how=zipfile.ZIP_LZMA), "packed in a way that is not read"),
        (zipped(("inner.zip", zipped(("a.png", good)))), "holds no image"),
        (zipped(("__MACOSX/a.png", good), ("x/.hidden.png", good)), "holds no image"),
        (b"PK\x03\x04", "damaged"),
        (zipped(("a.png", good))[:-30], "damaged"),
    ):
        answer = problem(client.post("/v1/predict", files=sent(("a.zip", content))), 422)
        assert said in answer["predictions"][0]["error"]["message"]
    (inside,) = predicted(client, ("a.zip", zipped(("x/a.png", good), ("../../etc/b.png", good), ("README", b"x"))))
    assert inside["source"] == "a.zip/x/a.png"


def test_a_picture_that_unpacks_to_more_than_is_read(client: TestClient) -> None:
    answer = problem(client.post("/v1/predict", files=sent(("big.png", png(8193)))), 422)
    assert "8193 x 8193" in answer["predictions"][0]["error"]["message"]


def test_no_identifier_reaches_answer_or_log(
    client: TestClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("neurodense.serving").propagate = True
    path = write_dicom_slice(
        tmp_path / "d.dcm", head_slices()[4], 1.0, series="1.2.840.99887", PatientName="Doe^Jane",
        PatientID="MRN-4711", PatientBirthDate="19551231", InstitutionName="St Elsewhere", AccessionNumber="ACC99",
    )  # fmt: skip
    secret = re.compile("Doe|Jane|4711|1955|Elsewhere|ACC99|99887|secretname")
    content = path.read_bytes()
    caplog.set_level(logging.DEBUG)
    for body in (content, content[:-900], content[:700], content.replace(b"MONOCHROME2", b"Doe^Jane\0\0\0")):
        for route in ("/v1/predict", "/v1/explain?side=32"):
            answer = client.post(route, files=sent(("scan", body)), headers={"X-Patient": "secretname"})
            assert not secret.search(answer.text)
    client.get("/v1/secretname?patient=Doe")
    client.request("SECRETNAME", "/v1/model")
    assert "POST /v1/predict 200" in caplog.text
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("neurodense"))
    assert ours
    assert not secret.search(ours)


def test_an_unforeseen_error_is_a_problem_without_its_words(
    client: TestClient, service: Service, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logging.getLogger("neurodense.serving").propagate = True

    def broken(*args: Any, **options: Any) -> Any:
        raise ZeroDivisionError("Doe^Jane")

    monkeypatch.setattr(service.predictor.__class__, "answer", broken)
    answer = client.post("/v1/predict", files=sent(("a.png", png(32))))
    problem(answer, 500)
    assert "Doe" not in answer.text + caplog.text
    assert "ZeroDivisionError at" in caplog.text


def test_an_unforeseen_error_of_a_reader_ends_its_request_alone(
    client: TestClient, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **more: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("neurodense.serving.service.load", broken)
        problem(client.post("/v1/predict", files=sent(("a.png", png(32)))), 500)
    assert service._reading == 0, "nothing waits for a picture that does not come"
    assert len(predicted(client, ("a.png", png(32)))) == 1


def test_who_may_ask(service: Service, picture: Path) -> None:
    files = sent(("a.png", picture.read_bytes()))
    client = TestClient(build(service, TOKEN, local=False), "http://any.example")
    for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}):
        for method, path in (("POST", "/v1/predict"), ("GET", "/v1/model"), ("GET", "/metrics"), ("GET", "/nothing")):
            answer = client.request(method, path, headers=header)
            problem(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/", "/healthz", "/readyz", "/openapi.json"):
        assert client.get(path).status_code == 200
    good = {"Authorization": f"Bearer {TOKEN}"}
    assert client.post("/v1/predict", files=files, headers=good).status_code == 200
    problem(client.post("/v1/predict", files=files, headers={**good, "Origin": "http://evil.example"}), 403)
    same = {**good, "Origin": "http://any.example"}
    assert client.post("/v1/predict", files=files, headers=same).status_code == 200
    local = TestClient(build(service), "http://localhost:8000")
    assert local.get("/v1/model").status_code == 200
    problem(local.get("/v1/model", headers={"Host": "evil.example"}), 421)
    problem(local.get("/v1/model", headers={"Host": "[x"}), 421)


def test_every_answer_has_the_security_headers(client: TestClient) -> None:
    for path in ("/", "/v1/model", "/nothing", "/openapi.json"):
        headers = client.get(path, headers={"Origin": "http://localhost"}).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert not [name for name in headers if name.startswith("access-control")]
    problem(client.get("/nothing"), 404)
    assert "POST" in client.get("/v1/predict").headers["allow"]
    problem(client.get("/v1/predict"), 405)
    problem(client.get("/page/../app.py"), 404)
    problem(client.get("/page/%2e%2e/app.py"), 404)


def test_with_and_without_a_query_the_answers_are_the_same(
    client: TestClient, service: Service, picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one they do not go through the router; FastAPI's own route is the reference."""
    ways = ("/v1/predict", "/v1/predict?slices=brain")

    def both(status: int, **request: Any) -> None:
        direct, routed = (client.post(way, **request) for way in ways)
        assert direct.status_code == routed.status_code == status
        assert direct.content == routed.content
        assert direct.headers == routed.headers

    both(200, files=sent(("a.png", picture.read_bytes()), ("b.txt", b"x")))
    both(422, files=sent(("b.txt", b"x")))
    both(400, files=[("other", ("a.png", b"x", "image/png"))])
    both(415, content=b"{}", headers={"Content-Type": "application/json"})
    both(403, files=sent(("b.txt", b"x")), headers={"Origin": "http://evil.example"})
    monkeypatch.setattr(service, "answers", lambda *_: 1 / 0)
    client = TestClient(build(service), "http://localhost", raise_server_exceptions=False)
    both(500, files=sent(("b.txt", b"x")))
    monkeypatch.setattr(service, "stopping", True)
    both(503, files=sent(("b.txt", b"x")))
    text = client.get("/metrics").text
    for status, count in {200: 2, 400: 2, 415: 2, 422: 2, 500: 2, 503: 2}.items():
        line = f'neurodense_requests_total{{route="/v1/predict",status="{status}"}} {count}.0'
        assert line in text


def test_an_answer_goes_out_in_one_piece(service: Service) -> None:
    import uvicorn
    from uvicorn.server import ServerState

    from neurodense.serving.server import Protocol

    class Line(asyncio.Transport):
        def __init__(self) -> None:
            super().__init__()
            self.written: list[bytes] = []

        def write(self, data: bytes) -> None:
            self.written += [data] if data else []

        def is_closing(self) -> bool:
            return False

    async def go(asked: bytes) -> list[bytes]:
        config = uvicorn.Config(build(service), http=Protocol, log_config=None)
        config.load()
        protocol, line = Protocol(config=config, server_state=ServerState(), app_state={}), Line()
        protocol.connection_made(line)
        protocol.data_received(asked)
        while not protocol.cycle.response_complete:
            await asyncio.sleep(0.01)
        protocol._unset_keepalive_if_required()
        return line.written

    (whole,) = asyncio.run(go(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    assert whole.startswith(b"HTTP/1.1 200 ")
    assert whole.endswith(b'\r\n\r\n{"status":"alive"}')
    (head,) = asyncio.run(go(b"HEAD /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    assert head.startswith(b"HTTP/1.1 405 ")
    assert head.endswith(b"\r\n\r\n")


def test_the_model_says_what_it_is(client: TestClient, predictor: Predictor) -> None:
    model = client.get("/v1/model").json()
    assert model["card"]["classes"] == list(predictor.card.classes)
    assert model["precision"] == "fp32"
    assert "synthetic" in model["notes"][0]
    assert "not a medical device" in model["notice"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has the loop that uvicorn gives it")
@pytest.mark.parametrize(("kind", "most"), [(Loop, 2), (asyncio.SelectorEventLoop, 8)])
def test_one_process_does_not_take_all_connections_at_once(kind: type[asyncio.SelectorEventLoop], most: int) -> None:
    """Eight clients wait. What a process leaves of them in a turn (it takes two, from Python 3.13) others may take."""
    made: list[asyncio.BaseTransport] = []

    class Counting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            made.append(transport)

    async def largest(place: socket.socket) -> int:
        await asyncio.get_running_loop().create_server(Counting, sock=place, backlog=64)
        turns = [0]
        while len(made) < 8:
            await asyncio.sleep(0)
            turns.append(len(made))
        return max(after - before for before, after in itertools.pairwise(turns))

    with contextlib.ExitStack() as stack:
        place = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        place.setblocking(False)
        for _ in range(8):
            stack.enter_context(socket.create_connection(place.getsockname()))
        loop = kind()
        try:
            taken = loop.run_until_complete(asyncio.wait_for(largest(place), 20))
        finally:
            for transport in made:
                transport.close()
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
    assert taken <= most
    if kind is asyncio.SelectorEventLoop:
        assert taken > 2, "what this test holds against it"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has the loop that uvicorn gives it")
def test_a_connection_that_is_accepted_as_the_service_ends_does_not_hold_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The listening is closed between the accepting and `connection_made`; uvicorn has told all others by then."""
    import uvicorn
    from uvicorn.server import ServerState

    from neurodense.serving.server import Protocol

    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("nobody asks")

    monkeypatch.setattr(Protocol, "grace_s", 0.1)
    state = ServerState()
    config = uvicorn.Config(nothing, http=Protocol, log_config=None, lifespan="off")
    config.load()

    async def go(place: socket.socket, *, end: bool) -> bytes:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            lambda: Protocol(config=config, server_state=state, app_state={}), sock=place, backlog=64
        )
        with socket.create_connection(place.getsockname()) as client:
            client.setblocking(False)
            if end:  # turn by turn: it is accepted, its transport is made, the listening ends, the connection is made
                loop.call_soon(loop.call_soon, loop.call_soon, server.close)
            else:
                loop.call_later(0.05, server.close)
            for _ in range(100):
                await asyncio.sleep(0.01)
                if state.connections:
                    break
            assert not server.is_serving() or not end
            return await asyncio.wait_for(loop.sock_recv(client, 1), 2)

    def ended(*, end: bool) -> bytes:
        loop = Loop()
        with socket.create_server(("127.0.0.1", 0), backlog=64) as place:
            place.setblocking(False)
            try:
                return loop.run_until_complete(go(place, end=end))
            finally:
                for one in list(state.connections):
                    one.transport.close()
                loop.run_until_complete(asyncio.sleep(0))
                loop.close()

    assert ended(end=True) == b"", "closed by the service"
    with pytest.raises(TimeoutError):
        ended(end=False)  # made before the end: it waits to be told
