"""JSON for files that people read in differences: what fits a line is one line, and a flat object always is.

Nothing is lost: parsing the text gives the document back, the order of its keys included.
"""

import json
from typing import Any, Final

WIDTH: Final = 120  # columns that an object or list with others inside may take on one line
STEP: Final = "  "


def dumps(document: Any, width: int = WIDTH) -> str:
    """The document as JSON text with a newline at its end: one flat object or list per line, whatever its length."""
    return _text(document, width, "") + "\n"


def _text(value: Any, width: int, indent: str) -> str:
    line = json.dumps(value, ensure_ascii=False)
    if _is_flat(value) or len(indent) + len(line) <= width:
        return line
    inner = indent + STEP
    if isinstance(value, dict):
        items = [f"{json.dumps(str(key))}: {_text(item, width, inner)}" for key, item in value.items()]
        first, last = "{", "}"
    else:
        items = [_text(item, width, inner) for item in value]
        first, last = "[", "]"
    body = ",\n".join(inner + item for item in items)
    return f"{first}\n{body}\n{indent}{last}"


def _is_flat(value: Any) -> bool:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return True
    return not any(isinstance(item, dict | list) and item for item in value)
