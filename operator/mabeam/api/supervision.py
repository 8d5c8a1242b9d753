"""The instruction of a Supervisor to a child, as recorded by the child; shared by the kinds that can be children."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from mabeam.api.base import ObjectName, StatusModel

# Each start of a child has a higher token than the one before. The largest one has no successor.
Token = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Intent(StrEnum):
    """The instruction of a Supervisor to a child."""

    START = "Start"
    STOP = "Stop"


class Supervision(StatusModel):
    """The last instruction that the child acted on."""

    supervisor: Annotated[ObjectName, Field(description="Name of the Supervisor that gave the instruction.")]
    intent: Annotated[Intent, Field(description="The instruction: start or stop.")]
    token: Annotated[
        Token,
        Field(
            description="Number of the start that the instruction belongs to; each restart of the child has a "
            "higher one."
        ),
    ]
