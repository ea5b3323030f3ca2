"""neurodense: from a folder of brain MRI images to a tumour classifier that can be trusted.

Research software, not a medical device. The public names below are all there is to import; each is loaded when it is
first used, so that `import neurodense` is quick and predicting needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurodense.data.audit.result import Audit
    from neurodense.data.audit.run import Audited, audit
    from neurodense.data.catalogue import scan_folder
    from neurodense.demo import make_demo_data, run_demo
    from neurodense.errors import (
        DataError,
        EngineError,
        MissingExtra,
        ModelError,
        NeurodenseError,
        RecipeError,
        RunError,
        ScanError,
        WeightsError,
    )
    from neurodense.evaluation.compare import Comparison, compare
    from neurodense.evaluation.evaluate import evaluate
    from neurodense.evaluation.evaluation import Evaluation
    from neurodense.evaluation.intervals import Intervals
    from neurodense.evaluation.metrics import Metrics, measure
    from neurodense.inference.archive import Archived, predict_archive
    from neurodense.inference.card import Card
    from neurodense.inference.explain import Explanation
    from neurodense.inference.prediction import Prediction
    from neurodense.inference.predictor import Predictor
    from neurodense.scans.preprocess import Preprocess
    from neurodense.scans.read import read_scan
    from neurodense.scans.scan import Scan, Study
    from neurodense.scans.slices import Slices
    from neurodense.scans.study import Failure, find_studies, read_study
    from neurodense.screen import Screen
    from neurodense.training.recipe import Recipe, load_recipe, recipe_names
    from neurodense.training.run import resume, train
    from neurodense.training.sweep import sweep

__version__ = "0.1.0"

_HOME = {
    "Audit": "data.audit.result",
    "Audited": "data.audit.run",
    "audit": "data.audit.run",
    "scan_folder": "data.catalogue",
    "make_demo_data": "demo",
    "run_demo": "demo",
    "DataError": "errors",
    "EngineError": "errors",
    "MissingExtra": "errors",
    "ModelError": "errors",
    "NeurodenseError": "errors",
    "RecipeError": "errors",
    "RunError": "errors",
    "ScanError": "errors",
    "WeightsError": "errors",
    "Comparison": "evaluation.compare",
    "compare": "evaluation.compare",
    "Evaluation": "evaluation.evaluation",
    "evaluate": "evaluation.evaluate",
    "write_evaluation": "evaluation.write",
    "Intervals": "evaluation.intervals",
    "Metrics": "evaluation.metrics",
    "measure": "evaluation.metrics",
    "Archived": "inference.archive",
    "predict_archive": "inference.archive",
    "Card": "inference.card",
    "Explanation": "inference.explain",
    "Prediction": "inference.prediction",
    "Predictor": "inference.predictor",
    "Preprocess": "scans.preprocess",
    "read_scan": "scans.read",
    "Scan": "scans.scan",
    "Study": "scans.scan",
    "Slices": "scans.slices",
    "Failure": "scans.study",
    "find_studies": "scans.study",
    "read_study": "scans.study",
    "Screen": "screen",
    "Recipe": "training.recipe",
    "load_recipe": "training.recipe",
    "recipe_names": "training.recipe",
    "resume": "training.run",
    "sweep": "training.sweep",
    "train": "training.run",
}

__all__ = [
    "Archived", "Audit", "Audited", "Card", "Comparison", "DataError", "EngineError", "Evaluation", "Explanation",
    "Failure", "Intervals", "Metrics", "MissingExtra", "ModelError", "NeurodenseError", "Prediction", "Predictor",
    "Preprocess", "Recipe", "RecipeError", "RunError", "Scan", "ScanError", "Screen", "Slices", "Study",
    "WeightsError", "audit", "compare", "evaluate", "find_studies", "load_recipe", "make_demo_data", "measure",
    "predict_archive", "read_scan", "read_study", "recipe_names", "resume", "run_demo", "scan_folder", "sweep",
    "train", "write_evaluation",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(import_module(f"neurodense.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'neurodense' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
