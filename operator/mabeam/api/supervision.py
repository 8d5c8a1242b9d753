"""What a Supervisor tells a child, and what the child says it acted on; shared by the kinds that can be children."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from mabeam.api.base import ObjectName, StatusModel

# One life after the other; the last number a status can hold has no successor.
Token = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Intent(StrEnum):
    """What a child shall be."""

    START = "Start"
    STOP = "Stop"


class Supervision(StatusModel):
    """What the child last acted on: whose word it was, what it said, and which life of the child it was about."""

    supervisor: ObjectName
    intent: Intent
    token: Token
