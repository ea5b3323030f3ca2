"""Engines: they agree, they say what is not to be had, they run from many threads, and nothing reaches the network."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from neurodense.errors import EngineError, ModelError
from neurodense.inference import engine as engines
from neurodense.inference.engine import Engine, choose_engine, installed_engines
from neurodense.inference.predictor import Predictor
from neurodense.inference.scaling import softmax
from neurodense.scans.read import read_scan
from neurodense.training.network import Network
from neurodense.training.weights import read_state

INSTALLED = [name for name in ("openvino", "onnxruntime") if name in installed_engines()]


@pytest.fixture(scope="module")
def pixels(finished_run: Path, phantoms: Path) -> np.ndarray:
    preprocess = Predictor(finished_run / "model").card.preprocess
    return np.stack([preprocess(read_scan(path)) for path in sorted(phantoms.rglob("*.png"))[::5]])


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.parametrize("streams", [1, 2])
def test_every_engine_gives_what_torch_gives(
    finished_run: Path, pixels: np.ndarray, name: engines.EngineName, streams: int
) -> None:
    network = Network(4, 0.3)
    network.load_state_dict(read_state(finished_run / "model" / "model.safetensors"))
    with torch.inference_mode():
        logits, maps, features = network.eval().explain(torch.from_numpy(pixels))
    predictor = Predictor(finished_run / "model", engine=name, precision="fp32", threads=2, streams=streams)
    assert (predictor.engine, predictor.precision) == (name, "fp32")
    ours = predictor.outputs(pixels)
    np.testing.assert_allclose(softmax(ours.logits), torch.softmax(logits.double(), 1), atol=1e-4)
    np.testing.assert_allclose(ours.activation_maps, maps, atol=1e-3)
    np.testing.assert_allclose(ours.features, features, atol=1e-3)


def test_bf16_is_near_or_refused(finished_run: Path, pixels: np.ndarray) -> None:
    pytest.importorskip("openvino")
    exact = Predictor(finished_run / "model", precision="fp32")
    from neurodense.inference.openvino_engine import the_core

    if "BF16" not in the_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with pytest.raises(EngineError, match="no bf16"):
            Predictor(finished_run / "model", engine="openvino", precision="bf16")
        return
    half = Predictor(finished_run / "model", engine="openvino", precision="bf16")
    a, b = (one.probabilities(one.outputs(pixels).logits) for one in (exact, half))
    assert 0 < np.abs(a - b).max() < 0.05


@pytest.mark.parametrize("name", INSTALLED)
def test_many_threads_may_run_one_engine(finished_run: Path, pixels: np.ndarray, name: engines.EngineName) -> None:
    engine = Engine(finished_run / "model" / "model.onnx", name, threads=2, streams=2)
    alone = [engine.run(pixels[k : k + 1]).logits for k in range(len(pixels))]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda k: engine.run(pixels[k : k + 1]).logits, [*range(len(pixels))] * 4))
    for k, logits in enumerate(together):
        np.testing.assert_allclose(logits, alone[k % len(pixels)], atol=1e-5)


def test_what_is_not_there_is_said_with_what_is(finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = finished_run / "model" / "model.onnx"
    with pytest.raises(EngineError, match=r"no engine 'tensorrt'; known are openvino.*installed here: .*onnxruntime"):
        choose_engine("tensorrt")
    monkeypatch.setattr(engines, "find_spec", lambda _: None)
    monkeypatch.setattr(engines, "installed_engines", lambda: ["onnxruntime"])
    assert choose_engine() == "onnxruntime"
    with pytest.raises(
        EngineError, match=r"'cuda' is not installed; installed here: onnxruntime(.|\n)*onnxruntime-gpu"
    ):
        choose_engine("cuda")
    monkeypatch.setattr(engines, "installed_engines", list)
    with pytest.raises(EngineError, match="No engine is installed"):
        choose_engine()
    monkeypatch.undo()
    if "onnxruntime" in INSTALLED:
        with pytest.raises(EngineError, match="not in bf16"):
            Engine(graph, "onnxruntime", "bf16")
    with pytest.raises(EngineError, match="allowed are auto, fp32, bf16, int8"):
        Predictor(finished_run / "model", precision="int4")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", INSTALLED)
def test_what_is_no_graph_is_an_error(tmp_path: Path, name: engines.EngineName) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ModelError, match="cannot be loaded"):
        Engine(tmp_path / "model.onnx", name)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there are no such signals")
def test_signals_are_survived_after_engines_have_gone(finished_run: Path) -> None:
    """As when a fold's engines are gone and the next fold's loaders end: see inference/openvino_engine.py."""
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from neurodense.inference.engine import Engine\n"
        "graph = Path(sys.argv[1])\n"
        "first, second = Engine(graph), Engine(graph)\n"
        "del first\n"
        "del second\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('handled'))\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
    )
    words = [sys.executable, "-c", code, str(finished_run / "model" / "model.onnx")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_unknown_engine_on_the_command_line(finished_run: Path, phantoms: Path, command: list[str]) -> None:
    words = ["predict", str(phantoms), "--model", str(finished_run / "model"), "--engine", "fast"]
    result = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "no engine 'fast'" in result.stderr
    assert "installed here" in result.stderr


def test_nothing_can_reach_the_network(finished_run: Path, phantoms: Path) -> None:
    """OpenVINO's telemetry package is not even imported, and no socket is made."""
    code = (
        "import sys\n"
        "def hook(event, arguments):\n"
        "    if event.startswith(('socket.', 'urllib.', 'http.')): raise RuntimeError(event)\n"
        "sys.addaudithook(hook)\n"
        f"sys.argv = ['neurodense', 'predict', {str(phantoms)!r}, '--model', {str(finished_run / 'model')!r}]\n"
        "import atexit\n"
        "atexit.register(lambda: print([name for name in sys.modules if 'telemetry' in name or '.ovc' in name]))\n"
        "from neurodense.cli import main; main()"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "[]"


FAKE = """
import os
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1", "imported with telemetry on"
def get_available_providers(): return ["CPUExecutionProvider"]
def disable_telemetry_events(): pass
class SessionOptions: pass
class InferenceSession:
    def __init__(self, *_, **__):
        raise RuntimeError("no graph")
"""


def test_telemetry_is_off_before_onnx_runtime_is_imported(tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text(FAKE)
    code = (
        f"import os, sys; os.environ.pop('ORT_DISABLE_TELEMETRY', None); sys.path.insert(0, {str(tmp_path)!r})\n"
        "from pathlib import Path\n"
        "from neurodense.errors import ModelError\n"
        "from neurodense.inference.engine import Engine\n"
        "try:\n    Engine(Path('x.onnx'), 'onnxruntime')\nexcept ModelError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "no graph" in done.stdout


@pytest.mark.skipif("onnxruntime" not in INSTALLED, reason="ONNX Runtime is not installed")
def test_onnxruntime_leaves_no_device_id_behind(finished_run: Path, phantoms: Path, tmp_path: Path) -> None:
    """Where its telemetry runs, a device id and a store of events are written to the user's cache folder."""
    words = ["predict", str(phantoms / "glioma"), "--model", str(finished_run / "model"), "--engine", "onnxruntime"]
    where = {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    left = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    subprocess.run([sys.executable, "-m", "neurodense", *words], check=True, capture_output=True, env={**left, **where})
    assert not [
        path for path in tmp_path.rglob("*") if "onnxruntime" in path.name.lower() or "device" in path.name.lower()
    ]


def test_the_first_tensor_is_made_before_threads_can_make_it() -> None:
    """What the first one imports, it imports while it holds a lock that a second thread waits for with Python's own."""
    code = (
        "import builtins, numpy\n"
        "from neurodense.inference.openvino_engine import the_core\n"
        "the_core()\n"
        "import openvino\n"
        "real, names = builtins.__import__, []\n"
        "builtins.__import__ = lambda name, *rest, **more: (names.append(name), real(name, *rest, **more))[1]\n"
        "openvino.Tensor(numpy.zeros(1, numpy.float32), shared_memory=True).data\n"
        "builtins.__import__ = real\n"
        "print(names)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
