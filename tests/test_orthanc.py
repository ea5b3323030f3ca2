"""A round trip through a real archive: Debian's Orthanc, filled by DCMTK's storescu."""

import base64
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("highdicom")
pytest.importorskip("httpx2")
import pydicom
from PIL import Image
from test_dicom_results import PATIENT, STUDY, need, texts, write_series

from neurodense.notice import NOTICE

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
ORTHANC = shutil.which("Orthanc") or "/usr/sbin/Orthanc"


@dataclass
class Orthanc:
    """A running archive that asks for a password."""

    http: int
    dicom: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}/dicom-web"

    def get(self, path: str, **headers: str) -> bytes:
        key = base64.b64encode(b"doctor:secret").decode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.http}{path}", headers={"Authorization": f"Basic {key}", **headers}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.read()

    def json(self, path: str):
        return json.loads(self.get(path))

    def load(self, *files: Path) -> None:
        subprocess.run(["storescu", "127.0.0.1", str(self.dicom), *map(str, files)], check=True, capture_output=True)

    def instances(self, study: str) -> dict[str, list[str]]:
        """Modality -> Orthanc's names of the instances in a study."""
        found: dict[str, list[str]] = {}
        for name in self.json("/studies"):
            one = self.json(f"/studies/{name}")
            if one["MainDicomTags"]["StudyInstanceUID"] == study:
                for series in one["Series"]:
                    listed = self.json(f"/series/{series}")
                    found.setdefault(listed["MainDicomTags"]["Modality"], []).extend(listed["Instances"])
        return found


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    need(ORTHANC, "storescu")
    need("dsrdump" if PLUGIN.exists() else str(PLUGIN))
    folder = tmp_path_factory.mktemp("orthanc")
    archive = Orthanc(free_port(), free_port())
    settings = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "HttpPort": archive.http,
        "DicomPort": archive.dicom,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {"doctor": "secret"},
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([ORTHANC, folder / "orthanc.json"], stdout=log, stderr=log)
    try:
        for _ in range(120):
            try:
                archive.get("/system")
                break
            except OSError:
                assert process.poll() is None, (folder / "log").read_text()
                time.sleep(0.25)
        yield archive
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def pacs(orthanc: Orthanc, study: str, run: Path, *more: str, password: str = "secret"):
    command = [sys.executable, "-m", "neurodense", "pacs", "--source", orthanc.url, "--study", study, "--threads", "1"]
    return subprocess.run(
        [*command, "--model", run / "model", "--format", "json", *more],
        capture_output=True, text=True, check=False, env={**os.environ, "NEURODENSE_PACS_PASSWORD": password},
    )  # fmt: skip


def round_trip(orthanc: Orthanc, study: str, run: Path, slices: str) -> tuple[dict, dict[str, list[str]]]:
    """The answer, and what the archive then has in the study."""
    done = pacs(orthanc, study, run, "--user", "doctor", "--slices", slices)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    found = orthanc.instances(study)
    assert found.keys() == {"MR", "SR", "OT"}
    assert len(found["SR"]) == len(found["OT"]) == 1
    said = pydicom.dcmread(io.BytesIO(orthanc.get(f"/instances/{found['SR'][0]}/file")))
    assert ("Comment", NOTICE) in texts(said)
    told = {
        item.ConceptNameCodeSequence[0].CodeMeaning: float(item.MeasuredValueSequence[0].NumericValue)
        for item in said.ContentSequence[-1].ContentSequence[0].ContentSequence
        if item.ValueType == "NUM"
    }
    for name, value in answer["probabilities"].items():
        assert told[f"Probability of {name}"] == pytest.approx(value, abs=1e-4)
    return answer, found


def test_the_results_are_in_the_study_and_are_shown(orthanc: Orthanc, finished_run: Path, tmp_path: Path) -> None:
    write_series(tmp_path / "series")
    orthanc.load(*(tmp_path / "series").iterdir())
    answer, found = round_trip(orthanc, STUDY, finished_run, "all")
    assert answer["total"] == 6
    (heat,) = found["OT"]
    assert orthanc.json(f"/instances/{heat}/frames") == [*range(6)]
    shown = Image.open(io.BytesIO(orthanc.get(f"/instances/{heat}/frames/3/preview", Accept="image/png")))
    stored = pydicom.dcmread(io.BytesIO(orthanc.get(f"/instances/{heat}/file")))
    np.testing.assert_array_equal(np.asarray(shown), stored.pixel_array[3])
    simple = orthanc.json(f"/instances/{found['SR'][0]}/simplified-tags")
    assert simple["PatientID"] == PATIENT["PatientID"]
    assert simple["PatientName"] == PATIENT["PatientName"]
    assert simple["ContentSequence"][-1]["ConceptNameCodeSequence"][0]["CodeMeaning"] == "Imaging Measurements"

    again, same = round_trip(orthanc, STUDY, finished_run, "all")
    assert again == answer
    assert same == found, "sent twice, it is there once"


def test_a_dry_run_stores_nothing(orthanc: Orthanc, finished_run: Path, tmp_path: Path) -> None:
    study = f"{STUDY}.1"
    write_series(tmp_path / "series", 3, f"{study}.3", StudyInstanceUID=study, PatientID="other")
    orthanc.load(*(tmp_path / "series").iterdir())
    done = pacs(orthanc, study, finished_run, "--user", "doctor", "--dry-run", "--slices", "middle")
    assert done.returncode == 0, done.stderr
    assert orthanc.instances(study).keys() == {"MR"}


def test_errors_are_clear(orthanc: Orthanc, finished_run: Path) -> None:
    for more, password, part in (
        ((), "", "asks who you are (401)"),
        (("--user", "doctor"), "wrong", "asks who you are (401)"),
        (("--user", "doctor"), "secret", "has no study with this UID"),
    ):
        done = pacs(orthanc, "1.2.3.4", finished_run, *more, password=password)
        assert done.returncode == 2
        assert part in done.stderr
        assert "Traceback" not in done.stderr
    nobody = Orthanc(free_port(), 0)
    assert "cannot be reached" in pacs(nobody, "1.2.3.4", finished_run).stderr


def test_the_real_head(orthanc: Orthanc, finished_run: Path, shared_data: Path) -> None:
    files = sorted((shared_data / "dicom-t1").glob("*.dcm"))
    orthanc.load(*files)
    study = pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID
    answer, found = round_trip(orthanc, str(study), finished_run, "every:4")
    assert (answer["total"], len(answer["slices"]), len(found["MR"])) == (24, 6, 24)
