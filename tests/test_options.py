"""Places to write to are looked at before the work whose results go there."""

import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from neurodense.cli import cli
from neurodense.cli.options import PLACE


def test_a_place_in_a_folder_that_is_there_or_will_be(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "new", tmp_path / "new" / "deeper"):
        assert PLACE.convert(str(place), None, None) == place
    assert not (tmp_path / "new").exists(), "it looks, and makes nothing"


def test_a_place_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(click.BadParameter, match=r"file is no folder, so .*deeper cannot be made in it\. Give another"):
        PLACE.convert(str(tmp_path / "file" / "deeper"), None, None)


@pytest.mark.parametrize(
    "words", [("evaluate", "DATA"), ("compare", "DATA", "--model", "brain"), ("audit", "DATA"), ("dicom", "DATA"),
              ("train", "DATA"), ("sweep", "DATA"), ("predict", "DATA", "--explain"), ("export", "--web")]
)  # fmt: skip
def test_no_work_is_done_for_a_folder_that_cannot_be_written_to(
    words: tuple[str, ...], phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Played, since root may write to any folder but those of a file system that is read-only."""
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path and real(path, mode))
    given = [str(phantoms) if word == "DATA" else word for word in words]
    if given[-1] not in ("--explain", "--web"):
        given.append("--out")
    done = CliRunner().invoke(cli, [*given, str(tmp_path / "results")])
    assert done.exit_code == 2
    assert f"{tmp_path} cannot be written to. Give a place in a folder that you may write to." in done.output


@pytest.mark.parametrize("name", ["quantise", "calibrate"])
def test_a_model_folder_that_cannot_be_added_to(
    name: str, finished_run: Path, phantoms: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = finished_run / "model"
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: (Path(path) != model or mode != os.W_OK) and real(path, mode))
    split = str(finished_run / "split.csv")
    done = CliRunner().invoke(cli, [name, str(model), "--data", str(phantoms), "--split", split])
    assert done.exit_code == 2
    assert "is not writable" in done.output
