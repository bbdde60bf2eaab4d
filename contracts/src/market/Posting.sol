// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeMarket} from "../interfaces/IComputeMarket.sol";
import {Buffer, Buffers, Cursor} from "../libraries/Cursor.sol";
import {MalformedPage as PageError} from "../libraries/Cursor.sol";
import {NonceWindow, Nonces} from "../libraries/Nonces.sol";
import {Statements} from "../libraries/Statements.sol";
import {Wallets} from "../libraries/Wallets.sol";
import {ClassTable} from "../types/ClassTable.sol";
import {
    BEACON_REACH,
    BPS,
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
        uint256 seats;
        uint256 shares; // seats × (1 + rounds)
        uint256 commitPeriod;
        uint256 feeWei;
        uint256 auditBps;
        uint256 units;
        uint256 price;
        uint256 maxTaskFuel;
        uint256 fuelRate;
        uint256 byteRate;
        uint256 fuel; // backlog of the class
        uint256 fuelMost;
        uint256 bundles;
        uint256 bundlesMost;
        uint256 index; // of the order in its page
        // of the group at hand
        uint256 kind;
        uint256 free;
        uint256 escrow;
        NonceWindow nonces;
        // of the order at hand
        uint256 taskPrice;
        OrderWords order; // one for all orders of a page: memory costs more the more of it there is
        Buffer records;
        Buffer skips;
    }

    struct Backlog {
        uint128 fuel;
        uint40 at;
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
    uint256 private constant BODY_BYTES = 91;
    uint256 private constant ECDSA = 0;
    uint256 private constant ECDSA_BYTES = 65;
    uint256 private constant WALLET = 1;
    uint256 private constant GROUP_BYTES = 23;
    uint256 private constant SKIP_BYTES = 3;
    uint256 private constant RECORD_BYTES = 12;
    uint256 private constant STRICT = 1; // the one flag that there is

    /// @inheritdoc IComputeMarket
    mapping(uint32 classId => Backlog) public backlog;
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
        (b.status, b.hasBeacon) = (BatchStatus.ASSIGNED, true);
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
        } else if (b.status == BatchStatus.AWAITING) {
            if (block.number <= uint256(b.beaconBlock) + BEACON_REACH) revert WindowOpen("beacon");
        } else {
            revert WrongStatus(batchId, b.status);
        }
        (b.status, b.bonded) = (BatchStatus.VOIDED, false);
        uint256 bond = _params.batchBond;
        _bonds -= bond;
        REGISTRY.donate{value: bond}();
        emit BatchVoided(batchId);
    }

    function _open(Terms calldata terms) private returns (uint64 batchId) {
        (ClassTable memory table, uint16 number,, uint40 eraEnd,, bool judged) = REGISTRY.currentTable(terms.classId);
        if (block.timestamp >= eraEnd) revert EraOverdue(terms.classId);
        if (terms.seats == 0 || 2 * uint256(terms.seats) > table.memberCount) revert InvalidTerms("seats");
        if (terms.rounds > _params.maxRounds) revert InvalidTerms("rounds");
        // Counts of voters travel in one byte.
        if (terms.seats * (1 + uint256(terms.rounds)) > MAX_VOTERS) revert InvalidTerms("seats");
        if (terms.commitPeriod == 0 || terms.commitPeriod > _params.maxCommitPeriod) {
            revert InvalidTerms("commitPeriod");
        }
        _lockBond(msg.sender, _params.batchBond);
        uint32 slot = _takeSlot();
        batchId = (uint64(++_sequence) << 32) | slot;
        Batch storage b = _batches[slot];
        // Nothing is carried before a batch's second round.
        if (b.round > 0) (b.carryHash, b.nextCarryHash) = (0, 0);
        (b.id, b.collator, b.status, b.round) = (batchId, msg.sender, BatchStatus.POSTING, 0);
        (b.seats, b.rounds, b.classId, b.table) = (terms.seats, terms.rounds, terms.classId, number);
        (b.commitPeriod, b.feeWei, b.bonded) = (terms.commitPeriod, terms.feeWei, true);
        (b.bundles, b.pending, b.carried, b.beaconBlock) = (0, 0, 0, 0);
        (b.openDisputes, b.judged, b.queued) = (0, judged, false);
        (b.auditDrawn, b.auditFrom, b.hasBeacon, b.hasCommits, b.hasOutcomes) = (false, 0, false, false, false);
        (b.startTime, b.startBlock, b.finalAt) = (uint40(block.timestamp), uint48(block.number), 0);
        b.postHash = 0;
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
        PostContext memory c = _context(b);
        uint16 firstBundle = b.bundles;
        // An order has 93 bytes or more, a group with one 116, of which the record keeps 34; an append writes a word.
        c.skips = Buffers.allocate(page.length / (BODY_BYTES + 2) * SKIP_BYTES);
        c.records = Buffers.allocate(34 + page.length / 3);
        c.records.append(uint256(page.hashAt(0, page.length)), 32);
        c.records.append(firstBundle, 2);
        uint256 at;
        while (at < page.length) {
            at = _postGroup(c, page, at);
        }
        if (c.bundles > firstBundle) {
            b.postHash = keccak256(abi.encodePacked(b.postHash, c.records.hash()));
            b.bundles = uint16(c.bundles);
            backlog[b.classId] = Backlog(uint128(c.fuel), uint40(block.timestamp));
        }
        emit PagePosted(b.id, firstBundle, page, c.skips.finish());
    }

    function _context(Batch storage b) private view returns (PostContext memory c) {
        (uint32 classId, uint256 seats, uint256 rounds) = (b.classId, b.seats, b.rounds);
        ClassTable memory table = REGISTRY.tableAt(classId, b.table);
        (,,,, c.price,) = REGISTRY.currentTable(classId);
        c.separator = _separator();
        (c.seats, c.shares, c.commitPeriod, c.feeWei) = (seats, seats * (1 + rounds), b.commitPeriod, b.feeWei);
        (c.units, c.bundles) = (table.unitCount, b.bundles);
        (c.auditBps, c.maxTaskFuel) = (_params.auditBps, _params.maxTaskFuel);
        (c.fuelRate, c.byteRate) = (_params.referenceFuelRate, _params.referenceByteRate);
        // One call settles a whole page of a voided batch, and reads a whole page always: it must fit a transaction.
        c.bundlesMost = _min(MAX_BUNDLES, c.bundles + _min(MAX_PAGE_BUNDLES, MAX_PAGE_SEATS / c.shares));
        Backlog memory waiting = backlog[classId];
        uint256 drained = (block.timestamp - waiting.at) * table.capacity / 2;
        c.fuel = waiting.fuel > drained ? waiting.fuel - drained : 0;
        c.fuelMost = uint256(table.capacity) * c.commitPeriod / 2;
        OrderWords memory o = c.order;
        (o.typeHash, o.classId, o.seats, o.rounds) = (ORDER_TYPEHASH, classId, seats, rounds);
    }

    /// @return end where the group ends
    function _postGroup(PostContext memory c, bytes calldata page, uint256 at) private returns (uint256 end) {
        address requester = address(uint160(page.uintAt(at, 20)));
        uint256 count = page.uintAt(at + 21, 2);
        c.kind = page.uintAt(at + 20, 1);
        if (count == 0 || c.kind > WALLET) revert PageError();
        (c.free, c.escrow) = (_accounts[requester].free, _accounts[requester].escrow);
        c.nonces = nonces[requester];
        c.order.requester = uint160(requester);
        uint256 start = c.records.used;
        c.records.append(uint256(uint160(requester)) << 16, 22); // its count is written below
        end = _postOrders(c, page, at + GROUP_BYTES, count);
        uint256 accepted = (c.records.used - start - 22) / RECORD_BYTES;
        if (accepted == 0) {
            c.records.used = start;
            return end;
        }
        _writeCount(c.records, start + 20, accepted);
        // safe: what moves is less than all free deposits
        _accounts[requester] = Account(uint128(c.free), uint128(c.escrow));
        nonces[requester] = c.nonces;
    }

    function _postOrders(PostContext memory c, bytes calldata page, uint256 at, uint256 count)
        private
        view
        returns (uint256)
    {
        // unchecked: offsets and counts of a page, which is calldata
        unchecked {
            OrderWords memory o = c.order;
            Buffer memory records = c.records;
            bytes memory data = records.data;
            uint256 used = records.used;
            for (; count > 0; --count) {
                uint256 size = BODY_BYTES + ECDSA_BYTES;
                if (c.kind == WALLET) size = BODY_BYTES + 2 + page.uintAt(at + BODY_BYTES, 2);
                if (at + size > page.length) revert PageError();
                _parse(o, page, at);
                Skip reason = _judge(c, o, page, at, size);
                if (reason == Skip.NONE) {
                    uint256 record = (c.taskPrice << 32) | (o.taskCount << 8) | o.flags;
                    // Assembly: the room was taken for all orders of the page, and is not looked at for each.
                    assembly ("memory-safe") {
                        mstore(add(add(data, 32), used), shl(160, record))
                    }
                    used += RECORD_BYTES;
                } else {
                    c.skips.append((c.index << 8) | uint256(reason), SKIP_BYTES);
                }
                ++c.index;
                at += size;
            }
            records.used = used;
            return at;
        }
    }

    function _writeCount(Buffer memory records, uint256 at, uint256 count) private pure {
        bytes memory data = records.data;
        assembly ("memory-safe") {
            mstore8(add(add(data, 32), at), shr(8, count))
            mstore8(add(add(data, 33), at), count)
        }
    }

    /// @dev Assembly, since it runs for each order: four loads instead of thirteen with their bounds. The caller has
    /// checked that the order's bytes are there.
    function _parse(OrderWords memory o, bytes calldata page, uint256 at) private pure {
        assembly ("memory-safe") {
            let from := add(page.offset, at)
            mstore(add(o, 0x40), shr(192, calldataload(from))) // nonce
            mstore(add(o, 0x80), calldataload(add(from, 8))) // specHash
            let word := calldataload(add(from, 40))
            mstore(add(o, 0xa0), shr(224, word)) // taskCount
            mstore(add(o, 0xc0), and(shr(160, word), 0xffffffffffffffff)) // fuelLimit
            mstore(add(o, 0xe0), and(shr(96, word), 0xffffffffffffffff)) // inputBytes
            mstore(add(o, 0x140), and(shr(64, word), 0xffffffff)) // commitPeriod
            mstore(add(o, 0x160), and(shr(32, word), 0xffffffff)) // minUnits
            word := calldataload(add(from, 68))
            mstore(add(o, 0x180), shr(192, word)) // maxPrice
            mstore(add(o, 0x1a0), and(shr(128, word), 0xffffffffffffffff)) // maxFee
            mstore(add(o, 0x1c0), and(shr(88, word), 0xffffffffff)) // validUntil
            mstore(add(o, 0x1e0), and(shr(80, word), 0xff)) // strategy
            mstore(add(o, 0x200), and(shr(72, word), 0xff)) // flags
        }
    }

    /// @dev First reason to leave an order out, in the order of README.md; applies the order if there is none.
    function _judge(PostContext memory c, OrderWords memory o, bytes calldata page, uint256 at, uint256 size)
        private
        view
        returns (Skip)
    {
        // unchecked: fields are at most 64 bits wide, what they are multiplied with 64, 20 and 8
        unchecked {
            uint256 taskCount = o.taskCount;
            uint256 taskPrice = _ceilDiv(o.fuelLimit * c.price, FUEL_UNIT);
            uint256 bundles = c.bundles + _ceilDiv(taskCount, BUNDLE_TASKS);
            uint256 fuel = c.fuel + o.fuelLimit * taskCount * c.seats;
            if (_isUnfit(c, o, taskPrice, bundles, fuel)) return _whyUnfit(c, o, taskPrice, bundles);
            if (!_isSigned(c, o, page[at + BODY_BYTES:at + size])) return Skip.SIGNATURE;
            if (Nonces.isUsed(c.nonces, o.nonce)) return Skip.NONCE;
            uint256 escrow = taskPrice * taskCount * c.shares + c.feeWei * (bundles - c.bundles)
                + _auditFees(c, taskPrice, taskCount);
            if (c.free < escrow) return Skip.DEPOSIT;
            c.free -= escrow;
            c.escrow += escrow;
            Nonces.use(c.nonces, o.nonce);
            (c.fuel, c.taskPrice, c.bundles) = (fuel, taskPrice, bundles);
            return Skip.NONE;
        }
    }

    /// @dev Whether one of the reasons before the signature holds. Most orders have none: without a branch for each it
    /// costs them half.
    function _isUnfit(PostContext memory c, OrderWords memory o, uint256 taskPrice, uint256 bundles, uint256 fuel)
        private
        view
        returns (bool isUnfit)
    {
        uint256 needed = _neededPeriod(c, o);
        (uint256 most, uint256 fuelMost, uint256 maxTaskFuel) = (c.bundlesMost, c.fuelMost, c.maxTaskFuel);
        (uint256 period, uint256 price, uint256 fee, uint256 units) = (c.commitPeriod, c.price, c.feeWei, c.units);
        assembly ("memory-safe") {
            let taskCount := mload(add(o, 0xa0))
            let fuelLimit := mload(add(o, 0xc0))
            isUnfit := or(iszero(taskCount), or(gt(taskCount, MAX_TASKS), iszero(fuelLimit)))
            isUnfit := or(isUnfit, or(iszero(iszero(mload(add(o, 0x1e0)))), gt(mload(add(o, 0x200)), STRICT)))
            isUnfit := or(isUnfit, or(gt(fuelLimit, maxTaskFuel), gt(timestamp(), mload(add(o, 0x1c0)))))
            isUnfit := or(isUnfit, or(lt(units, mload(add(o, 0x160))), gt(fee, mload(add(o, 0x1a0)))))
            isUnfit := or(isUnfit, or(gt(price, mload(add(o, 0x180))), gt(taskPrice, 0xffffffffffffffff)))
            isUnfit := or(isUnfit, or(gt(period, mload(add(o, 0x140))), lt(period, needed)))
            isUnfit := or(isUnfit, or(gt(bundles, most), gt(fuel, fuelMost)))
        }
    }

    function _whyUnfit(PostContext memory c, OrderWords memory o, uint256 taskPrice, uint256 bundles)
        private
        view
        returns (Skip)
    {
        if (o.taskCount == 0 || o.taskCount > MAX_TASKS || o.fuelLimit == 0) return Skip.EMPTY;
        if (o.strategy != 0 || o.flags > STRICT || o.fuelLimit > c.maxTaskFuel) return Skip.UNSUPPORTED;
        if (block.timestamp > o.validUntil) return Skip.EXPIRED;
        if (c.units < o.minUnits) return Skip.UNITS;
        if (c.feeWei > o.maxFee) return Skip.FEE;
        if (c.price > o.maxPrice || taskPrice > type(uint64).max) return Skip.PRICE;
        if (c.commitPeriod > o.commitPeriod || c.commitPeriod < _neededPeriod(c, o)) return Skip.PERIOD;
        if (bundles > c.bundlesMost) return Skip.FULL;
        return Skip.CAPACITY;
    }

    /// @dev Rounded up for each bundle, of which only the last may be short.
    function _auditFees(PostContext memory c, uint256 taskPrice, uint256 taskCount)
        private
        pure
        returns (uint256 fees)
    {
        // unchecked: 64 bits × 20 bits × 16 bits
        unchecked {
            if (taskCount < BUNDLE_TASKS) return _ceilDiv(taskPrice * taskCount * c.auditBps, BPS);
            fees = taskCount / BUNDLE_TASKS * _ceilDiv(taskPrice * BUNDLE_TASKS * c.auditBps, BPS);
            fees += _ceilDiv(taskPrice * (taskCount % BUNDLE_TASKS) * c.auditBps, BPS);
        }
    }

    function _isSigned(PostContext memory c, OrderWords memory o, bytes calldata signature)
        private
        view
        returns (bool)
    {
        bytes32 structHash;
        assembly ("memory-safe") {
            structHash := keccak256(o, 544) // 17 words
        }
        bytes32 jobId = Statements.typedDigest(c.separator, structHash);
        address requester = address(uint160(o.requester));
        if (c.kind == WALLET) return Wallets.isSignedBy(requester, jobId, signature[2:]);
        return Statements.isSignedBy(requester, jobId, signature);
    }

    /// @dev Seconds that one bundle takes at the reference rates.
    function _neededPeriod(PostContext memory c, OrderWords memory o) private pure returns (uint256) {
        // unchecked: as in `_judge`
        unchecked {
            uint256 tasks = o.taskCount < BUNDLE_TASKS ? o.taskCount : BUNDLE_TASKS;
            return _ceilDiv(tasks * o.fuelLimit, c.fuelRate) + _ceilDiv(o.inputBytes, c.byteRate);
        }
    }

    function _min(uint256 a, uint256 b) private pure returns (uint256) {
        return a < b ? a : b;
    }

    /// @dev The constructor of the registry lets no rate be 0; callers know that the sum fits.
    function _ceilDiv(uint256 a, uint256 b) private pure returns (uint256) {
        unchecked {
            return (a + b - 1) / b;
        }
    }
}
