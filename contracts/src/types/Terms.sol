// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice Terms of a batch, the same for all its orders.
/// @param commitPeriod seconds from a round's beacon to its last commitment
/// @param feeWei what whoever settles a bundle earns for it
struct Terms {
    uint32 classId;
    uint8 seats;
    uint8 rounds;
    uint32 commitPeriod;
    uint64 feeWei;
}
