// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeMarket} from "../interfaces/IComputeMarket.sol";
import {Buffer, Buffers, Cursor} from "../libraries/Cursor.sol";
import {MalformedPage as PageError} from "../libraries/Cursor.sol";
import {NonceWindow, Nonces} from "../libraries/Nonces.sol";
import {Statements} from "../libraries/Statements.sol";
import {ClassTable} from "../types/ClassTable.sol";
import {
    BEACON_REACH,
    BUNDLE_TASKS,
    FUEL_UNIT,
    MAX_BUNDLES,
    MAX_PAGE_BUNDLES,
    MAX_PAGE_SEATS,
    MAX_TASKS,
    MAX_VOTERS
} from "../types/Limits.sol";
import {Terms} from "../types/Terms.sol";
import {MarketStorage} from "./MarketStorage.sol";

/// @title Orders into batches, and the beacon of each round
abstract contract Posting is MarketStorage, IComputeMarket {
    using Buffers for Buffer;
    using Cursor for bytes;

    /// @dev The EIP-712 struct as it is hashed: one word a field, contiguous in memory.
    struct OrderWords {
        bytes32 typeHash;
        uint256 requester;
        uint256 nonce;
        uint256 classId;
        bytes32 specHash;
        uint256 taskCount;
        uint256 fuelLimit;
        uint256 inputBytes;
        uint256 seats;
        uint256 rounds;
        uint256 commitPeriod;
        uint256 minUnits;
        uint256 maxPrice;
        uint256 maxFee;
        uint256 validUntil;
        uint256 strategy;
        uint256 flags;
    }

    /// @dev What all orders of one page are judged by.
    struct PostContext {
        bytes32 separator;
        uint256 classId;
        uint256 seats;
        uint256 rounds;
        uint256 commitPeriod;
        uint256 feeWei;
        uint256 units;
        uint256 price;
        uint256 fuelUsed;
        uint256 fuelMost;
        uint256 bundles;
        uint256 bundlesMost;
        uint256 accepted;
        uint256 kind;
        Account account;
        NonceWindow nonces;
        uint256 taskPrice;
        OrderWords order; // one for all orders of a page: memory costs more the more of it there is
    }

    struct FuelUse {
        uint32 era;
        uint128 fuel;
    }

    enum Skip {
        NONE,
        EMPTY,
        UNSUPPORTED,
        EXPIRED,
        UNITS,
        FEE,
        PRICE,
        PERIOD,
        FULL,
        CAPACITY,
        SIGNATURE,
        NONCE,
        DEPOSIT
    }

    bytes32 private constant ORDER_TYPEHASH = keccak256(
        "JobOrder(address requester,uint64 nonce,uint32 classId,bytes32 specHash,uint32 taskCount,uint64 fuelLimit,uint64 inputBytes,uint8 seats,uint8 rounds,uint32 commitPeriod,uint32 minUnits,uint64 maxPrice,uint64 maxFee,uint40 validUntil,uint8 strategy,uint8 flags)"
    );
    uint256 private constant ORDER_BYTES = 156;
    uint256 private constant GROUP_BYTES = 23;
    uint256 private constant SKIP_BYTES = 3;

    /// @inheritdoc IComputeMarket
    mapping(uint32 classId => FuelUse) public fuelUsed;
    /// @inheritdoc IComputeMarket
    mapping(address requester => NonceWindow) public nonces;

    /// @inheritdoc IComputeMarket
    function post(uint64 batchId, Terms calldata terms, bytes calldata page, bool last) external returns (uint64) {
        if (batchId == 0) batchId = _open(terms);
        Batch storage b = _batchIn(batchId, BatchStatus.POSTING);
        _onlyCollator(b);
        if (block.timestamp >= uint256(b.startTime) + _params.postPeriod) revert WindowPast("post");
        _postPage(b, page);
        if (last) _close(b);
        return batchId;
    }

    /// @inheritdoc IComputeMarket
    function proveBeacon(uint64 batchId, bytes calldata header) external {
        Batch storage b = _batchIn(batchId, BatchStatus.AWAITING);
        b.beacon = BEACON.read(b.beaconBlock, header);
        b.status = BatchStatus.ASSIGNED;
        (b.startTime, b.startBlock) = (uint40(block.timestamp), uint48(block.number));
        emit RoundStarted(batchId, b.round, b.beacon);
    }

    /// @inheritdoc IComputeMarket
    function expire(uint64 batchId) external {
        Batch storage b = _batch(batchId);
        if (b.status == BatchStatus.POSTING) {
            if (block.timestamp < uint256(b.startTime) + _params.postPeriod) revert WindowOpen("post");
            b.pending = b.bundles;
            if (b.bundles == 0) return _finishBatch(b);
            b.bonded = false;
            _returnBond(b.collator, _params.batchBond);
        } else if (b.status == BatchStatus.AWAITING) {
            if (block.number <= uint256(b.beaconBlock) + BEACON_REACH) revert WindowOpen("beacon");
            b.bonded = false;
            uint256 bond = _params.batchBond;
            _bonds -= bond;
            REGISTRY.donate{value: bond}();
        } else {
            revert WrongStatus(batchId, b.status);
        }
        b.status = BatchStatus.VOIDED;
        emit BatchVoided(batchId);
    }

    function _open(Terms calldata terms) private returns (uint64 batchId) {
        (ClassTable memory table, uint16 number,, uint40 eraEnd,,) = REGISTRY.currentTable(terms.classId);
        if (block.timestamp >= eraEnd) revert EraOverdue(terms.classId);
        if (terms.seats == 0 || 2 * uint256(terms.seats) > table.memberCount) revert InvalidTerms("seats");
        if (terms.rounds > _params.maxRounds) revert InvalidTerms("rounds");
        // Counts of voters travel in one byte.
        if (terms.seats * (1 + uint256(terms.rounds)) > MAX_VOTERS) revert InvalidTerms("seats");
        if (terms.commitPeriod == 0 || terms.commitPeriod > _params.maxCommitPeriod) {
            revert InvalidTerms("commitPeriod");
        }
        _lockBond(msg.sender, _params.batchBond);
        uint16 slot = _takeSlot();
        batchId = (uint64(++_sequence) << 16) | slot;
        Batch storage b = _batches[slot];
        (b.id, b.collator, b.status, b.round) = (batchId, msg.sender, BatchStatus.POSTING, 0);
        (b.seats, b.rounds, b.classId, b.table) = (terms.seats, terms.rounds, terms.classId, number);
        (b.commitPeriod, b.feeWei, b.bonded) = (terms.commitPeriod, terms.feeWei, true);
        (b.bundles, b.pending, b.carried, b.beaconBlock) = (0, 0, 0, 0);
        (b.startTime, b.startBlock, b.finalAt) = (uint40(block.timestamp), uint48(block.number), 0);
        (b.beacon, b.postHash, b.commitHash, b.carryHash, b.nextCarryHash) = (0, 0, 0, 0, 0);
        emit BatchOpened(
            batchId, msg.sender, terms.classId, number, terms.seats, terms.rounds, terms.commitPeriod, terms.feeWei
        );
    }

    function _close(Batch storage b) private {
        if (b.bundles == 0) return _finishBatch(b);
        b.status = BatchStatus.AWAITING;
        b.pending = b.bundles;
        b.beaconBlock = uint48(block.number + _params.beaconDelay);
        emit BatchClosed(b.id, b.bundles, b.beaconBlock);
    }

    function _postPage(Batch storage b, bytes calldata page) private {
        (PostContext memory context, uint32 era) = _context(b);
        uint16 firstBundle = b.bundles;
        Buffer memory skips = Buffers.allocate(page.length / ORDER_BYTES * SKIP_BYTES);
        Buffer memory records = Buffers.allocate(34 + page.length);
        records.append(uint256(keccak256(page)), 32);
        records.append(firstBundle, 2);
        uint256 at;
        uint256 index;
        while (at < page.length) {
            uint256 count = page.uintAt(at + 21, 2);
            if (count == 0 || at + GROUP_BYTES + count * ORDER_BYTES > page.length) revert PageError();
            _postGroup(context, page, at, count, index, records, skips);
            index += count;
            at += GROUP_BYTES + count * ORDER_BYTES;
        }
        if (context.accepted > 0) {
            b.postHash = keccak256(abi.encodePacked(b.postHash, records.hash()));
            b.bundles = uint16(context.bundles);
            fuelUsed[b.classId] = FuelUse(era, uint128(context.fuelUsed));
        }
        emit PagePosted(b.id, firstBundle, page, skips.finish());
    }

    function _context(Batch storage b) private view returns (PostContext memory c, uint32 era) {
        uint256 price;
        (,, era,, price,) = REGISTRY.currentTable(b.classId);
        ClassTable memory table = REGISTRY.tableAt(b.classId, b.table);
        c.separator = _separator();
        (c.classId, c.seats, c.rounds, c.commitPeriod) = (b.classId, b.seats, b.rounds, b.commitPeriod);
        (c.feeWei, c.units, c.price, c.bundles) = (b.feeWei, table.unitCount, price, b.bundles);
        // One call settles a whole page of a voided batch, and reads a whole page always: it must fit a transaction.
        c.bundlesMost = _min(MAX_PAGE_BUNDLES, MAX_PAGE_SEATS / (c.seats * (1 + c.rounds)));
        c.bundlesMost = _min(MAX_BUNDLES, c.bundles + c.bundlesMost);
        FuelUse memory used = fuelUsed[b.classId];
        c.fuelUsed = used.era == era ? used.fuel : 0;
        c.fuelMost = uint256(table.capacity) * _params.eraPeriod / 2;
    }

    function _postGroup(
        PostContext memory c,
        bytes calldata page,
        uint256 at,
        uint256 count,
        uint256 index,
        Buffer memory records,
        Buffer memory skips
    ) private {
        address requester = address(uint160(page.uintAt(at, 20)));
        c.kind = page.uintAt(at + 20, 1);
        c.account = _accounts[requester];
        c.nonces = nonces[requester];
        uint256 groupStart = records.used;
        uint256 acceptedBefore = c.accepted;
        records.append(uint160(requester), 20);
        records.append(0, 2);
        at += GROUP_BYTES;
        for (uint256 i; i < count; ++i) {
            OrderWords memory o = c.order;
            _parse(c, o, page, at, requester);
            Skip reason = _judge(c, o, page, at);
            if (reason == Skip.NONE) {
                records.append(c.taskPrice, 8);
                records.append(o.taskCount, 3);
                records.append(o.flags, 1);
            } else {
                skips.append(index + i, 2);
                skips.append(uint256(reason), 1);
            }
            at += ORDER_BYTES;
        }
        uint256 accepted = c.accepted - acceptedBefore;
        uint256 end = records.used;
        records.used = groupStart;
        if (accepted == 0) return;
        // The count stands before what it counts: write the word that holds it, then the rows are whole again.
        _writeCount(records, groupStart + 20, accepted);
        records.used = end;
        _accounts[requester] = c.account;
        nonces[requester] = c.nonces;
    }

    function _writeCount(Buffer memory records, uint256 at, uint256 count) private pure {
        bytes memory data = records.data;
        assembly ("memory-safe") {
            mstore8(add(add(data, 32), at), shr(8, count))
            mstore8(add(add(data, 33), at), count)
        }
    }

    function _parse(PostContext memory c, OrderWords memory o, bytes calldata page, uint256 at, address requester)
        private
        pure
    {
        o.typeHash = ORDER_TYPEHASH;
        o.requester = uint160(requester);
        o.nonce = page.uintAt(at, 8);
        o.classId = c.classId;
        o.specHash = bytes32(page.uintAt(at + 8, 32));
        o.taskCount = page.uintAt(at + 40, 4);
        o.fuelLimit = page.uintAt(at + 44, 8);
        o.inputBytes = page.uintAt(at + 52, 8);
        o.seats = c.seats;
        o.rounds = c.rounds;
        o.commitPeriod = page.uintAt(at + 60, 4);
        o.minUnits = page.uintAt(at + 64, 4);
        o.maxPrice = page.uintAt(at + 68, 8);
        o.maxFee = page.uintAt(at + 76, 8);
        o.validUntil = page.uintAt(at + 84, 5);
        o.strategy = page.uintAt(at + 89, 1);
        o.flags = page.uintAt(at + 90, 1);
    }

    /// @dev First reason to leave an order out, in the order of README.md; applies the order if there is none.
    function _judge(PostContext memory c, OrderWords memory o, bytes calldata page, uint256 at)
        private
        view
        returns (Skip)
    {
        if (o.taskCount == 0 || o.taskCount > MAX_TASKS || o.fuelLimit == 0) return Skip.EMPTY;
        if (o.strategy != 0 || o.flags != 0 || c.kind != 0) return Skip.UNSUPPORTED;
        if (block.timestamp > o.validUntil) return Skip.EXPIRED;
        if (c.units < o.minUnits) return Skip.UNITS;
        if (c.feeWei > o.maxFee) return Skip.FEE;
        uint256 taskPrice = _ceilDiv(o.fuelLimit * c.price, FUEL_UNIT);
        if (c.price > o.maxPrice || taskPrice > type(uint64).max) return Skip.PRICE;
        if (c.commitPeriod > o.commitPeriod || c.commitPeriod < _neededPeriod(o)) return Skip.PERIOD;
        uint256 bundles = _ceilDiv(o.taskCount, BUNDLE_TASKS);
        if (c.bundles + bundles > c.bundlesMost) return Skip.FULL;
        uint256 executions = o.taskCount * c.seats * (1 + c.rounds);
        uint256 fuel = c.fuelUsed + o.fuelLimit * executions;
        if (fuel > c.fuelMost) return Skip.CAPACITY;
        if (!_isSigned(c, o, page, at)) return Skip.SIGNATURE;
        if (Nonces.isUsed(c.nonces, o.nonce)) return Skip.NONCE;
        uint256 escrow = taskPrice * executions + c.feeWei * bundles;
        if (c.account.free < escrow) return Skip.DEPOSIT;
        c.account.free -= uint128(escrow);
        c.account.escrow += uint128(escrow);
        Nonces.use(c.nonces, o.nonce);
        (c.fuelUsed, c.taskPrice) = (fuel, taskPrice);
        c.bundles += bundles;
        c.accepted += 1;
        return Skip.NONE;
    }

    function _isSigned(PostContext memory c, OrderWords memory o, bytes calldata page, uint256 at)
        private
        pure
        returns (bool)
    {
        bytes32 structHash;
        assembly ("memory-safe") {
            structHash := keccak256(o, 544) // 17 words
        }
        return Statements.isSignedBy(
            address(uint160(o.requester)),
            Statements.typedDigest(c.separator, structHash),
            page.uintAt(at + 91, 32),
            page.uintAt(at + 123, 32),
            page.uintAt(at + 155, 1)
        );
    }

    /// @dev Seconds that one bundle takes at the reference rates.
    function _neededPeriod(OrderWords memory o) private view returns (uint256) {
        uint256 tasks = o.taskCount < BUNDLE_TASKS ? o.taskCount : BUNDLE_TASKS;
        return
            _ceilDiv(tasks * o.fuelLimit, _params.referenceFuelRate) + _ceilDiv(o.inputBytes, _params.referenceByteRate);
    }

    function _min(uint256 a, uint256 b) private pure returns (uint256) {
        return a < b ? a : b;
    }

    function _ceilDiv(uint256 a, uint256 b) private pure returns (uint256) {
        return (a + b - 1) / b;
    }
}
