"""Train, evaluate and predict from Python, on synthetic images.

Run it with: uv run --all-extras python examples/python_api.py FOLDER [RECIPE]
"""

import sys
from pathlib import Path

import neurodense


def main(folder: Path, recipe: str = "demo") -> None:
    """Make images in FOLDER/data, train in FOLDER/run, then use the model."""
    groups = neurodense.make_demo_data(folder / "data")
    model = neurodense.train(
        folder / "data",
        folder / "run",
        recipe=recipe,
        groups=groups,
        cache=folder / "cache",
        screen=neurodense.Screen(),
    )
    result = neurodense.evaluate(folder / "data", model, split=folder / "run" / "split.csv", part="test")
    print(f"macro F1 on synthetic images: {result.metrics.macro.f1:.3f}")
    for answer in neurodense.Predictor(model).predict(sorted((folder / "data" / "glioma").iterdir())[:3]):
        print(answer.as_dict())


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
