// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Buffer, Buffers, Cursor} from "../libraries/Cursor.sol";
import {MalformedPage as PageError} from "../libraries/Cursor.sol";
import {Statements} from "../libraries/Statements.sol";
import {LoadedTable, TableReader} from "../libraries/TableReader.sol";
import {TaggedBits} from "../libraries/TaggedBits.sol";
import {FineKind} from "../types/FineKind.sol";
import {Params} from "../types/Params.sol";
import {Settlement} from "../types/Settlement.sol";
import {MarketStorage} from "./MarketStorage.sol";
import {Openings, SettlementReader, Works} from "./SettlementReader.sol";
import {Settling} from "./Settling.sol";

/// @title Openings, verdicts and payment
/// @notice The market runs this code on its own storage; both together would be too large for one contract.
contract Settler is Settling {
    using Buffers for Buffer;
    using Cursor for bytes;
    using Works for uint256;
    using Works for uint256[];
    using TableReader for LoadedTable;

    /// @dev Bundles of one requester that are accepted in one go. The assembly of `_acceptRun` knows the order.
    struct Run {
        uint256 seats;
        uint256[] earned;
        uint256[] statuses;
        uint256 firstStatus;
        uint256 auditBps;
        uint256 votes; // where they begin in calldata
        uint256 bundles;
        uint256 prices; // sum
        uint256 auditFees; // sum
    }

    uint256 private constant LEAST_ITEM_BYTES = 20;
    uint256 private constant LEAST_LIST_BYTES = 24;
    uint256 private constant STRICT = 1;
    uint256 private constant ROW_BYTES = 38;

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
        if (Statements.fold(0, commitPages) != _commitHashOf(b)) revert HashMismatch("commitPages");
        uint256 seats = b.seats;
        Openings memory o;
        (o.seats, o.domain) = (seats, _domain(b, Statements.STAGE_BUNDLE, b.round));
        o.table = _openTable(b, openings);
        o.openable = _openable(b, SettlementReader.readOneList(votes), new uint256[](seats));
        uint256[] memory opened = new uint256[](openings.length / LEAST_ITEM_BYTES + 1);
        uint256 start;
        assembly ("memory-safe") {
            start := add(opened, 32)
        }
        o.cursor = start;
        SettlementReader.rebuild(o, commitPages, openings);
        uint256 count = (o.cursor - start) / 32;
        if (count == 0) revert PageError();
        BitWriter memory bits = _bitWriter(b, BitKind.REVEALED);
        for (uint256 i; i < count; ++i) {
            _setBit(bits, (opened[i] >> 8) * seats + (opened[i] & 0xff));
        }
        _flush(bits);
        emit OpeningsRevealed(batchId, b.round, votes, openings);
    }

    /// @dev Every pending bundle may be opened with the same votes; nobody looks at the one row of seats.
    function _openable(Batch storage b, uint256 word, uint256[] memory row)
        private
        view
        returns (uint256[] memory openable)
    {
        openable = new uint256[](b.bundles);
        uint256 where;
        assembly ("memory-safe") {
            where := add(row, 32)
        }
        BitReader memory pending = _bitReader(b, BitKind.STATUS);
        for (uint256 bundle; bundle < openable.length; ++bundle) {
            if (_isPending(pending, bundle)) openable[bundle] = (where << 48) | word;
        }
    }

    /// @notice See `IComputeMarket.settle`.
    function settle(uint64 batchId, Settlement calldata s) external {
        Batch storage b = _batch(batchId);
        if (b.status != BatchStatus.ASSIGNED && b.status != BatchStatus.VOIDED) revert WrongStatus(batchId, b.status);
        SettleContext memory c = _settleContext(b, s.openings);
        if (!c.isVoided && !c.isOver) _onlyCollator(b);
        _authenticate(b, s);
        c.works = c.round == 0 ? SettlementReader.readRecords(s.page) : SettlementReader.readCarried(s.page);
        if (c.works.length == 0) return;
        _loadStatuses(b, c);
        if (c.isVoided) _selectPending(c, s);
        else _readOpened(c, s);
        c.outcomes = Buffers.allocate(c.works.count() * (ROW_BYTES + 2 * c.seats * (1 + c.round)));
        Decision memory d = _newDecision(c);
        Run memory run = _newRun(c);
        bool mayBeUsual = c.round == 0 && !c.isVoided;
        for (uint256 i; i < c.works.count(); ++i) {
            if (mayBeUsual) {
                uint256 next = _acceptRun(c, run, s.votes, i);
                if (next > i) {
                    i = next - 1;
                    continue;
                }
            }
            if (c.works.place(i).isLeft()) continue;
            ++c.processed;
            _decide(b, c, s, d, i);
        }
        if (c.processed == 0) return;
        _storeStatuses(b, c);
        _pay(c);
        _endSettle(b, c);
    }

    /// @dev Rows are wanted for the lists that are opened, and for who earned or failed, who are fewer or cost more.
    function _openTable(Batch storage b, bytes calldata openings) private view returns (LoadedTable memory table) {
        table = TableReader.open(REGISTRY.tableAt(b.classId, b.table));
        if (openings.length > TableReader.FEW * LEAST_LIST_BYTES) table.loadRows();
    }

    function _settleContext(Batch storage b, bytes calldata openings) private view returns (SettleContext memory c) {
        c.table = _openTable(b, openings);
        c.domain = _domain(b, Statements.STAGE_BUNDLE, b.round);
        (c.seats, c.round, c.fee, c.auditBps) = (b.seats, b.round, b.feeWei, _params.auditBps);
        c.shares = c.seats * (1 + uint256(b.rounds));
        (c.isLast, c.isJudged) = (b.round == b.rounds, b.judged);
        c.isVoided = b.status == BatchStatus.VOIDED;
        c.isOver = !c.isVoided && _isPast(b, 4);
        c.earned = new uint256[](c.table.memberCount);
        (c.committed, c.revealed) = (_bitReader(b, BitKind.COMMITTED), _bitReader(b, BitKind.REVEALED));
    }

    function _authenticate(Batch storage b, Settlement calldata s) private view {
        bytes32 page = Statements.chain(s.prior, s.page.hashAt(0, s.page.length));
        if (Statements.fold(page, s.tail) != (b.round == 0 ? b.postHash : b.carryHash)) revert HashMismatch("page");
        if (Statements.fold(0, s.commitPages) != _commitHashOf(b)) revert HashMismatch("commitPages");
    }

    function _loadStatuses(Batch storage b, SettleContext memory c) private view {
        c.firstStatus = c.works.place(0).bundleOf() / BUNDLES_PER_WORD;
        uint256 last = c.works.place(c.works.count() - 1).bundleOf() / BUNDLES_PER_WORD;
        uint256 count = last - c.firstStatus + 1;
        (c.statuses, c.oldStatuses) = (new uint256[](count), new uint256[](count));
        (uint256 key, uint256 tag) = (_bitKey(b.id, BitKind.STATUS, c.firstStatus), _bitTag(b, BitKind.STATUS));
        for (uint256 i; i < count; ++i) {
            c.statuses[i] = c.oldStatuses[i] = TaggedBits.load(_bits, key + i, tag);
        }
    }

    function _storeStatuses(Batch storage b, SettleContext memory c) private {
        (uint256 key, uint256 tag) = (_bitKey(b.id, BitKind.STATUS, c.firstStatus), _bitTag(b, BitKind.STATUS));
        for (uint256 i; i < c.statuses.length; ++i) {
            if (c.statuses[i] != c.oldStatuses[i]) TaggedBits.store(_bits, key + i, tag, c.statuses[i]);
        }
    }

    /// @dev A carried bundle waits for a round of the other parity from now on, all others for none.
    function _markSettled(SettleContext memory c, uint256 bundle, bool isCarried) private pure {
        // unchecked: numbers of bits
        unchecked {
            uint256 word = bundle / BUNDLES_PER_WORD - c.firstStatus;
            // Widened first: the literals alone are a uint8, whose shift would lose the bits of every bundle from the
            // fifth on.
            c.statuses[word] ^= uint256(isCarried ? 2 : 1) << (2 * (bundle % BUNDLES_PER_WORD));
        }
    }

    /// @dev In a voided batch the caller chooses nothing: every bundle of the page that is pending ends.
    function _selectPending(SettleContext memory c, Settlement calldata s) private pure {
        if (s.votes.length + s.openings.length > 0) revert PageError();
        for (uint256 i; i < c.works.count(); ++i) {
            uint256 bundle = c.works.place(i).bundleOf();
            uint256 word = c.statuses[bundle / BUNDLES_PER_WORD - c.firstStatus];
            if (!_isPendingBits(word, bundle % BUNDLES_PER_WORD, c.round)) c.works[2 * i] = c.works.place(i).leave();
        }
    }

    function _readOpened(SettleContext memory c, Settlement calldata s) private view {
        Openings memory o;
        (o.seats, o.domain, o.table) = (c.seats, c.domain, c.table);
        uint256 last = c.works.place(c.works.count() - 1).bundleOf();
        o.openable = new uint256[](last - c.works.place(0).bundleOf() + 1);
        c.seen = new uint256[](c.works.count() * c.seats);
        SettlementReader.select(c.works, o, c.seen, c.statuses, c.round, s.votes);
        SettlementReader.rebuild(o, s.commitPages, s.openings);
    }

    function _newDecision(SettleContext memory c) private pure returns (Decision memory d) {
        // Every seat that was ever drawn for a bundle has at most one entry in each.
        uint256 most = c.seats * (1 + c.round);
        (d.voters, d.votes, d.abstainers) = (new uint256[](most), new bytes32[](most), new uint256[](most));
        (d.silent, d.committee) = (new uint256[](c.seats), new uint256[](c.seats));
    }

    function _newRun(SettleContext memory c) private pure returns (Run memory run) {
        (run.seats, run.earned, run.statuses) = (c.seats, c.earned, c.statuses);
        (run.firstStatus, run.auditBps) = (c.firstStatus, c.auditBps);
    }

    /// @dev The usual case, apart and with assembly because it is most of what is paid for: the first round, and every
    /// seat opened the same vote. Goes on while it is, and the requester is the same.
    /// @return next index of the first work that is another case, or another's
    function _acceptRun(SettleContext memory c, Run memory run, bytes calldata votes, uint256 index)
        private
        returns (uint256 next)
    {
        (run.bundles, run.prices, run.auditFees) = (0, 0, 0);
        uint256[] memory works = c.works;
        uint256[] memory seen = c.seen;
        Buffer memory outcomes = c.outcomes;
        assembly ("memory-safe") {
            // Whether all words of a row have one vote number; words are member << 16 | vote number + 1.
            function codeOf(row, end) -> code {
                code := and(mload(row), 0xffff)
                if iszero(lt(code, 0x100)) {
                    code := 0
                    leave
                }
                for { row := add(row, 32) } lt(row, end) { row := add(row, 32) } {
                    if xor(and(mload(row), 0xffff), code) {
                        code := 0
                        leave
                    }
                }
            }
            // Write the members of a row behind those before, and add to what each has earned.
            function payRow(row, end, to, accounts, share) -> out {
                out := to
                if eq(row, end) { leave }
                for {} lt(row, end) { row := add(row, 32) } {
                    let member := shr(16, mload(row))
                    mstore(out, shl(240, member))
                    out := add(out, 2)
                    member := add(accounts, shl(5, member))
                    mstore(member, add(mload(member), share))
                }
            }
            // A bundle is settled: its lower status bit is set.
            function mark(r, bundle) {
                let word := sub(div(bundle, 100), mload(add(r, 0x60)))
                word := add(add(mload(add(r, 0x40)), 32), shl(5, word))
                mstore(word, xor(mload(word), shl(shl(1, mod(bundle, 100)), 1)))
            }
            mstore(add(run, 0xa0), votes.offset)
            let end := add(add(works, 32), shl(5, mload(works)))
            let work := add(add(works, 32), shl(6, index))
            let rowBytes := shl(5, mload(run))
            let row := add(add(seen, 32), mul(index, rowBytes))
            let requester := shr(96, mload(add(work, 32)))
            let out := add(add(mload(outcomes), 32), mload(add(outcomes, 32)))
            for {} lt(work, end) {
                work := add(work, 64)
                row := add(row, rowBytes)
            } {
                let place := mload(work)
                if and(shr(72, place), 1) { continue } // left for later
                let price := mload(add(work, 32))
                if xor(shr(96, price), requester) { break }
                let code := codeOf(row, add(row, rowBytes))
                if iszero(code) { break }
                price := and(price, 0xffffffffffffffffffffffff)
                mark(run, shr(104, place))
                // bundle u16 ‖ verdict u8 (accepted) ‖ vote 32 ‖ opened u16 ‖ voters u8
                mstore(out, or(shl(240, shr(104, place)), shl(232, 1)))
                code := add(add(mload(add(run, 0xa0)), and(place, 0xffffffff)), shl(5, sub(code, 1)))
                mstore(add(out, 3), calldataload(code))
                mstore(add(out, 35), mul(mload(run), or(shl(240, 1), shl(232, 1))))
                out := payRow(
                    row,
                    add(row, rowBytes),
                    add(out, 38),
                    add(mload(add(run, 0x20)), 32),
                    or(price, shl(96, 1))
                )
                mstore(add(run, 0xc0), add(mload(add(run, 0xc0)), 1))
                mstore(add(run, 0xe0), add(mload(add(run, 0xe0)), price))
                price := div(add(mul(price, mload(add(run, 0x80))), 9999), 10000) // audit fee, rounded up
                mstore(add(run, 0x100), add(mload(add(run, 0x100)), price))
            }
            mstore(add(outcomes, 32), sub(out, add(mload(outcomes), 32)))
            next := shr(6, sub(work, add(works, 32)))
        }
        if (run.bundles == 0) return next;
        c.processed += run.bundles;
        c.fromEscrow += run.prices * c.seats;
        c.fees += c.fee * run.bundles;
        c.auditFees += run.auditFees;
        uint256 escrow = run.prices * c.shares + c.fee * run.bundles + run.auditFees;
        _gatherRelease(c, works.requester(index), escrow, run.prices * (c.shares - c.seats));
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
            if (d.silences > 0 && !c.isOver) revert TooEarly(uint16(d.place.bundleOf()));
            verdict = _settleDecision(b, c, d);
        }
        bool isOver = verdict == Verdict.ACCEPTED || verdict == Verdict.VOID;
        uint256 told = isOver && !d.isConflict ? d.count : 0;
        _startRow(c, d.place.bundleOf(), verdict, told > 0 ? d.vote : bytes32(0), isOver ? d.opened : 0, told);
        for (uint256 i; i < told; ++i) {
            c.outcomes.append(d.voters[i], 2);
        }
        _markSettled(c, d.place.bundleOf(), verdict == Verdict.CARRIED);
    }

    /// @dev What earlier rounds left of a bundle.
    function _load(SettleContext memory c, bytes calldata page, Decision memory d, uint256 index) private pure {
        (d.place, d.requester, d.price) = (c.works.place(index), c.works.requester(index), c.works.price(index));
        (d.shares, d.pot, d.opened, d.standing, d.vote) = (c.shares, 0, 0, 0, 0);
        (d.open, d.isConflict, d.abstained, d.silences, d.isDrawn) = (0, false, 0, 0, false);
        if (c.round > 0) {
            uint256 at = d.place.recordOf();
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
        uint256 first = d.place.bundleOf() * c.seats;
        for (uint256 seat; seat < c.seats; ++seat) {
            uint256 seen = c.seen[index * c.seats + seat];
            uint256 code = seen & SettlementReader.CODE_MASK;
            uint256 member = seen >> 16;
            if (code > 0 && code < SettlementReader.HIDDEN) {
                ++d.open;
                _addVote(d, member, d.place.voteOf(votes, code - 1));
                continue;
            }
            bool isOmitted = code == 0 ? _isSet(c.committed, first + seat) : _isSet(c.revealed, first + seat);
            if (isOmitted) revert SeatOmitted(uint16(d.place.bundleOf()), uint8(seat));
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
            c.table.loadUnits();
            c.table.draw(c.domain, d.place.bundleOf(), c.seats, d.committee, 0);
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
            d.open == c.seats || (d.place.flagsOf() & STRICT == 0 && d.opened >= c.seats && 20 * d.opened >= 9 * drawn);
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
        (b.carryHash, b.nextCarryHash, b.hasCommits) = (b.nextCarryHash, 0, false);
        b.beaconBlock = uint48(block.number + _params.beaconDelay);
        emit RoundAwaited(b.id, b.round, b.beaconBlock);
    }
}
