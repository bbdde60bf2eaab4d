// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Params} from "../types/Params.sol";
import {Settlement} from "../types/Settlement.sol";
import {Terms} from "../types/Terms.sol";

/// @title Orders, batches, committees and payment
/// @notice README.md, section 4, gives layouts, requirements and effects.
interface IComputeMarket {
    enum BatchStatus {
        NONE,
        POSTING,
        AWAITING,
        ASSIGNED,
        VOIDED,
        SETTLED
    }

    enum Verdict {
        NONE,
        ACCEPTED,
        DISPUTED,
        CARRIED,
        VOID
    }

    event Deposited(address indexed account, uint256 amount);
    event Withdrawn(address indexed account, uint256 amount);
    event BatchOpened(
        uint64 indexed batchId,
        address indexed collator,
        uint32 classId,
        uint16 table,
        uint8 seats,
        uint8 rounds,
        uint32 commitPeriod,
        uint64 feeWei
    );
    /// @param page the orders as posted
    /// @param skips (order index u16, reason u8) of each order left out
    event PagePosted(uint64 indexed batchId, uint16 firstBundle, bytes page, bytes skips);
    event BatchClosed(uint64 indexed batchId, uint16 bundles, uint48 beaconBlock);
    event RoundStarted(uint64 indexed batchId, uint8 round, bytes32 beacon);
    /// @param lists the commitments as sent
    /// @param skips (list index u16, reason u8) of each list left out
    event CommitPage(uint64 indexed batchId, uint8 round, bytes lists, bytes skips);
    /// @param verdicts (bundle u16, verdict u8, vote 32) of each bundle settled
    event BundlesSettled(uint64 indexed batchId, uint8 round, bytes verdicts);
    /// @param page bundles that go on to a fresh round
    event BundlesCarried(uint64 indexed batchId, uint8 round, bytes page);
    /// @param beaconBlock block whose header decides the next round's committees
    event RoundAwaited(uint64 indexed batchId, uint8 round, uint48 beaconBlock);
    event BatchVoided(uint64 indexed batchId);
    event BatchSettled(uint64 indexed batchId, uint40 finalAt);

    error Unauthorized();
    error NotCollator(address collator);
    error BatchUnknown(uint64 batchId);
    error WrongStatus(uint64 batchId, BatchStatus status);
    error WindowPast(string window);
    error WindowOpen(string window);
    error MalformedPage();
    error HashMismatch(string what);
    error InvalidTerms(string name);
    error EraOverdue(uint32 classId);
    error InsufficientDeposit(uint256 available, uint256 asked);
    error NothingToWithdraw();
    error TransferFailed();
    error TooEarly(uint16 bundle);

    function deposit() external payable;
    function depositFor(address account) external payable;
    function withdraw(uint128 amount) external;
    function post(uint64 batchId, Terms calldata terms, bytes calldata page, bool last) external returns (uint64);
    function proveBeacon(uint64 batchId, bytes calldata header) external;
    function expire(uint64 batchId) external;
    function commit(uint64 batchId, uint16 from, uint16 to, bytes calldata lists) external;
    function settle(uint64 batchId, Settlement calldata settlement) external;

    /// @notice Money of a disputed bundle after its vote; only disputes. The rest of `escrow` returns to the requester.
    /// @param entries operators' earnings, (operator id << 128 | amount), ascending
    function resolve(address requester, uint256 escrow, address collator, uint256 fee, uint256[] calldata entries)
        external;

    function params() external view returns (Params memory);
    function domainSeparator() external view returns (bytes32);
    function account(address owner) external view returns (uint128 free, uint128 escrow);
    function nonces(address requester) external view returns (uint64 base, uint256 used);
    function bonds() external view returns (uint256);
    /// @return eraOf era that `fuel` was used in
    function fuelUsed(uint32 classId) external view returns (uint32 eraOf, uint128 fuel);
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
        returns (bytes32 beacon, bytes32 postHash, bytes32 commitHash, bytes32 carryHash, bytes32 nextCarryHash);
    function roundDomain(uint64 batchId) external view returns (bytes32);
    function isPending(uint64 batchId, uint16 bundle) external view returns (bool);
    function hasCommitted(uint64 batchId, uint16 bundle, uint8 seat) external view returns (bool);
    function isBatchFinal(uint64 batchId) external view returns (bool);
}
