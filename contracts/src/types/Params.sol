// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice Parameters of a deployment; periods in seconds, rates for a second, money in wei (README.md, section 2).
struct Params {
    uint32 eraPeriod;
    uint32 unbondingPeriod;
    uint32 challengePeriod;
    uint32 postPeriod;
    uint32 maxCommitPeriod;
    uint32 directPeriod;
    uint32 settlePeriod;
    uint32 publishPeriod;
    uint32 voteCommitPeriod;
    uint32 voteRevealPeriod;
    uint32 auditPeriod;
    uint32 faultMemory;
    uint16 beaconDelay;
    uint16 blockPeriod;
    uint16 minBlocks;
    uint16 auditBps;
    uint16 jailEras;
    uint8 maxRounds;
    uint8 voteWindows;
    uint64 referenceFuelRate;
    uint64 referenceByteRate;
    uint64 maxTaskFuel;
    uint64 maxPrice;
    uint64 maxGasPrice;
    uint128 batchBond;
    uint128 challengeBond;
    uint128 classDeposit;
    uint128 leastUnitWei;
}
