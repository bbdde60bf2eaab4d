// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeMarket} from "../interfaces/IComputeMarket.sol";
import {Buffer, Buffers, Cursor} from "../libraries/Cursor.sol";
import {MalformedPage as PageError} from "../libraries/Cursor.sol";
import {Statements} from "../libraries/Statements.sol";
import {LoadedTable, TableReader} from "../libraries/TableReader.sol";
import {TaggedBits} from "../libraries/TaggedBits.sol";
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
        Buffer memory skips = Buffers.allocate(lists.length / 32); // a list has 104 bytes or more
        uint256 mark;
        assembly ("memory-safe") {
            mark := mload(0x40)
        }
        CommitContext memory c = _commitContext(b, from, to);
        if (lists.length > TableReader.FEW * (LIST_BYTES + ITEM_BYTES)) c.table.loadRows();
        bytes32 pageHash = _judgeLists(c, lists, skips);
        if (pageHash != 0) {
            b.commitHash = Statements.chain(_commitHashOf(b), pageHash);
            b.hasCommits = true;
            _storeCommitted(b, c);
        }
        // Assembly: all but the skips has been used up; the event, the largest of all, takes its room instead of more,
        // since memory is dear where there is much of it.
        assembly ("memory-safe") {
            mstore(0x40, mark)
        }
        emit CommitPage(batchId, b.round, lists, skips.finish());
    }

    /// @return pageHash that of the leaves of all lists that are good; 0 if there are none
    function _judgeLists(CommitContext memory c, bytes calldata lists, Buffer memory skips)
        private
        view
        returns (bytes32 pageHash)
    {
        bytes memory leaves = new bytes(lists.length / 3);
        uint256 used;
        uint256 at;
        // unchecked: offsets and counts of a page, which is calldata
        unchecked {
            for (uint256 index; at < lists.length; ++index) {
                uint256 member;
                uint256 count;
                // Assembly: behind the end zeros or another argument are read, and the list is too short below.
                assembly ("memory-safe") {
                    let head := calldataload(add(lists.offset, at))
                    member := shr(240, head)
                    count := and(shr(224, head), 0xffff)
                }
                uint256 size = LIST_BYTES + count * ITEM_BYTES;
                if (count == 0 || at + size > lists.length) revert PageError();
                bytes32 itemsHash = lists.hashAt(at + LIST_BYTES, count * ITEM_BYTES);
                ListSkip reason = _judgeList(c, lists[at:at + size], member, count, itemsHash);
                if (reason == ListSkip.NONE) {
                    bytes32 leaf = Statements.leaf(member, itemsHash);
                    // Assembly: the room was taken for all lists of the page, and is not looked at for each.
                    assembly ("memory-safe") {
                        mstore(add(add(leaves, 32), used), leaf)
                    }
                    used += 32;
                } else {
                    skips.append((index << 8) | uint256(reason), 3);
                }
                at += size;
            }
        }
        if (used == 0) return 0;
        assembly ("memory-safe") {
            pageHash := keccak256(add(leaves, 32), used)
        }
    }

    function _commitContext(Batch storage b, uint256 from, uint256 to) private view returns (CommitContext memory c) {
        c.separator = _separator();
        c.domain = _domain(b, Statements.STAGE_BUNDLE, b.round);
        c.table = TableReader.open(REGISTRY.tableAt(b.classId, b.table));
        c.table.loadUnits();
        uint256 seats = b.seats;
        (c.seats, c.from, c.span) = (seats, from, to - from);
        c.holders = new uint256[](c.span * seats);
        BitReader memory pending = _bitReader(b, BitKind.STATUS);
        // unchecked: numbers of bundles and seats
        unchecked {
            uint256 at;
            for (uint256 bundle = from; bundle < to; ++bundle) {
                uint256 end = at + seats;
                if (_isPending(pending, bundle)) {
                    c.table.draw(c.domain, bundle, seats, c.holders, at);
                    at = end;
                } else {
                    for (; at < end; ++at) {
                        c.holders[at] = NOT_PENDING;
                    }
                }
            }
        }
        _markCommitted(b, c);
    }

    /// @dev Marks the seats that have committed before. Mostly none has: then a word is all that is looked at.
    function _markCommitted(Batch storage b, CommitContext memory c) private view {
        (uint256 key, uint256 tag) = (_bitKey(b.id, BitKind.COMMITTED, 0), _bitTag(b, BitKind.COMMITTED));
        uint256 first = c.from * c.seats;
        uint256 end = first + c.holders.length;
        // unchecked: numbers of bits
        unchecked {
            for (uint256 word = first / TaggedBits.BITS; word * TaggedBits.BITS < end; ++word) {
                uint256 data = TaggedBits.load(_bits, key | word, tag);
                for (uint256 i = word * TaggedBits.BITS; data != 0; ++i) {
                    if (data & 1 == 1 && i >= first && i < end && c.holders[i - first] != NOT_PENDING) {
                        c.holders[i - first] |= COMMITTED;
                    }
                    data >>= 1;
                }
            }
        }
    }

    function _storeCommitted(Batch storage b, CommitContext memory c) private {
        (uint256 key, uint256 tag) = (_bitKey(b.id, BitKind.COMMITTED, 0), _bitTag(b, BitKind.COMMITTED));
        uint256[] memory holders = c.holders;
        uint256 first = c.from * c.seats;
        // unchecked: numbers of bits
        unchecked {
            uint256 end = first + holders.length;
            for (uint256 i = first; i < end;) {
                uint256 word = i / TaggedBits.BITS;
                uint256 until = (word + 1) * TaggedBits.BITS;
                if (until > end) until = end;
                uint256 data;
                // Assembly, since this is done for every seat of a batch: COMMITTED is bit 17 of a holder.
                assembly ("memory-safe") {
                    let bit := mod(i, 200)
                    let slot := add(add(holders, 32), shl(5, sub(i, first)))
                    for { let last := add(slot, shl(5, sub(until, i))) } lt(slot, last) { slot := add(slot, 32) } {
                        data := or(data, shl(bit, shr(17, mload(slot))))
                        bit := add(bit, 1)
                    }
                }
                if (data != 0) {
                    TaggedBits.store(_bits, key | word, tag, TaggedBits.load(_bits, key | word, tag) | data);
                }
                i = until;
            }
        }
    }

    /// @dev First reason to leave a list out, in the order of README.md; marks its seats if there is none.
    function _judgeList(CommitContext memory c, bytes calldata list, uint256 member, uint256 count, bytes32 itemsHash)
        private
        view
        returns (ListSkip)
    {
        if (member >= c.table.memberCount) return ListSkip.MEMBER;
        (address key, uint24 operatorId) = c.table.findRow(member);
        bytes32 digest = Statements.listDigest(c.separator, c.domain, operatorId, itemsHash);
        if (!Statements.isSignedBy(key, digest, list[4:LIST_BYTES])) return ListSkip.SIGNATURE;
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
