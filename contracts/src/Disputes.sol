// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeMarket} from "./interfaces/IComputeMarket.sol";
import {IDisputes} from "./interfaces/IDisputes.sol";
import {IStakeRegistry} from "./interfaces/IStakeRegistry.sol";
import {Buffer, Buffers, Cursor} from "./libraries/Cursor.sol";
import {MalformedPage as PageError} from "./libraries/Cursor.sol";
import {Statements} from "./libraries/Statements.sol";
import {LoadedTable, TableReader} from "./libraries/TableReader.sol";
import {TaggedBits} from "./libraries/TaggedBits.sol";
import {BPS} from "./types/Limits.sol";
import {Params} from "./types/Params.sol";

/// @title Class votes: what everybody of a class finds decides a conflict
contract Disputes is IDisputes {
    using Buffers for Buffer;
    using Cursor for bytes;
    using TableReader for LoadedTable;

    struct Dispute {
        uint64 id;
        uint40 openTime;
        uint48 openBlock;
        uint16 committed;
        uint16 nextFree;
        bytes32 recordHash;
        bytes32 commitHash;
    }

    /// @dev The record's fields, see README.md, section 5.
    struct Record {
        uint64 batchId;
        uint256 bundle;
        address requester;
        uint256 price;
        uint256 pot;
        uint256 escrow;
        uint256 fee;
        address collator;
        uint32 classId;
        uint16 table;
        bytes32 voteDomain;
        uint256[] seatMembers;
        bytes32[] seatVotes;
    }

    /// @dev The count of a vote. Vote numbers are 1 and up: those sent, then seat votes that nobody of the class gave.
    struct Count {
        LoadedTable table;
        bytes32[] votes;
        uint256 voteCount;
        uint256[] unitsFor; // by vote number
        uint256[] memberUnits;
        uint256[] classVote; // by member: vote number
        uint256[] seatVote; // by entry of the record: vote number
        uint256[] firstWith; // by vote number: member + 1
        bool[] isShared; // by vote number: two members or more gave it
        uint256 opened;
        uint256 closed;
        uint256 winner;
    }

    uint256 private constant RECORD_BYTES = 141;
    uint256 private constant LIST_BYTES = 99;
    uint256 private constant CLOSED = 0xff;
    uint256 private constant VOTERS_BPS = 4000;
    uint8 private constant ACCEPTED = 1;
    uint8 private constant VOID = 4;

    IStakeRegistry public immutable REGISTRY;
    IComputeMarket public immutable MARKET;

    Params private _params;
    mapping(uint16 slot => Dispute) private _disputes;
    mapping(uint256 key => uint256 word) private _bits;
    uint48 private _sequence;
    uint16 private _slots;
    uint16 private _firstFree; // slot + 1, or 0

    constructor(Params memory params_, address registry, address market) {
        _params = params_;
        REGISTRY = IStakeRegistry(registry);
        MARKET = IComputeMarket(market);
    }

    /// @inheritdoc IDisputes
    function open(bytes calldata record) external returns (uint64 disputeId) {
        if (msg.sender != address(MARKET)) revert Unauthorized();
        uint16 slot;
        if (_firstFree > 0) {
            slot = _firstFree - 1;
            _firstFree = _disputes[slot].nextFree;
        } else {
            slot = _slots++;
        }
        disputeId = (uint64(++_sequence) << 16) | slot;
        Dispute storage d = _disputes[slot];
        (d.id, d.committed, d.nextFree) = (disputeId, 0, 0);
        (d.openTime, d.openBlock) = (uint40(block.timestamp), uint48(block.number));
        (d.recordHash, d.commitHash) = (keccak256(record), 0);
        emit DisputeOpened(disputeId, uint64(record.uintAt(0, 8)), uint16(record.uintAt(8, 2)), record);
    }

    /// @inheritdoc IDisputes
    function commitVotes(uint64 disputeId, bytes calldata record, bytes calldata lists) external {
        Dispute storage d = _dispute(disputeId, record);
        if (_isPast(d, 1)) revert WindowPast("commit");
        if (lists.length == 0 || lists.length % LIST_BYTES != 0) revert PageError();
        Record memory r = _read(record);
        LoadedTable memory table = TableReader.load(REGISTRY.tableAt(r.classId, r.table));
        Buffer memory leaves = Buffers.allocate(lists.length);
        Buffer memory skips = Buffers.allocate(lists.length);
        bytes32 separator = MARKET.domainSeparator();
        for (uint256 at; at < lists.length; at += LIST_BYTES) {
            uint256 reason = _judgeList(disputeId, r, table, separator, lists, at);
            if (reason == 0) {
                leaves.append(uint256(keccak256(abi.encodePacked(lists[at:at + 2], lists[at + 67:at + 99]))), 32);
                d.committed += 1;
            } else {
                skips.append(at / LIST_BYTES, 2);
                skips.append(reason, 1);
            }
        }
        if (leaves.used > 0) d.commitHash = keccak256(abi.encodePacked(d.commitHash, leaves.hash()));
        emit VotesCommitted(disputeId, lists, skips.finish());
    }

    /// @inheritdoc IDisputes
    function settleVotes(
        uint64 disputeId,
        bytes calldata record,
        bytes32[] calldata commitPages,
        bytes calldata votes,
        bytes calldata openings
    ) external {
        Dispute storage d = _dispute(disputeId, record);
        if (Statements.fold(0, commitPages) != d.commitHash) revert HashMismatch("commitPages");
        Record memory r = _read(record);
        Count memory c = _newCount(r, votes);
        _readOpenings(c, r, commitPages, openings);
        c.winner = _findWinner(c);
        bool allCommitted = d.committed == c.table.memberCount || _isPast(d, 1);
        // Callers choose what they open: who shows no majority waits for those who can, or a liar would be first.
        if (!(allCommitted && c.closed == 0) && !_isPast(d, c.winner == 0 ? 3 : 2)) revert TooEarly();
        _close(d);
        if (c.winner == 0) {
            MARKET.resolve(r.requester, r.escrow, r.collator, 0, new uint256[](0));
            if (r.pot > 0) REGISTRY.releasePot(r.pot);
            emit DisputeSettled(disputeId, r.batchId, uint16(r.bundle), VOID, 0);
        } else {
            _numberSeatVotes(c, r);
            _paySeats(c, r);
            _punish(c, r);
            emit DisputeSettled(disputeId, r.batchId, uint16(r.bundle), ACCEPTED, c.votes[c.winner - 1]);
        }
    }

    /// @dev First reason to leave a vote's commitment out, as in `commit`; marks the member if there is none.
    function _judgeList(
        uint64 disputeId,
        Record memory r,
        LoadedTable memory table,
        bytes32 separator,
        bytes calldata lists,
        uint256 at
    ) private returns (uint256) {
        uint256 member = lists.uintAt(at, 2);
        if (member >= table.memberCount) return 1;
        (address key, uint24 operatorId) = table.row(member);
        bytes32 itemsHash = keccak256(abi.encodePacked(uint16(r.bundle), uint8(0), lists[at + 67:at + 99]));
        bytes32 digest = Statements.listDigest(separator, r.voteDomain, operatorId, itemsHash);
        (uint256 sigR, uint256 sigS) = (lists.uintAt(at + 2, 32), lists.uintAt(at + 34, 32));
        if (!Statements.isSignedBy(key, digest, sigR, sigS, lists.uintAt(at + 66, 1))) return 2;
        (uint256 word, uint256 bit) = (_bitKey(disputeId, member), 1 << (member % TaggedBits.BITS));
        uint256 data = TaggedBits.load(_bits, word, disputeId >> 16);
        if (data & bit != 0) return 7;
        TaggedBits.store(_bits, word, disputeId >> 16, data | bit);
        return 0;
    }

    function _newCount(Record memory r, bytes calldata votes) private view returns (Count memory c) {
        c.table = TableReader.load(REGISTRY.tableAt(r.classId, r.table));
        c.memberUnits = c.table.unitsOfMembers();
        c.voteCount = votes.uintAt(0, 1);
        if (votes.length != 1 + 32 * c.voteCount) revert PageError();
        uint256 most = c.voteCount + r.seatMembers.length;
        (c.votes, c.unitsFor) = (new bytes32[](most), new uint256[](most + 1));
        (c.firstWith, c.isShared) = (new uint256[](most + 1), new bool[](most + 1));
        (c.classVote, c.seatVote) = (new uint256[](c.table.memberCount), new uint256[](r.seatMembers.length));
        for (uint256 i; i < c.voteCount; ++i) {
            c.votes[i] = bytes32(votes.uintAt(1 + 32 * i, 32));
            if (i > 0 && c.votes[i] <= c.votes[i - 1]) revert PageError();
        }
    }

    function _readOpenings(Count memory c, Record memory r, bytes32[] calldata pages, bytes calldata data)
        private
        pure
    {
        bytes32 statement = Statements.statement(r.voteDomain, r.bundle);
        Buffer memory leaves = Buffers.allocate(2 * data.length);
        Buffer memory leaf = Buffers.allocate(34);
        uint256 at;
        for (uint256 page; page < pages.length; ++page) {
            uint256 lists = data.uintAt(at, 2);
            at += 2;
            leaves.used = 0;
            for (uint256 i; i < lists; ++i) {
                uint256 head = data.uintAt(at, 3);
                (uint256 member, uint256 tag) = (head >> 8, head & 0xff);
                if (member >= c.table.memberCount) revert PageError();
                leaf.used = 0;
                leaf.append(member, 2);
                if (tag == CLOSED) {
                    leaf.append(data.uintAt(at + 3, 32), 32);
                    ++c.closed;
                    at += 35;
                } else {
                    leaf.append(uint256(_opened(c, statement, member, tag, uint128(data.uintAt(at + 3, 16)))), 32);
                    at += 19;
                }
                leaves.append(uint256(leaf.hash()), 32);
            }
            if (leaves.hash() != pages[page]) revert HashMismatch("openings");
        }
        if (at != data.length) revert PageError();
    }

    /// @dev Counts an opened vote; returns the commitment that it must have had.
    function _opened(Count memory c, bytes32 statement, uint256 member, uint256 tag, uint128 salt)
        private
        pure
        returns (bytes32)
    {
        if (tag >= c.voteCount) revert PageError();
        (, uint24 operatorId) = c.table.row(member);
        c.unitsFor[tag + 1] += c.memberUnits[member];
        c.classVote[member] = tag + 1;
        ++c.opened;
        return Statements.commitment(statement, operatorId, c.votes[tag], salt);
    }

    function _findWinner(Count memory c) private pure returns (uint256) {
        for (uint256 number = 1; number <= c.voteCount; ++number) {
            if (2 * c.unitsFor[number] > c.table.unitCount) return number;
        }
        return 0;
    }

    function _numberSeatVotes(Count memory c, Record memory r) private pure {
        for (uint256 i; i < r.seatVotes.length; ++i) {
            uint256 number = 1;
            while (number <= c.voteCount && c.votes[number - 1] != r.seatVotes[i]) {
                ++number;
            }
            if (number > c.voteCount) c.votes[c.voteCount++] = r.seatVotes[i];
            c.seatVote[i] = number;
            _share(c, number, r.seatMembers[i]);
        }
        for (uint256 m; m < c.classVote.length; ++m) {
            if (c.classVote[m] > 0) _share(c, c.classVote[m], m);
        }
    }

    function _share(Count memory c, uint256 number, uint256 member) private pure {
        if (c.firstWith[number] == 0) c.firstWith[number] = member + 1;
        else if (c.firstWith[number] != member + 1) c.isShared[number] = true;
    }

    function _paySeats(Count memory c, Record memory r) private {
        uint256[] memory earned = new uint256[](c.table.memberCount);
        for (uint256 i; i < r.seatMembers.length; ++i) {
            if (c.seatVote[i] == c.winner) earned[r.seatMembers[i]] = r.price;
        }
        MARKET.resolve(r.requester, r.escrow, r.collator, r.fee, c.table.entries(earned));
        if (r.pot > 0) REGISTRY.releasePot(r.pot);
    }

    function _punish(Count memory c, Record memory r) private {
        uint256[] memory guilt = new uint256[](c.table.memberCount); // 1 wrong, 2 wrong together
        uint256[] memory earned = new uint256[](c.table.memberCount);
        bool[] memory isSeat = new bool[](c.table.memberCount);
        for (uint256 i; i < r.seatMembers.length; ++i) {
            isSeat[r.seatMembers[i]] = true;
            _blame(c, guilt, r.seatMembers[i], c.seatVote[i]);
        }
        uint256 slashed;
        uint256 right;
        for (uint256 m; m < guilt.length; ++m) {
            if (c.classVote[m] > 0) _blame(c, guilt, m, c.classVote[m]);
            if (guilt[m] > 0) {
                (, uint24 operatorId) = c.table.row(m);
                slashed += REGISTRY.slash(operatorId, guilt[m] == 2);
            } else if (c.classVote[m] == c.winner && !isSeat[m]) {
                ++right;
                earned[m] = 1;
            }
        }
        uint256 reward = right == 0 ? 0 : slashed * VOTERS_BPS / BPS / right;
        if (reward > r.price) reward = r.price;
        for (uint256 m; m < earned.length; ++m) {
            earned[m] *= reward;
        }
        uint256[] memory entries = c.table.entries(earned);
        if (entries.length > 0) REGISTRY.credit(entries, reward * right);
        if (slashed > reward * right) REGISTRY.releasePot(slashed - reward * right);
    }

    function _blame(Count memory c, uint256[] memory guilt, uint256 member, uint256 number) private pure {
        if (number == c.winner) return;
        uint256 found = c.isShared[number] ? 2 : 1;
        if (found > guilt[member]) guilt[member] = found;
    }

    function _close(Dispute storage d) private {
        uint16 slot = uint16(d.id);
        d.id = 0;
        d.nextFree = _firstFree;
        _firstFree = slot + 1;
    }

    function _dispute(uint64 disputeId, bytes calldata record) private view returns (Dispute storage d) {
        d = _disputes[uint16(disputeId)];
        if (disputeId == 0 || d.id != disputeId) revert DisputeUnknown(disputeId);
        if (keccak256(record) != d.recordHash) revert HashMismatch("record");
    }

    function _isPast(Dispute storage d, uint256 window) private view returns (bool) {
        uint256 end = uint256(d.openTime) + _params.voteCommitPeriod;
        end += (window - 1) * _params.voteRevealPeriod;
        return block.timestamp >= end && block.number >= uint256(d.openBlock) + window * _params.minBlocks;
    }

    function _bitKey(uint64 disputeId, uint256 member) private pure returns (uint256) {
        return (uint256(uint16(disputeId)) << 16) | (member / TaggedBits.BITS);
    }

    /// @dev The record's hash was checked, so its bytes are the market's.
    function _read(bytes calldata record) private pure returns (Record memory r) {
        r.batchId = uint64(record.uintAt(0, 8));
        r.bundle = record.uintAt(8, 2);
        r.requester = address(uint160(record.uintAt(10, 20)));
        r.price = record.uintAt(30, 12);
        r.pot = record.uintAt(42, 16);
        r.escrow = record.uintAt(58, 16);
        r.fee = record.uintAt(74, 8);
        r.collator = address(uint160(record.uintAt(82, 20)));
        r.classId = uint32(record.uintAt(102, 4));
        r.table = uint16(record.uintAt(106, 2));
        r.voteDomain = bytes32(record.uintAt(108, 32));
        uint256 count = record.uintAt(140, 1);
        (r.seatMembers, r.seatVotes) = (new uint256[](count), new bytes32[](count));
        for (uint256 i; i < count; ++i) {
            r.seatMembers[i] = record.uintAt(RECORD_BYTES + 34 * i, 2);
            r.seatVotes[i] = bytes32(record.uintAt(RECORD_BYTES + 34 * i + 2, 32));
        }
    }

    /// @inheritdoc IDisputes
    function params() external view returns (Params memory) {
        return _params;
    }

    /// @inheritdoc IDisputes
    function dispute(uint64 disputeId)
        external
        view
        returns (bytes32 recordHash, bytes32 commitHash, uint40 openTime, uint48 openBlock, uint16 committed)
    {
        Dispute storage d = _disputes[uint16(disputeId)];
        if (disputeId == 0 || d.id != disputeId) revert DisputeUnknown(disputeId);
        return (d.recordHash, d.commitHash, d.openTime, d.openBlock, d.committed);
    }

    /// @inheritdoc IDisputes
    function hasCommitted(uint64 disputeId, uint16 member) external view returns (bool) {
        uint256 data = TaggedBits.load(_bits, _bitKey(disputeId, member), disputeId >> 16);
        return (data >> (member % TaggedBits.BITS)) & 1 == 1;
    }
}
