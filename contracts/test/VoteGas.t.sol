// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {VoteSettlement} from "../src/types/VoteSettlement.sol";
import {ClassVotes} from "./support/ClassVotes.sol";

/// @title Class votes of the fullest class fit transactions: 1024 members, 10,240 units
/// @dev Each call is a transaction of its own (isolate), so that slots are as cold as they are on a chain.
/// forge-config: default.isolate = true
contract VoteGasTest is ClassVotes {
    // Events of this name and shape are printed by forge.
    // forge-lint: disable-next-line(pascal-case-struct)
    event log_named_uint(string key, uint256 value);

    uint256 internal constant MEMBERS = 1024;
    uint256 internal constant PAGE = 256;
    uint256 internal constant MOST = 16_000_000;
    bytes32 internal constant ACCEPTED = bytes32(uint256(1));
    bytes32 internal constant OTHER = bytes32(uint256(2));

    function setUp() public {
        vm.pauseGasMetering();
        deploy(localParams());
        registry.createClass{value: 0.1 ether}(keccak256("profile"), uint128(UNIT), PRICE, true);
        for (uint256 i; i < MEMBERS; ++i) {
            addMember(i, 10); // 10,240 in all
        }
        advanceEraOf(CLASS);
        fund(requester, 1000 ether);
        fund(collator, 1000 ether);
        vm.resumeGasMetering();
    }

    function dispute() internal returns (Vote memory v) {
        uint64 batchId = post(orders(1));
        bytes memory entries;
        for (uint16 i; i < 20; ++i) {
            entries = abi.encodePacked(entries, uint16(50 * i), i == 19 ? OTHER : ACCEPTED);
        }
        v = openAs(address(challenges), makeRecord(2, batchId, 256, TASK_PRICE, 0, 1 ether, "", entries));
        askWhole(v);
    }

    /// @dev Only a call that is measured is metered: all of them together exceed a block.
    function spend(string memory what, bytes memory data) internal returns (uint256 used) {
        vm.resumeGasMetering();
        (bool done, bytes memory answer) = address(disputes).call(data);
        used = vm.lastCallGas().gasTotalUsed;
        vm.pauseGasMetering();
        if (!done) {
            assembly ("memory-safe") {
                revert(add(answer, 32), mload(answer))
            }
        }
        emit log_named_uint(what, used);
        vm.assertLt(used, MOST, what);
    }

    /// @dev Commitments of all members in pages.
    function commitAll(Vote memory v, ClassBallot[] memory all) internal returns (ClassBallot[][] memory pages) {
        pages = new ClassBallot[][](all.length / PAGE);
        for (uint256 p; p < pages.length; ++p) {
            pages[p] = new ClassBallot[](PAGE);
            for (uint256 i; i < PAGE; ++i) {
                pages[p][i] = all[p * PAGE + i];
            }
            bytes memory lists = classLists(v, pages[p]);
            if (lists.length == 0) continue;
            spend("commitVotes, 256 lists", abi.encodeCall(disputes.commitVotes, (v.id, v.record, v.question, lists)));
        }
    }

    function settleCall(Vote memory v, VoteSettlement memory s) internal view returns (bytes memory) {
        return abi.encodeCall(disputes.settleVotes, (v.id, v.record, v.question, s, 0));
    }

    function punishAll(Vote memory v, string memory what) internal {
        for (uint256 upTo = PAGE; upTo <= MEMBERS; upTo += PAGE) {
            spend(what, abi.encodeCall(disputes.punish, (v.id, v.record, decision.tally, upTo)));
        }
        (uint256 pots,) = potsAndTreasury();
        vm.assertEq(pots, 0);
    }

    /// @dev Slashes are dear, so their pages are smaller; one of them is metered, for all together exceed a block.
    function punishInSmallPages(Vote memory v, string memory what) internal {
        for (uint256 upTo = 128; upTo <= MEMBERS; upTo += 128) {
            bytes memory call_ = abi.encodeCall(disputes.punish, (v.id, v.record, decision.tally, upTo));
            if (upTo == 768) {
                spend(what, call_);
                continue;
            }
            (bool done,) = address(disputes).call(call_);
            require(done, "refused");
        }
        (uint256 pots,) = potsAndTreasury();
        vm.assertEq(pots, 0);
    }

    /// @dev What a settlement told, without the gas of the test in it.
    function learnTally(bytes memory tally) internal {
        decision.tally = tally;
    }

    function test_EverybodyFindsTheSame() public {
        vm.pauseGasMetering();
        Vote memory v = dispute();
        ClassBallot[] memory all = classBallots(v, ACCEPTED);
        ClassBallot[][] memory pages = commitAll(v, all);
        VoteSettlement memory s = classSettlement(v, pages);
        spend("settleVotes, 1024 right", settleCall(v, s));
        bytes memory tally = new bytes(MEMBERS);
        for (uint256 m; m < MEMBERS; ++m) {
            tally[m] = m == 950 ? bytes1(0x10) : m % 50 == 0 && m < 1000 ? bytes1(0) : bytes1(0x08);
        }
        learnTally(tally);
        punishAll(v, "punish, 256 rows, then 1000 paid");
    }

    /// @dev 511 wrong together beside 513 right ones: the most that can be slashed while the class still decides.
    function test_HalfTheClassIsWrong() public {
        vm.pauseGasMetering();
        Vote memory v = dispute();
        ClassBallot[] memory all = classBallots(v, ACCEPTED);
        for (uint256 m = 514; m < MEMBERS; ++m) {
            all[m].vote = OTHER;
        }
        ClassBallot[][] memory pages = commitAll(v, all);
        VoteSettlement memory s = classSettlement(v, pages);
        spend("settleVotes, half wrong", settleCall(v, s));
        bytes memory tally = new bytes(MEMBERS);
        for (uint256 m; m < MEMBERS; ++m) {
            bool isSeat = m % 50 == 0 && m < 1000;
            tally[m] = m >= 514 ? bytes1(0x18) : isSeat ? bytes1(0) : bytes1(0x08);
        }
        tally[950] = bytes1(0x10); // the only seat that is wrong: the class that repeats it makes it no dearer
        learnTally(tally);
        punishInSmallPages(v, "punish, 128 rows, wrong together");
    }

    /// @dev Everybody says something else, opens it before the settlement, and again: three windows, nobody decides.
    function test_EverybodyFindsSomethingElse() public {
        vm.pauseGasMetering();
        Vote memory v = dispute();
        ClassBallot[] memory all = classBallots(v, ACCEPTED);
        for (uint256 m; m < MEMBERS; ++m) {
            (all[m].vote, all[m].act) = (bytes32(1000 + m), m < 512 ? Act.OPEN : Act.SILENT);
        }
        ClassBallot[][] memory pages = commitAll(v, all);
        passVote(v, 1);
        VoteSettlement memory s = settlementOf(v, all, pages, 512);
        bytes memory told =
            abi.encodeCall(disputes.revealVotes, (v.id, v.record, v.question, s.commitPages, s.votes, s.openings));
        spend("revealVotes, 512 answers", told);
        passVote(v, 3);
        spend("settleVotes, 512 answers", settleCall(v, s));
        v.window = 1;
        v.cast = castOf(all, 512);
        for (uint256 m; m < MEMBERS; ++m) {
            all[m].act = m < 512 ? Act.SILENT : Act.OPEN;
        }
        pages = commitAll(v, all);
        passVote(v, 3);
        s = settlementOf(v, all, pages, MEMBERS);
        s.cast = v.cast;
        spend("settleVotes, 512 cast and 512 opened", settleCall(v, s));
        vm.assertEq(disputes.dispute(v.id).voted, MEMBERS);
    }

    /// @dev Nobody comes for three windows: everybody is fined.
    function test_NobodyComes() public {
        vm.pauseGasMetering();
        Vote memory v = dispute();
        ClassBallot[] memory none = new ClassBallot[](0);
        for (uint256 window; window < 3; ++window) {
            passVote(v, 3);
            settleClass(v, one(none), 0);
        }
        punishAll(v, "punish, 256 silent rows");
    }

    function castOf(ClassBallot[] memory all, uint256 count) internal pure returns (bytes memory) {
        bytes[] memory parts = new bytes[](count);
        for (uint256 m; m < count; ++m) {
            parts[m] = abi.encodePacked(all[m].member, all[m].vote);
        }
        bytes memory silent = new bytes(MEMBERS);
        for (uint256 m = count; m < MEMBERS; ++m) {
            silent[m] = 0x01;
        }
        return abi.encodePacked(uint16(count), join(parts), silent);
    }

    /// @dev As `classSettlement`, where answers ascend by member: sorting a thousand of them takes a test too long.
    function settlementOf(Vote memory v, ClassBallot[] memory all, ClassBallot[][] memory pages, uint256 count)
        internal
        view
        returns (VoteSettlement memory s)
    {
        bytes32[] memory answers = new bytes32[](2 + count);
        (answers[0], answers[1]) = (ACCEPTED, OTHER);
        for (uint256 m; m < count; ++m) {
            answers[2 + m] = all[m].vote;
        }
        s.votes = abi.encodePacked(uint16(answers.length), answers);
        s.commitPages = new bytes32[](pages.length);
        uint256 used;
        for (uint256 p; p < pages.length; ++p) {
            bytes[] memory parts = new bytes[](PAGE);
            for (uint256 i; i < PAGE; ++i) {
                uint16 m = pages[p][i].member;
                if (pages[p][i].act == Act.OPEN) parts[i] = abi.encodePacked(m, uint16(2 + m), classSalt(m));
            }
            bytes memory body = join(parts);
            if (body.length == 0) continue;
            s.commitPages[used] = classPageHash(v, pages[p]);
            s.openings = bytes.concat(s.openings, abi.encodePacked(uint16(used++), uint16(PAGE), body));
        }
        bytes32[] memory hashes = s.commitPages;
        assembly ("memory-safe") {
            mstore(hashes, used)
        }
    }
}
