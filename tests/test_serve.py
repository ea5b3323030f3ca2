"""`neurodense serve` as a process: who may reach it, what it leaves behind, how it ends, and its OpenAPI document."""

import http.client
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

from benchmarks.server import TYPE, Server, form

SOUND_FILES = """
import io

import schemathesis
from hypothesis import strategies as st
from PIL import Image


def sound():
    for kind in ("PNG", "JPEG", "BMP"):
        file = io.BytesIO()
        Image.linear_gradient("L").resize((48, 40)).save(file, kind)
        yield file.getvalue()


schemathesis.openapi.format("binary", st.sampled_from([*sound(), b"no picture"]))
"""


@contextmanager
def serving(run: Path, *options: str) -> Iterator[Server]:
    with Server(run / "model", "--threads", "1", *options) as server:
        yield server


def post(server: Server, body: bytes) -> tuple[int, dict]:
    with connected(server) as line:
        line.request("POST", "/v1/predict", body, {"Content-Type": TYPE})
        answer = line.getresponse()
        return answer.status, json.loads(answer.read())


def connected(server: Server) -> closing:
    return closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=60))


def test_sigterm_finishes_what_was_accepted_and_nothing_is_left(
    finished_run: Path, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """24 clients wait for answers when the signal comes; one of them has sent half of its body."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    picture = sorted(phantoms.rglob("*.png"))[0].read_bytes()
    body = form(*((f"secret-{k}.png", picture) for k in range(8)))
    answers = []
    with serving(finished_run) as server, connected(server) as half, connected(server) as line:
        assert post(server, form(("a.png", picture)))[0] == 200
        half.putrequest("POST", "/v1/predict")
        half.putheader("Content-Type", TYPE)
        half.putheader("Content-Length", str(len(body)))
        half.endheaders(body[:200])
        threads = [threading.Thread(target=lambda: answers.append(post(server, body))) for _ in range(24)]
        for thread in threads:
            thread.start()
        for _ in range(1000):
            line.request("GET", "/metrics")
            now = re.search(r"neurodense_requests_now (\d+)", line.getresponse().read().decode())
            if now and int(now[1]) >= 2:
                break
        time.sleep(0.2)
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        half.send(body[200:])
        last = half.getresponse()
        assert (last.status, last.headers["connection"]) == (200, "close")
        for thread in threads:
            thread.join()
        assert server.process.wait(30) in (0, -signal.SIGTERM)
        log = server.log()
    assert [status for status, _ in answers] == [200] * 24
    assert all(len(said["predictions"]) == 8 for _, said in answers)
    assert not list(scratch.rglob("*"))
    assert "secret" not in log
    assert log.count("POST /v1/predict 200") == 26
    assert "Traceback" not in log


def test_what_is_no_http_gets_problem_details(finished_run: Path) -> None:
    with serving(finished_run) as server:
        for junk in (b"junk\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"\x16\x03\x01" + bytes(200)):
            with socket.create_connection(("127.0.0.1", server.port)) as line:
                line.sendall(junk)
                line.settimeout(10)
                answer = b""
                while part := line.recv(2**16):
                    answer += part
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"application/problem+json" in answer
        assert post(server, form(("x", b"x")))[0] == 422


def test_two_processes_share_one_port_and_their_figures(
    finished_run: Path, phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of them is asked: all requests are in its figures, and where one dies its gauges go with it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    picture = sorted(phantoms.rglob("*.png"))[0].read_bytes()
    with serving(finished_run, "--workers", "2") as server:
        with ExitStack() as stack:
            lines = [stack.enter_context(connected(server)) for _ in range(12)]
            warmed = wait_for(lambda: figure(lines[0], "batch_slices_sum") == 2 * 2)
            assert warmed, "each runs twice before it listens"
            for line in lines[1:]:  # all are open before the first asks, so that either process has some
                line.connect()
            for line in lines:
                line.request("POST", "/v1/predict", form(("a.png", picture)), {"Content-Type": TYPE})
            assert [line.getresponse().read()[:1] for line in lines] == [b"{"] * 12
        total = 'requests_total{route="/v1/predict",status="200"}'
        for _ in range(12):
            with connected(server) as line:
                assert wait_for(lambda line=line: figure(line, total) == 12), "each is counted behind its answer"
                assert figure(line, 'studies_total{end="answered"}') == 12
                assert figure(line, "batch_slices_sum") == 12 + 2 * 2
                assert figure(line, "requests_now") == figure(line, "held_bytes") == 0
        (folder,) = tmp_path.glob("neurodense-metrics-*")
        pids = sorted(int(path.stem.rpartition("_")[2]) for path in folder.glob("gauge_livesum_*.db"))
        assert len(pids) == 2
        os.kill(pids[0], signal.SIGKILL)
        assert wait_for(lambda: not list(folder.glob(f"gauge_livesum_{pids[0]}.db")))
        assert wait_for(lambda: len(list(folder.glob("gauge_livesum_*.db"))) == 2), "another took its place"
        with connected(server) as line:
            assert figure(line, total) == 12, "what was counted stays"
        assert server.stop() in (0, -signal.SIGTERM)
        assert "POST /v1/predict 200" in server.log()
    assert not list(tmp_path.glob("neurodense-metrics-*"))


def wait_for(done: Callable[[], bool], seconds: float = 90) -> bool:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        time.sleep(0.1)
    return done()


def figure(line: http.client.HTTPConnection, name: str) -> float:
    line.request("GET", "/metrics")
    text = line.getresponse().read().decode()
    (found,) = re.findall(rf"^neurodense_{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--host", "0.0.0.0"], "no token is set"),
        (["--host", "a.name.that.may.be.anything"], "no token is set"),
        (["--token-file", "nowhere"], "cannot be read"),
        (["--host", "0.0.0.0", "--token-file", "short"], "at least 16"),
        (["--host", "0.0.0.0", "--token-file", "words"], "one word of ASCII"),
        (["--model", "nowhere"], "is not a folder"),
    ],
)
def test_refusals_before_it_listens(finished_run: Path, tmp_path: Path, options: list[str], said: str) -> None:
    (tmp_path / "short").write_text("hunter\n")
    (tmp_path / "words").write_text("hunter words that are long enough\n")
    command = [sys.executable, "-m", "neurodense", "serve", "--port", "0", "--model", str(finished_run / "model")]
    result = subprocess.run([*command, *options], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 2
    assert said in result.stderr
    assert "hunter" not in result.stderr
    assert "Traceback" not in result.stderr


def test_a_port_that_is_taken(finished_run: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        command = [sys.executable, "-m", "neurodense", "serve", "--model", str(finished_run / "model")]
        result = subprocess.run(
            [*command, "--port", str(other.getsockname()[1])], capture_output=True, text=True, check=False
        )
    assert result.returncode == 2
    assert "cannot be listened on" in result.stderr


def test_schemathesis_finds_nothing(finished_run: Path, tmp_path: Path) -> None:
    """Sound and unsound requests made of the OpenAPI document; every answer must be one that it names."""
    if importlib.util.find_spec("schemathesis") is None:
        pytest.skip("schemathesis is not installed")
    (tmp_path / "sound_files.py").write_text(SOUND_FILES)
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "sound_files", "PYTHONPATH": f"{tmp_path}:{':'.join(sys.path)}"}
    command = [sys.executable, "-m", "schemathesis.cli", "run", "--max-examples", "10", "--no-color"]
    # What is no picture is refused, which a document of types cannot foresee.
    options = ["--exclude-checks", "positive_data_acceptance", "--phases", "examples,coverage,fuzzing"]
    with serving(finished_run) as server:
        result = subprocess.run(
            [*command, *options, server.url("/openapi.json")],
            capture_output=True, text=True, check=False, cwd=tmp_path, env=environment,
        )  # fmt: skip
        assert result.returncode == 0, result.stdout + result.stderr
        assert not re.search(r" 5\d\d \d+ ms", server.log())
