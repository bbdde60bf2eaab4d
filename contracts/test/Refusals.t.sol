// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IChallenges} from "../src/interfaces/IChallenges.sol";
import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {IMarketEvents} from "../src/interfaces/IMarketEvents.sol";
import {Proof} from "../src/types/Proof.sol";
import {Settlement} from "../src/types/Settlement.sol";
import {VoteSettlement} from "../src/types/VoteSettlement.sol";
import {ClassVotes} from "./support/ClassVotes.sol";

/// @title What each method of market and disputes refuses, whatever the case: ids, phases and callers
contract RefusalsTest is ClassVotes {
    uint256 internal constant P = TASK_PRICE;

    function setUp() public {
        deployWithMembers(10, 8);
    }

    // The market --------------------------------------------------------------------------------------------------

    function test_UnknownBatches() public {
        uint64 id = posted(1);
        uint64[3] memory unknown = [uint64(1), id + 1, id + (1 << 32)];
        Settlement memory s;
        Proof memory p;
        for (uint256 i; i < unknown.length; ++i) {
            uint64 u = unknown[i];
            bytes memory error = abi.encodeWithSelector(IMarketEvents.BatchUnknown.selector, u);
            vm.expectRevert(error);
            market.post(u, terms, "", false);
            vm.expectRevert(error);
            market.proveBeacon(u, "");
            vm.expectRevert(error);
            market.expire(u);
            vm.expectRevert(error);
            market.commit(u, 0, 1, hex"00");
            vm.expectRevert(error);
            market.reveal(u, new bytes32[](0), hex"00", "");
            vm.expectRevert(error);
            market.settle(u, s);
            vm.expectRevert(error);
            challenges.audit(u, p, 0, 0, 0, "");
        }
    }

    function test_AnAuditNeedsThePagesOfItsBatch() public {
        terms.commitPeriod = 12;
        uint64 id = posted(1);
        play(id, ballots(id));
        tick(1, 2);
        market.proveAudit(id, "");
        Proof memory p; // of nothing
        vm.expectRevert(abi.encodeWithSelector(IChallenges.HashMismatch.selector, "page"));
        challenges.audit(id, p, 0, 0, 0, "");
    }

    function test_NothingIsRevealedOutsideARound() public {
        uint64 id = post(orders(1));
        expectNoReveal(id, IMarketEvents.BatchStatus.AWAITING);
        assign(id);
        Ballot[] memory list = ballots(id);
        play(id, list);
        expectNoReveal(id, IMarketEvents.BatchStatus.SETTLED);
    }

    function expectNoReveal(uint64 id, IMarketEvents.BatchStatus status) internal {
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.WrongStatus.selector, id, status));
        market.reveal(id, new bytes32[](0), hex"00", "");
    }

    function test_VotersAreCountedInOneByte() public {
        vm.pauseGasMetering(); // of 162 newcomers
        for (uint256 i = 10; i < 172; ++i) {
            addMember(i, 1);
        }
        tick(60, 1);
        advanceEra();
        (terms.seats, terms.rounds) = (86, 2);
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.InvalidTerms.selector, "seats"));
        vm.prank(collator);
        market.post(0, terms, "", false);
        terms.seats = 85; // 255 in three rounds
        postPage(0, "", false);
    }

    function test_OnlyDisputesCountDisputes() public {
        uint64 id = posted(1);
        vm.expectRevert(IMarketEvents.Unauthorized.selector);
        market.disputeOpened(id);
        vm.expectRevert(IMarketEvents.Unauthorized.selector);
        vm.prank(address(challenges));
        market.disputeClosed(id);
        vm.startPrank(address(disputes));
        market.disputeOpened(id);
        market.disputeOpened(id);
        market.disputeClosed(id);
        vm.stopPrank();
        (,,, uint32 open,) = market.batchFlags(id);
        vm.assertEq(open, 1);
    }

    /// @dev What is counted against faults: a seat for each vote that was opened, none for one that stands.
    function test_EachOpenedVoteIsASeatDone() public {
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        play(id, list);
        for (uint256 i; i < 3; ++i) {
            (,,,,,,, uint24 seats,) = registry.faults(list[i].member + 1);
            vm.assertEq(seats, 1);
        }
    }

    /// @dev Without judges a conflict is nobody's fault: fines of an earlier round go to the treasury all the same.
    function test_ThePotOfAnUnjudgedConflictGoesToTheTreasury() public {
        useUnjudgedClass();
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        list[2].act = Act.SILENT;
        commit(id, list);
        pass(id, 4);
        settle(id, list);
        assertVerdict(0, IMarketEvents.Verdict.CARRIED);
        assign(id);
        list = ballots(id);
        for (uint256 i; i < 3; ++i) {
            list[i].vote = LIE;
        }
        play(id, list);
        assertVerdict(0, IMarketEvents.Verdict.VOID);
        vm.assertEq(treasuryOf(), 2 * P, "the silent seat's fine");
        checkBooks();
    }

    // Disputes ----------------------------------------------------------------------------------------------------

    /// @dev One call of each method, with arguments that are looked at later than ids, phases and records.
    function calls(uint64 id, bytes memory record) internal pure returns (bytes[6] memory list) {
        VoteSettlement memory s;
        list[0] = abi.encodeCall(IDisputes.publish, (id, record, ""));
        list[1] = abi.encodeCall(IDisputes.ask, (id, record, ""));
        list[2] = abi.encodeCall(IDisputes.commitVotes, (id, record, "", ""));
        list[3] = abi.encodeCall(IDisputes.revealVotes, (id, record, "", new bytes32[](0), "", ""));
        list[4] = abi.encodeCall(IDisputes.settleVotes, (id, record, "", s, 0));
        list[5] = abi.encodeCall(IDisputes.punish, (id, record, "", 0));
    }

    function expectRefusals(bytes[6] memory list, uint256 which, bytes memory error) internal {
        for (uint256 i; i < list.length; ++i) {
            if ((which >> i) & 1 == 0) continue;
            (bool done, bytes memory answer) = address(disputes).call(list[i]);
            vm.assertFalse(done);
            vm.assertEq(answer, error);
        }
    }

    function test_UnknownDisputes() public {
        (,, Vote memory v) = conflict(1);
        uint64[3] memory unknown = [uint64(0), v.id + 1, v.id + (1 << 32)];
        for (uint256 i; i < unknown.length; ++i) {
            bytes memory error = abi.encodeWithSelector(IDisputes.DisputeUnknown.selector, unknown[i]);
            expectRefusals(calls(unknown[i], v.record), 0x3f, error);
        }
    }

    /// @dev Methods of each phase: the first two ask, the next three vote, the last one punishes.
    function test_EachPhaseHasItsMethods() public {
        uint64 batchId = posted(1);
        Ballot[] memory list = ballots(batchId);
        list[0].vote = LIE;
        play(batchId, list);
        Vote memory v = voteOf(0);
        expectPhase(v, 0x03, IDisputes.Status.PUBLISHING);
        askWhole(v);
        expectPhase(v, 0x1c, IDisputes.Status.VOTING);
        ClassBallot[] memory all = classBallots(v, honest(0));
        commitClass(v, all);
        settleClass(v, one(all), 2);
        expectPhase(v, 0x20, IDisputes.Status.PUNISHING);
    }

    /// @param mine methods of the phase: these refuse another record, all others the phase
    function expectPhase(Vote memory v, uint256 mine, IDisputes.Status status) internal {
        bytes memory error = abi.encodeWithSelector(IDisputes.WrongStatus.selector, v.id, status);
        expectRefusals(calls(v.id, v.record), 0x3f ^ mine, error);
        bytes memory forged = bytes.concat(v.record);
        forged[20] ^= 0x01;
        error = abi.encodeWithSelector(IDisputes.HashMismatch.selector, "record");
        expectRefusals(calls(v.id, forged), mine, error);
        if (status != IDisputes.Status.PUNISHING) return;
        error = abi.encodeWithSelector(IDisputes.HashMismatch.selector, "tally");
        expectRefusals(calls(v.id, v.record), mine, error);
    }

    function test_RevealVotesRefusesWhatWasNotCommitted() public {
        (,, Vote memory v) = conflict(1);
        ClassBallot[] memory all = classBallots(v, honest(0));
        commitClass(v, all);
        passVote(v, 1);
        VoteSettlement memory s = classSettlement(v, one(all));
        bytes memory other = bytes.concat(v.question, hex"00");
        vm.expectRevert(abi.encodeWithSelector(IDisputes.HashMismatch.selector, "question"));
        disputes.revealVotes(v.id, v.record, other, s.commitPages, s.votes, s.openings);
        bytes32[] memory none = new bytes32[](0);
        expectNoVotes(v, s, none, s.openings, abi.encodeWithSelector(IDisputes.HashMismatch.selector, "commitPages"));
        bytes memory forged = bytes.concat(s.openings);
        forged[forged.length - 1] ^= 0x01; // another salt
        bytes memory mismatch = abi.encodeWithSelector(IDisputes.HashMismatch.selector, "openings");
        expectNoVotes(v, s, s.commitPages, forged, mismatch);
        bytes memory malformed = abi.encodeWithSelector(IDisputes.MalformedPage.selector);
        expectNoVotes(v, s, s.commitPages, "", malformed); // nothing is opened
        expectNoVotes(v, s, s.commitPages, bytes.concat(s.openings, hex"00"), malformed);
        disputes.revealVotes(v.id, v.record, v.question, s.commitPages, s.votes, s.openings);
    }

    function expectNoVotes(
        Vote memory v,
        VoteSettlement memory s,
        bytes32[] memory pages,
        bytes memory openings_,
        bytes memory error
    ) internal {
        vm.expectRevert(error);
        disputes.revealVotes(v.id, v.record, v.question, pages, s.votes, openings_);
    }

    /// @dev Nine of ten would decide, but the tenth has its time to commit.
    function test_EverybodyHasTheCommitPeriod() public {
        (,, Vote memory v) = conflict(1);
        ClassBallot[] memory all = classBallots(v, honest(0));
        all[9].act = Act.SILENT;
        commitClass(v, all);
        VoteSettlement memory s = classSettlement(v, one(all));
        vm.expectRevert(IDisputes.TooEarly.selector);
        disputes.settleVotes(v.id, v.record, v.question, s, 10);
        passVote(v, 1);
        settleClass(v, all);
        assertDecided(1, honest(0));
    }

    /// @dev A challenge that the class does not answer: the bundle stays accepted, and the bond goes back.
    function test_AChallengeWithoutAnAnswerGetsItsBondBack() public {
        uint64 batchId = post(orders(1));
        address challenger = makeAddr("challenger");
        watch(challenger);
        vm.deal(address(challenges), 0.01 ether);
        vm.startPrank(address(challenges));
        registry.depositPot{value: 0.01 ether}();
        vm.stopPrank();
        bytes memory entries = abi.encodePacked(uint16(0), honest(0));
        bytes memory what = abi.encodePacked(challenger, uint16(0), LIE);
        bytes memory record = makeRecord(1, batchId, 1, P, 0.01 ether, P, what, entries);
        Vote memory v = openAs(address(challenges), record);
        askWhole(v);
        for (uint256 window; window < 3; ++window) {
            passVote(v, 3);
            settleClass(v, new ClassBallot[](0));
        }
        assertDecided(1, honest(0));
        vm.assertEq(decision.answer, 0);
        vm.assertEq(freeOf(challenger), 0.01 ether);
        vm.assertEq(stakeOf(1), 10 ether - 8 ether * 610 / 10_000, "silence costs, the vote does not");
        vm.assertEq(market.struckBelow(batchId, 0), 0, "the outcome counts");
        checkBooks();
    }
}
