// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputes} from "../../src/interfaces/IDisputes.sol";
import {ClassTable} from "../../src/types/ClassTable.sol";
import {Batches} from "./Batches.sol";
import {Vm} from "./Vm.sol";

/// @title What members do in a class vote
abstract contract ClassVotes is Batches {
    struct ClassBallot {
        uint16 member;
        Act act;
        bytes32 vote;
    }

    struct Vote {
        uint64 id;
        bytes record;
        bytes32 domain;
        uint16 bundle;
        uint24[] operatorIds; // by member
        address[] keys;
    }

    bytes internal lastDisputeLog;

    /// @dev A dispute as its event told it.
    function voteOf(uint256 index) internal view returns (Vote memory v) {
        (v.id, v.record) = (disputeIds[index], disputeRecords[index]);
        (v.bundle, v.domain) = (uint16(_uint(v.record, 8, 2)), bytes32(_uint(v.record, 108, 32)));
        (ClassTable memory ct,, bytes memory rows) =
            tableOf(uint32(_uint(v.record, 102, 4)), uint16(_uint(v.record, 106, 2)));
        (v.operatorIds, v.keys) = (new uint24[](ct.memberCount), new address[](ct.memberCount));
        for (uint256 m; m < ct.memberCount; ++m) {
            (v.keys[m], v.operatorIds[m]) = rowOf(rows, m);
        }
    }

    /// @dev Everybody of the class finds the same.
    function classBallots(Vote memory v, bytes32 vote) internal pure returns (ClassBallot[] memory list) {
        list = new ClassBallot[](v.keys.length);
        for (uint16 m; m < list.length; ++m) {
            list[m] = ClassBallot(m, Act.OPEN, vote);
        }
    }

    function classSalt(uint256 member) internal pure returns (bytes16) {
        return bytes16(keccak256(abi.encode("class salt", member)));
    }

    function classCommitment(Vote memory v, ClassBallot memory b) internal pure returns (bytes32) {
        bytes32 statement = keccak256(abi.encodePacked(v.domain, uint32(v.bundle), uint32(0xffffffff)));
        return keccak256(abi.encodePacked(statement, uint32(v.operatorIds[b.member]), b.vote, classSalt(b.member)));
    }

    function classList(Vote memory v, ClassBallot memory b) internal view returns (bytes memory) {
        bytes32 c = classCommitment(v, b);
        bytes32 itemsHash = keccak256(abi.encodePacked(v.bundle, uint8(0), c));
        bytes32 digest = listDigest(v.domain, v.operatorIds[b.member], itemsHash);
        (uint8 sigV, bytes32 r, bytes32 s) = vm.sign(secretOf[v.keys[b.member]], digest);
        return abi.encodePacked(b.member, r, s, sigV, c);
    }

    function classLists(Vote memory v, ClassBallot[] memory list) internal view returns (bytes memory lists) {
        for (uint256 i; i < list.length; ++i) {
            if (list[i].act != Act.SILENT) lists = bytes.concat(lists, classList(v, list[i]));
        }
    }

    function classPageHash(Vote memory v, ClassBallot[] memory list) internal pure returns (bytes32) {
        bytes memory leaves;
        for (uint256 i; i < list.length; ++i) {
            if (list[i].act == Act.SILENT) continue;
            bytes32 c = classCommitment(v, list[i]);
            leaves = abi.encodePacked(leaves, keccak256(abi.encodePacked(list[i].member, c)));
        }
        return keccak256(leaves);
    }

    function commitClass(Vote memory v, ClassBallot[] memory list) internal {
        disputes.commitVotes(v.id, v.record, classLists(v, list));
    }

    struct ClassSettlement {
        bytes32[] pages;
        bytes votes;
        bytes openings;
    }

    function classSettlement(Vote memory v, ClassBallot[] memory list)
        internal
        pure
        returns (ClassSettlement memory s)
    {
        bytes32[] memory votes = new bytes32[](0);
        uint16 lists;
        for (uint256 i; i < list.length; ++i) {
            if (list[i].act == Act.OPEN) votes = _withVote(votes, list[i].vote);
            if (list[i].act != Act.SILENT) ++lists;
        }
        s.votes = abi.encodePacked(uint8(votes.length), votes);
        if (lists == 0) return s;
        s.pages = new bytes32[](1);
        s.pages[0] = classPageHash(v, list);
        s.openings = abi.encodePacked(lists);
        for (uint256 i; i < list.length; ++i) {
            if (list[i].act != Act.SILENT) s.openings = bytes.concat(s.openings, classOpening(v, votes, list[i]));
        }
    }

    function classOpening(Vote memory v, bytes32[] memory votes, ClassBallot memory b)
        internal
        pure
        returns (bytes memory)
    {
        if (b.act == Act.HIDE) return abi.encodePacked(b.member, uint8(0xff), classCommitment(v, b));
        uint8 tag;
        while (votes[tag] != b.vote) {
            ++tag;
        }
        return abi.encodePacked(b.member, tag, classSalt(b.member));
    }

    function _withVote(bytes32[] memory sorted, bytes32 vote) private pure returns (bytes32[] memory result) {
        uint256 at;
        while (at < sorted.length && sorted[at] < vote) {
            ++at;
        }
        if (at < sorted.length && sorted[at] == vote) return sorted;
        result = new bytes32[](sorted.length + 1);
        for (uint256 i; i < result.length; ++i) {
            result[i] = i < at ? sorted[i] : i == at ? vote : sorted[i - 1];
        }
    }

    function settleClass(Vote memory v, ClassBallot[] memory list) internal {
        ClassSettlement memory s = classSettlement(v, list);
        vm.recordLogs();
        disputes.settleVotes(v.id, v.record, s.pages, s.votes, s.openings);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(logs[logs.length - 1].topics[0], IDisputes.DisputeSettled.selector);
        lastDisputeLog = logs[logs.length - 1].data;
    }

    function assertDecided(uint8 verdict, bytes32 vote) internal view {
        (, uint8 found, bytes32 winner) = abi.decode(lastDisputeLog, (uint16, uint8, bytes32));
        vm.assertEq(found, verdict, "verdict of the class");
        vm.assertEq(winner, vote, "vote of the class");
    }

    function passVote(Vote memory v, uint256 window) internal {
        (,, uint40 openTime, uint48 openBlock,) = disputes.dispute(v.id);
        uint256 end = openTime + 10 + 10 * window;
        if (vm.getBlockTimestamp() < end) vm.warp(end);
        if (vm.getBlockNumber() < openBlock + 2 * window) vm.roll(openBlock + 2 * window);
    }

    /// @dev One bundle of which the seats whose bits are set lie; the dispute is open afterwards.
    function conflict(uint256 liars) internal returns (uint64 id, Ballot[] memory list, Vote memory v) {
        id = posted(1);
        list = ballots(id);
        for (uint256 i; i < list.length; ++i) {
            if ((liars >> i) & 1 == 1) list[i].vote = LIE;
        }
        play(id, list);
        v = voteOf(disputeIds.length - 1);
    }
}
