// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice One frozen table of a class: who can be drawn, by units of stake.
/// @param units data contract: u16 member index for each unit
/// @param unitCount units in all
/// @param memberCount rows of `members`
/// @param members data contract: 23 bytes a member, signing key then u24 operator id
/// @param capacity reference fuel a second that the members declare together
struct ClassTable {
    address units;
    uint16 unitCount;
    uint16 memberCount;
    address members;
    uint64 capacity;
}
