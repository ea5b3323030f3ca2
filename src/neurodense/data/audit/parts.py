"""What every part of the audit's result is: a frozen model, so that audit.json has a schema to write down."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class ResultPart(BaseModel):
    """A part of audit.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")
