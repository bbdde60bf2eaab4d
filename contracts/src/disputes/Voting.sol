// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputes} from "../interfaces/IDisputes.sol";
import {Buffer, Buffers, Cursor} from "../libraries/Cursor.sol";
import {MalformedPage as PageError} from "../libraries/Cursor.sol";
import {DisputeRecord, DisputeRecords} from "../libraries/DisputeRecords.sol";
import {Statements} from "../libraries/Statements.sol";
import {LoadedTable, TableReader} from "../libraries/TableReader.sol";
import {TaggedBits} from "../libraries/TaggedBits.sol";
import {Spoken, VoteCount, VoteCounts} from "../libraries/VoteCounts.sol";
import {VoteSettlement} from "../types/VoteSettlement.sol";
import {Asking} from "./Asking.sol";

/// @title The windows of a class vote
abstract contract Voting is Asking {
    using Buffers for Buffer;
    using Cursor for bytes;
    using TableReader for LoadedTable;
    using VoteCounts for VoteCount;

    uint256 private constant LIST_BYTES = 99;
    uint256 private constant MEMBER = 1;
    uint256 private constant SIGNATURE = 2;
    uint256 private constant DUPLICATE = 7;

    /// @dev What the lists of a page are judged by.
    struct CommitContext {
        LoadedTable table;
        bytes32 separator;
        bytes32 statement;
    }

    /// @inheritdoc IDisputes
    function commitVotes(uint64 disputeId, bytes calldata record, bytes calldata question, bytes calldata lists)
        external
    {
        Dispute storage d = _voting(disputeId, record, question);
        if (_isPast(d, 1)) revert WindowPast("commit");
        if (lists.length == 0 || lists.length % LIST_BYTES != 0) revert PageError();
        CommitContext memory c = CommitContext(_table(record), MARKET.domainSeparator(), _statement(d));
        Buffer memory leaves = Buffers.allocate(lists.length);
        Buffer memory skips = Buffers.allocate(lists.length);
        uint256 kept;
        for (uint256 at; at < lists.length; at += LIST_BYTES) {
            uint256 reason = _judgeList(d, c, lists, at);
            if (reason == 0) {
                leaves.append(uint256(keccak256(abi.encodePacked(lists[at:at + 2], lists[at + 67:at + 99]))), 32);
                ++kept;
            } else {
                skips.append(at / LIST_BYTES, 2);
                skips.append(reason, 1);
            }
        }
        if (kept > 0) {
            d.committed += uint16(kept);
            d.commitHash = keccak256(abi.encodePacked(d.commitHash, leaves.hash()));
        }
        emit VotesCommitted(disputeId, d.window, lists, skips.finish());
    }

    /// @inheritdoc IDisputes
    function revealVotes(
        uint64 disputeId,
        bytes calldata record,
        bytes calldata question,
        bytes32[] calldata commitPages,
        bytes calldata votes,
        bytes calldata openings
    ) external {
        Dispute storage d = _voting(disputeId, record, question);
        if (!_isPast(d, 1)) revert WindowOpen("commit");
        if (_isPast(d, 2)) revert WindowPast("reveal");
        if (Statements.fold(0, commitPages) != d.commitHash) revert HashMismatch("commitPages");
        VoteCount memory c = VoteCounts.start(_table(record), votes);
        c.readOpenings(_statement(d), commitPages, votes, openings, false);
        if (c.opened == 0) revert PageError();
        _markVoters(d, BitKind.REVEALED, c);
        emit VotesRevealed(disputeId, d.window, votes, openings);
    }

    /// @inheritdoc IDisputes
    function settleVotes(
        uint64 disputeId,
        bytes calldata record,
        bytes calldata question,
        VoteSettlement calldata s,
        uint256 rows
    ) external {
        Dispute storage d = _voting(disputeId, record, question);
        if (keccak256(s.cast) != d.castHash) revert HashMismatch("cast");
        if (Statements.fold(0, s.commitPages) != d.commitHash) revert HashMismatch("commitPages");
        DisputeRecord memory r = DisputeRecords.read(record);
        VoteCount memory c = VoteCounts.start(_table(record), s.votes);
        uint256[] memory seatAnswers = c.seatAnswers(r, question, s.votes);
        c.readCast(s.votes, s.cast);
        c.readOpenings(_statement(d), s.commitPages, s.votes, s.openings, true);
        uint256 winner = c.findWinner();
        _checkTime(d, c, winner);
        if (winner == 0) {
            _checkRevealed(d, c);
            if (d.window + 1 < _params.voteWindows) return _openWindow(d, c, s);
            _end(d, r, c.table, _endWithoutWinner(r, c, s.cast), rows);
        } else {
            _end(d, r, c.table, _endWith(r, c, seatAnswers, s, winner), rows);
        }
    }

    function _table(bytes calldata record) private view returns (LoadedTable memory) {
        return _load(uint32(record.uintAt(117, 4)), uint16(record.uintAt(121, 2)));
    }

    /// @dev First reason to leave a vote's commitment out, as in `commit`; marks the member if there is none.
    function _judgeList(Dispute storage d, CommitContext memory c, bytes calldata lists, uint256 at)
        private
        returns (uint256)
    {
        uint256 member = lists.uintAt(at, 2);
        if (member >= c.table.memberCount) return MEMBER;
        (address key, uint24 operatorId) = c.table.row(member);
        bytes32 digest = Statements.listDigest(c.separator, c.statement, operatorId, lists.hashAt(at + 67, 32));
        (uint256 sigR, uint256 sigS) = (lists.uintAt(at + 2, 32), lists.uintAt(at + 34, 32));
        if (!Statements.isSignedBy(key, digest, sigR, sigS, lists.uintAt(at + 66, 1))) return SIGNATURE;
        (uint256 word, uint256 bit) = (member / TaggedBits.BITS, 1 << (member % TaggedBits.BITS));
        uint256 data = _loadBits(d, BitKind.SPOKEN, word);
        if (data & bit != 0) return DUPLICATE;
        _storeBits(d, BitKind.SPOKEN, word, data | bit);
        return 0;
    }

    /// @dev Callers choose what they open: who shows no majority waits for those who can, or a liar would be first.
    function _checkTime(Dispute storage d, VoteCount memory c, uint256 winner) private view {
        bool everybody = uint256(d.committed) + d.voted == c.table.memberCount || _isPast(d, 1);
        if (!(everybody && c.closed == 0) && !_isPast(d, winner == 0 ? 3 : 2)) revert TooEarly();
    }

    /// @dev Without a decision nothing that the chain was told may be left out.
    function _checkRevealed(Dispute storage d, VoteCount memory c) private view {
        uint256 data;
        for (uint256 m; m < c.spoken.length; ++m) {
            if (m % TaggedBits.BITS == 0) data = _loadBits(d, BitKind.REVEALED, m / TaggedBits.BITS);
            if (c.spoken[m] == Spoken.CLOSED && (data >> (m % TaggedBits.BITS)) & 1 == 1) {
                revert SeatOmitted(0, uint16(m));
            }
        }
    }

    function _openWindow(Dispute storage d, VoteCount memory c, VoteSettlement calldata s) private {
        (bytes memory page, uint256 count) = c.castPage(s.votes, c.countSilence(s.cast, false));
        (d.window, d.voted, d.castHash) = (d.window + 1, uint16(count), keccak256(page));
        _startWindow(d);
        _markVoters(d, BitKind.SPOKEN, c);
        emit VoteWindowOpened(d.id, d.window, page);
    }

    /// @dev Marks all members that the count has a vote of.
    function _markVoters(Dispute storage d, BitKind kind, VoteCount memory c) private {
        for (uint256 word; word * TaggedBits.BITS < c.voteOf.length; ++word) {
            uint256 data = _loadBits(d, kind, word);
            uint256 found = data;
            for (uint256 i; i < TaggedBits.BITS && word * TaggedBits.BITS + i < c.voteOf.length; ++i) {
                if (c.voteOf[word * TaggedBits.BITS + i] > 0) found |= 1 << i;
            }
            if (found != data) _storeBits(d, kind, word, found);
        }
    }

    function _endWithoutWinner(DisputeRecord memory r, VoteCount memory c, bytes calldata cast)
        private
        pure
        returns (Ending memory e)
    {
        bool isConflict = r.kind == DisputeRecords.CONFLICT;
        if (!isConflict) e.root = r.votes[0];
        e.tally = new bytes(c.voteOf.length);
        if (c.isNoData()) {
            // Nobody can know: silence is no fault, and a vote on what nobody can fetch is worth an abstention.
            for (uint256 i; isConflict && i < r.members.length; ++i) {
                e.tally[r.members[i]] = bytes1(uint8(UNKNOWABLE));
            }
            return e;
        }
        uint256[] memory silent = c.countSilence(cast, false);
        for (uint256 m; m < silent.length; ++m) {
            e.tally[m] = bytes1(uint8(silent[m]));
        }
    }

    function _endWith(
        DisputeRecord memory r,
        VoteCount memory c,
        uint256[] memory seatAnswers,
        VoteSettlement calldata s,
        uint256 winner
    ) private returns (Ending memory e) {
        e.answer = VoteCounts.answerAt(s.votes, winner);
        for (uint256 i; i < seatAnswers.length; ++i) {
            if (seatAnswers[i] == winner) e.root = r.votes[i];
        }
        if (r.kind != DisputeRecords.CONFLICT && e.root != r.votes[0]) {
            (e.root, e.aftermath, c.convicted) = (0, Aftermath.UPHELD, _convict(r));
        } else if (r.kind == DisputeRecords.CHALLENGE) {
            e.aftermath = Aftermath.DISMISSED;
        }
        e.tally = _tally(c.countSilence(s.cast, true), c.findConduct(r, seatAnswers, winner));
    }

    function _tally(uint256[] memory silent, uint256[] memory conduct) private pure returns (bytes memory tally) {
        tally = new bytes(silent.length);
        for (uint256 m; m < silent.length; ++m) {
            tally[m] = bytes1(uint8(silent[m] | (conduct[m] << 3)));
        }
    }

    /// @dev Note that the entries with the accepted root are wrong; the auditor that agreed may stand in a later record
    /// only.
    /// @return before how many of them, the first ones, were found wrong in a dispute of the same outcome that ended
    function _convict(DisputeRecord memory r) private returns (uint256 before) {
        bytes32 outcome = keccak256(abi.encode(r.batchId, r.bundle, r.round));
        uint256 count = r.kind == DisputeRecords.AUDIT ? r.members.length - 1 : r.members.length;
        before = _convicted[outcome];
        if (count > before) _convicted[outcome] = uint8(count); // safe: a count of one byte in the record
    }
}
