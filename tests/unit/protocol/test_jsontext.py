"""JSON from strangers: its depth is bounded before a parser sees it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.protocol.jsontext import MAX_DEPTH, load_json

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON_VALUES)
def test_shallow_text_is_read_as_ever(value: object) -> None:
    assert load_json(json.dumps(value, ensure_ascii=False).encode()) == value


def test_brackets_in_strings_are_no_nesting() -> None:
    text = "[" * 1000 + '\\"{' * 1000 + "\\"
    assert load_json(json.dumps([text]).encode()) == [text]


@pytest.mark.parametrize("data", [b"[" * (MAX_DEPTH + 1), b'{"a":' * (MAX_DEPTH + 1) + b"1", b'["\\"]",' * 100_000])
def test_depth_is_refused_before_anything_is_parsed(data: bytes) -> None:
    with pytest.raises(ValueError, match="deeper than"):
        load_json(data)
    assert load_json(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)


@pytest.mark.parametrize("data", [b"", b'"', b'"\\', b'"' + b'\\"' * 50_000, b"]", b"[}", b"\xff"])
def test_malformed_text_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        load_json(data)


BOMB = """
import sys
from quorate.protocol.errors import ValidationError
from quorate.protocol.spec import JobSpec
sys.setrecursionlimit(1 << 20)
try:
    JobSpec.from_bytes(b"[" * 60_000)
except ValidationError:
    print("refused")
"""


def test_a_raised_recursion_limit_does_not_end_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", BOMB], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr
