// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Extension} from "../types/Extension.sol";
import {Params} from "../types/Params.sol";
import {Settlement} from "../types/Settlement.sol";
import {Terms} from "../types/Terms.sol";
import {IMarketEvents} from "./IMarketEvents.sol";

/// @title Orders, batches, committees and payment
/// @notice README.md, section 4, gives layouts, requirements and effects.
interface IComputeMarket is IMarketEvents {
    function deposit() external payable;
    function depositFor(address owner) external payable;
    function withdraw(uint128 amount) external;
    function post(uint64 batchId, Terms calldata terms, bytes calldata page, bool last) external returns (uint64);
    function proveBeacon(uint64 batchId, bytes calldata header) external;
    function expire(uint64 batchId) external;
    function commit(uint64 batchId, uint16 from, uint16 to, bytes calldata lists) external;
    function reveal(uint64 batchId, bytes32[] calldata commitPages, bytes calldata votes, bytes calldata openings)
        external;
    function settle(uint64 batchId, Settlement calldata settlement) external;

    /// @notice More rounds for bundles that ended void, or were accepted by a committee that was convicted since.
    function extend(uint64 batchId, Extension calldata extension) external;
    /// @notice Draw the auditors of a settled batch.
    function proveAudit(uint64 batchId, bytes calldata header) external;
    /// @notice Undo what a round accepted, after a challenge or an audit; only disputes.
    /// @return first whether that outcome still counted: neither reversed before, nor its convicted committee extended
    function reverse(uint64 batchId, uint16 bundle, uint8 round) external returns (bool first);

    /// @notice Money of a conflict after its vote; only disputes. The rest of `escrow` returns to the requester.
    /// @param entries operators' earnings, (operator id << 128 | seats << 96 | amount)
    /// @param row outcome of the bundle, or nothing
    function resolve(
        uint64 batchId,
        address requester,
        uint256 escrow,
        address collator,
        uint256 fee,
        uint256 auditFee,
        uint256[] calldata entries,
        bytes calldata row
    ) external;
    /// @notice Count a dispute of a batch, whose slot waits for its end; only disputes.
    function disputeOpened(uint64 batchId) external;
    function disputeClosed(uint64 batchId) external;

    function params() external view returns (Params memory);
    function domainSeparator() external view returns (bytes32);
    function account(address owner) external view returns (uint128 free, uint128 escrow);
    function nonces(address requester) external view returns (uint64 base, uint192 used);
    function bonds() external view returns (uint256);
    /// @notice Fuel that was ordered of a class and not yet worked off at `at`; it drains by half the capacity a second.
    function backlog(uint32 classId) external view returns (uint128 fuel, uint40 at);
    function batch(uint64 batchId)
        external
        view
        returns (
            BatchStatus status,
            address collator,
            uint8 round,
            uint16 bundles,
            uint16 pending,
            uint16 carried,
            uint16 table,
            uint48 beaconBlock,
            uint40 startTime,
            uint48 startBlock,
            uint40 finalAt
        );
    function batchTerms(uint64 batchId) external view returns (Terms memory);
    function batchHashes(uint64 batchId)
        external
        view
        returns (
            bytes32 beacon,
            bytes32 postHash,
            bytes32 commitHash,
            bytes32 carryHash,
            bytes32 nextCarryHash,
            bytes32 outcomeHash
        );
    /// @return judged whether a conflict, a challenge or an audit goes to a class vote
    /// @return auditDrawn whether the beacon of its audits was proven
    function batchFlags(uint64 batchId)
        external
        view
        returns (bool judged, bool auditDrawn, bool isQueued, uint32 openDisputes, uint8 auditFrom);
    /// @notice Least round whose outcome of a bundle still counts.
    function struckBelow(uint64 batchId, uint16 bundle) external view returns (uint8);
    function roundDomain(uint64 batchId) external view returns (bytes32);
    function isPending(uint64 batchId, uint16 bundle) external view returns (bool);
    function hasCommitted(uint64 batchId, uint16 bundle, uint8 seat) external view returns (bool);
    function isBatchFinal(uint64 batchId) external view returns (bool);
}
