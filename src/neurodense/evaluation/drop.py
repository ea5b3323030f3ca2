"""What a model loses on other data: its figures there less those on the test part of its own data.

The two sets of images are independent, so the interval of a difference comes from the intervals of both (MOVER: Zou and
Donner, "Construction of confidence limits about effect measures", Statistics in Medicine 27, 2008):

    a - b:   lower end  a - b - sqrt((a - low a)^2 + (high b - b)^2)      upper end  with the other ends

Only like is compared with like. Figures that change with how frequent the classes are, such as precision, are left out;
so are those of all classes, or of a class against the rest, where the other data lack a class. Where classes are
measured as one (`data/label_map.py`), what is named most probable is another question, and areas alone are compared.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import hypot
from typing import Any, Final

from neurodense.evaluation.intervals import Intervals
from neurodense.evaluation.metrics import HEADLINE, Metrics
from neurodense.evaluation.shares import Share

WHOLE: Final = ("accuracy", "balanced_accuracy", "macro.f1", "macro.auroc")


@dataclass(frozen=True)
class Drop:
    """A figure on other data and on the model's own.

    Attributes:
        name: Dotted, as in metrics.json.
        title: In words.
        inside: On the test part of the model's own data.
        outside: On the other data.
        change: The second less the first.
    """

    name: str
    title: str
    inside: Share
    outside: Share
    change: Share

    def as_dict(self) -> dict[str, Any]:
        """The shape of metrics.json."""
        return asdict(self)


def drops(inside: Mapping[str, Any], metrics: Metrics, intervals: Intervals) -> list[Drop]:
    """Compare figures on other data with those in a model's card.

    Args:
        inside: `Card.metrics`. A card from before there were intervals gives figures without.
        metrics: On the other data.
        intervals: Of these.
    """
    alike = set(metrics.labels) == set(inside["per_class"])
    complete = all(one.support for one in metrics.per_class.values())
    keys = {"recall": "Recall"} if alike else {}
    if complete:
        keys |= {"specificity": "Specificity", "auroc": "AUROC"} if alike else {"auroc": "AUROC"}
    present = [name for name, one in metrics.per_class.items() if one.support and name in inside["per_class"]]
    titles = {name: HEADLINE[name] for name in WHOLE} if alike and complete else {}
    titles |= {f"per_class.{name}.{key}": f"{title} of {name}" for name in present for key, title in keys.items()}
    bounds = inside.get("intervals", {}).get("figures", {})
    found = []
    for name, title in titles.items():
        ours = Share(_at(inside, name), tuple(bounds[name]) if name in bounds else None)
        theirs = Share(metrics.figures[name], intervals.bounds.get(name))
        if ours.value is not None and theirs.value is not None:
            found.append(Drop(name, title, ours, theirs, difference(theirs, ours)))
    return found


def difference(one: Share, less: Share) -> Share:
    """`one` less `less` of independent samples, with its interval where both have one."""
    if one.value is None or less.value is None:
        return Share(None)
    value, bounds = one.value - less.value, None
    if one.interval is not None and less.interval is not None:
        low = hypot(one.value - one.interval[0], less.interval[1] - less.value)
        high = hypot(one.interval[1] - one.value, less.value - less.interval[0])
        bounds = value - low, value + high
    return Share(value, bounds)


def _at(metrics: Mapping[str, Any], name: str) -> float | None:
    """A figure of metrics.json by its dotted name; a class may have dots in its own."""
    if not name.startswith("per_class."):
        where: Any = metrics
        for part in name.split("."):
            where = where.get(part) if where is not None else None
        return None if where is None else float(where)
    label, _, key = name.removeprefix("per_class.").rpartition(".")
    value = metrics["per_class"][label].get(key)
    return None if value is None else float(value)
