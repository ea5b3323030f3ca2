"""The one sentence that every table, report and page of this package shows."""

from __future__ import annotations

from typing import Final

NOTICE: Final = "Research software, not a medical device: not for diagnosis."
