// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeMarket} from "../interfaces/IComputeMarket.sol";
import {Buffer, Buffers, Cursor} from "../libraries/Cursor.sol";
import {MalformedPage as PageError} from "../libraries/Cursor.sol";
import {Statements} from "../libraries/Statements.sol";
import {LoadedTable, TableReader} from "../libraries/TableReader.sol";
import {MarketStorage} from "./MarketStorage.sol";

/// @title Commitments of a round
abstract contract Committing is MarketStorage, IComputeMarket {
    using Buffers for Buffer;
    using Cursor for bytes;
    using TableReader for LoadedTable;

    /// @dev What all lists of one page are judged by. `_judgeItems` knows the order of the first four fields.
    struct CommitContext {
        uint256 seats;
        uint256 from;
        uint256 span; // bundles of [from, to)
        uint256[] holders; // member of each seat of [from, to), marked once it has committed; NOT_PENDING else
        bytes32 separator;
        bytes32 domain;
        LoadedTable table;
    }

    enum ListSkip {
        NONE,
        MEMBER,
        SIGNATURE,
        ORDER,
        RANGE,
        NOT_PENDING,
        NOT_DRAWN,
        DUPLICATE
    }

    uint256 private constant LIST_BYTES = 69;
    uint256 private constant ITEM_BYTES = 35;
    uint256 private constant NOT_PENDING = 0x10000; // no member has this number
    uint256 private constant COMMITTED = 0x20000;

    /// @inheritdoc IComputeMarket
    function commit(uint64 batchId, uint16 from, uint16 to, bytes calldata lists) external {
        Batch storage b = _batchIn(batchId, BatchStatus.ASSIGNED);
        if (!_isPast(b, 1)) _onlyCollator(b);
        else if (_isPast(b, 2)) revert WindowPast("commit");
        if (from >= to || to > b.bundles || lists.length == 0) revert PageError();
        CommitContext memory c = _commitContext(b, from, to);
        // A list has 104 bytes or more. Memory is dear where there is much of it.
        Buffer memory leaves = Buffers.allocate(lists.length / 3);
        Buffer memory skips = Buffers.allocate(lists.length / 32);
        uint256 at;
        for (uint256 index; at < lists.length; ++index) {
            (uint256 member, uint256 count) = (lists.uintAt(at, 2), lists.uintAt(at + 2, 2));
            uint256 size = LIST_BYTES + count * ITEM_BYTES;
            if (count == 0 || at + size > lists.length) revert PageError();
            bytes32 itemsHash = lists.hashAt(at + LIST_BYTES, count * ITEM_BYTES);
            ListSkip reason = _judgeList(c, lists[at:at + size], member, count, itemsHash);
            if (reason == ListSkip.NONE) {
                leaves.append(uint256(Statements.leaf(member, itemsHash)), 32);
            } else {
                skips.append(index, 2);
                skips.append(uint256(reason), 1);
            }
            at += size;
        }
        if (leaves.used > 0) {
            b.commitHash = Statements.chain(b.commitHash, leaves.hash());
            _storeCommitted(b, c);
        }
        emit CommitPage(batchId, b.round, lists, skips.finish());
    }

    function _commitContext(Batch storage b, uint256 from, uint256 to) private view returns (CommitContext memory c) {
        c.separator = _separator();
        c.domain = _domain(b, Statements.STAGE_BUNDLE, b.round);
        c.table = TableReader.load(REGISTRY.tableAt(b.classId, b.table));
        uint256 seats = b.seats;
        (c.seats, c.from, c.span) = (seats, from, to - from);
        c.holders = new uint256[](c.span * seats);
        BitReader memory pending = _bitReader(b, BitKind.STATUS);
        BitReader memory committed = _bitReader(b, BitKind.COMMITTED);
        // unchecked: numbers of bundles and seats
        unchecked {
            for (uint256 bundle = from; bundle < to; ++bundle) {
                uint256 at = (bundle - from) * seats;
                bool isPending = _isPending(pending, bundle);
                if (isPending) c.table.draw(c.domain, bundle, seats, c.holders, at);
                for (uint256 seat; seat < seats; ++seat) {
                    if (!isPending) c.holders[at + seat] = NOT_PENDING;
                    else if (_isSet(committed, bundle * seats + seat)) c.holders[at + seat] |= COMMITTED;
                }
            }
        }
    }

    function _storeCommitted(Batch storage b, CommitContext memory c) private {
        BitWriter memory bits = _bitWriter(b, BitKind.COMMITTED);
        uint256 first = c.from * c.seats;
        // unchecked: indices of an array
        unchecked {
            for (uint256 i; i < c.holders.length; ++i) {
                if (c.holders[i] & COMMITTED != 0) _setBit(bits, first + i);
            }
        }
        _flush(bits);
    }

    /// @dev First reason to leave a list out, in the order of README.md; marks its seats if there is none.
    function _judgeList(CommitContext memory c, bytes calldata list, uint256 member, uint256 count, bytes32 itemsHash)
        private
        pure
        returns (ListSkip)
    {
        if (member >= c.table.memberCount) return ListSkip.MEMBER;
        (address key, uint24 operatorId) = c.table.row(member);
        bytes32 digest = Statements.listDigest(c.separator, c.domain, operatorId, itemsHash);
        (uint256 r, uint256 s) = (list.uintAt(4, 32), list.uintAt(36, 32));
        if (!Statements.isSignedBy(key, digest, r, s, list.uintAt(68, 1))) return ListSkip.SIGNATURE;
        return _judgeItems(c, list[LIST_BYTES:], member, count);
    }

    /// @dev Assembly, since this is done for every seat of a batch. Seats are marked as they are found good, so that
    /// one pass suffices; where an item has a reason, the marks of those before it are taken back.
    function _judgeItems(CommitContext memory c, bytes calldata items, uint256 member, uint256 count)
        private
        pure
        returns (ListSkip)
    {
        uint256 reason;
        assembly ("memory-safe") {
            let seats := mload(c)
            let from := mload(add(c, 0x20))
            let span := mload(add(c, 0x40))
            let holders := add(mload(add(c, 0x60)), 0x20)
            let least := 0 // (bundle, seat) that the next item has at least
            let at := items.offset
            for { let end := add(at, mul(count, 35)) } lt(at, end) { at := add(at, 35) } {
                let place := shr(232, calldataload(at))
                if lt(place, least) {
                    reason := 3
                    break
                }
                least := add(place, 1)
                let bundle := sub(shr(8, place), from) // below `from` it is huge
                let seat := and(place, 0xff)
                if iszero(and(lt(bundle, span), lt(seat, seats))) {
                    reason := 4
                    break
                }
                let slot := add(holders, shl(5, add(mul(bundle, seats), seat)))
                let holder := mload(slot)
                if xor(holder, member) {
                    reason := 6
                    if eq(holder, NOT_PENDING) { reason := 5 }
                    if eq(holder, or(member, COMMITTED)) { reason := 7 }
                    break
                }
                mstore(slot, or(holder, COMMITTED))
            }
            if reason {
                for { let done := items.offset } lt(done, at) { done := add(done, 35) } {
                    let place := shr(232, calldataload(done))
                    let bundle := sub(shr(8, place), from)
                    mstore(add(holders, shl(5, add(mul(bundle, seats), and(place, 0xff)))), member)
                }
            }
        }
        return ListSkip(reason);
    }
}
