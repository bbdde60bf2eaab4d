// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IMarketEvents} from "../interfaces/IMarketEvents.sol";
import {Cursor, MalformedPage} from "../libraries/Cursor.sol";
import {LoadedTable} from "../libraries/TableReader.sol";

/// @title Bundles of a settle call, two words each in one array: `place`, and requester << 96 | price
/// @notice place = bundle u16 ‖ tasks u16 ‖ flags u8 ‖ left u8 ‖ record u32 ‖ votes u8 ‖ firstVote u32, at the word's low
/// end. `record` is where its record begins in a carry page, `firstVote` where its votes begin in the list of votes.
library Works {
    uint256 private constant LEFT = 1 << 72;

    function count(uint256[] memory works) internal pure returns (uint256) {
        return works.length / 2;
    }

    function place(uint256[] memory works, uint256 index) internal pure returns (uint256) {
        return works[2 * index];
    }

    function requester(uint256[] memory works, uint256 index) internal pure returns (address) {
        return address(uint160(works[2 * index + 1] >> 96));
    }

    function price(uint256[] memory works, uint256 index) internal pure returns (uint256) {
        return uint96(works[2 * index + 1]);
    }

    function bundleOf(uint256 place_) internal pure returns (uint256) {
        return place_ >> 104;
    }

    function tasksOf(uint256 place_) internal pure returns (uint256) {
        return (place_ >> 88) & 0xffff;
    }

    function flagsOf(uint256 place_) internal pure returns (uint256) {
        return (place_ >> 80) & 0xff;
    }

    function leave(uint256 place_) internal pure returns (uint256) {
        return place_ | LEFT;
    }

    /// @notice Not to be settled in this call.
    function isLeft(uint256 place_) internal pure returns (bool) {
        return place_ & LEFT != 0;
    }

    function recordOf(uint256 place_) internal pure returns (uint256) {
        return (place_ >> 40) & 0xffffffff;
    }

    /// @notice A vote that was sent for it, by its number.
    function voteOf(uint256 place_, bytes calldata votes, uint256 index) internal pure returns (bytes32 vote) {
        assembly ("memory-safe") {
            vote := calldataload(add(add(votes.offset, and(place_, 0xffffffff)), shl(5, index)))
        }
    }
}

/// @notice What rebuilding commit pages needs. The assembly of `SettlementReader` knows the order of the fields.
/// @param openable by bundle − first: row of `seen` << 48 | where its votes stand in calldata << 8 | how many they are;
/// 0 where its items must stay closed. A row is a word for each seat, see `SettlementReader`.
/// @param cursor where the next seat that is opened is noted (bundle << 8 | seat), a word each; 0 if nobody asks
struct Openings {
    uint256 first;
    uint256[] openable;
    uint256 seats;
    LoadedTable table;
    bytes32 domain;
    uint256 cursor;
}

/// @title Reading the arguments of `settle` and `reveal`
/// @dev Assembly wherever something is done for every bundle or seat of a batch. Pages are known by their hashes, so
/// they are well formed; of votes and openings nothing is known.
library SettlementReader {
    using Cursor for bytes;

    /// @dev Low bits of a word of `seen`: vote number + 1, or one of these. The member stands above them.
    uint256 internal constant CODE_MASK = 0xffff;
    uint256 internal constant HIDDEN = 0x100;
    uint256 internal constant ABSTAINED = 0x200;

    uint256 internal constant CARRY_HEAD_BYTES = 58;

    /// @notice Works of a record page: `H(page) 32 ‖ firstBundle u16`, groups `requester 20 ‖ count u16`, rows
    /// `taskPrice u64 ‖ taskCount u24 ‖ flags u8`, each for as many bundles as 256 tasks fill.
    function readRecords(bytes calldata page) internal pure returns (uint256[] memory works) {
        assembly ("memory-safe") {
            works := mload(0x40)
            let out := add(works, 32) // grows at the free memory pointer, since nobody knows yet how far
            let p := add(page.offset, 34)
            let bundle := shr(240, calldataload(add(page.offset, 32)))
            for { let end := add(page.offset, page.length) } lt(p, end) {} {
                let group := calldataload(p)
                let requester := shl(96, shr(96, group))
                p := add(p, 22)
                for { let rows := and(shr(80, group), 0xffff) } rows { rows := sub(rows, 1) } {
                    let row := calldataload(p)
                    p := add(p, 12)
                    let flags := shl(80, and(shr(160, row), 0xff))
                    for { let tasks := and(shr(168, row), 0xffffff) } tasks {} {
                        let here := tasks
                        if gt(here, 256) { here := 256 } // BUNDLE_TASKS
                        mstore(out, or(or(shl(104, bundle), shl(88, here)), flags))
                        mstore(add(out, 32), or(requester, mul(shr(192, row), here)))
                        out := add(out, 64)
                        bundle := add(bundle, 1)
                        tasks := sub(tasks, here)
                    }
                }
            }
            mstore(works, shr(5, sub(sub(out, works), 32)))
            mstore(0x40, out)
        }
    }

    /// @notice Works of a carry page (README.md, section 4.7).
    function readCarried(bytes calldata page) internal pure returns (uint256[] memory works) {
        uint256 count;
        for (uint256 at; at < page.length; ++count) {
            at = _carriedEnd(page, at);
        }
        works = new uint256[](2 * count);
        uint256 start;
        for (uint256 i; i < count; ++i) {
            works[2 * i] = (page.uintAt(start, 2) << 104) | (page.uintAt(start + 34, 3) << 80) | (start << 40);
            works[2 * i + 1] = page.uintAt(start + 2, 32);
            start = _carriedEnd(page, start);
        }
    }

    function _carriedEnd(bytes calldata page, uint256 record) private pure returns (uint256 at) {
        uint256 voters = page.uintAt(record + 57, 1);
        at = record + CARRY_HEAD_BYTES + (voters > 0 ? 32 + 2 * voters : 0);
        at += 1 + 2 * page.uintAt(at, 1);
    }

    /// @notice Read which bundles the caller settles, with which votes: `count u8 ‖ votes` each, 0xff for none now. Those
    /// that do not wait for this round are left too.
    /// @param statuses two status bits a bundle, 100 bundles a word, from that of the first work on
    /// @param seen a word for each seat of each work
    function select(
        uint256[] memory works,
        Openings memory o,
        uint256[] memory seen,
        uint256[] memory statuses,
        uint256 round,
        bytes calldata votes
    ) internal pure {
        bool isMalformed;
        assembly ("memory-safe") {
            let first := shr(104, mload(add(works, 32)))
            mstore(o, first)
            let openable := add(mload(add(o, 0x20)), 32)
            let rowBytes := shl(5, mload(add(o, 0x40)))
            let row := add(seen, 32)
            let firstWord := div(first, 100)
            let wanted := shl(1, and(round, 1))
            let p := votes.offset
            let end := add(add(works, 32), shl(5, mload(works)))
            for { let at := add(works, 32) } lt(at, end) { at := add(at, 64) } {
                let place := mload(at)
                let bundle := shr(104, place)
                let word := mload(add(add(statuses, 32), shl(5, sub(div(bundle, 100), firstWord))))
                let isPending := eq(and(shr(shl(1, mod(bundle, 100)), word), 3), wanted)
                let count := shr(248, calldataload(p))
                p := add(p, 1)
                switch eq(count, 0xff)
                case 1 { place := or(place, shl(72, 1)) }
                default {
                    place := or(place, or(shl(32, count), sub(p, votes.offset)))
                    switch isPending
                    case 0 { place := or(place, shl(72, 1)) }
                    default {
                        mstore(add(openable, shl(5, sub(bundle, first))), or(shl(48, row), or(shl(8, p), count)))
                    }
                    let next := add(p, shl(5, count))
                    for { p := add(p, 32) } lt(p, next) { p := add(p, 32) } {
                        if iszero(gt(calldataload(p), calldataload(sub(p, 32)))) { isMalformed := 1 }
                    }
                    p := next
                }
                mstore(at, place)
                row := add(row, rowBytes)
            }
            // What was read behind the end of the votes does no harm: then this holds.
            isMalformed := or(isMalformed, xor(p, add(votes.offset, votes.length)))
        }
        if (isMalformed) revert MalformedPage();
    }

    /// @notice Check the one list of votes that `reveal` has.
    /// @return word an entry of `openable` without its row
    function readOneList(bytes calldata votes) internal pure returns (uint256 word) {
        uint256 count = votes.uintAt(0, 1);
        if (count == 0xff || votes.length != 1 + 32 * count) revert MalformedPage();
        for (uint256 i = 1; i < count; ++i) {
            if (votes.uintAt(1 + 32 * i, 32) <= votes.uintAt(32 * i - 31, 32)) revert MalformedPage();
        }
        assembly ("memory-safe") {
            word := or(shl(8, add(votes.offset, 1)), count)
        }
    }

    /// @notice Rebuild commit pages from openings; what they show of seats goes to rows of `seen`.
    /// @dev Behind the free memory pointer: first room for an opening (statement 32, operator id 4, vote 32, salt 16),
    /// then the leaves of the page's lists, then the items of the list in hand. Where `data` ends within something, what
    /// stands behind it is read, and refused when the page ends. Functions within the assembly keep what is in hand at
    /// the same time few, so that it stays on the stack; each answers 0 for what makes no sense.
    function rebuild(Openings memory o, bytes32[] calldata pages, bytes calldata data) internal view {
        uint256 fault; // 1 malformed, 2 not what was committed
        assembly ("memory-safe") {
            // Items `bundle u16 ‖ seat u8 ‖ tag u8 ‖ salt 16 or commitment 32` from `p` on become `bundle ‖ seat ‖
            // commitment` at `item`; both are returned as they are behind the last one.
            function readItems(o_, start, to, count, member) -> p, item {
                item := to
                let opening := mload(0x40)
                for { p := start } count { count := sub(count, 1) } {
                    let head := calldataload(p)
                    mstore(item, head)
                    let known := sub(shr(240, head), mload(o_)) // below `first` it is huge
                    {
                        let openable := mload(add(o_, 0x20))
                        switch and(lt(known, mload(openable)), lt(byte(2, head), mload(add(o_, 0x40))))
                        case 1 { known := mload(add(add(openable, 32), shl(5, known))) }
                        default { known := 0 }
                    }
                    let slot := add(shr(48, known), shl(5, byte(2, head)))
                    if eq(byte(3, head), 0xff) {
                        let commitment := calldataload(add(p, 4))
                        mstore(add(item, 3), commitment)
                        // HIDDEN, or ABSTAINED where the number is a reason
                        if known { mstore(slot, or(member, shl(lt(commitment, 256), 0x100))) }
                        p := add(p, 36)
                        item := add(item, 35)
                        continue
                    }
                    if iszero(lt(byte(3, head), and(known, 0xff))) {
                        p := 0 // none of its votes, or it must stay closed
                        leave
                    }
                    mstore(slot, or(member, add(byte(3, head), 1)))
                    // statement: domain 32 (at 0) ‖ bundle u32 ‖ TASK_ALL u32
                    mstore(0x20, or(shl(224, shr(240, head)), shl(192, 0xffffffff)))
                    mstore(opening, keccak256(0x00, 40))
                    mstore(add(opening, 36), calldataload(add(and(shr(8, known), 0xffffffffff), shl(5, byte(3, head)))))
                    mstore(add(opening, 68), shl(32, head))
                    mstore(add(item, 3), keccak256(opening, 84))
                    slot := mload(add(o_, 0xa0))
                    if slot {
                        mstore(slot, shr(232, head))
                        mstore(add(o_, 0xa0), add(slot, 32))
                    }
                    p := add(p, 20)
                    item := add(item, 35)
                }
            }
            // One list: `member u16 ‖ count u16`, then items, or a leaf where there are none.
            function readList(o_, start, limit, items) -> p, leaf {
                leaf := shr(224, calldataload(start))
                let member := shr(16, leaf)
                let count := and(leaf, 0xffff)
                p := add(start, 4)
                if iszero(count) {
                    leaf := calldataload(p)
                    p := add(p, 32)
                    leave
                }
                let table := mload(add(o_, 0x60))
                if or(iszero(lt(member, mload(add(table, 0x60)))), gt(add(p, mul(count, 20)), limit)) {
                    p := 0
                    leave
                }
                // The row is key 20 ‖ operator id 3, in memory or in the code; the id has four bytes in an opening.
                switch mload(add(table, 0xa0))
                case 0 { table := mload(add(add(mload(add(table, 0x20)), 32), mul(member, 23))) }
                default {
                    extcodecopy(mload(add(table, 0xa0)), 0x00, add(1, mul(member, 23)), 23)
                    table := mload(0x00)
                }
                mstore(add(mload(0x40), 32), shl(224, and(shr(72, table), 0xffffff)))
                mstore(0x00, mload(add(o_, 0x80)))
                let end
                p, end := readItems(o_, p, items, count, shl(16, member))
                mstore(0x02, keccak256(items, sub(end, items)))
                mstore8(0x00, shr(8, member))
                mstore8(0x01, member)
                leaf := keccak256(0x00, 34)
            }
            let limit := add(data.offset, data.length)
            let leaves := add(mload(0x40), 128)
            let nextPage := 0 // least index that the next page may have
            for { let p := data.offset } lt(p, limit) {} {
                let lists := shr(224, calldataload(p))
                let page := shr(16, lists)
                lists := and(lists, 0xffff)
                p := add(p, 4)
                // No list takes fewer than 24 bytes.
                if or(or(lt(page, nextPage), iszero(lt(page, pages.length))), gt(add(p, mul(lists, 24)), limit)) {
                    fault := 1
                    break
                }
                nextPage := add(page, 1)
                let at := leaves
                for { let items := add(leaves, shl(5, lists)) } and(gt(items, at), gt(p, 0)) {} {
                    let leaf
                    p, leaf := readList(o, p, limit, items)
                    mstore(at, leaf)
                    at := add(at, 32)
                }
                if or(iszero(p), gt(p, limit)) {
                    fault := 1
                    break
                }
                if xor(keccak256(leaves, shl(5, lists)), calldataload(add(pages.offset, shl(5, page)))) {
                    fault := 2
                    break
                }
            }
        }
        if (fault == 1) revert MalformedPage();
        if (fault == 2) revert IMarketEvents.HashMismatch("openings");
    }
}
