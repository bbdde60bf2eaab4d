// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Params} from "../types/Params.sol";
import {Proof} from "../types/Proof.sol";

/// @title Doubts about accepted results: anybody's, for a bond, and those of auditors drawn by lot
/// @notice README.md, section 6.
interface IChallenges {
    event ResultChallenged(
        uint64 indexed batchId, uint16 bundle, uint16 task, address indexed challenger, uint64 disputeId
    );
    /// @param disputeId 0 where the auditor found what had been accepted
    event BundleAudited(uint64 indexed batchId, uint16 bundle, uint24 operatorId, bytes32 vote, uint64 disputeId);

    error HashMismatch(string what);
    error WindowPast(string window);
    error NotJudged();
    error NotAccepted(uint16 bundle);
    error MalformedPage();
    error AlreadyChallenged(uint16 bundle, uint16 task);
    error WrongValue(uint256 sent, uint256 asked);
    error NotDrawn(uint16 bundle);
    error AlreadyAudited(uint16 bundle);
    error Unauthorized();

    /// @notice Claim another leaf for one task of an accepted bundle; send the bond along.
    function challenge(uint64 batchId, Proof calldata proof, uint16 bundle, uint16 task, bytes32 leaf)
        external
        payable
        returns (uint64 disputeId);
    /// @notice Hand in what an auditor found.
    /// @param auditor 0, or 1 once the first one's time is over
    /// @param signature the auditor's, r ‖ s ‖ v
    function audit(
        uint64 batchId,
        Proof calldata proof,
        uint16 bundle,
        uint8 auditor,
        bytes32 vote,
        bytes calldata signature
    ) external returns (uint64 disputeId);

    function params() external view returns (Params memory);
    /// @notice Wei that a challenge of a task needs.
    function bondOf(uint256 taskPrice, uint256 members) external view returns (uint256);
}
