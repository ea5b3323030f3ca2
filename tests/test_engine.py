"""The engine starts without telling anybody."""

import subprocess
import sys
from pathlib import Path

FAKE = """
import os
assert os.environ["ORT_DISABLE_TELEMETRY"] == "1", "imported with telemetry on"
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
        "try:\n    Engine(Path('x.onnx'))\nexcept ModelError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "no graph" in done.stdout
