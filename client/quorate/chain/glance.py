"""What an order is made by, read from the chain in one round trip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from quorate.chain.types import AccountInfo, BlockHead, ClassInfo
from quorate.protocol.params import Params
from quorate.protocol.types import Address, Table


class OrderChain(Protocol):
    """What making an order needs of a ChainGateway."""

    def head(self) -> BlockHead: ...
    def params(self) -> Params: ...
    def table(self, class_id: int, number: int) -> Table: ...
    def class_count(self) -> int: ...
    def class_info(self, class_id: int) -> ClassInfo: ...
    def account(self, owner: Address) -> AccountInfo: ...


@dataclass(frozen=True, slots=True)
class Glance:
    """An OrderChain as it was at one moment, as far as it was read: the newest block, one class, and one account.

    What else is asked for comes from `chain`, as it is then.
    """

    chain: OrderChain
    newest: BlockHead
    classes: int
    seen_class: tuple[int, ClassInfo] | None
    seen_account: tuple[Address, AccountInfo]

    def head(self) -> BlockHead:
        """The newest block of that moment."""
        return self.newest

    def params(self) -> Params:
        """They never change."""
        return self.chain.params()

    def table(self, class_id: int, number: int) -> Table:
        """It never changes."""
        return self.chain.table(class_id, number)

    def class_count(self) -> int:
        """As it was."""
        return self.classes

    def class_info(self, class_id: int) -> ClassInfo:
        """As it was, of the class that was read."""
        if self.seen_class is not None and class_id == self.seen_class[0]:
            return self.seen_class[1]
        return self.chain.class_info(class_id)

    def account(self, owner: Address) -> AccountInfo:
        """As it was, of the account that was read."""
        return self.seen_account[1] if owner == self.seen_account[0] else self.chain.account(owner)
