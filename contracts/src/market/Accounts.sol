// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeMarket} from "../interfaces/IComputeMarket.sol";
import {Statements} from "../libraries/Statements.sol";
import {TaggedBits} from "../libraries/TaggedBits.sol";
import {Params} from "../types/Params.sol";
import {Terms} from "../types/Terms.sol";
import {MarketStorage} from "./MarketStorage.sol";

/// @title Deposits of requesters and collators, and look-ups
abstract contract Accounts is MarketStorage, IComputeMarket {
    /// @inheritdoc IComputeMarket
    function deposit() external payable {
        _deposit(msg.sender);
    }

    /// @inheritdoc IComputeMarket
    function depositFor(address owner) external payable {
        _deposit(owner);
    }

    /// @inheritdoc IComputeMarket
    function withdraw(uint128 amount) external {
        Account storage a = _accounts[msg.sender];
        if (amount == 0) revert NothingToWithdraw();
        if (amount > a.free) revert InsufficientDeposit(a.free, amount);
        a.free -= amount;
        emit Withdrawn(msg.sender, amount);
        (bool sent,) = msg.sender.call{value: amount}("");
        if (!sent) revert TransferFailed();
    }

    /// @inheritdoc IComputeMarket
    function account(address owner) external view returns (uint128 free, uint128 escrow) {
        Account storage a = _accounts[owner];
        return (a.free, a.escrow);
    }

    function _deposit(address owner) private {
        // safe: all ether that exists fits in 128 bits
        _accounts[owner].free += uint128(msg.value);
        emit Deposited(owner, msg.value);
    }

    /// @inheritdoc IComputeMarket
    function bonds() external view returns (uint256) {
        return _bonds;
    }

    /// @inheritdoc IComputeMarket
    function domainSeparator() external view returns (bytes32) {
        return _separator();
    }

    /// @inheritdoc IComputeMarket
    function params() external view returns (Params memory) {
        return _params;
    }

    /// @inheritdoc IComputeMarket
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
        )
    {
        Batch memory b = _batch(batchId);
        return (
            b.status,
            b.collator,
            b.round,
            b.bundles,
            b.pending,
            b.carried,
            b.table,
            b.beaconBlock,
            b.startTime,
            b.startBlock,
            b.finalAt
        );
    }

    /// @inheritdoc IComputeMarket
    function batchTerms(uint64 batchId) external view returns (Terms memory) {
        Batch storage b = _batch(batchId);
        return Terms(b.classId, b.seats, b.rounds, b.commitPeriod, b.feeWei);
    }

    /// @inheritdoc IComputeMarket
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
        )
    {
        Batch storage b = _batch(batchId);
        return (_beaconOf(b), b.postHash, _commitHashOf(b), b.carryHash, b.nextCarryHash, _outcomeHashOf(b));
    }

    /// @inheritdoc IComputeMarket
    function batchFlags(uint64 batchId) external view returns (bool, bool, bool, uint32, uint8) {
        Batch storage b = _batch(batchId);
        return (b.judged, b.auditDrawn, b.queued, b.openDisputes, b.auditFrom);
    }

    /// @inheritdoc IComputeMarket
    function struckBelow(uint64 batchId, uint16 bundle) external view returns (uint8) {
        return uint8(_struckBelow(_batch(batchId), bundle));
    }

    /// @inheritdoc IComputeMarket
    function roundDomain(uint64 batchId) external view returns (bytes32) {
        Batch storage b = _batch(batchId);
        return _domain(b, Statements.STAGE_BUNDLE, b.round);
    }

    /// @inheritdoc IComputeMarket
    function isPending(uint64 batchId, uint16 bundle) external view returns (bool) {
        Batch storage b = _batch(batchId);
        if (bundle >= b.bundles) return false;
        uint256 key = _bitKey(batchId, BitKind.STATUS, bundle / BUNDLES_PER_WORD);
        uint256 data = TaggedBits.load(_bits, key, _bitTag(b, BitKind.STATUS));
        return _isPendingBits(data, bundle % BUNDLES_PER_WORD, b.round);
    }

    /// @inheritdoc IComputeMarket
    function hasCommitted(uint64 batchId, uint16 bundle, uint8 seat) external view returns (bool) {
        Batch storage b = _batch(batchId);
        if (bundle >= b.bundles || seat >= b.seats) return false;
        uint256 ordinal = uint256(bundle) * b.seats + seat;
        uint256 key = _bitKey(batchId, BitKind.COMMITTED, ordinal / TaggedBits.BITS);
        uint256 data = TaggedBits.load(_bits, key, _bitTag(b, BitKind.COMMITTED));
        return (data >> (ordinal % TaggedBits.BITS)) & 1 == 1;
    }

    /// @inheritdoc IComputeMarket
    function isBatchFinal(uint64 batchId) external view returns (bool) {
        Batch storage b = _batch(batchId);
        return b.status == BatchStatus.SETTLED && block.timestamp >= b.finalAt && b.openDisputes == 0;
    }
}
