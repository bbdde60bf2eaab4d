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

    /// @dev What all lists of one page are judged by.
    struct CommitContext {
        bytes32 separator;
        bytes32 domain;
        LoadedTable table;
        uint256 seats;
        uint256 from;
        uint256 to;
        uint256[] drawn; // member + 1 of each seat of [from, to); 0 where the bundle is not pending
        uint256 firstWord;
        uint256[] words; // who has committed, from `firstWord` on
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

    /// @inheritdoc IComputeMarket
    function commit(uint64 batchId, uint16 from, uint16 to, bytes calldata lists) external {
        Batch storage b = _batchIn(batchId, BatchStatus.ASSIGNED);
        _onlyCollator(b);
        if (_isPast(b, 1)) revert WindowPast("commit");
        if (from >= to || to > b.bundles || lists.length == 0) revert PageError();
        CommitContext memory c = _commitContext(b, from, to);
        // A list has 104 bytes or more. Memory is dear where there is much of it.
        Buffer memory leaves = Buffers.allocate(lists.length / 3);
        Buffer memory skips = Buffers.allocate(lists.length / 32);
        uint256 at;
        for (uint256 index; at < lists.length; ++index) {
            uint256 count = lists.uintAt(at + 2, 2);
            uint256 size = LIST_BYTES + count * ITEM_BYTES;
            if (count == 0 || at + size > lists.length) revert PageError();
            bytes32 itemsHash = lists.hashAt(at + LIST_BYTES, count * ITEM_BYTES);
            ListSkip reason = _judgeList(c, lists, at, count, itemsHash);
            if (reason == ListSkip.NONE) {
                _markCommitted(c, lists, at, count);
                leaves.append(uint256(keccak256(abi.encodePacked(lists[at:at + 2], itemsHash))), 32);
            } else {
                skips.append(index, 2);
                skips.append(uint256(reason), 1);
            }
            at += size;
        }
        if (leaves.used > 0) {
            b.commitHash = keccak256(abi.encodePacked(b.commitHash, leaves.hash()));
            _storeWords(b, c);
        }
        emit CommitPage(batchId, b.round, lists, skips.finish());
    }

    function _commitContext(Batch storage b, uint256 from, uint256 to) private view returns (CommitContext memory c) {
        c.separator = _separator();
        c.domain = _domain(b, Statements.STAGE_BUNDLE, b.round);
        c.table = TableReader.load(REGISTRY.tableAt(b.classId, b.table));
        (c.seats, c.from, c.to) = (b.seats, from, to);
        c.drawn = new uint256[]((to - from) * c.seats);
        (uint256 round, uint256 tag) = (b.round, _bitTag(b, BitKind.STATUS));
        for (uint256 bundle = from; bundle < to; ++bundle) {
            uint256 key = _bitKey(b.id, BitKind.STATUS, bundle / BUNDLES_PER_WORD);
            uint256 data = TaggedBits.load(_bits, key, tag);
            if (!_isPendingBits(data, bundle % BUNDLES_PER_WORD, round)) continue;
            uint256 at = (bundle - from) * c.seats;
            c.table.draw(c.domain, bundle, c.seats, c.drawn, at);
            for (uint256 i = at; i < at + c.seats; ++i) {
                ++c.drawn[i];
            }
        }
        c.firstWord = from * c.seats / TaggedBits.BITS;
        c.words = new uint256[]((to * c.seats - 1) / TaggedBits.BITS + 1 - c.firstWord);
        tag = _bitTag(b, BitKind.COMMITTED);
        for (uint256 i; i < c.words.length; ++i) {
            c.words[i] = TaggedBits.load(_bits, _bitKey(b.id, BitKind.COMMITTED, c.firstWord + i), tag);
        }
    }

    function _storeWords(Batch storage b, CommitContext memory c) private {
        uint256 tag = _bitTag(b, BitKind.COMMITTED);
        for (uint256 i; i < c.words.length; ++i) {
            TaggedBits.store(_bits, _bitKey(b.id, BitKind.COMMITTED, c.firstWord + i), tag, c.words[i]);
        }
    }

    /// @dev First reason to leave a list out, in the order of README.md.
    function _judgeList(CommitContext memory c, bytes calldata lists, uint256 at, uint256 count, bytes32 itemsHash)
        private
        pure
        returns (ListSkip)
    {
        // unchecked: offsets in a page that the caller has measured, and bundles from `from` on
        unchecked {
            uint256 member = lists.uintAt(at, 2);
            if (member >= c.table.memberCount) return ListSkip.MEMBER;
            {
                (address key, uint24 operatorId) = c.table.row(member);
                bytes32 digest = Statements.listDigest(c.separator, c.domain, operatorId, itemsHash);
                (uint256 r, uint256 s) = (lists.uintAt(at + 4, 32), lists.uintAt(at + 36, 32));
                if (!Statements.isSignedBy(key, digest, r, s, lists.uintAt(at + 68, 1))) return ListSkip.SIGNATURE;
            }
            uint256 before; // (bundle, seat) of the item before, plus one
            for (uint256 i; i < count; ++i) {
                uint256 place = lists.uintAt(at + LIST_BYTES + i * ITEM_BYTES, 3);
                if (place < before) return ListSkip.ORDER;
                before = place + 1;
                (uint256 bundle, uint256 seat) = (place >> 8, place & 0xff);
                if (bundle < c.from || bundle >= c.to || seat >= c.seats) return ListSkip.RANGE;
                uint256 drawn = c.drawn[(bundle - c.from) * c.seats + seat];
                if (drawn == 0) return ListSkip.NOT_PENDING;
                if (drawn != member + 1) return ListSkip.NOT_DRAWN;
                uint256 ordinal = bundle * c.seats + seat;
                uint256 word = c.words[ordinal / TaggedBits.BITS - c.firstWord];
                if ((word >> (ordinal % TaggedBits.BITS)) & 1 == 1) return ListSkip.DUPLICATE;
            }
            return ListSkip.NONE;
        }
    }

    function _markCommitted(CommitContext memory c, bytes calldata lists, uint256 at, uint256 count) private pure {
        // unchecked: as for `_judgeList`, which has passed
        unchecked {
            for (uint256 i; i < count; ++i) {
                uint256 place = lists.uintAt(at + LIST_BYTES + i * ITEM_BYTES, 3);
                uint256 ordinal = (place >> 8) * c.seats + (place & 0xff);
                c.words[ordinal / TaggedBits.BITS - c.firstWord] |= 1 << (ordinal % TaggedBits.BITS);
            }
        }
    }
}
