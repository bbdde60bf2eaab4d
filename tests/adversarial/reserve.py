"""Liars with stake on a real chain, and others that take the place of those who lost it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.adversarial.population import Split

from quorate.chain import calls
from quorate.chain.account import SigningAccount
from quorate.chain.calls import Call
from quorate.devnet.devnet import Devnet
from quorate.devnet.enroll import SETUP_GAS
from quorate.devnet.options import CLASS_ID
from quorate.protocol.errors import UnrecoverableError


class Liars:
    """Operators after the honest ones: those of `split`, then a reserve of registered operators without units."""

    def __init__(self, devnet: Devnet, split: Split, reserve: int) -> None:
        self._gateway, self._options = devnet.gateway, devnet.options
        members = [member for node in devnet.nodes for member in node.operators]
        self._keys: dict[int, SigningAccount] = {member.operator_id: member.account for member in members}
        first = len(split.honest) + 1
        self.units = dict(zip(range(first, first + len(split.liars)), split.liars, strict=True))
        self.active, self.ever = set(self.units), set(self.units)
        end = first + len(split.liars)
        self._reserve = list(range(end, end + reserve))
        self.invested = self.holdings(self.ever)

    def holdings(self, operators: Iterable[int]) -> int:
        """Stake and unbonding of operators, in wei."""
        found = [self._gateway.operator(each) for each in operators]
        return sum(operator.stake + operator.unbonding for operator in found)

    @property
    def ejected(self) -> list[int]:
        """Those of today that have lost everything, ascending."""
        return [liar for liar in sorted(self.active) if self._gateway.operator(liar).ejected]

    @property
    def ever_ejected(self) -> set[int]:
        """Those of all that ever were that have lost everything."""
        return {liar for liar in self.ever if self._gateway.operator(liar).ejected}

    def restore(self) -> list[int]:
        """Make all of them what they were, with others in place of the ejected, who are returned."""
        gone, sent = self.ejected, list[bytes]()
        if len(gone) > len(self._reserve):
            raise UnrecoverableError(f"{len(gone)} liars were ejected, but only {len(self._reserve)} are in reserve")
        members = self._gateway.class_members(CLASS_ID)
        for liar in sorted(self.active - set(gone)):
            if liar not in members or members[liar].units < self.units[liar]:
                sent += self._enlarge(liar, is_member=liar in members)
        for liar in gone:
            fresh = self._reserve.pop(0)
            self.units[fresh] = self.units[liar]
            self.invested += self.holdings([fresh])
            sent += self._enlarge(fresh, is_member=False)
            self.active ^= {liar, fresh}
            self.ever.add(fresh)
        for transaction in sent:
            self._gateway.wait(transaction)
        return gone

    def _enlarge(self, liar: int, *, is_member: bool) -> list[bytes]:
        """Stake what is missing for all of its units, and for fines, and join with them."""
        options, info = self._options, self._gateway.operator(liar)
        missing = self.units[liar] * options.unit_wei + options.spare_stake_wei - info.stake
        join = calls.join(CLASS_ID, self.units[liar], options.price, options.capacity)
        planned: list[tuple[Call, int]] = []
        if missing > 0:
            self.invested += missing
            planned.append((calls.stake(liar), missing))
        planned += [(calls.leave(CLASS_ID), 0)] * is_member + [(join, 0)]
        return self._send(liar, planned)

    def _send(self, liar: int, planned: Sequence[tuple[Call, int]]) -> list[bytes]:
        # Gas is given: each call depends on the one before it, so that it cannot be estimated yet.
        key = self._keys[liar]
        return [self._gateway.send(key, call, value=value, gas=SETUP_GAS) for call, value in planned]
