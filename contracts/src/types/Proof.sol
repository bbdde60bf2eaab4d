// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice What a batch says of some of its bundles (README.md, section 4.8).
/// @param prior hash chain before `page`
/// @param page a record page
/// @param tail hashes of the record pages behind it
/// @param outcomePrior hash chain before `outcomes`
/// @param outcomes round u8, then the rows of one settle call or dispute
/// @param outcomeTail hashes of the outcome pages behind it
struct Proof {
    bytes32 prior;
    bytes page;
    bytes32[] tail;
    bytes32 outcomePrior;
    bytes outcomes;
    bytes32[] outcomeTail;
}
