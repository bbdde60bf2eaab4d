// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Params} from "../types/Params.sol";
import {VoteSettlement} from "../types/VoteSettlement.sol";

/// @title Class votes on conflicts, challenges and dissenting audits
/// @notice README.md, section 5, gives layouts, requirements and effects.
interface IDisputes {
    enum Status {
        NONE,
        PUBLISHING,
        VOTING,
        PUNISHING
    }

    /// @notice What the money behind the last row of the tally depends on.
    enum Aftermath {
        NOTHING,
        UPHELD, // a challenge or audit was right, but the bundle was reversed before
        REVERSED, // was right, and reverses the bundle
        DISMISSED // a challenge was wrong: its bond pays the voters
    }

    /// @notice An open dispute. Of record, question, cast votes and tally the hashes are kept.
    /// @param startTime when it was opened, then when its present window started; with `startBlock`
    /// @param committed members that have committed in the present window
    /// @param voted members whose vote stands from earlier windows
    /// @param row first row of the table that is not gone through yet
    /// @param published bit i: the leaves of root i were published
    /// @param taken wei taken from members so far
    struct Dispute {
        uint64 id;
        uint40 startTime;
        uint48 startBlock;
        uint16 committed;
        uint16 voted;
        uint32 nextFree;
        uint8 window;
        Status status;
        // second word
        Aftermath aftermath;
        uint16 row;
        uint128 taken;
        uint256 published;
        bytes32 recordHash;
        bytes32 questionHash;
        bytes32 commitHash;
        bytes32 castHash;
        bytes32 tallyHash;
    }

    event DisputeOpened(uint64 indexed disputeId, uint64 indexed batchId, uint16 bundle, bytes record);
    event LeavesPublished(uint64 indexed disputeId, bytes32 root, bytes leaves);
    event QuestionAsked(uint64 indexed disputeId, bytes question);
    /// @param lists the commitments as sent
    /// @param skips (list index u16, reason u8) of each list left out
    event VotesCommitted(uint64 indexed disputeId, uint8 window, bytes lists, bytes skips);
    event VotesRevealed(uint64 indexed disputeId, uint8 window, bytes votes, bytes openings);
    /// @param cast votes that stand, and windows of silence so far
    event VoteWindowOpened(uint64 indexed disputeId, uint8 window, bytes cast);
    /// @param verdict 1 accepted with `root`, 4 void
    /// @param answer what more than half of the class's units answered, or 0
    /// @param tally a byte for each row of the table
    event DisputeDecided(
        uint64 indexed disputeId,
        uint64 indexed batchId,
        uint16 bundle,
        uint8 verdict,
        bytes32 root,
        bytes32 answer,
        bytes tally
    );
    /// @param row first row of the tally that is left
    /// @param taken sum of all fines and slashes of the dispute, in wei
    event RowsPunished(uint64 indexed disputeId, uint16 row, uint128 taken);
    event DisputeSettled(uint64 indexed disputeId, uint64 indexed batchId, uint16 bundle);

    error Unauthorized();
    error DisputeUnknown(uint64 disputeId);
    error WrongStatus(uint64 disputeId, Status status);
    error HashMismatch(string what);
    error WindowPast(string window);
    error WindowOpen(string window);
    error TooEarly();
    error MalformedPage();
    error UnknownRoot(bytes32 root);
    error AlreadyPublished(bytes32 root);
    error SeatOmitted(uint16 bundle, uint16 member);

    /// @notice Open a dispute; only market and challenges.
    function open(bytes calldata record) external returns (uint64 disputeId);
    /// @notice Show what a root stands for.
    function publish(uint64 disputeId, bytes calldata record, bytes calldata leaves) external;
    /// @notice Fix the question, and start the first window.
    function ask(uint64 disputeId, bytes calldata record, bytes calldata leaves) external;
    function commitVotes(uint64 disputeId, bytes calldata record, bytes calldata question, bytes calldata lists)
        external;
    /// @notice Openings that a caller of `settleVotes` must not leave out.
    function revealVotes(
        uint64 disputeId,
        bytes calldata record,
        bytes calldata question,
        bytes32[] calldata commitPages,
        bytes calldata votes,
        bytes calldata openings
    ) external;
    /// @notice End the present window: a decision, another window, or the end without one.
    /// @param rows of the tally that are punished in the same call
    function settleVotes(
        uint64 disputeId,
        bytes calldata record,
        bytes calldata question,
        VoteSettlement calldata settlement,
        uint256 rows
    ) external;
    /// @notice Go on with the rows of the tally; behind the last one everybody is paid.
    function punish(uint64 disputeId, bytes calldata record, bytes calldata tally, uint256 upTo) external;

    function params() external view returns (Params memory);
    function dispute(uint64 disputeId) external view returns (Dispute memory);
    /// @notice Whether a member has committed in the present window, or voted in an earlier one.
    function hasSpoken(uint64 disputeId, uint16 member) external view returns (bool);
    function isRevealed(uint64 disputeId, uint16 member) external view returns (bool);
}
