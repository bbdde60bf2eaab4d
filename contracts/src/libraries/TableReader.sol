// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ClassTable} from "../types/ClassTable.sol";
import {MAX_DRAW_ATTEMPTS} from "../types/Limits.sol";
import {DataContract} from "./DataContract.sol";

/// @notice A class's table, as far as it was read. Rows that are not in memory are read from the data contract one by
/// one: who asks for a few of a thousand members pays less that way. Assembly knows the order of the fields.
/// @param units u16 member index for each unit
/// @param rows 23 bytes a member: signing key, u24 operator id
/// @param unitsAt data contract of the units, 0 once they are in memory
/// @param rowsAt likewise of the rows
struct LoadedTable {
    bytes units;
    bytes rows;
    uint256 unitCount;
    uint256 memberCount;
    address unitsAt;
    address rowsAt;
}

/// @title Looking up members and drawing committees
/// @dev Twin of quorate/protocol/committee.py.
library TableReader {
    uint256 private constant ROW_BYTES = 23;
    /// @dev To copy the rows of 1000 members costs what so many single ones cost.
    uint256 internal constant FEW = 32;

    /// @notice The whole table in memory.
    function load(ClassTable memory table) internal view returns (LoadedTable memory loaded) {
        loaded = open(table);
        loadRows(loaded);
        loadUnits(loaded);
    }

    /// @notice The table with nothing of it in memory yet.
    function open(ClassTable memory table) internal pure returns (LoadedTable memory opened) {
        (opened.unitCount, opened.memberCount) = (table.unitCount, table.memberCount);
        (opened.unitsAt, opened.rowsAt) = (table.units, table.members);
    }

    function loadRows(LoadedTable memory table) internal view {
        if (table.rowsAt == address(0)) return;
        (table.rows, table.rowsAt) = (DataContract.read(table.rowsAt), address(0));
    }

    function loadUnits(LoadedTable memory table) internal view {
        if (table.unitsAt == address(0)) return;
        (table.units, table.unitsAt) = (DataContract.read(table.unitsAt), address(0));
    }

    /// @notice As `row`, of a table whose rows need not be in memory.
    function findRow(LoadedTable memory table, uint256 member) internal view returns (address key, uint24 operatorId) {
        uint256 word;
        assembly ("memory-safe") {
            switch mload(add(table, 0xa0))
            case 0 { word := mload(add(add(mload(add(table, 0x20)), 32), mul(member, ROW_BYTES))) }
            default {
                extcodecopy(mload(add(table, 0xa0)), 0x00, add(1, mul(member, ROW_BYTES)), ROW_BYTES)
                word := mload(0x00)
            }
        }
        key = address(uint160(word >> 96));
        operatorId = uint24(word >> 72);
    }

    /// @notice Signing key and operator id of a row in memory; the caller has checked that it exists.
    function row(LoadedTable memory table, uint256 member) internal pure returns (address key, uint24 operatorId) {
        bytes memory rows = table.rows;
        uint256 word;
        assembly ("memory-safe") {
            word := mload(add(add(rows, 32), mul(member, ROW_BYTES)))
        }
        key = address(uint160(word >> 96));
        operatorId = uint24(word >> 72);
    }

    /// @notice Member of each unit, counted for each member.
    function unitsOfMembers(LoadedTable memory table) internal pure returns (uint256[] memory counts) {
        counts = new uint256[](table.memberCount);
        (bytes memory units, uint256 count) = (table.units, table.unitCount);
        // Assembly, since a class vote counts up to 12,000 of them; rows of a table are below its member count.
        assembly ("memory-safe") {
            let at := add(units, 32)
            for { let end := add(at, shl(1, count)) } lt(at, end) { at := add(at, 2) } {
                let slot := add(counts, shl(5, add(1, shr(240, mload(at)))))
                mstore(slot, add(mload(slot), 1))
            }
        }
    }

    /// @notice Registry entries (operator id << 128 | seats << 96 | amount) of the members that earned something.
    /// @param earned seats << 96 | wei, by member
    function entries(LoadedTable memory table, uint256[] memory earned) internal view returns (uint256[] memory list) {
        assembly ("memory-safe") {
            list := mload(0x40) // grows at the free memory pointer
            let out := add(list, 32)
            let code := mload(add(table, 0xa0))
            // Where the next row stands: in memory, or in the code behind its STOP.
            let rows := add(mload(add(table, 0x20)), 32)
            if code { rows := 1 }
            let at := add(earned, 32)
            let end := add(at, shl(5, mload(earned)))
            for {} lt(at, end) {} {
                let until := add(at, 256)
                if gt(until, end) { until := end }
                // Eight at a time where none of them earned: a call may pay a few of a thousand. What is read behind
                // the end only spares less.
                let some := or(or(mload(at), mload(add(at, 32))), or(mload(add(at, 64)), mload(add(at, 96))))
                some := or(some, or(mload(add(at, 128)), mload(add(at, 160))))
                if iszero(or(some, or(mload(add(at, 192)), mload(add(at, 224))))) {
                    at := until
                    rows := add(rows, 184)
                    continue
                }
                for {} lt(at, until) { at := add(at, 32) } {
                    let mine := mload(at)
                    if mine {
                        // The row is key 20 ‖ operator id 3.
                        let row_
                        switch code
                        case 0 { row_ := mload(rows) }
                        default {
                            extcodecopy(code, 0x00, rows, ROW_BYTES)
                            row_ := mload(0x00)
                        }
                        mstore(out, or(shl(128, and(shr(72, row_), 0xffffff)), mine))
                        out := add(out, 32)
                    }
                    rows := add(rows, 23)
                }
            }
            mstore(list, shr(5, sub(sub(out, list), 32)))
            mstore(0x40, out)
        }
    }

    /// @notice Draw the committee of a bundle into `drawn[at .. at + seats)`; there are at least `seats` members, and the
    /// units are in memory.
    /// @dev Assembly: `commit` draws for every seat of a batch. A draw is its seed's unit, unless that member sits
    /// already; then the next attempt, and after the last one the next row that is free, since one member may hold
    /// nearly all units. The caller has made room for `seats` words.
    function draw(
        LoadedTable memory table,
        bytes32 roundDomain,
        uint256 bundle,
        uint256 seats,
        uint256[] memory drawn,
        uint256 at
    ) internal pure {
        uint256 attempts = MAX_DRAW_ATTEMPTS;
        assembly ("memory-safe") {
            let units := add(mload(table), 32)
            let unitCount := mload(add(table, 0x40))
            let memberCount := mload(add(table, 0x60))
            let start := add(add(drawn, 32), shl(5, at))
            let end := add(start, shl(5, seats))
            mstore(0x00, roundDomain)
            let salt := shl(224, bundle) // bundle u32, seat u8, attempt u8
            for { let place := start } lt(place, end) { place := add(place, 32) } {
                let member
                let taken := 1
                for { let attempt := 0 } and(taken, lt(attempt, attempts)) { attempt := add(attempt, 1) } {
                    mstore(0x20, or(salt, shl(208, attempt)))
                    member := shr(240, mload(add(units, shl(1, mod(keccak256(0x00, 38), unitCount)))))
                    taken := 0
                    for { let other := start } lt(other, place) { other := add(other, 32) } {
                        if eq(mload(other), member) { taken := 1 }
                    }
                }
                for {} taken {} {
                    member := mod(add(member, 1), memberCount)
                    taken := 0
                    for { let other := start } lt(other, place) { other := add(other, 32) } {
                        if eq(mload(other), member) { taken := 1 }
                    }
                }
                mstore(place, member)
                salt := add(salt, shl(216, 1))
            }
        }
    }

    /// @notice Draw one more seat of a bundle, for a member that does not sit already; there is one. The units are in
    /// memory.
    /// @param isSitting by member
    function drawAnother(
        LoadedTable memory table,
        bytes32 roundDomain,
        uint256 bundle,
        uint256 seat,
        bool[] memory isSitting
    ) internal pure returns (uint256 member) {
        for (uint256 attempt; attempt < MAX_DRAW_ATTEMPTS; ++attempt) {
            bytes32 seed = keccak256(abi.encodePacked(roundDomain, uint32(bundle), uint8(seat), uint8(attempt)));
            member = _unit(table, uint256(seed) % table.unitCount);
            if (!isSitting[member]) return member;
        }
        while (isSitting[member]) {
            member = (member + 1) % table.memberCount;
        }
    }

    function _unit(LoadedTable memory table, uint256 index) private pure returns (uint256 member) {
        bytes memory units = table.units;
        assembly ("memory-safe") {
            member := shr(240, mload(add(add(units, 32), shl(1, index))))
        }
    }
}
