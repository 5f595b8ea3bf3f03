"""What the parent and a worker say to each other: one JSON object a line.

parent -> worker   {"command": "facts" | "load" | "measure" | "exit", ...arguments}
worker -> parent   {"event": "progress", "done": int, "total": int, "what": str}
                   {"event": "result", "result": ...}
                   {"event": "error", "kind": str, "message": str, "is_input": bool}
Every command ends in exactly one `result` or `error`.
"""

import json
from typing import Any, TextIO


def send(stream: TextIO, message: dict[str, Any]) -> None:
    """Write one message and flush it."""
    stream.write(json.dumps(message, allow_nan=False) + "\n")
    stream.flush()


def parse(line: str) -> dict[str, Any] | None:
    """One message; None for a line that is not one (cut off by a kill)."""
    try:
        message = json.loads(line)
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
