"""The committee draw: by units of stake, from a beacon that nobody could know before (section 4.4)."""

from collections.abc import Sequence

from quorate.protocol.errors import ValidationError
from quorate.protocol.hashing import keccak
from quorate.protocol.params import MAX_DRAW_ATTEMPTS


def compute_committee(
    round_domain: bytes, bundle: int, seats: int, units: Sequence[int], member_count: int
) -> tuple[int, ...]:
    """Return the member index of each seat: `seats` distinct rows of the class's table.

    `units` holds, for each unit of stake, its row. Raises ValidationError when there are fewer members than seats.
    """
    if seats > member_count or not units:
        raise ValidationError(f"{seats} seats cannot be drawn from {member_count} members")
    drawn: list[int] = []
    for seat in range(seats):
        drawn.append(_draw_seat(round_domain, bundle, seat, units, member_count, drawn))
    return tuple(drawn)


def compute_auditor(
    audit_domain: bytes, bundle: int, number: int, units: Sequence[int], member_count: int, sitting: Sequence[int]
) -> int | None:
    """Row of a bundle's auditor `number` (0 or 1); `sitting` are its voters and the auditors before. None when
    nobody is left."""
    if len(set(sitting)) >= member_count:
        return None
    return _draw_seat(audit_domain, bundle, number, units, member_count, sitting)


def _draw_seat(
    round_domain: bytes, bundle: int, seat: int, units: Sequence[int], member_count: int, taken: Sequence[int]
) -> int:
    member = 0
    for attempt in range(MAX_DRAW_ATTEMPTS):
        seed = keccak(round_domain + bundle.to_bytes(4, "big") + bytes((seat, attempt)))
        member = units[int.from_bytes(seed, "big") % len(units)]
        if member not in taken:
            return member
    # One member may hold nearly all units: the probe ends, whatever the weights are.
    while member in taken:
        member = (member + 1) % member_count
    return member
