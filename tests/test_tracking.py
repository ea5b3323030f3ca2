"""Runs in MLflow: what arrives there, that nothing reports to anybody, and that no failure there ends a training."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
mlflow = pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")

from conftest import Ears

from neurodense.errors import MissingExtra, RunError
from neurodense.inference.card import read_card, write_card
from neurodense.training import execute, fit, mlflow_store, tracking
from neurodense.training.journal import read_history
from neurodense.training.mlflow_store import ask_to_track, key_of, new_client
from neurodense.training.recipe import Recipe
from neurodense.training.run import resume, train
from neurodense.training.sheet import RunSheet, Tracked, read_sheet
from neurodense.versions import versions

HEAD = """
name = "head"
summary = "One frozen prefix, one head."
image_size = 64
batch_size = 8
weights = "none"

[[stage]]
name = "head"
trainable = ["classifier"]
learning_rate = 1e-2
epochs = 3
"""


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an empty store, which takes seconds to make."""
    folder = tmp_path_factory.mktemp("store")
    with mlflow_store.quietly():
        new_client(f"sqlite:///{folder / 'mlflow.db'}").get_experiment_by_name("neurodense")
    return folder


@pytest.fixture
def quick(finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a run in no time: the model folder of another one, with this run's entry in its card."""

    def finish(run: Path, sheet: RunSheet, *_: object) -> Path:
        shutil.copytree(finished_run / "model", run / "model", dirs_exist_ok=True)
        shutil.copytree(finished_run / "evaluation", run / "evaluation", dirs_exist_ok=True)
        card = read_card(run / "model").model_copy(update={"tracked": tracking.card_entry(sheet)})
        write_card(run / "model", card)
        return run / "model"

    monkeypatch.setattr(execute, "finish", finish)


@pytest.fixture
def folder(store: Path, tmp_path: Path) -> Path:
    """A folder for runs, with a store of its own."""
    shutil.copy(store / "mlflow.db", tmp_path / "mlflow.db")
    return tmp_path


def begin(phantoms: Path, tiny: Recipe, run: Path, **options: object) -> None:
    train(
        phantoms, run, recipe=tiny, groups=phantoms / "groups.csv", seed=3, precision="fp32", workers=0,
        cache=run.parent / "cache", track="mlflow", **options,  # type: ignore[arg-type]
    )  # fmt: skip


def curve(uri: str, run_id: str, name: str = "validation_macro_f1") -> list[tuple[int, float]]:
    with mlflow_store.quietly():
        return [(one.step, one.value) for one in new_client(uri).get_metric_history(run_id, name)]


def test_a_killed_run_goes_on_in_its_mlflow_run_and_all_of_it_arrives(
    quick: None, phantoms: Path, tiny: Recipe, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, real, calls = folder / "run", fit.Fit._log_epoch, []

    def interrupted(self: fit.Fit, *arguments: object) -> bool:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(fit.Fit, "_log_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            begin(phantoms, tiny, run)
    tracked = read_sheet(run).tracked
    assert tracked is not None
    assert tracked.uri == f"sqlite:///{folder / 'mlflow.db'}"
    assert tracked.run_id is not None
    client = new_client(tracked.uri)
    assert client.get_run(tracked.run_id).info.status == "KILLED"
    assert [step for step, _ in curve(tracked.uri, tracked.run_id)] == [1, 2], "up to the last checkpoint"

    monkeypatch.chdir(phantoms)  # the store's address does not depend on where one stands
    ears = Ears()
    resume(run, screen=ears)
    done = client.get_run(tracked.run_id)
    assert done.info.status == "FINISHED"
    assert done.info.run_name == "run"
    assert curve(tracked.uri, tracked.run_id) == [(r["epoch"], r["validation_macro_f1"]) for r in read_history(run)]
    assert len(read_history(run)) == 4
    params = done.data.params
    assert params["recipe.stage.1.learning_rate"] == "0.0001"
    assert params["recipe.stage.0.trainable"] == '["all"]'
    assert (params["seed"], params["split_by"], params["groups_from"]) == ("3", "group", "table")
    assert params["images.test.glioma"] == "2"
    assert params["weights_origin"].startswith("none")
    assert not any(str(phantoms.parent) in value for value in params.values()), "a path of this machine was sent"
    assert done.data.tags["version.torch"] == versions()["torch"]
    card = read_card(run / "model")
    assert card.tracked is not None
    assert (card.tracked.tool, card.tracked.experiment, card.tracked.run_id) == ("mlflow", "neurodense", tracked.run_id)
    assert card.metrics is not None
    figures, bounds = done.data.metrics, card.metrics["intervals"]["figures"]
    assert figures["test.accuracy"] == card.metrics["accuracy"]
    assert [figures["test.macro.f1.low"], figures["test.macro.f1.high"]] == bounds["macro.f1"]
    assert figures["test.per_class.glioma.recall"] == card.metrics["per_class"]["glioma"]["recall"]
    assert figures["kept.validation_macro_f1"] == card.validation["validation_macro_f1"]
    artifacts = Path(done.info.artifact_uri.removeprefix("file://"))
    assert artifacts.is_relative_to(folder / "mlartifacts")
    assert json.loads((artifacts / "model" / "card.json").read_text()) == json.loads(
        (run / "model" / "card.json").read_text()
    )
    assert (artifacts / "model" / "model.onnx").read_bytes() == (run / "model" / "model.onnx").read_bytes()
    assert (artifacts / "figures" / "curves.png").exists()
    assert (artifacts / "recipe.toml").read_text() == (run / "recipe.toml").read_text()
    assert read_sheet(run).tracked == Tracked(tracked.uri, "neurodense", tracked.run_id, whole=True)
    assert f"MLflow: run {tracked.run_id} in {tracked.uri}" in ears.said


def test_a_store_that_is_away_costs_one_warning_and_gets_everything_later(
    quick: None, phantoms: Path, tiny: Recipe, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, ears, asked, real = folder / "run", Ears(), [], tracking.new_client

    def away(uri: str) -> object:
        asked.append(uri)
        raise ConnectionError("nobody\nthere")

    with monkeypatch.context() as patch:
        patch.setattr(tracking, "new_client", away)
        begin(phantoms, tiny, run, screen=ears)
    assert len(asked) == 3, "at the start, after the training and at the end"
    told = [line for line in ears.said if "MLflow" in line]
    assert told[0] == f"MLflow at sqlite:///{folder / 'mlflow.db'} is away (ConnectionError: nobody there)"
    assert told[1] == f"{told[0]}; neurodense train --resume '{run}' sends what is missing"
    assert len(told) == 2
    sheet = read_sheet(run)
    assert sheet.finished
    assert sheet.tracked is not None
    assert sheet.tracked.run_id is None
    assert read_card(run / "model").tracked is None

    assert real is tracking.new_client
    resume(run)
    tracked = read_sheet(run).tracked
    assert tracked is not None
    assert tracked.run_id is not None
    assert tracked.whole
    assert [step for step, _ in curve(tracked.uri, tracked.run_id)] == [1, 2, 3, 4]
    card = read_card(run / "model")
    assert card.tracked is not None
    assert card.tracked.run_id == tracked.run_id
    artifacts = new_client(tracked.uri).get_run(tracked.run_id).info.artifact_uri.removeprefix("file://")
    assert read_card(Path(artifacts) / "model") == card


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        yield one.getsockname()[1]  # bound and not listening: whoever connects is refused


def test_a_server_that_refuses_ends_nothing(
    quick: None, phantoms: Path, tiny: Recipe, tmp_path: Path, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit.Fit, "run", lambda self, start: None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port}")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    ears = Ears()
    begin(phantoms, tiny, tmp_path / "run", screen=ears)
    assert read_sheet(tmp_path / "run").finished
    told = [line for line in ears.said if "MLflow" in line]
    assert len(told) == 2
    assert f"MLflow at http://127.0.0.1:{closed_port} is away" in told[0]


def test_a_sweep_is_a_run_with_a_run_for_each_trial(phantoms: Path, folder: Path) -> None:
    """Two calls of one sweep, the first while the store is away: one run, and one below it for each trial."""
    pytest.importorskip("optuna", reason="the extra `sweep` is not installed")
    from neurodense.training import sweep_tracking
    from neurodense.training.sweep import sweep

    (folder / "head.toml").write_text(HEAD)
    (folder / "space.toml").write_text("dropout = {low = 0, high = 0.5}")
    ears = Ears()

    def go(trials: int) -> None:
        sweep(
            phantoms, folder / "sweep", recipe=folder / "head.toml", space=folder / "space.toml", trials=trials,
            groups=phantoms / "groups.csv", precision="fp32", workers=0, cache=folder / "cache", track="mlflow",
            screen=ears,
        )  # fmt: skip

    def away(uri: str) -> object:
        raise ConnectionError("nobody there")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep_tracking, "new_client", away)
        go(1)
    assert len([line for line in ears.said if "ConnectionError: nobody there" in line]) == 2
    go(2)
    client = new_client(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("neurodense")
    runs = {one.info.run_name: one for one in client.search_runs([experiment.experiment_id])}
    assert runs.keys() == {"sweep", "trial 0", "trial 1"}
    parent = runs["sweep"]
    assert parent.data.params["recipe.name"] == "head"
    best = 0.0
    for number in (0, 1):
        one = runs[f"trial {number}"]
        assert one.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert 0 <= float(one.data.params["dropout"]) <= 0.5
        points = client.get_metric_history(one.info.run_id, "validation_macro_f1")
        assert [point.step for point in points] == [1, 2, 3]
        best = max(best, *(point.value for point in points))
    assert parent.data.metrics["best.validation_macro_f1"] == best
    assert (Path(parent.info.artifact_uri.removeprefix("file://")) / "best.toml").exists()


def test_where_a_run_is_tracked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def uri(given: str | None = None) -> str:
        tracked = ask_to_track(tmp_path / "runs" / "one", "mlflow", given)
        assert tracked is not None
        return tracked.uri

    monkeypatch.chdir(tmp_path)
    assert uri() == f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}"
    assert uri("sqlite:///mine.db") == f"sqlite:///{tmp_path / 'mine.db'}"
    assert uri("mlruns") == (tmp_path / "mlruns").as_uri()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example.org")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "brains")
    assert uri() == "https://mlflow.example.org"
    assert uri("sqlite:////elsewhere/mine.db") == "sqlite:////elsewhere/mine.db"
    assert ask_to_track(tmp_path, "mlflow", None) == Tracked("https://mlflow.example.org", "brains")
    assert ask_to_track(tmp_path, None, None) is None
    with pytest.raises(RunError, match="password"):
        uri("postgresql://me:secret@host/db")
    with pytest.raises(RunError, match="nothing is tracked"):
        ask_to_track(tmp_path, None, "sqlite:///mine.db")
    monkeypatch.setattr(mlflow_store, "installed", lambda: False)
    with pytest.raises(MissingExtra, match=r"neurodense\[mlflow\]"):
        uri()


def test_names_of_classes_become_names_that_mlflow_takes() -> None:
    from mlflow.utils.validation import _validate_metric_name

    for name in ("test.per_class.Hirnödem (links), früh.recall", "images.test.a=b*", "x" * 400):
        _validate_metric_name(key_of(name))
    assert key_of("test.macro.f1") == "test.macro.f1"


def test_nothing_reports_to_anybody(store: Path, tmp_path: Path) -> None:
    """With every variable that would silence MLflow's own telemetry removed, no name is looked up, nothing connects."""
    code = (
        "import sys\n"
        "def hook(event, arguments):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo', 'socket.gethostbyname', 'urllib.Request'):\n"
        "        print(event, arguments); raise RuntimeError(event)\n"
        "sys.addaudithook(hook)\n"
        "import threading\n"
        "import neurodense.training.run, neurodense.training.sweep\n"
        "assert not {'mlflow', 'optuna'} & {*sys.modules}, 'imported before it is asked for'\n"
        "from neurodense.training.mlflow_store import experiment_id, new_client\n"
        "from neurodense.training.sheet import Tracked\n"
        f"uri = 'sqlite:///' + {str(store / 'mlflow.db')!r}\n"
        "client = new_client(uri)\n"
        "run = client.create_run(experiment_id(client, Tracked(uri, 'quiet')))\n"
        "client.set_terminated(run.info.run_id)\n"
        "from mlflow.telemetry import client as telemetry\n"
        "print(telemetry.get_telemetry_client(), [t.name for t in threading.enumerate()])\n"
    )
    silencers = {"CI", "DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "PYTEST_CURRENT_TEST", "PYTEST_VERSION"}
    left = {name: value for name, value in os.environ.items() if name not in silencers}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=left)
    assert (done.returncode, done.stdout) == (0, "None ['MainThread']\n"), done.stdout + done.stderr
