// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IMarketEvents} from "../interfaces/IMarketEvents.sol";
import {Buffer, Buffers, Cursor, MalformedPage} from "../libraries/Cursor.sol";
import {Statements} from "../libraries/Statements.sol";
import {LoadedTable, TableReader} from "../libraries/TableReader.sol";
import {BUNDLE_TASKS} from "../types/Limits.sol";

/// @notice One bundle of a settle call.
/// @param price wei that a seat earns for it
/// @param vote that of the standing voters, if there are any
/// @param voters members whose votes of earlier rounds stand
/// @param votes distinct votes that the caller opens, ascending
/// @param isLeft not to be settled in this call
/// @param verdict what this call decides
struct Work {
    uint256 bundle;
    address requester;
    uint256 price;
    uint256 pot;
    bytes32 vote;
    uint256[] voters;
    bytes32[] votes;
    bool isLeft;
    IMarketEvents.Verdict verdict;
}

/// @title Reading the arguments of `settle`
library SettlementReader {
    using Buffers for Buffer;
    using Cursor for bytes;
    using TableReader for LoadedTable;

    uint256 private constant CLOSED = 0xff;
    uint256 private constant LEAVE = 0xff;

    /// @notice Bundles of a record page.
    function readRecords(bytes calldata page) internal pure returns (Work[] memory works) {
        works = new Work[](_countBundles(page));
        uint256 bundle = page.uintAt(32, 2);
        uint256 next;
        uint256 at = 34;
        while (at < page.length) {
            address requester = address(uint160(page.uintAt(at, 20)));
            uint256 count = page.uintAt(at + 20, 2);
            at += 22;
            for (uint256 i; i < count; ++i) {
                uint256 taskPrice = page.uintAt(at, 8);
                uint256 tasks = page.uintAt(at + 8, 3);
                at += 12;
                for (; tasks > 0; ++next) {
                    uint256 inBundle = tasks < BUNDLE_TASKS ? tasks : BUNDLE_TASKS;
                    Work memory w = works[next];
                    (w.bundle, w.requester, w.price) = (bundle++, requester, taskPrice * inBundle);
                    tasks -= inBundle;
                }
            }
        }
    }

    function _countBundles(bytes calldata page) private pure returns (uint256 bundles) {
        uint256 at = 34;
        while (at < page.length) {
            uint256 count = page.uintAt(at + 20, 2);
            at += 22;
            for (uint256 i; i < count; ++i) {
                bundles += (page.uintAt(at + 8, 3) + BUNDLE_TASKS - 1) / BUNDLE_TASKS;
                at += 12;
            }
        }
    }

    /// @notice Bundles of a carry page.
    function readCarried(bytes calldata page) internal pure returns (Work[] memory works) {
        uint256 count;
        for (uint256 at; at < page.length; ++count) {
            at = _carriedEnd(page, at);
        }
        works = new Work[](count);
        uint256 start;
        for (uint256 i; i < count; ++i) {
            Work memory w = works[i];
            w.bundle = page.uintAt(start, 2);
            w.requester = address(uint160(page.uintAt(start + 2, 20)));
            w.price = page.uintAt(start + 22, 12);
            w.pot = page.uintAt(start + 34, 16);
            uint256 voters = page.uintAt(start + 50, 1);
            if (voters > 0) w.vote = bytes32(page.uintAt(start + 51, 32));
            w.voters = new uint256[](voters);
            for (uint256 j; j < voters; ++j) {
                w.voters[j] = page.uintAt(start + 83 + 2 * j, 2);
            }
            start = _carriedEnd(page, start);
        }
    }

    function _carriedEnd(bytes calldata page, uint256 at) private pure returns (uint256) {
        uint256 voters = page.uintAt(at + 50, 1);
        return at + 51 + (voters > 0 ? 32 + 2 * voters : 0);
    }

    /// @notice Votes that the caller sends for each bundle.
    function readVotes(Work[] memory works, bytes calldata data) internal pure {
        uint256 at;
        for (uint256 i; i < works.length; ++i) {
            uint256 count = data.uintAt(at++, 1);
            if (count == LEAVE) {
                works[i].isLeft = true;
                continue;
            }
            works[i].votes = _readAscending(data, at, count);
            at += 32 * count;
        }
        if (at != data.length) revert MalformedPage();
    }

    function _readAscending(bytes calldata data, uint256 at, uint256 count)
        private
        pure
        returns (bytes32[] memory votes)
    {
        votes = new bytes32[](count);
        for (uint256 j; j < count; ++j) {
            votes[j] = bytes32(data.uintAt(at + 32 * j, 32));
            if (j > 0 && votes[j] <= votes[j - 1]) revert MalformedPage();
        }
    }

    /// @notice Rebuild commit pages from openings.
    /// @return opened by work and seat: (member << 16) | (vote number + 1), 0 when nothing was opened
    function readOpenings(
        Work[] memory works,
        bytes32[] calldata pages,
        bytes calldata data,
        LoadedTable memory table,
        bytes32 domain,
        uint256 seats
    ) internal pure returns (uint256[] memory opened) {
        Openings memory o;
        o.opened = opened = new uint256[](works.length * seats);
        (o.table, o.domain, o.seats, o.works) = (table, domain, seats, works);
        o.items = Buffers.allocate(2 * data.length);
        o.leaves = Buffers.allocate(2 * data.length); // no page has a list without an item: 24 bytes or more
        _index(o);
        uint256 at;
        uint256 next; // least index that the next page may have
        while (at < data.length) {
            uint256 index = data.uintAt(at, 1);
            if (index < next || index >= pages.length) revert MalformedPage();
            next = index + 1;
            at = _readPage(o, data, at);
            if (o.leaves.hash() != pages[index]) revert IMarketEvents.HashMismatch("openings");
        }
    }

    struct Openings {
        uint256[] opened;
        LoadedTable table;
        bytes32 domain;
        uint256 seats;
        Work[] works;
        uint256 first; // bundle of the first work
        uint256[] workOf; // by bundle - first: index of its work + 1
        Buffer items;
        Buffer leaves;
    }

    function _index(Openings memory o) private pure {
        if (o.works.length == 0) return;
        o.first = o.works[0].bundle;
        o.workOf = new uint256[](o.works[o.works.length - 1].bundle - o.first + 1);
        for (uint256 i; i < o.works.length; ++i) {
            if (!o.works[i].isLeft) o.workOf[o.works[i].bundle - o.first] = i + 1;
        }
    }

    function _readPage(Openings memory o, bytes calldata data, uint256 at) private pure returns (uint256) {
        // unchecked: offsets in calldata
        unchecked {
            uint256 lists = data.uintAt(at + 1, 2);
            at += 3;
            o.leaves.used = 0;
            for (uint256 i; i < lists; ++i) {
                uint256 member = data.uintAt(at, 2);
                uint256 count = data.uintAt(at + 2, 2);
                if (member >= o.table.memberCount) revert MalformedPage();
                at += 4;
                o.items.used = 0;
                for (uint256 j; j < count; ++j) {
                    at = _readItem(o, data, at, member);
                }
                bytes32 itemsHash = o.items.hash();
                o.items.used = 0;
                o.items.append(member, 2);
                o.items.append(uint256(itemsHash), 32);
                o.leaves.append(uint256(o.items.hash()), 32);
            }
            return at;
        }
    }

    function _readItem(Openings memory o, bytes calldata data, uint256 at, uint256 member)
        private
        pure
        returns (uint256)
    {
        // unchecked: offsets in calldata; a work number is above 0 where it is used
        unchecked {
            uint256 head = data.uintAt(at, 4);
            (uint256 bundle, uint256 seat, uint256 tag) = (head >> 16, (head >> 8) & 0xff, head & 0xff);
            o.items.append(head >> 8, 3);
            if (tag == CLOSED) {
                o.items.append(data.uintAt(at + 4, 32), 32);
                return at + 36;
            }
            uint256 work;
            if (bundle >= o.first && bundle - o.first < o.workOf.length) work = o.workOf[bundle - o.first];
            if (work == 0 || seat >= o.seats || tag >= o.works[work - 1].votes.length) revert MalformedPage();
            (, uint24 operatorId) = o.table.row(member);
            bytes32 commitment = Statements.commitment(
                Statements.statement(o.domain, bundle),
                operatorId,
                o.works[work - 1].votes[tag],
                uint128(data.uintAt(at + 4, 16))
            );
            o.items.append(uint256(commitment), 32);
            o.opened[(work - 1) * o.seats + seat] = (member << 16) | (tag + 1);
            return at + 20;
        }
    }
}
