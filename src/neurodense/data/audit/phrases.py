"""Numbers as a sentence says them."""

from __future__ import annotations


def many(count: int, what: str) -> str:
    """A count with its noun: "1 pair", "1,200 pairs"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def share(value: float) -> str:
    """A share in percent, never rounded to all or nothing."""
    percent = 100 * value
    return f"{percent:.1f}%" if (0 < percent < 1 or 99 < percent < 100) else f"{percent:.0f}%"


def p_value(value: float) -> str:
    """A p-value with the digits that it has."""
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1g}"
