"""How many seats a wished confidence needs (sections 3 and 4 of the protocol; acceptance rule (a))."""

from __future__ import annotations

from quorate.protocol.errors import ValidationError

MAX_SEATS = 255


def compute_class_share(share: float, network_units: int, class_units: int) -> float:
    """Worst share of a class for an adversary with `share` of the whole network: all of it sits in this class."""
    if class_units <= 0 or network_units < class_units:
        raise ValidationError(f"a class of {class_units} units cannot lie in a network of {network_units}")
    return share * network_units / class_units


def compute_error_bound(seats: int, share: float, rounds: int) -> float:
    """Probability bound that a wrong result is accepted: one of 1 + rounds committees is all the adversary's."""
    return float((1 + rounds) * share**seats)


def compute_least_seats(share: float, error: float, rounds: int = 2) -> int:
    """Least k with (1 + rounds) · share^k ≤ error.

    `share` is the adversary's share of the class, in (0, 0.5): from one half on a class vote cannot be trusted, and no
    number of seats helps. Raises ValidationError there, and when more than 255 seats would be needed.
    """
    if not 0 < share < 0.5:
        raise ValidationError(f"a share of {share} is outside (0, 0.5): no committee makes such a class safe")
    if not 0 < error < 1 or rounds < 0:
        raise ValidationError(f"error {error} must lie in (0, 1) and rounds {rounds} be at least 0")
    for seats in range(1, MAX_SEATS + 1):
        if compute_error_bound(seats, share, rounds) <= error:
            return seats
    raise ValidationError(f"an error of {error} at a share of {share} needs more than {MAX_SEATS} seats")


def compute_least_seats_in_network(
    share: float, error: float, rounds: int, network_units: int, class_units: int
) -> int:
    """Least k when `share` is meant over the whole network and all of it may sit in the class."""
    return compute_least_seats(compute_class_share(share, network_units, class_units), error, rounds)
