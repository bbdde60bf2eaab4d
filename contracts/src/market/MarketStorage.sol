// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IBeacon} from "../interfaces/IBeacon.sol";
import {IDisputes} from "../interfaces/IDisputes.sol";
import {IMarketEvents} from "../interfaces/IMarketEvents.sol";
import {IStakeRegistry} from "../interfaces/IStakeRegistry.sol";
import {Statements} from "../libraries/Statements.sol";
import {TaggedBits} from "../libraries/TaggedBits.sol";
import {Params} from "../types/Params.sol";

/// @title What the market keeps: accounts, and batches in recycled slots
/// @dev A batch keeps O(1) words and a few bits a bundle; all else is hashed, and travels in events.
/// Balance = Σ free + Σ escrow + bonds. The market and its settling module have this storage first, and alike.
abstract contract MarketStorage is IMarketEvents {
    struct Account {
        uint128 free;
        uint128 escrow;
    }

    struct Batch {
        uint64 id;
        address collator;
        BatchStatus status;
        uint8 round;
        uint8 seats;
        uint8 rounds;
        // second word
        uint32 classId;
        uint32 commitPeriod;
        uint64 feeWei;
        uint16 table;
        uint16 bundles;
        uint16 pending;
        uint16 carried;
        uint48 beaconBlock;
        bool bonded;
        // third word
        uint40 startTime;
        uint48 startBlock;
        uint40 finalAt;
        uint32 nextSettled;
        uint32 openDisputes;
        bool judged; // its class puts a conflict to a vote
        bool queued; // its slot stands in the queue of settled ones
        bool auditDrawn;
        uint8 auditFrom; // least round whose outcomes the present draw of audits is about
        bool hasBeacon; // those below are this batch's; else they are what an earlier one left in the slot, and count as
        bool hasCommits; // 0: to write over a word costs a quarter of filling one that was cleared
        bool hasOutcomes;
        // hashes
        bytes32 beacon;
        bytes32 postHash;
        bytes32 commitHash;
        bytes32 carryHash;
        bytes32 nextCarryHash;
        bytes32 outcomeHash;
    }

    enum BitKind {
        STATUS, // two bits a bundle: settled, and the parity of the round that it waits for
        COMMITTED, // one bit a seat, tagged with the round too
        REVEALED, // likewise
        STRUCK // a byte a bundle: the least round whose outcome counts
    }

    /// @dev Bits of one kind in memory, a word at a time.
    struct BitReader {
        uint256 key; // of word 0
        uint256 tag;
        uint256 round;
        uint256 index; // of the word in hand
        uint256 word;
    }

    /// @dev Bits to be set or flipped, gathered word by word: each word is written once if they ascend.
    struct BitWriter {
        uint256 key;
        uint256 tag;
        uint256 index;
        uint256 word;
    }

    uint256 internal constant BUNDLES_PER_WORD = TaggedBits.BITS / 2;
    uint256 private constant STRUCK_PER_WORD = TaggedBits.BITS / 8;
    uint256 private constant NO_WORD = type(uint256).max;

    IStakeRegistry public immutable REGISTRY;
    IDisputes public immutable DISPUTES;
    IBeacon public immutable BEACON;

    mapping(address owner => Account) internal _accounts;
    uint256 internal _bonds;
    Params internal _params;
    mapping(uint32 slot => Batch) internal _batches;
    mapping(uint256 key => uint256 word) internal _bits;
    uint32 internal _sequence;
    /// @dev Settled slots queue up for reuse: first one in, first one final. `_slots` counts those that exist.
    /// 32 bits, so that nobody can take all of them, by batches that never end.
    uint32 internal _oldestSettled;
    uint32 internal _newestSettled;
    uint32 internal _settledCount;
    uint32 internal _slots;

    constructor(Params memory params_, address registry, address disputes, address beacon) {
        _params = params_;
        REGISTRY = IStakeRegistry(registry);
        DISPUTES = IDisputes(disputes);
        BEACON = IBeacon(beacon);
    }

    function _separator() internal view returns (bytes32) {
        return Statements.domainSeparator(address(this));
    }

    function _batch(uint64 batchId) internal view returns (Batch storage b) {
        b = _batches[uint32(batchId)];
        if (batchId == 0 || b.id != batchId) revert BatchUnknown(batchId);
    }

    function _batchIn(uint64 batchId, BatchStatus status) internal view returns (Batch storage b) {
        b = _batch(batchId);
        if (b.status != status) revert WrongStatus(batchId, b.status);
    }

    function _onlyCollator(Batch storage b) internal view {
        if (msg.sender != b.collator) revert NotCollator(b.collator);
    }

    /// @dev The slot of the oldest batch that is final, or a new one.
    function _takeSlot() internal returns (uint32 slot) {
        if (_settledCount == 0) return _slots++;
        slot = _oldestSettled;
        Batch storage oldest = _batches[slot];
        bool isQuiet = oldest.status == BatchStatus.SETTLED && oldest.openDisputes == 0;
        if (isQuiet && block.timestamp < oldest.finalAt) return _slots++;
        _oldestSettled = oldest.nextSettled;
        --_settledCount;
        if (isQuiet) return slot;
        // Extended, or disputed: nobody knows for how long, and those behind it are not to wait.
        _queueSlot(slot);
        return _slots++;
    }

    function _queueSlot(uint32 slot) private {
        if (_settledCount == 0) _oldestSettled = slot;
        else _batches[_newestSettled].nextSettled = slot;
        _newestSettled = slot;
        ++_settledCount;
    }

    function _finishBatch(Batch storage b) internal {
        b.status = BatchStatus.SETTLED;
        b.finalAt = uint40(block.timestamp + _params.challengePeriod);
        if (_isAudited(b)) b.beaconBlock = uint48(block.number + _params.beaconDelay);
        if (!b.queued) {
            b.queued = true;
            _queueSlot(uint32(b.id));
        }
        if (b.bonded) {
            b.bonded = false;
            _returnBond(b.collator, _params.batchBond);
        }
        emit BatchSettled(b.id, b.finalAt);
    }

    function _beaconOf(Batch storage b) internal view returns (bytes32) {
        return b.hasBeacon || b.auditDrawn ? b.beacon : bytes32(0);
    }

    function _commitHashOf(Batch storage b) internal view returns (bytes32) {
        return b.hasCommits ? b.commitHash : bytes32(0);
    }

    /// @dev A batch that is settled and has bundles has outcomes: whoever knows that may read the word itself.
    function _outcomeHashOf(Batch storage b) internal view returns (bytes32) {
        return b.hasOutcomes ? b.outcomeHash : bytes32(0);
    }

    /// @dev Window 1 to 4 of the round is over: by its seconds and by its blocks.
    function _isPast(Batch storage b, uint256 window) internal view returns (bool) {
        uint256 end = uint256(b.startTime) + b.commitPeriod;
        if (window > 1) end += _params.directPeriod;
        if (window > 2) end += _params.settlePeriod;
        if (window > 3) end += _params.directPeriod;
        return block.timestamp >= end && block.number >= uint256(b.startBlock) + window * _params.minBlocks;
    }

    function _domain(Batch storage b, uint256 stage, uint256 round) internal view returns (bytes32) {
        return Statements.roundDomain(address(this), b.id, b.postHash, stage, round, _beaconOf(b));
    }

    function _bitKey(uint64 batchId, BitKind kind, uint256 word) internal pure returns (uint256) {
        // 4096 bundles of 255 seats fill fewer than 2^13 words.
        return (uint256(uint32(batchId)) << 16) | (uint256(kind) << 13) | word;
    }

    function _bitTag(Batch storage b, BitKind kind) internal view returns (uint256) {
        uint256 sequence = b.id >> 32;
        return (sequence << 8) | (kind == BitKind.STATUS || kind == BitKind.STRUCK ? 0 : b.round);
    }

    function _bitReader(Batch storage b, BitKind kind) internal view returns (BitReader memory) {
        return BitReader(_bitKey(b.id, kind, 0), _bitTag(b, kind), b.round, NO_WORD, 0);
    }

    function _isSet(BitReader memory r, uint256 ordinal) internal view returns (bool) {
        // unchecked: numbers of bits
        unchecked {
            _turnTo(r, ordinal / TaggedBits.BITS);
            return (r.word >> (ordinal % TaggedBits.BITS)) & 1 == 1;
        }
    }

    /// @dev Whether a bundle waits for the present round.
    function _isPending(BitReader memory r, uint256 bundle) internal view returns (bool) {
        // unchecked: numbers of bits
        unchecked {
            _turnTo(r, bundle / BUNDLES_PER_WORD);
            return _isPendingBits(r.word, bundle % BUNDLES_PER_WORD, r.round);
        }
    }

    function _turnTo(BitReader memory r, uint256 index) private view {
        if (r.index == index) return;
        (r.index, r.word) = (index, TaggedBits.load(_bits, r.key | index, r.tag));
    }

    function _bitWriter(Batch storage b, BitKind kind) internal view returns (BitWriter memory) {
        return BitWriter(_bitKey(b.id, kind, 0), _bitTag(b, kind), NO_WORD, 0);
    }

    function _setBit(BitWriter memory w, uint256 ordinal) internal {
        // unchecked: numbers of bits
        unchecked {
            _moveTo(w, ordinal / TaggedBits.BITS);
            w.word |= 1 << (ordinal % TaggedBits.BITS);
        }
    }

    function _moveTo(BitWriter memory w, uint256 index) private {
        if (w.index == index) return;
        _flush(w);
        (w.index, w.word) = (index, TaggedBits.load(_bits, w.key | index, w.tag));
    }

    function _flush(BitWriter memory w) internal {
        if (w.index != NO_WORD) TaggedBits.store(_bits, w.key | w.index, w.tag, w.word);
    }

    /// @dev Whether the two status bits say that a bundle waits for this round.
    function _isPendingBits(uint256 data, uint256 position, uint256 round) internal pure returns (bool) {
        uint256 pair = data >> (2 * position);
        return pair & 1 == 0 && (pair >> 1) & 1 == round & 1;
    }

    /// @dev The least round whose outcome of the bundle counts.
    function _struckBelow(Batch storage b, uint256 bundle) internal view returns (uint256) {
        uint256 key = _bitKey(b.id, BitKind.STRUCK, bundle / STRUCK_PER_WORD);
        uint256 data = TaggedBits.load(_bits, key, _bitTag(b, BitKind.STRUCK));
        return (data >> (8 * (bundle % STRUCK_PER_WORD))) & 0xff;
    }

    /// @dev The bundle's outcome of this round, and of those before, counts no longer.
    function _strike(Batch storage b, uint256 bundle, uint256 round) internal {
        uint256 key = _bitKey(b.id, BitKind.STRUCK, bundle / STRUCK_PER_WORD);
        uint256 tag = _bitTag(b, BitKind.STRUCK);
        uint256 shift = 8 * (bundle % STRUCK_PER_WORD);
        uint256 data = TaggedBits.load(_bits, key, tag) & ~(uint256(0xff) << shift);
        TaggedBits.store(_bits, key, tag, data | ((round + 1) << shift));
    }

    /// @dev Whether auditors are drawn for a settled batch: a class vote must be able to follow, in time.
    function _isAudited(Batch storage b) internal view returns (bool) {
        return b.judged && b.commitPeriod <= _params.auditPeriod;
    }

    /// @dev Keep and tell rows of outcomes; they make one page of the batch's chain, together with the round.
    function _tellOutcomes(Batch storage b, bytes memory outcomes) internal {
        uint8 round = b.round;
        b.outcomeHash = Statements.chain(_outcomeHashOf(b), keccak256(abi.encodePacked(round, outcomes)));
        b.hasOutcomes = true;
        emit BundlesSettled(b.id, round, outcomes);
    }

    function _lockBond(address owner, uint256 amount) internal {
        Account storage a = _accounts[owner];
        if (a.free < amount) revert InsufficientDeposit(a.free, amount);
        a.free -= uint128(amount);
        _bonds += amount;
    }

    function _returnBond(address owner, uint256 amount) internal {
        _bonds -= amount;
        _accounts[owner].free += uint128(amount);
    }

    /// @dev Ends `escrow` of a requester, of which `refund` is free again.
    function _release(address requester, uint256 escrow, uint256 refund) internal {
        Account storage a = _accounts[requester];
        a.escrow -= uint128(escrow);
        a.free += uint128(refund);
    }
}
