// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Params} from "../types/Params.sol";

/// @title Class votes on conflicts
/// @notice README.md, section 5.
interface IDisputes {
    event DisputeOpened(uint64 indexed disputeId, uint64 indexed batchId, uint16 bundle, bytes record);
    event VotesCommitted(uint64 indexed disputeId, bytes lists, bytes skips);
    /// @param verdict 1 accepted with `vote`, 4 void
    event DisputeSettled(uint64 indexed disputeId, uint64 indexed batchId, uint16 bundle, uint8 verdict, bytes32 vote);

    error Unauthorized();
    error DisputeUnknown(uint64 disputeId);
    error HashMismatch(string what);
    error WindowPast(string window);
    error TooEarly();
    error MalformedPage();

    /// @notice Open a class vote on a conflict; only the market.
    function open(bytes calldata record) external returns (uint64 disputeId);
    function commitVotes(uint64 disputeId, bytes calldata record, bytes calldata lists) external;
    function settleVotes(
        uint64 disputeId,
        bytes calldata record,
        bytes32[] calldata commitPages,
        bytes calldata votes,
        bytes calldata openings
    ) external;

    function params() external view returns (Params memory);
    function dispute(uint64 disputeId)
        external
        view
        returns (bytes32 recordHash, bytes32 commitHash, uint40 openTime, uint48 openBlock, uint16 committed);
    function hasCommitted(uint64 disputeId, uint16 member) external view returns (bool);
}
