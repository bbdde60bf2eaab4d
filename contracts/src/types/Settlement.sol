// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice Arguments of `settle` (README.md, section 4.6).
/// @param prior hash chain before `page`
/// @param page a record page in the first round, a carry page later
/// @param tail hashes of the pages behind it
/// @param commitPages hashes of all commit pages of the round
/// @param votes for each bundle of the page: count, then distinct votes ascending; 0xff leaves it for later
/// @param openings commit pages, with salts where a commitment is opened
struct Settlement {
    bytes32 prior;
    bytes page;
    bytes32[] tail;
    bytes32[] commitPages;
    bytes votes;
    bytes openings;
}
