// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputes} from "../interfaces/IDisputes.sol";
import {Buffer, Buffers, Cursor} from "./Cursor.sol";
import {MalformedPage as PageError} from "./Cursor.sol";
import {DisputeRecord, DisputeRecords} from "./DisputeRecords.sol";
import {Questions} from "./Questions.sol";
import {Statements} from "./Statements.sol";
import {LoadedTable, TableReader} from "./TableReader.sol";

/// @dev What a member did in the present window besides voting.
enum Spoken {
    NOTHING,
    CLOSED, // committed, and not opened
    ABSTAINED,
    NO_DATA // abstained since the data is not to be had
}

/// @notice The votes of one window. Answers are numbered from 1, in the order in which the caller lists them.
/// @param voteOf by member: number of its answer, cast or opened
/// @param spoken by member
/// @param unitsFor by number
/// @param opened members that opened in this window
/// @param closed commitments that stayed closed
/// @param convicted entries of the record, the first ones, that were found wrong for the same outcome before
struct VoteCount {
    LoadedTable table;
    uint256 answerCount;
    uint256[] units;
    uint256[] voteOf;
    Spoken[] spoken;
    uint256[] unitsFor;
    uint256 opened;
    uint256 closed;
    uint256 convicted;
}

/// @title Counting class votes
/// @dev Twin of quorate/protocol/vote_openings.py and verdict.py.
library VoteCounts {
    using Buffers for Buffer;
    using Cursor for bytes;
    using DisputeRecords for DisputeRecord;
    using DisputeRecords for bytes32[];
    using TableReader for LoadedTable;

    uint256 private constant CLOSED_TAG = 0xffff;
    uint256 private constant REASONS = 256;
    uint256 private constant NO_DATA_REASON = 1;
    uint256 private constant RIGHT = 1;
    uint256 private constant WRONG = 2;
    uint256 private constant WRONG_TOGETHER = 3;
    uint256 private constant SEVERAL = type(uint256).max;

    /// @notice A count without votes; `answers` is count u16 and answers, ascending.
    function start(LoadedTable memory table, bytes calldata answers) internal pure returns (VoteCount memory c) {
        c.table = table;
        c.units = table.unitsOfMembers();
        c.answerCount = answers.uintAt(0, 2);
        if (answers.length != 2 + 32 * c.answerCount) revert PageError();
        for (uint256 i = 2; i <= c.answerCount; ++i) {
            if (answerAt(answers, i) <= answerAt(answers, i - 1)) revert PageError();
        }
        (c.voteOf, c.spoken) = (new uint256[](table.memberCount), new Spoken[](table.memberCount));
        c.unitsFor = new uint256[](c.answerCount + 1);
    }

    function answerAt(bytes calldata answers, uint256 number) internal pure returns (bytes32) {
        return bytes32(answers.uintAt(32 * number - 30, 32));
    }

    /// @notice Number of an answer, by bisection: members choose answers, and nobody's choice may make counting dear.
    function numberOf(VoteCount memory c, bytes calldata answers, bytes32 answer) internal pure returns (uint256) {
        uint256 low = 1;
        uint256 high = c.answerCount + 1;
        while (low < high) {
            uint256 middle = (low + high) / 2;
            bytes32 found = answerAt(answers, middle);
            if (found == answer) return middle;
            if (found < answer) low = middle + 1;
            else high = middle;
        }
        revert PageError();
    }

    /// @notice Count votes of earlier windows.
    function readCast(VoteCount memory c, bytes calldata answers, bytes calldata cast) internal pure {
        if (cast.length == 0) return;
        uint256 count = cast.uintAt(0, 2);
        for (uint256 i; i < count; ++i) {
            bytes32 answer = bytes32(cast.uintAt(4 + 34 * i, 32));
            _vote(c, cast.uintAt(2 + 34 * i, 2), numberOf(c, answers, answer));
        }
    }

    /// @notice Count the openings of the present window; each page named must be what was committed.
    function readOpenings(
        VoteCount memory c,
        bytes32 statement,
        bytes32[] calldata pages,
        bytes calldata answers,
        bytes calldata data,
        bool isWhole
    ) internal pure {
        // An opened vote takes 20 bytes, its leaf 32.
        Buffer memory leaves = Buffers.allocate(2 * data.length);
        uint256 at;
        uint256 next;
        while (at < data.length) {
            uint256 index = data.uintAt(at, 2);
            uint256 lists = data.uintAt(at + 2, 2);
            if (index < next || index >= pages.length) revert PageError();
            if (isWhole && index != next) revert PageError();
            (next, leaves.used) = (index + 1, 0);
            at += 4;
            for (uint256 i; i < lists; ++i) {
                at = _readList(c, statement, answers, data, at, leaves);
            }
            if (leaves.hash() != pages[index]) revert IDisputes.HashMismatch("openings");
        }
        if (isWhole && next != pages.length) revert PageError();
    }

    /// @return end where the list ends
    function _readList(
        VoteCount memory c,
        bytes32 statement,
        bytes calldata answers,
        bytes calldata data,
        uint256 at,
        Buffer memory leaves
    ) private pure returns (uint256 end) {
        uint256 head = data.uintAt(at, 4);
        (uint256 member, uint256 tag) = (head >> 16, head & 0xffff);
        if (member >= c.table.memberCount) revert PageError();
        bytes32 commitment;
        if (tag == CLOSED_TAG) {
            commitment = bytes32(data.uintAt(at + 4, 32));
            end = at + 36;
            c.spoken[member] = _spoken(c, uint256(commitment));
        } else {
            if (tag >= c.answerCount) revert PageError();
            (, uint24 operatorId) = c.table.row(member);
            bytes32 answer = answerAt(answers, tag + 1);
            commitment = Statements.commitment(statement, operatorId, answer, uint128(data.uintAt(at + 4, 16)));
            end = at + 20;
            _vote(c, member, tag + 1);
            ++c.opened;
        }
        bytes32 leaf;
        assembly ("memory-safe") {
            mstore(0x00, shl(240, member))
            mstore(0x02, commitment)
            leaf := keccak256(0x00, 34)
        }
        leaves.append(uint256(leaf), 32);
    }

    function _spoken(VoteCount memory c, uint256 commitment) private pure returns (Spoken) {
        if (commitment == NO_DATA_REASON) return Spoken.NO_DATA;
        if (commitment < REASONS) return Spoken.ABSTAINED;
        ++c.closed;
        return Spoken.CLOSED;
    }

    function _vote(VoteCount memory c, uint256 member, uint256 number) private pure {
        c.voteOf[member] = number;
        c.unitsFor[number] += c.units[member];
    }

    /// @notice Number of the answer of more than half of the class's units, or 0.
    function findWinner(VoteCount memory c) internal pure returns (uint256) {
        for (uint256 number = 1; number <= c.answerCount; ++number) {
            if (2 * c.unitsFor[number] > c.table.unitCount) return number;
        }
        return 0;
    }

    /// @notice Whether more than half of the units that answered said that the data is not to be had.
    function isNoData(VoteCount memory c) internal pure returns (bool) {
        uint256 answered;
        uint256 missing;
        for (uint256 m; m < c.units.length; ++m) {
            if (c.voteOf[m] == 0 && c.spoken[m] < Spoken.ABSTAINED) continue;
            answered += c.units[m];
            if (c.spoken[m] == Spoken.NO_DATA) missing += c.units[m];
        }
        return 2 * missing > answered;
    }

    /// @notice Windows in which each member was silent, this one included; who committed is not silent if it decides.
    function countSilence(VoteCount memory c, bytes calldata cast, bool decides)
        internal
        pure
        returns (uint256[] memory silent)
    {
        silent = new uint256[](c.units.length);
        uint256 at = cast.length == 0 ? 0 : 2 + 34 * cast.uintAt(0, 2);
        Spoken enough = decides ? Spoken.CLOSED : Spoken.ABSTAINED;
        for (uint256 m; m < silent.length; ++m) {
            if (cast.length > 0) silent[m] = cast.uintAt(at + m, 1);
            if (c.voteOf[m] == 0 && c.spoken[m] < enough) ++silent[m];
        }
    }

    /// @notice What the next window starts with, and how many votes stand in it.
    function castPage(VoteCount memory c, bytes calldata answers, uint256[] memory silent)
        internal
        pure
        returns (bytes memory page, uint256 count)
    {
        uint256 members = silent.length;
        Buffer memory b = Buffers.allocate(2 + 35 * members);
        b.append(0, 2);
        for (uint256 m; m < members; ++m) {
            if (c.voteOf[m] == 0) continue;
            ++count;
            b.append(m, 2);
            b.append(uint256(answerAt(answers, c.voteOf[m])), 32);
        }
        for (uint256 m; m < members; ++m) {
            b.append(silent[m], 1);
        }
        page = b.finish();
        (page[0], page[1]) = (bytes1(uint8(count >> 8)), bytes1(uint8(count)));
    }

    /// @notice Conduct of each member once an answer has won: nothing, right, wrong, wrong together.
    /// @dev A seat is together with another seat, an auditor or a class vote with a seat or another of its kind: else
    /// anybody of the class could repeat a lone seat's mistake, and take all of its stake. Who repeats its own seat adds
    /// nothing.
    /// @param seats number of the answer of each entry of the record
    function findConduct(VoteCount memory c, DisputeRecord memory r, uint256[] memory seats, uint256 winner)
        internal
        pure
        returns (uint256[] memory conduct)
    {
        // By number of an answer: the first member that gave it, from 1, or SEVERAL.
        uint256[] memory givers = new uint256[](c.answerCount + 1);
        bool[] memory isSeated = new bool[](c.voteOf.length); // and its class vote says nothing new
        conduct = new uint256[](c.voteOf.length);
        uint256 sat = r.seatCount();
        for (uint256 i; i < sat; ++i) {
            _note(givers, seats[i], r.members[i]);
        }
        for (uint256 i; i < seats.length; ++i) {
            (uint256 m, uint256 number) = (r.members[i], seats[i]);
            if (i >= sat) _note(givers, number, m);
            // One mistake is punished once, however many challenges it has.
            bool isAgain = i < c.convicted && number == seats[0];
            if (number != winner && !isAgain) _worsen(conduct, m, givers[number]);
            if (c.voteOf[m] == number || c.voteOf[m] == winner) isSeated[m] = true;
        }
        for (uint256 m; m < conduct.length; ++m) {
            if (c.voteOf[m] != 0 && !isSeated[m]) _note(givers, c.voteOf[m], m);
        }
        for (uint256 m; m < conduct.length; ++m) {
            uint256 number = c.voteOf[m];
            if (number == 0 || isSeated[m]) continue;
            if (number == winner) conduct[m] = RIGHT; // who sat is paid for the seat
            else _worsen(conduct, m, givers[number]);
        }
    }

    function _note(uint256[] memory givers, uint256 number, uint256 member) private pure {
        if (givers[number] == 0) givers[number] = member + 1;
        else if (givers[number] != member + 1) givers[number] = SEVERAL;
    }

    function _worsen(uint256[] memory conduct, uint256 member, uint256 givers) private pure {
        uint256 found = givers == SEVERAL ? WRONG_TOGETHER : WRONG;
        if (found > conduct[member]) conduct[member] = found;
    }

    /// @notice Number of the answer of each entry of a record.
    function seatAnswers(VoteCount memory c, DisputeRecord memory r, bytes calldata question, bytes calldata answers)
        internal
        pure
        returns (uint256[] memory numbers)
    {
        bytes32[] memory roots = r.roots();
        uint256[] memory byRoot = new uint256[](roots.length);
        for (uint256 i; i < roots.length; ++i) {
            byRoot[i] = numberOf(c, answers, Questions.answerOf(question, i));
        }
        numbers = new uint256[](r.votes.length);
        for (uint256 i; i < numbers.length; ++i) {
            numbers[i] = byRoot[roots.rootIndex(r.votes[i])];
        }
    }
}
