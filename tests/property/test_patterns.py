"""The pattern language against a matcher that is slow and obvious."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.protocol.errors import ValidationError
from quorate.protocol.pattern import MAX_PATTERN_BYTES, compile_pattern

SIGNS = "ab/.é-^\\]!\n"
Item = tuple[str, frozenset[str]]
ALL = frozenset(SIGNS + "[*?c")


def _render(item: Item) -> str:
    kind, members = item
    if kind == "in":
        return f"[{''.join(sorted(members))}]"
    if kind == "out":
        return f"[!{''.join(sorted(members))}]"
    return "*" if kind == "star" else "?" if kind == "any" else next(iter(members))


# A "-" stands for itself at an end alone, and "!" at the beginning says not: sorted, neither happens with these.
MEMBERS = st.frozensets(st.sampled_from("abc/.é^\\[*?\n"), min_size=1, max_size=4)
ITEMS = st.one_of(
    st.just(("star", ALL)),
    st.just(("any", ALL)),
    st.tuples(st.just("in"), MEMBERS),
    st.tuples(st.just("out"), MEMBERS),
    st.tuples(st.just("one"), st.sampled_from(SIGNS).map(lambda sign: frozenset({sign}))),
)


def _fits(items: tuple[Item, ...], path: str) -> bool:
    @cache
    def fits(item: int, at: int) -> bool:
        if item == len(items):
            return at == len(path)
        kind, members = items[item]
        if kind == "star":
            return fits(item + 1, at) or (at < len(path) and fits(item, at + 1))
        if at == len(path):
            return False
        is_good = path[at] not in members if kind == "out" else kind == "any" or path[at] in members
        return is_good and fits(item + 1, at + 1)

    return fits(0, 0)


@given(st.lists(ITEMS, min_size=1, max_size=8).map(tuple), st.text(st.sampled_from(SIGNS + "[*?c"), max_size=12))
def test_a_pattern_means_what_its_grammar_says(items: tuple[Item, ...], path: str) -> None:
    pattern = "".join(map(_render, items))
    assert bool(compile_pattern(pattern).match(path)) == _fits(items, path), (pattern, path)


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        ("*.tif", "a/b.tif .tif", "b.tiff btif b.TIF"),
        ("[a-c]?", "ax cé", "dx a"),
        ("[!a-c]*", "d", "a ab"),
        ("[-a]", "- a", "b"),
        ("[a-]", "- a", "b"),
        ("[!-]", "!", "-"),
        ("a]", "a]", "a"),
        ("[]]".replace("]]", "[]"), "[", "]"),
        ("**", "a", ""),
    ],
)
def test_examples(pattern: str, good: str, bad: str) -> None:
    fits = compile_pattern(pattern).match
    assert all(map(fits, good.split()))
    assert not any(map(fits, bad.split()))


@pytest.mark.parametrize("pattern", ["", "[", "a[b", "[]", "[!]", "[z-a]", "é" * 128, "[b-a]*"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValidationError, match="pattern"):
        compile_pattern(pattern)


def test_no_pattern_is_slow() -> None:
    """Each star of these would multiply the places that are tried by four thousand."""
    for pattern in ("*a" * 126 + "*b", "*[ab]a" * 40 + "b", "?*" * 127, "*" * 254 + "b"):
        assert len(pattern) <= MAX_PATTERN_BYTES
        assert bool(compile_pattern(pattern).match("a" * 4000)) == ("b" not in pattern)
