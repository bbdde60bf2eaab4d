// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice What an operator is fined for (README.md, section 3); the last two are faults.
enum FineKind {
    ABSENT, // said nothing in a class vote
    ABSTAINED, // gave a reason instead of a vote
    SILENT, // did not commit
    UNREVEALED // committed, but opened nothing
}
