"""The objects that the operator passes over because their JSON cannot be parsed: each counted, and logged once."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mabeam.shell.kube.json_members import ObjectIdentity

log = logging.getLogger("mabeam.unreadable")

# So many objects are remembered as logged; a LIST meets them again every half minute.
MEMORY_LIMIT: Final = 4096


@dataclass
class UnreadableObjects:
    """Reports each object that was passed over; `count` gets its kind every time one is met."""

    count: Callable[[str], None] = lambda kind: None
    _logged: OrderedDict[tuple[str, ObjectIdentity], None] = field(default_factory=OrderedDict)

    def report(self, kind: str, found: ObjectIdentity) -> None:
        """Count the object, and log a warning the first time that it is met in this version."""
        self.count(kind)
        if (kind, found) in self._logged:
            return
        self._logged[kind, found] = None
        if len(self._logged) > MEMORY_LIMIT:
            self._logged.popitem(last=False)
        log.warning(
            "%s %s/%s cannot be read (its JSON nests too deep) and is passed over until it changes",
            kind,
            found.namespace,
            found.name,
        )
