// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IMarketEvents} from "../interfaces/IMarketEvents.sol";
import {Cursor, MalformedPage} from "../libraries/Cursor.sol";
import {LoadedTable} from "../libraries/TableReader.sol";
import {BUNDLE_TASKS} from "../types/Limits.sol";

/// @notice Bundles of a settle call, in the order of the page; a word of each array is one bundle's.
/// @param money requester << 96 | wei that a seat earns for it
/// @param places where its parts stand, see `Place`
struct Works {
    uint256 count;
    uint256[] money;
    uint256[] places;
}

/// @title Word of a bundle in `Works.places`
/// @notice bundle u16 ‖ tasks u16 ‖ flags u8 ‖ left u8 ‖ record u32 ‖ votes u8 ‖ firstVote u32, at the word's low end.
/// `record` is where its record begins in a carry page, `firstVote` where its votes begin in the list of votes.
library Place {
    uint256 private constant LEFT = 1 << 72;

    function make(uint256 number, uint256 count, uint256 bits, uint256 at) internal pure returns (uint256) {
        return (number << 104) | (count << 88) | (bits << 80) | (at << 40);
    }

    function withVotes(uint256 place, uint256 count, uint256 first) internal pure returns (uint256) {
        return place | (count << 32) | first;
    }

    /// @notice Not to be settled in this call.
    function leave(uint256 place) internal pure returns (uint256) {
        return place | LEFT;
    }

    function bundle(uint256 place) internal pure returns (uint256) {
        return place >> 104;
    }

    function tasks(uint256 place) internal pure returns (uint256) {
        return (place >> 88) & 0xffff;
    }

    function flags(uint256 place) internal pure returns (uint256) {
        return (place >> 80) & 0xff;
    }

    function isLeft(uint256 place) internal pure returns (bool) {
        return place & LEFT != 0;
    }

    function record(uint256 place) internal pure returns (uint256) {
        return (place >> 40) & 0xffffffff;
    }

    function firstVote(uint256 place) internal pure returns (uint256) {
        return place & 0xffffffff;
    }
}

/// @notice What rebuilding commit pages needs and finds. `SettlementReader._readList` knows the order of its fields.
/// @param workOf by bundle − first: index of its work + 1, 0 where its items must stay closed
/// @param places of `Works`; `stride` bytes from one to the next, 0 where all bundles have one list of votes
/// @param seen what was shown of each seat, by work and seat: a word each, see `SettlementReader`
struct Openings {
    uint256 seats;
    uint256 first;
    uint256[] workOf;
    uint256[] places;
    uint256 stride;
    uint256[] seen;
    LoadedTable table;
    bytes32 domain;
}

/// @title Reading the arguments of `settle` and `reveal`
library SettlementReader {
    using Cursor for bytes;
    using Place for uint256;

    /// @dev Low bits of a word of `seen`: vote number + 1, or one of these. The member stands above them.
    uint256 internal constant CODE_MASK = 0xffff;
    uint256 internal constant HIDDEN = 0x100;
    uint256 internal constant ABSTAINED = 0x200;

    uint256 internal constant CARRY_HEAD_BYTES = 58;
    uint256 private constant LEAVE = 0xff;
    uint256 private constant LEAST_LIST_BYTES = 24;

    /// @notice Bundles of a record page, which the chain has known by its hash.
    function readRecords(bytes calldata page) internal pure returns (Works memory w) {
        // A bundle may stand for 256 tasks, so the number of bundles is counted first.
        (w.count, w.money, w.places) = _room(_countBundles(page));
        // unchecked: the market wrote this page
        unchecked {
            uint256 bundle = page.uintAt(32, 2);
            uint256 next;
            uint256 at = 34;
            while (at < page.length) {
                uint256 requester = page.uintAt(at, 20) << 96;
                uint256 end = at + 22 + 12 * page.uintAt(at + 20, 2);
                for (at += 22; at < end; at += 12) {
                    (uint256 taskPrice, uint256 tasks) = (page.uintAt(at, 8), page.uintAt(at + 8, 3));
                    uint256 flags = page.uintAt(at + 11, 1);
                    for (; tasks > 0; ++next) {
                        uint256 inBundle = tasks < BUNDLE_TASKS ? tasks : BUNDLE_TASKS;
                        w.money[next] = requester | (taskPrice * inBundle);
                        w.places[next] = Place.make(bundle++, inBundle, flags, 0);
                        tasks -= inBundle;
                    }
                }
            }
        }
    }

    function _countBundles(bytes calldata page) private pure returns (uint256 bundles) {
        // unchecked: the market wrote this page
        unchecked {
            uint256 at = 34;
            while (at < page.length) {
                uint256 end = at + 22 + 12 * page.uintAt(at + 20, 2);
                for (at += 22; at < end; at += 12) {
                    bundles += (page.uintAt(at + 8, 3) + BUNDLE_TASKS - 1) / BUNDLE_TASKS;
                }
            }
        }
    }

    function _room(uint256 count) private pure returns (uint256, uint256[] memory, uint256[] memory) {
        return (count, new uint256[](count), new uint256[](count));
    }

    /// @notice Bundles of a carry page, which the chain has known by its hash.
    function readCarried(bytes calldata page) internal pure returns (Works memory w) {
        uint256 count;
        for (uint256 at; at < page.length; ++count) {
            at = _carriedEnd(page, at);
        }
        (w.count, w.money, w.places) = _room(count);
        uint256 start;
        for (uint256 i; i < count; ++i) {
            w.money[i] = page.uintAt(start + 2, 32);
            (uint256 tasks, uint256 flags) = (page.uintAt(start + 34, 2), page.uintAt(start + 36, 1));
            w.places[i] = Place.make(page.uintAt(start, 2), tasks, flags, start);
            start = _carriedEnd(page, start);
        }
    }

    /// @notice Where the list of members behind the voters of a carry record begins: those that abstained.
    function abstainersAt(bytes calldata page, uint256 record) internal pure returns (uint256) {
        uint256 voters = page.uintAt(record + 57, 1);
        return record + CARRY_HEAD_BYTES + (voters > 0 ? 32 + 2 * voters : 0);
    }

    function _carriedEnd(bytes calldata page, uint256 record) private pure returns (uint256 at) {
        at = abstainersAt(page, record);
        return at + 1 + 2 * page.uintAt(at, 1);
    }

    /// @notice Votes that the caller sends for each bundle.
    function readVotes(Works memory w, bytes calldata data) internal pure {
        uint256 at;
        uint256[] memory places = w.places;
        // unchecked: offsets in calldata; bytes behind its end read as they may, the length is checked at the end
        unchecked {
            for (uint256 i; i < places.length; ++i) {
                uint256 count = _wordAt(data, at) >> 248;
                ++at;
                if (count == LEAVE) {
                    places[i] = places[i].leave();
                } else {
                    places[i] = places[i].withVotes(count, at);
                    if (count > 1) _requireAscending(data, at, count);
                    at += 32 * count;
                }
            }
        }
        if (at != data.length) revert MalformedPage();
    }

    /// @notice Votes that the caller sends for all bundles together.
    function readOneList(bytes calldata data) internal pure returns (uint256 place) {
        uint256 count = data.uintAt(0, 1);
        if (count == LEAVE || data.length != 1 + 32 * count) revert MalformedPage();
        _requireAscending(data, 1, count);
        return Place.make(0, 0, 0, 0).withVotes(count, 1);
    }

    function _requireAscending(bytes calldata data, uint256 at, uint256 count) private pure {
        for (uint256 i = 1; i < count; ++i) {
            if (_wordAt(data, at + 32 * i) <= _wordAt(data, at + 32 * i - 32)) revert MalformedPage();
        }
    }

    /// @dev The word at `at`, with whatever stands behind the data's end.
    function _wordAt(bytes calldata data, uint256 at) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := calldataload(add(data.offset, at))
        }
    }

    /// @notice A vote that was sent, by its number.
    function voteAt(bytes calldata votes, uint256 place, uint256 number) internal pure returns (bytes32) {
        return bytes32(_wordAt(votes, place.firstVote() + 32 * number));
    }

    /// @notice Index of works by bundle, for those that are settled in this call.
    function index(Works memory w, Openings memory o) internal pure {
        (o.places, o.stride, o.seen) = (w.places, 32, new uint256[](w.count * o.seats));
        if (w.count == 0) return;
        o.first = w.places[0].bundle();
        o.workOf = new uint256[](w.places[w.count - 1].bundle() - o.first + 1);
        // unchecked: bundles ascend
        unchecked {
            for (uint256 i; i < w.count; ++i) {
                uint256 place = w.places[i];
                if (!place.isLeft()) o.workOf[place.bundle() - o.first] = i + 1;
            }
        }
    }

    /// @notice Rebuild commit pages; what they show of seats is then in `seen`.
    function rebuild(Openings memory o, bytes32[] calldata pages, bytes calldata votes, bytes calldata data)
        internal
        pure
    {
        bytes32[] memory leaves = new bytes32[](data.length / LEAST_LIST_BYTES);
        uint256 at;
        uint256 next; // least index that the next page may have
        while (at < data.length) {
            uint256 page = data.uintAt(at, 2);
            uint256 lists = data.uintAt(at + 2, 2);
            if (page < next || page >= pages.length || lists > leaves.length) revert MalformedPage();
            next = page + 1;
            at += 4;
            for (uint256 i; i < lists; ++i) {
                (at, leaves[i]) = _readList(o, votes, data, at);
            }
            bytes32 pageHash;
            assembly ("memory-safe") {
                pageHash := keccak256(add(leaves, 32), shl(5, lists))
            }
            if (pageHash != pages[page]) revert IMarketEvents.HashMismatch("openings");
        }
    }

    /// @dev One list's leaf, and what it shows of seats. Assembly, since this is done for every seat of a batch: its
    /// items are rebuilt behind the free memory pointer, commitments that are opened from vote and salt. `bad` gathers
    /// what the caller may not do; where a page ends too early, what is read is whatever stands behind it, and `bad`.
    function _readList(Openings memory o, bytes calldata votes, bytes calldata data, uint256 at)
        private
        pure
        returns (uint256 end, bytes32 leaf)
    {
        uint256 bad;
        assembly ("memory-safe") {
            function place(o_, work) -> word {
                word := mload(add(add(mload(add(o_, 0x60)), 32), mul(sub(work, 1), mload(add(o_, 0x80)))))
            }
            let limit := add(data.offset, data.length)
            let p := add(data.offset, at)
            let head := calldataload(p)
            let member := shr(240, head)
            let count := and(shr(224, head), 0xffff)
            p := add(p, 4)
            switch count
            case 0 {
                leaf := calldataload(p)
                p := add(p, 32)
                bad := gt(p, limit)
            }
            default {
                let table := mload(add(o, 0xc0))
                bad := or(iszero(lt(member, mload(add(table, 0x60)))), gt(add(p, mul(count, 20)), limit))
                if iszero(bad) {
                    let seats := mload(o)
                    let first := mload(add(o, 0x20))
                    let workOf := add(mload(add(o, 0x40)), 32)
                    let span := mload(mload(add(o, 0x40)))
                    let seen := add(mload(add(o, 0xa0)), 32)
                    let opening := mload(0x40) // statement 32, operator id 4, vote 32, salt 16
                    let items := add(opening, 128)
                    let item := items
                    let row := mload(add(add(mload(add(table, 0x20)), 32), mul(member, 23))) // key 20, operator id 3
                    mstore(add(opening, 32), shl(224, and(shr(72, row), 0xffffff)))
                    mstore(0x00, mload(add(o, 0xe0)))
                    for {} count { count := sub(count, 1) } {
                        head := calldataload(p) // bundle u16, seat u8, tag u8, then salt or commitment
                        let seat := and(shr(232, head), 0xff)
                        let tag := and(shr(224, head), 0xff)
                        let work := sub(shr(240, head), first) // below `first` it is huge
                        switch and(lt(work, span), lt(seat, seats))
                        case 0 { work := 0 }
                        default { work := mload(add(workOf, shl(5, work))) }
                        let slot := add(seen, shl(5, add(mul(sub(work, 1), seats), seat)))
                        mstore(item, head)
                        switch tag
                        case 0xff {
                            let commitment := calldataload(add(p, 4))
                            mstore(add(item, 3), commitment)
                            if work { mstore(slot, or(shl(16, member), shl(lt(commitment, 256), 0x100))) }
                            p := add(p, 36)
                        }
                        default {
                            if iszero(work) {
                                bad := 1
                                break
                            }
                            let where := place(o, work)
                            if iszero(lt(tag, and(shr(32, where), 0xff))) {
                                bad := 1
                                break
                            }
                            mstore(0x20, or(shl(224, shr(240, head)), shl(192, 0xffffffff)))
                            mstore(opening, keccak256(0x00, 40))
                            let vote := add(add(votes.offset, and(where, 0xffffffff)), shl(5, tag))
                            mstore(add(opening, 36), calldataload(vote))
                            mstore(add(opening, 68), shl(32, head))
                            mstore(add(item, 3), keccak256(opening, 84))
                            mstore(slot, or(shl(16, member), add(tag, 1)))
                            p := add(p, 20)
                        }
                        item := add(item, 35)
                    }
                    leaf := keccak256(items, sub(item, items))
                    mstore(0x00, shl(240, member))
                    mstore(0x02, leaf)
                    leaf := keccak256(0x00, 34)
                    bad := or(bad, gt(p, limit))
                }
            }
            end := sub(p, data.offset)
        }
        if (bad != 0) revert MalformedPage();
    }
}
