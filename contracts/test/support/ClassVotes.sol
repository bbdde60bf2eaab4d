// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputes} from "../../src/interfaces/IDisputes.sol";
import {ClassTable} from "../../src/types/ClassTable.sol";
import {VoteSettlement} from "../../src/types/VoteSettlement.sol";
import {Batches} from "./Batches.sol";
import {insertSorted} from "./Sorting.sol";
import {Vm} from "./Vm.sol";

/// @title What members do in a class vote, in the plainest way, apart from the libraries of the contracts
abstract contract ClassVotes is Batches {
    /// @dev What a member does in one window; `vote` is its answer, or its reason.
    struct ClassBallot {
        uint16 member;
        Act act;
        bytes32 vote;
    }

    /// @dev A dispute as its events told it.
    struct Vote {
        uint64 id;
        bytes record;
        bytes question;
        bytes cast;
        uint8 window;
        uint16 bundle;
        bytes32[] roots; // distinct, ascending
        uint24[] operatorIds; // by member
        address[] keys;
    }

    /// @dev What `DisputeDecided` told last.
    struct Decision {
        uint16 bundle;
        uint8 verdict;
        bytes32 root;
        bytes32 answer;
        bytes tally;
    }

    bytes32 internal constant CLASS_VOTE = keccak256("Quorate.ClassVote.v1");
    /// @dev Reason 1 of an abstention, as a commitment.
    bytes32 internal constant NO_DATA = bytes32(uint256(1));

    Decision internal decision;
    bool internal isSettled;

    // Records -----------------------------------------------------------------------------------------------------

    function voteOf(uint256 index) internal view returns (Vote memory v) {
        (v.id, v.record) = (disputeIds[index], disputeRecords[index]);
        bytes memory r = v.record;
        v.bundle = uint16(_uint(r, 9, 2));
        (ClassTable memory ct,, bytes memory rows) = tableOf(uint32(_uint(r, 117, 4)), uint16(_uint(r, 121, 2)));
        (v.operatorIds, v.keys) = (new uint24[](ct.memberCount), new address[](ct.memberCount));
        for (uint256 m; m < ct.memberCount; ++m) {
            (v.keys[m], v.operatorIds[m]) = rowOf(rows, m);
        }
        v.roots = new bytes32[](0);
        for (uint256 i; i < _uint(r, 178, 1); ++i) {
            v.roots = insertSorted(v.roots, bytes32(_uint(r, 179 + 34 * i + 2, 32)));
        }
    }

    /// @dev A record of a bundle of a batch that exists, of the first round; `entries` as they stand in it.
    function makeRecord(
        uint8 kind,
        uint64 batchId,
        uint16 tasks,
        uint256 price,
        uint256 pot,
        uint256 escrow,
        bytes memory challenge,
        bytes memory entries
    ) internal view returns (bytes memory) {
        bytes memory head = abi.encodePacked(kind, batchId, uint16(0), tasks, requester, uint96(price), uint128(pot));
        head = abi.encodePacked(head, uint128(escrow), uint64(0), uint96(0), address(0), CLASS, uint16(1));
        if (challenge.length == 0) challenge = new bytes(54);
        return abi.encodePacked(head, challenge, uint8(0), uint8(entries.length / 34), entries);
    }

    /// @dev Open a dispute as the contract of challenges would.
    function openAs(address sender, bytes memory record) internal returns (Vote memory) {
        vm.prank(sender);
        uint64 id = disputes.open(record);
        disputeIds.push(id);
        disputeRecords.push(record);
        return voteOf(disputeIds.length - 1);
    }

    // Questions ---------------------------------------------------------------------------------------------------

    /// @dev `count` leaves, all the same but for one task that differs by flavour.
    function leavesOf(uint256 count, uint256 task, uint256 flavour) internal pure returns (bytes32[] memory leaves) {
        leaves = new bytes32[](count);
        for (uint256 i; i < count; ++i) {
            leaves[i] = keccak256(abi.encode("leaf", i, i == task ? flavour : 0));
        }
    }

    function rootOf(bytes32[] memory leaves) internal pure returns (bytes32) {
        bytes32[] memory level = new bytes32[](leaves.length);
        for (uint256 i; i < leaves.length; ++i) {
            level[i] = keccak256(abi.encodePacked(uint8(0), leaves[i]));
        }
        while (level.length > 1) {
            bytes32[] memory next = new bytes32[]((level.length + 1) / 2);
            for (uint256 i; i < next.length; ++i) {
                next[i] = 2 * i + 1 < level.length
                    ? keccak256(abi.encodePacked(uint8(1), level[2 * i], level[2 * i + 1]))
                    : level[2 * i];
            }
            level = next;
        }
        return level[0];
    }

    function passPublishing(Vote memory v) internal {
        IDisputes.Dispute memory d = disputes.dispute(v.id);
        if (vm.getBlockTimestamp() < d.startTime + 8) vm.warp(d.startTime + 8);
        if (vm.getBlockNumber() < d.startBlock + 2) vm.roll(d.startBlock + 2);
    }

    /// @dev Nobody published: the class is asked for the whole bundle.
    function askWhole(Vote memory v) internal {
        passPublishing(v);
        sendAsk(v, "");
        vm.assertEq(v.question, abi.encodePacked(uint16(0), v.roots), "each root is its own answer");
    }

    function sendAsk(Vote memory v, bytes memory leaves) internal {
        vm.recordLogs();
        disputes.ask(v.id, v.record, leaves);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        vm.assertEq(logs[0].topics[0], IDisputes.QuestionAsked.selector);
        v.question = abi.decode(logs[0].data, (bytes));
        _learn(v, logs);
    }

    /// @dev Publish the leaves of all roots, each found among `columns`, and ask.
    function publishAndAsk(Vote memory v, bytes32[][] memory columns) internal {
        bytes memory all;
        for (uint256 i; i < v.roots.length; ++i) {
            for (uint256 j; j < columns.length; ++j) {
                if (rootOf(columns[j]) != v.roots[i]) continue;
                bytes memory leaves = abi.encodePacked(columns[j]);
                disputes.publish(v.id, v.record, leaves);
                all = bytes.concat(all, leaves);
            }
        }
        sendAsk(v, all);
    }

    /// @dev The answer of a root, as the question says.
    function answerOf(Vote memory v, bytes32 root) internal pure returns (bytes32) {
        uint256 at = 2 + 2 * _uint(v.question, 0, 2);
        for (uint256 i; i < v.roots.length; ++i) {
            if (v.roots[i] == root) return bytes32(_uint(v.question, at + 32 * i, 32));
        }
        revert("no such root");
    }

    // Ballots -----------------------------------------------------------------------------------------------------

    /// @dev Everybody of the class finds the same.
    function classBallots(Vote memory v, bytes32 answer) internal pure returns (ClassBallot[] memory list) {
        list = new ClassBallot[](v.keys.length);
        for (uint16 m; m < list.length; ++m) {
            list[m] = ClassBallot(m, Act.OPEN, answer);
        }
    }

    function statementOf(Vote memory v) internal view returns (bytes32) {
        bytes32 questionHash = keccak256(abi.encodePacked(keccak256(v.record), v.question));
        return
            keccak256(abi.encode(CLASS_VOTE, block.chainid, disputes, uint256(v.id), uint256(v.window), questionHash));
    }

    function classSalt(uint256 member) internal pure returns (bytes16) {
        return bytes16(keccak256(abi.encode("class salt", member)));
    }

    function classCommitment(Vote memory v, ClassBallot memory b) internal view returns (bytes32) {
        if (b.act == Act.ABSTAIN) return b.vote;
        uint32 operatorId = v.operatorIds[b.member];
        return keccak256(abi.encodePacked(statementOf(v), operatorId, b.vote, classSalt(b.member)));
    }

    function classList(Vote memory v, ClassBallot memory b) internal view returns (bytes memory) {
        return signedCommitment(v, b.member, classCommitment(v, b));
    }

    function signedCommitment(Vote memory v, uint16 member, bytes32 c) internal view returns (bytes memory) {
        bytes32 digest = listDigest(statementOf(v), v.operatorIds[member], keccak256(abi.encodePacked(c)));
        (uint8 sigV, bytes32 r, bytes32 s) = vm.sign(secretOf[v.keys[member]], digest);
        return abi.encodePacked(member, r, s, sigV, c);
    }

    function classLists(Vote memory v, ClassBallot[] memory list) internal view returns (bytes memory) {
        bytes[] memory parts = new bytes[](list.length);
        for (uint256 i; i < list.length; ++i) {
            if (list[i].act != Act.SILENT) parts[i] = classList(v, list[i]);
        }
        return join(parts);
    }

    function classPageHash(Vote memory v, ClassBallot[] memory list) internal view returns (bytes32) {
        bytes[] memory parts = new bytes[](list.length);
        for (uint256 i; i < list.length; ++i) {
            if (list[i].act == Act.SILENT) continue;
            parts[i] = abi.encodePacked(keccak256(abi.encodePacked(list[i].member, classCommitment(v, list[i]))));
        }
        return keccak256(join(parts));
    }

    function commitClass(Vote memory v, ClassBallot[] memory list) internal {
        bytes memory lists = classLists(v, list);
        if (lists.length > 0) disputes.commitVotes(v.id, v.record, v.question, lists);
    }

    // Settling ----------------------------------------------------------------------------------------------------

    function one(ClassBallot[] memory list) internal pure returns (ClassBallot[][] memory pages) {
        pages = new ClassBallot[][](1);
        pages[0] = list;
    }

    /// @dev Arguments that open what the pages say; a page of silent members is none.
    function classSettlement(Vote memory v, ClassBallot[][] memory pages)
        internal
        view
        returns (VoteSettlement memory s)
    {
        bytes32[] memory answers = _answers(v, pages);
        s.cast = v.cast;
        s.votes = abi.encodePacked(uint16(answers.length), answers);
        (s.commitPages, s.openings) = (new bytes32[](pages.length), "");
        uint256 count;
        for (uint256 i; i < pages.length; ++i) {
            bytes memory page = pageOpenings(v, answers, uint16(count), pages[i]);
            if (page.length == 4) continue;
            s.commitPages[count++] = classPageHash(v, pages[i]);
            s.openings = bytes.concat(s.openings, page);
        }
        bytes32[] memory hashes = s.commitPages;
        assembly ("memory-safe") {
            mstore(hashes, count)
        }
    }

    /// @dev All answers that occur: opened, cast, and those of the roots.
    function _answers(Vote memory v, ClassBallot[][] memory pages) private pure returns (bytes32[] memory answers) {
        answers = new bytes32[](0);
        for (uint256 at = 2 + 2 * _uint(v.question, 0, 2); at < v.question.length; at += 32) {
            answers = insertSorted(answers, bytes32(_uint(v.question, at, 32)));
        }
        for (uint256 i; v.cast.length > 0 && i < _uint(v.cast, 0, 2); ++i) {
            answers = insertSorted(answers, bytes32(_uint(v.cast, 4 + 34 * i, 32)));
        }
        for (uint256 p; p < pages.length; ++p) {
            for (uint256 i; i < pages[p].length; ++i) {
                if (pages[p][i].act == Act.OPEN) answers = insertSorted(answers, pages[p][i].vote);
            }
        }
    }

    function pageOpenings(Vote memory v, bytes32[] memory answers, uint16 index, ClassBallot[] memory list)
        internal
        view
        returns (bytes memory)
    {
        bytes[] memory parts = new bytes[](list.length);
        uint16 lists;
        for (uint256 i; i < list.length; ++i) {
            if (list[i].act == Act.SILENT) continue;
            parts[i] = classOpening(v, answers, list[i]);
            ++lists;
        }
        return abi.encodePacked(index, lists, join(parts));
    }

    function classOpening(Vote memory v, bytes32[] memory answers, ClassBallot memory b)
        internal
        view
        returns (bytes memory)
    {
        if (b.act != Act.OPEN) return abi.encodePacked(b.member, uint16(0xffff), classCommitment(v, b));
        uint16 tag;
        while (answers[tag] != b.vote) {
            ++tag;
        }
        return abi.encodePacked(b.member, tag, classSalt(b.member));
    }

    /// @dev End a window, and punish all rows if that ends the dispute.
    function settleClass(Vote memory v, ClassBallot[] memory list) internal {
        settleClass(v, one(list), type(uint256).max);
    }

    function settleClass(Vote memory v, ClassBallot[][] memory pages, uint256 rows) internal {
        VoteSettlement memory s = classSettlement(v, pages);
        vm.recordLogs();
        disputes.settleVotes(v.id, v.record, v.question, s, rows);
        _learn(v, vm.getRecordedLogs());
    }

    function punish(Vote memory v, uint256 upTo) internal {
        vm.recordLogs();
        disputes.punish(v.id, v.record, decision.tally, upTo);
        _learn(v, vm.getRecordedLogs());
    }

    function _learn(Vote memory v, Vm.Log[] memory logs) private {
        for (uint256 i; i < logs.length; ++i) {
            bytes32 topic = logs[i].topics[0];
            if (topic == IDisputes.VoteWindowOpened.selector) {
                (v.window, v.cast) = abi.decode(logs[i].data, (uint8, bytes));
            } else if (topic == IDisputes.DisputeDecided.selector) {
                (decision.bundle, decision.verdict, decision.root, decision.answer, decision.tally) =
                    abi.decode(logs[i].data, (uint16, uint8, bytes32, bytes32, bytes));
                isSettled = false;
            } else if (topic == IDisputes.DisputeSettled.selector) {
                isSettled = true;
            }
        }
    }

    function assertDecided(uint8 verdict, bytes32 root) internal view {
        vm.assertEq(decision.verdict, verdict, "verdict of the class");
        vm.assertEq(decision.root, root, "root of the class");
    }

    /// @dev Let the commit window (1), the reveal window (2) or as long again (3) pass.
    function passVote(Vote memory v, uint256 stage) internal {
        IDisputes.Dispute memory d = disputes.dispute(v.id);
        uint256 end = d.startTime + 10 + 10 * stage;
        if (vm.getBlockTimestamp() < end) vm.warp(end);
        if (vm.getBlockNumber() < d.startBlock + 2 * stage) vm.roll(d.startBlock + 2 * stage);
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
        askWhole(v);
    }

    /// @dev All windows of a class vote in which everybody does as `all` says, each time anew; it is over afterwards.
    function voteToTheEnd(Vote memory v, ClassBallot[] memory all) internal {
        isSettled = false;
        while (!isSettled) {
            ClassBallot[] memory list = unspoken(v, all);
            commitClass(v, list);
            passVote(v, 3);
            settleClass(v, list);
        }
    }

    /// @dev The same ballots, but for members whose vote stands already.
    function unspoken(Vote memory v, ClassBallot[] memory all) internal pure returns (ClassBallot[] memory list) {
        list = new ClassBallot[](all.length);
        for (uint256 i; i < all.length; ++i) {
            list[i] = ClassBallot(all[i].member, all[i].act, all[i].vote);
            for (uint256 j; v.cast.length > 0 && j < _uint(v.cast, 0, 2); ++j) {
                if (_uint(v.cast, 2 + 34 * j, 2) == all[i].member) list[i].act = Act.SILENT;
            }
        }
    }
}
