// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice Arguments of `settleVotes` (README.md, section 5).
/// @param cast votes that stand from earlier windows, as `VoteWindowOpened` told them; empty in the first
/// @param commitPages hashes of all commit pages of the window
/// @param votes count u16, then all answers that occur, ascending: opened ones, cast ones, those of the roots
/// @param openings all commit pages, with salts where a commitment is opened
struct VoteSettlement {
    bytes cast;
    bytes32[] commitPages;
    bytes votes;
    bytes openings;
}
