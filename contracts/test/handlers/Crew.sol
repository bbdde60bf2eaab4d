// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ClassTable} from "../../src/types/ClassTable.sol";
import {DisputeChronicle} from "./DisputeChronicle.sol";

/// @title How members behave: what each finds, commits, opens and says in a class vote
/// @notice All of it follows from a batch's mood and hashes, so nothing has to be remembered. Every third operator may
/// lie, but only where the honest hold more than half of the table: beyond that the protocol promises nothing.
abstract contract Crew is DisputeChronicle {
    enum Way {
        OPEN,
        LATE, // opens only on chain: the settler learns it from `reveal`
        HIDE,
        ABSTAIN,
        SILENT
    }

    enum Mood {
        CALM,
        MIXED,
        PLOT, // every liar tells the same lie
        STRIKE, // one operator fails at everything
        EMPTY // hardly anybody has the data
    }

    struct Member {
        uint16 index;
        uint24 id;
        address key;
        uint16 units;
    }

    mapping(uint64 batchId => uint256) internal seedOf;
    mapping(uint64 batchId => mapping(uint256 bundle => mapping(uint256 variant => bytes32))) private _roots;

    uint256 internal constant VARIANTS = 4; // 0 the truth, 1 and 2 lies with leaves, 3 a root without any

    function hashOf(uint256 seed, uint256 a, uint256 b, uint256 c) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, a, b, c)));
    }

    function moodOf(uint64 id) internal view returns (Mood) {
        uint256 x = seedOf[id] % 16;
        if (x < 2) return Mood.CALM;
        return x < 8 ? Mood.MIXED : x < 13 ? Mood.PLOT : x < 15 ? Mood.STRIKE : Mood.EMPTY;
    }

    function isLiar(uint24 operatorId) internal pure returns (bool) {
        return operatorId % 3 == 0;
    }

    // Tables ------------------------------------------------------------------------------------------------------

    function membersOf(uint16 table) internal view returns (Member[] memory list, uint256 units, bool mayLie) {
        (ClassTable memory t, bytes memory unitRows, bytes memory rows) = tableOf(CLASS, table);
        list = new Member[](t.memberCount);
        units = t.unitCount;
        uint256 liars;
        for (uint16 m; m < list.length; ++m) {
            (address key, uint24 id) = rowOf(rows, m);
            list[m] = Member(m, id, key, 0);
        }
        for (uint256 u; u < units; ++u) {
            Member memory m = list[_uint(unitRows, 1 + 2 * u, 2)];
            ++m.units;
            if (isLiar(m.id)) ++liars;
        }
        mayLie = 2 * liars < units;
    }

    /// @dev The seats of one bundle; `taken` sit already.
    function drawOthers(uint16 table, bytes32 domain, uint256 bundle, uint256 seats, uint16[] memory taken)
        internal
        view
        returns (uint16[] memory drawn)
    {
        (ClassTable memory t, bytes memory units,) = tableOf(CLASS, table);
        drawn = new uint16[](taken.length + seats);
        for (uint256 i; i < taken.length; ++i) {
            drawn[i] = taken[i];
        }
        for (uint256 seat; seat < seats; ++seat) {
            uint256 count = taken.length + seat;
            uint256 member;
            bool sits = true;
            for (uint256 attempt; sits && attempt < 32; ++attempt) {
                bytes32 h = keccak256(abi.encodePacked(domain, uint32(bundle), uint8(seat), uint8(attempt)));
                member = _uint(units, 1 + 2 * (uint256(h) % t.unitCount), 2);
                sits = isAmong(drawn, count, member);
            }
            while (sits) {
                member = (member + 1) % t.memberCount;
                sits = isAmong(drawn, count, member);
            }
            drawn[count] = uint16(member);
        }
    }

    function isAmong(uint16[] memory list, uint256 count, uint256 member) internal pure returns (bool) {
        for (uint256 i; i < count; ++i) {
            if (list[i] == member) return true;
        }
        return false;
    }

    // Results -----------------------------------------------------------------------------------------------------

    function leaf(uint64 id, uint256 bundle, uint256 variant, uint256 task) internal view returns (bytes32) {
        bytes32 right = keccak256(abi.encode("leaf", id, bundle, task));
        if (variant == 0) return right;
        uint256 lieAt = hashOf(seedOf[id], bundle, variant, 7) % bundleLives[id][bundle].tasks;
        return task == lieAt ? keccak256(abi.encode(right, variant)) : right;
    }

    function leaves(uint64 id, uint256 bundle, uint256 variant) internal view returns (bytes memory data) {
        uint256 tasks = bundleLives[id][bundle].tasks;
        data = new bytes(32 * tasks);
        for (uint256 task; task < tasks; ++task) {
            bytes32 word = leaf(id, bundle, variant, task);
            assembly ("memory-safe") {
                mstore(add(add(data, 32), mul(task, 32)), word)
            }
        }
    }

    function rootOf(uint64 id, uint256 bundle, uint256 variant) internal returns (bytes32 root) {
        root = _roots[id][bundle][variant];
        if (root != 0) return root;
        root = variant == 3 ? keccak256(abi.encode("no leaves", id, bundle)) : merkle(leaves(id, bundle, variant));
        _roots[id][bundle][variant] = root;
    }

    function merkle(bytes memory data) internal pure returns (bytes32) {
        uint256 count = data.length / 32;
        bytes32[] memory nodes = new bytes32[](count);
        for (uint256 i; i < count; ++i) {
            nodes[i] = keccak256(abi.encodePacked(uint8(0), bytes32(_uint(data, 32 * i, 32))));
        }
        while (count > 1) {
            for (uint256 i; 2 * i < count; ++i) {
                nodes[i] = 2 * i + 1 == count
                    ? nodes[2 * i]
                    : keccak256(abi.encodePacked(uint8(1), nodes[2 * i], nodes[2 * i + 1]));
            }
            count = (count + 1) / 2;
        }
        return nodes[0];
    }

    function variantOf(uint64 id, uint256 bundle, bytes32 root) internal returns (uint256 variant) {
        while (variant < VARIANTS && rootOf(id, bundle, variant) != root) {
            ++variant;
        }
    }

    // Seats -------------------------------------------------------------------------------------------------------

    /// @return way what the seat does
    /// @return variant of its vote, or its reason to abstain
    function wayOf(uint64 id, uint256 place, uint24 operatorId, bool mayLie)
        internal
        view
        returns (Way way, uint256 variant)
    {
        Mood mood = moodOf(id);
        uint256 h = hashOf(seedOf[id], lives[id].round, place, operatorId);
        if (mood == Mood.STRIKE && operatorId == 1 + (seedOf[id] >> 16) % 12) {
            return ((seedOf[id] >> 32) % 2 == 0 ? Way.SILENT : Way.HIDE, 0);
        }
        if (mood == Mood.PLOT && isLiar(operatorId) && mayLie) return (Way.OPEN, 1);
        if (mood == Mood.EMPTY && h % 8 != 0) return (Way.ABSTAIN, 1);
        if (mood != Mood.MIXED) return (Way.OPEN, 0);
        uint256 x = h % 24;
        if (x == 0) return (Way.SILENT, 0);
        if (x == 1) return (Way.HIDE, 0);
        if (x <= 3) return (Way.ABSTAIN, (h >> 8) % 6);
        if (isLiar(operatorId) && mayLie && x >= 12) variant = 1 + (h >> 8) % 3;
        return (x <= 6 ? Way.LATE : Way.OPEN, variant);
    }

    function seatSalt(uint64 id, uint256 place) internal view returns (bytes16) {
        return bytes16(keccak256(abi.encode("salt", id, lives[id].round, place)));
    }

    function seatCommitment(uint64 id, bytes32 domain, uint256 place, uint24 operatorId, bool mayLie)
        internal
        returns (bytes32)
    {
        (Way way, uint256 variant) = wayOf(id, place, operatorId, mayLie);
        if (way == Way.ABSTAIN) return bytes32(variant);
        bytes32 statement = keccak256(abi.encodePacked(domain, uint32(place >> 8), uint32(0xffffffff)));
        bytes32 vote = rootOf(id, place >> 8, variant);
        return keccak256(abi.encodePacked(statement, uint32(operatorId), vote, seatSalt(id, place)));
    }

    function isStanding(uint64 id, uint256 bundle, uint16 member) internal view returns (bool) {
        uint8 round = lives[id].round;
        if (round == 0) return false;
        bytes[] storage pages = settlePages[id][round];
        for (uint256 p; p < pages.length; ++p) {
            bytes memory page = pages[p];
            for (uint256 at; at < page.length; at = carryEnd(page, at)) {
                if (_uint(page, at, 2) != bundle) continue;
                uint256 voters = _uint(page, at + 57, 1);
                for (uint256 i; i < voters; ++i) {
                    if (_uint(page, at + 90 + 2 * i, 2) == member) return true;
                }
                return false;
            }
        }
        return false;
    }

    // Class votes -------------------------------------------------------------------------------------------------

    function voteWay(DisputeLife storage d, Member memory m) internal view returns (Way) {
        Mood mood = moodOf(d.batchId);
        uint256 h = hashOf(seedOf[d.batchId], d.id, d.window, m.id);
        if (mood == Mood.EMPTY && d.window < 3 && h % 8 < 5) return Way.ABSTAIN;
        if (mood == Mood.CALM || mood == Mood.PLOT) return h % 32 == 0 ? Way.SILENT : Way.OPEN;
        uint256 x = h % 10;
        if (x <= 1) return Way.SILENT;
        return x == 2 ? Way.HIDE : x == 3 ? Way.LATE : x == 4 ? Way.ABSTAIN : Way.OPEN;
    }

    function voteAnswer(DisputeLife storage d, Member memory m, bool mayLie) internal returns (bytes32) {
        uint256 h = hashOf(seedOf[d.batchId], d.id, 99, m.id);
        uint256 variant =
            isLiar(m.id) && mayLie && h % 2 == 0 ? (moodOf(d.batchId) == Mood.PLOT ? 1 : 1 + (h >> 8) % 3) : 0;
        return answerOf(d, variant);
    }

    /// @dev What a variant's leaves answer to the question of a dispute.
    function answerOf(DisputeLife storage d, uint256 variant) internal returns (bytes32) {
        uint256 count = _uint(d.question, 0, 2);
        if (count == 0 || variant == 3) return rootOf(d.batchId, d.bundle, variant);
        bytes memory data;
        for (uint256 i; i < count; ++i) {
            data = abi.encodePacked(data, leaf(d.batchId, d.bundle, variant, _uint(d.question, 2 + 2 * i, 2)));
        }
        return keccak256(data);
    }
}
