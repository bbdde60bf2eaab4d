// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ClassTable} from "../types/ClassTable.sol";
import {MAX_DRAW_ATTEMPTS} from "../types/Limits.sol";
import {DataContract} from "./DataContract.sol";

/// @notice A class's table in memory.
/// @param units u16 member index for each unit
/// @param rows 23 bytes a member: signing key, u24 operator id
struct LoadedTable {
    bytes units;
    bytes rows;
    uint256 unitCount;
    uint256 memberCount;
}

/// @title Looking up members and drawing committees
/// @dev Twin of quorate/protocol/committee.py.
library TableReader {
    uint256 private constant ROW_BYTES = 23;

    function load(ClassTable memory table) internal view returns (LoadedTable memory loaded) {
        loaded.unitCount = table.unitCount;
        loaded.memberCount = table.memberCount;
        if (table.memberCount == 0) return loaded;
        loaded.units = DataContract.read(table.units);
        loaded.rows = DataContract.read(table.members);
    }

    /// @notice Signing key and operator id of a row; the caller has checked that it exists.
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
        for (uint256 i; i < table.unitCount; ++i) {
            ++counts[_unit(table, i)];
        }
    }

    /// @notice Registry entries (operator id << 128 | amount) of the members that earned something.
    /// @param earned wei by member
    function entries(LoadedTable memory table, uint256[] memory earned) internal pure returns (uint256[] memory list) {
        uint256 count;
        for (uint256 m; m < earned.length; ++m) {
            if (earned[m] > 0) ++count;
        }
        list = new uint256[](count);
        count = 0;
        for (uint256 m; m < earned.length; ++m) {
            if (earned[m] == 0) continue;
            (, uint24 operatorId) = row(table, m);
            list[count++] = (uint256(operatorId) << 128) | earned[m];
        }
    }

    /// @notice Draw the committee of a bundle into `drawn[at .. at + seats)`; there are at least `seats` members.
    function draw(
        LoadedTable memory table,
        bytes32 roundDomain,
        uint256 bundle,
        uint256 seats,
        uint256[] memory drawn,
        uint256 at
    ) internal pure {
        for (uint256 seat; seat < seats; ++seat) {
            drawn[at + seat] = _drawSeat(table, roundDomain, bundle, seat, drawn, at);
        }
    }

    function _drawSeat(
        LoadedTable memory table,
        bytes32 roundDomain,
        uint256 bundle,
        uint256 seat,
        uint256[] memory drawn,
        uint256 at
    ) private pure returns (uint256 member) {
        // unchecked: counts of seats, attempts and members
        unchecked {
            for (uint256 attempt; attempt < MAX_DRAW_ATTEMPTS; ++attempt) {
                uint256 seed;
                assembly ("memory-safe") {
                    mstore(0x00, roundDomain)
                    mstore(0x20, or(shl(224, bundle), or(shl(216, seat), shl(208, attempt))))
                    seed := keccak256(0x00, 38)
                }
                member = _unit(table, seed % table.unitCount);
                if (!_contains(drawn, at, seat, member)) return member;
            }
            // One member may hold nearly all units: the probe ends, whatever the weights are.
            do {
                member = (member + 1) % table.memberCount;
            } while (_contains(drawn, at, seat, member));
        }
    }

    function _contains(uint256[] memory drawn, uint256 at, uint256 count, uint256 member) private pure returns (bool) {
        // unchecked: indices of an array
        unchecked {
            for (uint256 i; i < count; ++i) {
                if (drawn[at + i] == member) return true;
            }
            return false;
        }
    }

    function _unit(LoadedTable memory table, uint256 index) private pure returns (uint256 member) {
        bytes memory units = table.units;
        assembly ("memory-safe") {
            member := shr(240, mload(add(add(units, 32), shl(1, index))))
        }
    }
}
