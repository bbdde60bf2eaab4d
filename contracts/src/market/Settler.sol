// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Buffer, Buffers} from "../libraries/Cursor.sol";
import {MalformedPage as PageError} from "../libraries/Cursor.sol";
import {Statements} from "../libraries/Statements.sol";
import {LoadedTable, TableReader} from "../libraries/TableReader.sol";
import {TaggedBits} from "../libraries/TaggedBits.sol";
import {FineKind} from "../types/FineKind.sol";
import {Params} from "../types/Params.sol";
import {Settlement} from "../types/Settlement.sol";
import {MarketStorage} from "./MarketStorage.sol";
import {SettlementReader, Work} from "./SettlementReader.sol";

/// @title Openings, verdicts and payment
/// @notice The market runs this code on its own storage; both together would be too large for one contract.
contract Settler is MarketStorage {
    using Buffers for Buffer;
    using TableReader for LoadedTable;

    /// @dev One settle call: what it knows, and what it owes when it ends.
    struct SettleContext {
        LoadedTable table;
        bytes32 domain;
        uint256 seats;
        uint256 round;
        uint256 shares; // seats × (1 + rounds): how many prices a bundle's escrow holds
        uint256 fee;
        bool isLast; // no fresh round is left
        bool isVoided;
        bool isOver; // window 4 is past
        Work[] works;
        uint256[] opened; // by work and seat, see SettlementReader
        uint256[] earned; // wei by member
        uint256 fromEscrow;
        uint256 fromPots;
        uint256 leftInPots;
        uint256 fees;
        address requester; // whose escrow and refund are gathered before they are written
        uint256 escrow;
        uint256 refund;
        Buffer verdicts;
        Buffer carry;
        uint256 processed;
        uint256 carried;
    }

    /// @dev One bundle while it is decided.
    struct Decision {
        uint256[] voters; // members with a vote, standing ones first; `count` of them
        bytes32[] votes; // beside them
        uint256 count;
        uint256 standing;
        uint256 open; // seats of this round with a vote
        bytes32 vote;
        bool isConflict;
        uint256[] committee; // drawn only where it is needed
    }

    constructor(Params memory params_, address registry, address disputes, address beacon)
        MarketStorage(params_, registry, disputes, beacon)
    {}

    /// @notice See `IComputeMarket.settle`.
    function settle(uint64 batchId, Settlement calldata s) external {
        Batch storage b = _batch(batchId);
        if (b.status != BatchStatus.ASSIGNED && b.status != BatchStatus.VOIDED) revert WrongStatus(batchId, b.status);
        SettleContext memory c = _settleContext(b);
        if (!c.isVoided && !c.isOver) _onlyCollator(b);
        _authenticate(b, s);
        c.works = c.round == 0 ? SettlementReader.readRecords(s.page) : SettlementReader.readCarried(s.page);
        _readOpened(b, c, s);
        c.verdicts = Buffers.allocate(35 * c.works.length);
        c.carry = Buffers.allocate(c.works.length * (83 + 2 * c.shares));
        for (uint256 i; i < c.works.length; ++i) {
            if (!c.works[i].isLeft) _decide(b, c, i);
        }
        _storeStatuses(b, c);
        _pay(c);
        _endSettle(b, c);
    }

    function _settleContext(Batch storage b) private view returns (SettleContext memory c) {
        c.table = TableReader.load(REGISTRY.tableAt(b.classId, b.table));
        c.domain = _domain(b, Statements.STAGE_BUNDLE, b.round);
        (c.seats, c.round, c.fee) = (b.seats, b.round, b.feeWei);
        c.shares = uint256(b.seats) * (1 + uint256(b.rounds));
        c.isLast = b.round == b.rounds;
        c.isVoided = b.status == BatchStatus.VOIDED;
        c.isOver = !c.isVoided && _isPast(b, 4);
        c.earned = new uint256[](c.table.memberCount);
    }

    function _authenticate(Batch storage b, Settlement calldata s) private view {
        bytes32 chain = Statements.fold(keccak256(abi.encodePacked(s.prior, keccak256(s.page))), s.tail);
        if (chain != (b.round == 0 ? b.postHash : b.carryHash)) revert HashMismatch("page");
        if (Statements.fold(0, s.commitPages) != b.commitHash) revert HashMismatch("commitPages");
    }

    function _readOpened(Batch storage b, SettleContext memory c, Settlement calldata s) private view {
        if (c.isVoided) {
            if (s.votes.length + s.openings.length > 0) revert PageError();
        } else {
            SettlementReader.readVotes(c.works, s.votes);
        }
        // Bundles that do not wait for this round are left alone, whatever the caller says of them.
        uint256 tag = _bitTag(b, BitKind.STATUS);
        for (uint256 i; i < c.works.length; ++i) {
            uint256 bundle = c.works[i].bundle;
            uint256 data = TaggedBits.load(_bits, _bitKey(b.id, BitKind.STATUS, bundle / BUNDLES_PER_WORD), tag);
            if (!_isPendingBits(data, bundle % BUNDLES_PER_WORD, c.round)) c.works[i].isLeft = true;
        }
        c.opened = SettlementReader.readOpenings(c.works, s.commitPages, s.openings, c.table, c.domain, c.seats);
    }

    function _decide(Batch storage b, SettleContext memory c, uint256 index) private {
        Work memory w = c.works[index];
        Decision memory d = _gather(c, w, index);
        if (d.isConflict) {
            if (c.isOver) _fineSilent(c, w, d, index);
            w.verdict = Verdict.DISPUTED;
            _openDispute(b, c, w, d);
        } else if (d.open == c.seats) {
            w.verdict = Verdict.ACCEPTED;
            _accept(c, w, d);
        } else {
            if (!c.isVoided) {
                if (!c.isOver) revert TooEarly(uint16(w.bundle));
                _fineSilent(c, w, d, index);
            }
            w.verdict = c.isVoided || c.isLast ? Verdict.VOID : Verdict.CARRIED;
            if (w.verdict == Verdict.VOID) _void(c, w, d);
            else _carry(c, w, d);
        }
        ++c.processed;
        c.verdicts.append(w.bundle, 2);
        c.verdicts.append(uint256(w.verdict), 1);
        c.verdicts.append(w.verdict == Verdict.ACCEPTED ? uint256(d.vote) : 0, 32);
    }

    /// @dev Who has voted what, and how many seats of the round have a vote.
    function _gather(SettleContext memory c, Work memory w, uint256 index) private pure returns (Decision memory d) {
        d.standing = w.voters.length;
        (d.voters, d.votes) = (new uint256[](d.standing + c.seats), new bytes32[](d.standing + c.seats));
        for (uint256 i; i < d.standing; ++i) {
            (d.voters[i], d.votes[i]) = (w.voters[i], w.vote);
        }
        (d.count, d.vote) = (d.standing, w.vote);
        for (uint256 seat; seat < c.seats; ++seat) {
            uint256 opened = c.opened[index * c.seats + seat];
            if (opened == 0) continue;
            ++d.open;
            bytes32 vote = w.votes[(opened & 0xffff) - 1];
            if (d.count == 0) d.vote = vote;
            else if (vote != d.vote) d.isConflict = true;
            if (_isStanding(w, opened >> 16) && vote == w.vote) continue;
            (d.voters[d.count], d.votes[d.count]) = (opened >> 16, vote);
            ++d.count;
        }
        if (c.isVoided || d.open == c.seats) return d;
        d.committee = new uint256[](c.seats);
        c.table.draw(c.domain, w.bundle, c.seats, d.committee, 0);
        for (uint256 seat; seat < c.seats; ++seat) {
            if (c.opened[index * c.seats + seat] == 0 && _isStanding(w, d.committee[seat])) ++d.open;
        }
    }

    function _isStanding(Work memory w, uint256 member) private pure returns (bool) {
        for (uint256 i; i < w.voters.length; ++i) {
            if (w.voters[i] == member) return true;
        }
        return false;
    }

    function _fineSilent(SettleContext memory c, Work memory w, Decision memory d, uint256 index) private {
        if (d.open == c.seats) return;
        for (uint256 seat; seat < c.seats; ++seat) {
            if (c.opened[index * c.seats + seat] != 0 || _isStanding(w, d.committee[seat])) continue;
            (, uint24 operatorId) = c.table.row(d.committee[seat]);
            w.pot += REGISTRY.fine(operatorId, 2 * w.price, FineKind.SILENT);
        }
    }

    function _accept(SettleContext memory c, Work memory w, Decision memory d) private {
        uint256 due = w.price * d.count;
        uint256 fresh = w.price * (d.count - d.standing);
        uint256 fromPot = w.pot < fresh ? w.pot : fresh;
        for (uint256 i; i < d.count; ++i) {
            c.earned[d.voters[i]] += w.price;
        }
        c.fromEscrow += due - fromPot;
        c.fromPots += fromPot;
        c.leftInPots += w.pot - fromPot;
        c.fees += c.fee;
        uint256 escrow = w.price * c.shares + c.fee;
        _gatherRelease(c, w.requester, escrow, escrow - c.fee - (due - fromPot));
    }

    function _void(SettleContext memory c, Work memory w, Decision memory d) private {
        uint256 share = d.count == 0 ? 0 : w.pot / d.count;
        if (share > w.price) share = w.price;
        for (uint256 i; i < d.count; ++i) {
            c.earned[d.voters[i]] += share;
        }
        c.fromPots += share * d.count;
        c.leftInPots += w.pot - share * d.count;
        uint256 escrow = w.price * c.shares + c.fee;
        _gatherRelease(c, w.requester, escrow, escrow);
    }

    function _carry(SettleContext memory c, Work memory w, Decision memory d) private pure {
        ++c.carried;
        c.carry.append(w.bundle, 2);
        c.carry.append(uint160(w.requester), 20);
        c.carry.append(w.price, 12);
        c.carry.append(w.pot, 16);
        c.carry.append(d.count, 1);
        if (d.count > 0) c.carry.append(uint256(d.vote), 32);
        for (uint256 i; i < d.count; ++i) {
            c.carry.append(d.voters[i], 2);
        }
    }

    function _openDispute(Batch storage b, SettleContext memory c, Work memory w, Decision memory d) private {
        uint256 escrow = w.price * c.shares + c.fee;
        Buffer memory record = Buffers.allocate(163 + 34 * d.count);
        record.append(b.id, 8);
        record.append(w.bundle, 2);
        record.append(uint160(w.requester), 20);
        record.append(w.price, 12);
        record.append(w.pot, 16);
        record.append(escrow, 16);
        record.append(c.fee, 8);
        record.append(uint160(msg.sender), 20);
        record.append(b.classId, 4);
        record.append(b.table, 2);
        record.append(uint256(_domain(b, Statements.STAGE_CLASS_VOTE, 0)), 32);
        record.append(d.count, 1);
        for (uint256 i; i < d.count; ++i) {
            record.append(d.voters[i], 2);
            record.append(uint256(d.votes[i]), 32);
        }
        DISPUTES.open(record.finish());
    }

    /// @dev Neighbours of one requester cost one write.
    function _gatherRelease(SettleContext memory c, address requester, uint256 escrow, uint256 refund) private {
        if (requester != c.requester) {
            if (c.escrow > 0) _release(c.requester, c.escrow, c.refund);
            (c.requester, c.escrow, c.refund) = (requester, 0, 0);
        }
        c.escrow += escrow;
        c.refund += refund;
    }

    function _pay(SettleContext memory c) private {
        if (c.escrow > 0) _release(c.requester, c.escrow, c.refund);
        if (c.fees > 0) _accounts[msg.sender].free += uint128(c.fees);
        uint256[] memory entries = c.table.entries(c.earned);
        if (entries.length > 0) REGISTRY.credit{value: c.fromEscrow}(entries, c.fromPots);
        if (c.leftInPots > 0) REGISTRY.releasePot(c.leftInPots);
    }

    function _storeStatuses(Batch storage b, SettleContext memory c) private {
        uint256 tag = _bitTag(b, BitKind.STATUS);
        uint256 current = type(uint256).max; // word in hand: bundles ascend, so each is written once
        uint256 data;
        for (uint256 i; i < c.works.length; ++i) {
            Work memory w = c.works[i];
            if (w.verdict == Verdict.NONE) continue;
            uint256 key = _bitKey(b.id, BitKind.STATUS, w.bundle / BUNDLES_PER_WORD);
            if (key != current) {
                if (current != type(uint256).max) TaggedBits.store(_bits, current, tag, data);
                (current, data) = (key, TaggedBits.load(_bits, key, tag));
            }
            uint256 position = 2 * (w.bundle % BUNDLES_PER_WORD);
            // A carried bundle now waits for a round of the other parity; all others wait for none. Widened first: the
            // literals alone are a uint8, whose shift would lose the bits of every bundle from the fifth on.
            data ^= uint256(w.verdict == Verdict.CARRIED ? 2 : 1) << position;
        }
        if (current != type(uint256).max) TaggedBits.store(_bits, current, tag, data);
    }

    function _endSettle(Batch storage b, SettleContext memory c) private {
        if (c.processed == 0) return;
        uint8 round = b.round;
        if (c.carried > 0) {
            bytes memory page = c.carry.finish();
            b.nextCarryHash = keccak256(abi.encodePacked(b.nextCarryHash, keccak256(page)));
            emit BundlesCarried(b.id, round, page);
        }
        emit BundlesSettled(b.id, round, c.verdicts.finish());
        b.pending -= uint16(c.processed);
        b.carried += uint16(c.carried);
        if (b.pending > 0) return;
        if (b.carried == 0) return _finishBatch(b);
        b.status = BatchStatus.AWAITING;
        b.round = round + 1;
        (b.pending, b.carried) = (b.carried, 0);
        (b.carryHash, b.nextCarryHash, b.commitHash) = (b.nextCarryHash, 0, 0);
        b.beaconBlock = uint48(block.number + _params.beaconDelay);
        emit RoundAwaited(b.id, b.round, b.beaconBlock);
    }
}
