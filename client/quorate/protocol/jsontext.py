"""JSON that strangers wrote: read only when it is not nested deeper than the parser's stack can bear.

`json.loads` recurses in C, kept from the end of the stack only by the interpreter's recursion limit. Libraries raise
that limit (importing web3 makes it 100 000), and then 60 kB of brackets end the process. So depth is counted first.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_DEPTH = 64
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")


def load_json(data: bytes, max_depth: int = MAX_DEPTH, **hooks: Any) -> Any:
    """`json.loads` of UTF-8; ValueError for malformed text and for one that is nested deeper than `max_depth`."""
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub(b"", data)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > max_depth:
            raise ValueError(f"nested deeper than {max_depth} levels")
    return json.loads(data.decode(), **hooks)
