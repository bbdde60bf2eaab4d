// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Buffer, Buffers, Cursor} from "../libraries/Cursor.sol";
import {MalformedPage as PageError} from "../libraries/Cursor.sol";
import {DisputeRecord, DisputeRecords} from "../libraries/DisputeRecords.sol";
import {Statements} from "../libraries/Statements.sol";
import {LoadedTable, TableReader} from "../libraries/TableReader.sol";
import {ClassTable} from "../types/ClassTable.sol";
import {FineKind} from "../types/FineKind.sol";
import {BPS} from "../types/Limits.sol";
import {Params} from "../types/Params.sol";
import {Settlement} from "../types/Settlement.sol";
import {MarketStorage} from "./MarketStorage.sol";
import {Openings, Place, SettlementReader, Works} from "./SettlementReader.sol";

/// @title Openings, verdicts and payment
/// @notice The market runs this code on its own storage; both together would be too large for one contract.
contract Settler is MarketStorage {
    using Buffers for Buffer;
    using Cursor for bytes;
    using Place for uint256;
    using SettlementReader for bytes;
    using DisputeRecords for DisputeRecord;
    using TableReader for LoadedTable;

    /// @dev One settle call: what it knows, and what it owes when it ends.
    struct SettleContext {
        ClassTable source;
        LoadedTable table; // its units are read when a committee is drawn
        bytes32 domain;
        uint256 seats;
        uint256 round;
        uint256 shares; // seats × (1 + rounds): how many prices a bundle's escrow holds in the first round
        uint256 fee;
        uint256 auditBps;
        bool isLast; // no fresh round is left
        bool isVoided;
        bool isOver; // window 4 is past
        bool isJudged;
        Works works;
        uint256[] seen; // by work and seat, see SettlementReader
        uint256[] earned; // seats << 96 | wei, by member
        uint256 fromEscrow;
        uint256 fromPots;
        uint256 leftInPots;
        uint256 fees;
        uint256 auditFees;
        address requester; // whose escrow and refund are gathered before they are written
        uint256 escrow;
        uint256 refund;
        Buffer outcomes;
        Buffer carry;
        uint256 processed;
        uint256 carried;
        BitWriter statuses;
        BitReader committed;
        BitReader revealed;
    }

    /// @dev One bundle while it is decided; one for all, since memory costs more the more of it there is.
    struct Decision {
        uint256 place;
        address requester;
        uint256 price;
        uint256 shares;
        uint256 pot;
        uint256 opened; // seats with a vote, of all rounds
        uint256[] voters; // members with a vote, standing ones first; `count` of them
        bytes32[] votes; // beside them
        uint256 count;
        uint256 standing;
        uint256 open; // seats of this round with a vote
        bytes32 vote;
        bool isConflict;
        uint256[] abstainers; // members, once a seat; `abstained` of them
        uint256 abstained;
        uint256[] silent; // kind << 16 | member; `silences` of them
        uint256 silences;
        uint256[] committee;
        bool isDrawn;
    }

    uint256 private constant ONE_SEAT = 1 << 96;
    uint256 private constant STRICT = 1;
    uint256 private constant CONSOLATION = 5; // where nobody can be right, a seat earns the price divided by this
    uint256 private constant ROW_BYTES = 38;
    uint256 private constant CARRY_BYTES = 59;

    constructor(Params memory params_, address registry, address disputes, address beacon)
        MarketStorage(params_, registry, disputes, beacon)
    {}

    /// @notice See `IComputeMarket.reveal`.
    function reveal(uint64 batchId, bytes32[] calldata commitPages, bytes calldata votes, bytes calldata openings)
        external
    {
        Batch storage b = _batchIn(batchId, BatchStatus.ASSIGNED);
        if (!_isPast(b, 3)) revert WindowOpen("settle");
        if (_isPast(b, 4)) revert WindowPast("reveal");
        if (Statements.fold(0, commitPages) != b.commitHash) revert HashMismatch("commitPages");
        uint256 bundles = b.bundles;
        Openings memory o;
        (o.seats, o.domain) = (b.seats, _domain(b, Statements.STAGE_BUNDLE, b.round));
        o.table = TableReader.loadRows(REGISTRY.tableAt(b.classId, b.table));
        o.places = new uint256[](1);
        o.places[0] = SettlementReader.readOneList(votes);
        o.workOf = new uint256[](bundles);
        BitReader memory pending = _bitReader(b, BitKind.STATUS);
        for (uint256 bundle; bundle < bundles; ++bundle) {
            if (_isPending(pending, bundle)) o.workOf[bundle] = bundle + 1;
        }
        o.seen = new uint256[](bundles * o.seats);
        SettlementReader.rebuild(o, commitPages, votes, openings);
        BitWriter memory bits = _bitWriter(b, BitKind.REVEALED);
        bool isEmpty = true;
        for (uint256 i; i < o.seen.length; ++i) {
            if (o.seen[i] & SettlementReader.CODE_MASK == 0) continue;
            if (o.seen[i] & SettlementReader.CODE_MASK >= SettlementReader.HIDDEN) continue;
            _setBit(bits, i);
            isEmpty = false;
        }
        if (isEmpty) revert PageError();
        _flush(bits);
        emit OpeningsRevealed(batchId, b.round, votes, openings);
    }

    /// @notice See `IComputeMarket.settle`.
    function settle(uint64 batchId, Settlement calldata s) external {
        Batch storage b = _batch(batchId);
        if (b.status != BatchStatus.ASSIGNED && b.status != BatchStatus.VOIDED) revert WrongStatus(batchId, b.status);
        SettleContext memory c = _settleContext(b);
        if (!c.isVoided && !c.isOver) _onlyCollator(b);
        _authenticate(b, s);
        c.works = c.round == 0 ? SettlementReader.readRecords(s.page) : SettlementReader.readCarried(s.page);
        _readOpened(b, c, s);
        c.outcomes = Buffers.allocate(c.works.count * (ROW_BYTES + 2 * c.seats * (1 + c.round)));
        Decision memory d = _newDecision(c);
        for (uint256 i; i < c.works.count; ++i) {
            if (c.works.places[i].isLeft()) continue;
            ++c.processed;
            if (!_acceptAtOnce(c, s.votes, i)) _decide(b, c, s, d, i);
        }
        if (c.processed == 0) return;
        _flush(c.statuses);
        _pay(c);
        _endSettle(b, c);
    }

    function _settleContext(Batch storage b) private view returns (SettleContext memory c) {
        c.source = REGISTRY.tableAt(b.classId, b.table);
        c.table = TableReader.loadRows(c.source);
        c.domain = _domain(b, Statements.STAGE_BUNDLE, b.round);
        (c.seats, c.round, c.fee, c.auditBps) = (b.seats, b.round, b.feeWei, _params.auditBps);
        c.shares = c.seats * (1 + uint256(b.rounds));
        (c.isLast, c.isJudged) = (b.round == b.rounds, b.judged);
        c.isVoided = b.status == BatchStatus.VOIDED;
        c.isOver = !c.isVoided && _isPast(b, 4);
        c.earned = new uint256[](c.table.memberCount);
        c.statuses = _bitWriter(b, BitKind.STATUS);
        (c.committed, c.revealed) = (_bitReader(b, BitKind.COMMITTED), _bitReader(b, BitKind.REVEALED));
    }

    function _authenticate(Batch storage b, Settlement calldata s) private view {
        bytes32 page = Statements.chain(s.prior, keccak256(s.page));
        if (Statements.fold(page, s.tail) != (b.round == 0 ? b.postHash : b.carryHash)) revert HashMismatch("page");
        if (Statements.fold(0, s.commitPages) != b.commitHash) revert HashMismatch("commitPages");
    }

    function _readOpened(Batch storage b, SettleContext memory c, Settlement calldata s) private view {
        if (c.isVoided) {
            if (s.votes.length + s.openings.length > 0) revert PageError();
        } else {
            SettlementReader.readVotes(c.works, s.votes);
        }
        // Bundles that do not wait for this round are left alone, whatever the caller says of them.
        BitReader memory pending = _bitReader(b, BitKind.STATUS);
        uint256[] memory places = c.works.places;
        for (uint256 i; i < places.length; ++i) {
            if (!_isPending(pending, places[i].bundle())) places[i] = places[i].leave();
        }
        if (c.isVoided) return;
        Openings memory o;
        (o.seats, o.domain, o.table) = (c.seats, c.domain, c.table);
        SettlementReader.index(c.works, o);
        SettlementReader.rebuild(o, s.commitPages, s.votes, s.openings);
        c.seen = o.seen;
    }

    function _newDecision(SettleContext memory c) private pure returns (Decision memory d) {
        // Every seat that was ever drawn for a bundle has at most one entry in each.
        uint256 most = c.seats * (1 + c.round);
        (d.voters, d.votes, d.abstainers) = (new uint256[](most), new bytes32[](most), new uint256[](most));
        (d.silent, d.committee) = (new uint256[](c.seats), new uint256[](c.seats));
    }

    /// @dev The usual case, apart because it is most of what is paid for: the first round, and every seat opened the
    /// same vote.
    function _acceptAtOnce(SettleContext memory c, bytes calldata votes, uint256 index) private returns (bool) {
        if (c.round > 0 || c.isVoided) return false;
        uint256 seats = c.seats;
        uint256 at = index * seats;
        // unchecked: sums of money far below 2^96, and indices
        unchecked {
            uint256 code = c.seen[at] & SettlementReader.CODE_MASK;
            if (code == 0 || code >= SettlementReader.HIDDEN) return false;
            for (uint256 seat = 1; seat < seats; ++seat) {
                if (c.seen[at + seat] & SettlementReader.CODE_MASK != code) return false;
            }
            uint256 place = c.works.places[index];
            uint256 money = c.works.money[index];
            uint256 price = uint96(money);
            _startRow(c, place.bundle(), Verdict.ACCEPTED, votes.voteAt(place, code - 1), seats, seats);
            for (uint256 seat; seat < seats; ++seat) {
                uint256 member = c.seen[at + seat] >> 16;
                c.earned[member] += price | ONE_SEAT;
                c.outcomes.append(member, 2);
            }
            _markSettled(c.statuses, place.bundle(), false);
            uint256 auditFee = _auditFeeOf(c, price);
            c.fromEscrow += price * seats;
            c.fees += c.fee;
            c.auditFees += auditFee;
            uint256 refund = price * (c.shares - seats);
            _gatherRelease(c, address(uint160(money >> 96)), refund + price * seats + c.fee + auditFee, refund);
            return true;
        }
    }

    function _decide(Batch storage b, SettleContext memory c, Settlement calldata s, Decision memory d, uint256 index)
        private
    {
        _load(c, s.page, d, index);
        if (!c.isVoided) _gather(c, s.votes, d, index);
        Verdict verdict;
        if (c.isVoided) {
            verdict = Verdict.VOID;
            _void(c, d, 0);
        } else {
            if (d.silences > 0 && !c.isOver) revert TooEarly(uint16(d.place.bundle()));
            verdict = _settleDecision(b, c, d);
        }
        bool isOver = verdict == Verdict.ACCEPTED || verdict == Verdict.VOID;
        uint256 told = isOver && !d.isConflict ? d.count : 0;
        _startRow(c, d.place.bundle(), verdict, told > 0 ? d.vote : bytes32(0), isOver ? d.opened : 0, told);
        for (uint256 i; i < told; ++i) {
            c.outcomes.append(d.voters[i], 2);
        }
        _markSettled(c.statuses, d.place.bundle(), verdict == Verdict.CARRIED);
    }

    /// @dev What earlier rounds left of a bundle.
    function _load(SettleContext memory c, bytes calldata page, Decision memory d, uint256 index) private pure {
        uint256 money = c.works.money[index];
        (d.place, d.requester, d.price) = (c.works.places[index], address(uint160(money >> 96)), uint96(money));
        (d.shares, d.pot, d.opened, d.standing, d.vote) = (c.shares, 0, 0, 0, 0);
        (d.open, d.isConflict, d.abstained, d.silences, d.isDrawn) = (0, false, 0, 0, false);
        if (c.round > 0) {
            uint256 at = d.place.record();
            (d.shares, d.pot, d.opened) = (page.uintAt(at + 37, 2), page.uintAt(at + 39, 16), page.uintAt(at + 55, 2));
            d.standing = page.uintAt(at + 57, 1);
            at += SettlementReader.CARRY_HEAD_BYTES;
            if (d.standing > 0) {
                d.vote = bytes32(page.uintAt(at, 32));
                at += 32;
            }
            for (uint256 i; i < d.standing; ++i) {
                (d.voters[i], d.votes[i]) = (page.uintAt(at + 2 * i, 2), d.vote);
            }
            at += 2 * d.standing;
            d.abstained = page.uintAt(at, 1);
            for (uint256 i; i < d.abstained; ++i) {
                d.abstainers[i] = page.uintAt(at + 1 + 2 * i, 2);
            }
        }
        d.count = d.standing;
    }

    /// @dev What the seats of this round did.
    function _gather(SettleContext memory c, bytes calldata votes, Decision memory d, uint256 index) private view {
        uint256 first = d.place.bundle() * c.seats;
        for (uint256 seat; seat < c.seats; ++seat) {
            uint256 seen = c.seen[index * c.seats + seat];
            uint256 code = seen & SettlementReader.CODE_MASK;
            uint256 member = seen >> 16;
            if (code > 0 && code < SettlementReader.HIDDEN) {
                ++d.open;
                _addVote(d, member, votes.voteAt(d.place, code - 1));
                continue;
            }
            bool isOmitted = code == 0 ? _isSet(c.committed, first + seat) : _isSet(c.revealed, first + seat);
            if (isOmitted) revert SeatOmitted(uint16(d.place.bundle()), uint8(seat));
            if (code == 0) member = _drawnFor(c, d, seat);
            if (_isStanding(d, member)) {
                ++d.open;
            } else if (code == SettlementReader.ABSTAINED) {
                d.abstainers[d.abstained++] = member;
            } else {
                FineKind kind = code == 0 ? FineKind.SILENT : FineKind.UNREVEALED;
                d.silent[d.silences++] = (uint256(kind) << 16) | member;
            }
        }
        d.opened += d.open;
    }

    function _addVote(Decision memory d, uint256 member, bytes32 vote) private pure {
        if (d.count == 0) d.vote = vote;
        else if (vote != d.vote) d.isConflict = true;
        if (d.standing > 0 && vote == d.votes[0] && _isStanding(d, member)) return;
        (d.voters[d.count], d.votes[d.count]) = (member, vote);
        ++d.count;
    }

    function _isStanding(Decision memory d, uint256 member) private pure returns (bool) {
        for (uint256 i; i < d.standing; ++i) {
            if (d.voters[i] == member) return true;
        }
        return false;
    }

    function _drawnFor(SettleContext memory c, Decision memory d, uint256 seat) private view returns (uint256) {
        if (!d.isDrawn) {
            c.table.loadUnits(c.source);
            c.table.draw(c.domain, d.place.bundle(), c.seats, d.committee, 0);
            d.isDrawn = true;
        }
        return d.committee[seat];
    }

    function _settleDecision(Batch storage b, SettleContext memory c, Decision memory d) private returns (Verdict) {
        uint256 drawn = c.seats * (1 + c.round);
        if (d.isConflict) {
            _fineAll(c, d);
            if (c.isJudged) {
                _openDispute(b, c, d);
                return Verdict.DISPUTED;
            }
            for (uint256 i; i < d.count; ++i) {
                c.earned[d.voters[i]] += (d.price / CONSOLATION) | (i < d.standing ? 0 : ONE_SEAT);
            }
            _void(c, d, d.count);
            return Verdict.VOID;
        }
        if (d.open < c.seats && !c.isLast) {
            _fineSilent(c, d);
            _carry(c, d);
            return Verdict.CARRIED;
        }
        bool isEnough =
            d.open == c.seats || (d.place.flags() & STRICT == 0 && d.opened >= c.seats && 20 * d.opened >= 9 * drawn);
        if (isEnough) {
            _fineAll(c, d);
            _accept(c, d);
            return Verdict.ACCEPTED;
        }
        if (d.abstained == drawn) {
            for (uint256 i; i < d.abstained; ++i) {
                c.earned[d.abstainers[i]] += d.price / CONSOLATION;
            }
            _void(c, d, d.abstained);
        } else {
            _fineAll(c, d);
            _void(c, d, 0);
        }
        return Verdict.VOID;
    }

    function _fineAll(SettleContext memory c, Decision memory d) private {
        for (uint256 i; i < d.abstained; ++i) {
            _fine(c, d, d.abstainers[i], d.price, FineKind.ABSTAINED);
        }
        _fineSilent(c, d);
    }

    function _fineSilent(SettleContext memory c, Decision memory d) private {
        for (uint256 i; i < d.silences; ++i) {
            _fine(c, d, d.silent[i] & 0xffff, 2 * d.price, FineKind(d.silent[i] >> 16));
        }
    }

    function _fine(SettleContext memory c, Decision memory d, uint256 member, uint256 amount, FineKind kind) private {
        (, uint24 operatorId) = c.table.row(member);
        d.pot += REGISTRY.fine(operatorId, amount, kind);
    }

    function _accept(SettleContext memory c, Decision memory d) private {
        uint256 due = d.price * d.count;
        uint256 fresh = d.price * (d.count - d.standing);
        uint256 fromPot = d.pot < fresh ? d.pot : fresh;
        for (uint256 i; i < d.count; ++i) {
            c.earned[d.voters[i]] += d.price | (i < d.standing ? 0 : ONE_SEAT);
        }
        uint256 auditFee = _auditFeeOf(c, d.price);
        c.fromEscrow += due - fromPot;
        c.fromPots += fromPot;
        c.leftInPots += d.pot - fromPot;
        c.fees += c.fee;
        c.auditFees += auditFee;
        uint256 escrow = _escrowOf(c, d);
        _gatherRelease(c, d.requester, escrow, escrow - c.fee - auditFee - (due - fromPot));
    }

    /// @dev Ends a bundle without a result; `earners` of its seats get a consolation from the escrow.
    function _void(SettleContext memory c, Decision memory d, uint256 earners) private {
        uint256 due = d.price / CONSOLATION * earners;
        c.fromEscrow += due;
        c.leftInPots += d.pot;
        uint256 escrow = _escrowOf(c, d);
        _gatherRelease(c, d.requester, escrow, escrow - due);
    }

    function _escrowOf(SettleContext memory c, Decision memory d) private pure returns (uint256) {
        return d.price * d.shares + c.fee + _auditFeeOf(c, d.price);
    }

    function _auditFeeOf(SettleContext memory c, uint256 price) private pure returns (uint256) {
        return (price * c.auditBps + BPS - 1) / BPS;
    }

    function _carry(SettleContext memory c, Decision memory d) private pure {
        if (c.carried++ == 0) c.carry = Buffers.allocate(c.works.count * (CARRY_BYTES + 32 + 2 * d.voters.length));
        Buffer memory carry = c.carry;
        carry.append(d.place.bundle(), 2);
        carry.append(uint160(d.requester), 20);
        carry.append(d.price, 12);
        carry.append(d.place.tasks(), 2);
        carry.append(d.place.flags(), 1);
        carry.append(d.shares, 2);
        carry.append(d.pot, 16);
        carry.append(d.opened, 2);
        carry.append(d.count, 1);
        if (d.count > 0) carry.append(uint256(d.vote), 32);
        for (uint256 i; i < d.count; ++i) {
            carry.append(d.voters[i], 2);
        }
        carry.append(d.abstained, 1);
        for (uint256 i; i < d.abstained; ++i) {
            carry.append(d.abstainers[i], 2);
        }
    }

    function _openDispute(Batch storage b, SettleContext memory c, Decision memory d) private {
        DisputeRecord memory r;
        (r.batchId, r.bundle, r.tasks, r.requester) = (b.id, d.place.bundle(), d.place.tasks(), d.requester);
        (r.price, r.pot, r.escrow, r.fee, r.auditFee) =
        (d.price, d.pot, _escrowOf(c, d), c.fee, _auditFeeOf(c, d.price));
        (r.collator, r.classId, r.table) = (msg.sender, b.classId, b.table);
        (r.members, r.votes) = (new uint256[](d.count), new bytes32[](d.count));
        for (uint256 i; i < d.count; ++i) {
            (r.members[i], r.votes[i]) = (d.voters[i], d.votes[i]);
        }
        DISPUTES.open(r.pack());
    }

    function _startRow(
        SettleContext memory c,
        uint256 bundle,
        Verdict verdict,
        bytes32 vote,
        uint256 opened,
        uint256 voters
    ) private pure {
        c.outcomes.append((bundle << 8) | uint256(verdict), 3);
        c.outcomes.append(uint256(vote), 32);
        c.outcomes.append((opened << 8) | voters, 3);
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
        if (c.auditFees > 0) REGISTRY.donate{value: c.auditFees}();
        if (c.leftInPots > 0) REGISTRY.releasePot(c.leftInPots);
    }

    function _endSettle(Batch storage b, SettleContext memory c) private {
        uint8 round = b.round;
        if (c.carried > 0) {
            bytes memory page = c.carry.finish();
            b.nextCarryHash = Statements.chain(b.nextCarryHash, keccak256(page));
            emit BundlesCarried(b.id, round, page);
        }
        _tellOutcomes(b, c.outcomes.finish());
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
