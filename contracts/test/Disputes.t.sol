// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {IMarketEvents} from "../src/interfaces/IMarketEvents.sol";
import {IStakeRegistry} from "../src/interfaces/IStakeRegistry.sol";
import {FineKind} from "../src/types/FineKind.sol";
import {VoteSettlement} from "../src/types/VoteSettlement.sol";
import {ClassVotes} from "./support/ClassVotes.sol";

/// @dev Ten members of eight units, each with two units more than it allocates.
abstract contract DisputeCase is ClassVotes {
    uint256 internal constant P = TASK_PRICE;
    uint256 internal constant STAKE = 10 ether;
    uint256 internal constant HELD = 8 ether; // what its units of the class are worth
    uint256 internal constant AUDIT_FEE = P / 100;

    function setUp() public {
        deployWithMembers(10, 8);
    }

    function assertNoPots() internal view {
        (uint256 pots,) = potsAndTreasury();
        vm.assertEq(pots, 0, "pots");
        checkBooks();
    }
}

/// @title Class votes on conflicts that one window decides
contract DisputesTest is DisputeCase {
    function test_AConflictMovesNothing() public {
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        list[0].vote = LIE;
        play(id, list);
        Vote memory v = voteOf(0);
        assertVerdict(0, IMarketEvents.Verdict.DISPUTED);
        vm.assertEq(escrowOf(requester), ESCROW);
        bytes memory expected =
            abi.encodePacked(uint8(0), id, uint16(0), uint16(1), requester, uint96(P), uint128(0), uint128(ESCROW));
        expected = abi.encodePacked(expected, uint64(FEE), uint96(AUDIT_FEE), collator, CLASS, uint16(1));
        expected = abi.encodePacked(expected, new bytes(55), uint8(3));
        for (uint256 i; i < 3; ++i) {
            expected = abi.encodePacked(expected, list[i].member, list[i].vote);
        }
        vm.assertEq(v.record, expected, "record");
        IDisputes.Dispute memory d = disputes.dispute(v.id);
        vm.assertEq(d.recordHash, keccak256(expected));
        vm.assertEq(d.startBlock, vm.getBlockNumber());
        vm.assertEq(uint256(d.status), uint256(IDisputes.Status.PUBLISHING));
        assertStatus(id, IMarketEvents.BatchStatus.SETTLED);
        (,,,,,,,,,, uint40 finalAt) = market.batch(id);
        vm.warp(finalAt);
        vm.assertFalse(market.isBatchFinal(id), "not while a dispute is open");
        checkBooks();
    }

    function test_ALoneLiarLosesAFifth() public {
        (uint64 id, Ballot[] memory list, Vote memory v) = conflict(1);
        uint256 r = freeOf(requester);
        uint256 fees = freeOf(collator);
        bytes32 outcomes = outcomeHashOf(id);
        ClassBallot[] memory all = classBallots(v, honest(0));
        commitClass(v, all);
        vm.assertTrue(disputes.hasSpoken(v.id, 9));
        settleClass(v, all); // everybody has spoken: no need to wait
        assertDecided(1, honest(0));
        vm.assertTrue(isSettled);
        uint24 liar = uint24(list[0].member) + 1;
        vm.assertEq(stakeOf(liar), STAKE * 8 / 10);
        (,, uint256 held,,,, uint8 loneWrong, bool ejected) = registry.operator(liar);
        vm.assertEq(held, 8 ether);
        vm.assertEq(loneWrong, 1);
        vm.assertFalse(ejected);
        vm.assertEq(stakeOf(list[1].member + 1), STAKE + P);
        vm.assertEq(stakeOf(list[2].member + 1), STAKE + P);
        vm.assertEq(freeOf(collator), fees + FEE);
        vm.assertEq(freeOf(requester), r + ESCROW - 2 * P - FEE - AUDIT_FEE, "the requester pays the right seats only");
        // Seven voters without a right seat (the liar's class vote was right too, but it is guilty).
        uint256 voters;
        for (uint24 op = 1; op <= 10; ++op) {
            if (op == liar || op == list[1].member + 1 || op == list[2].member + 1) continue;
            vm.assertEq(stakeOf(op), STAKE + P, "a class voter earns the price");
            ++voters;
        }
        vm.assertEq(treasuryOf(), 2 ether - voters * P + AUDIT_FEE);
        bytes memory row = abi.encodePacked(uint16(0), uint8(1), honest(0), uint16(0), uint8(2));
        row = abi.encodePacked(uint8(0), row, list[1].member, list[2].member);
        vm.assertEq(outcomeHashOf(id), keccak256(abi.encodePacked(outcomes, keccak256(row))), "outcome row");
        vm.warp(vm.getBlockTimestamp() + 30);
        vm.assertTrue(market.isBatchFinal(id));
        assertNoPots();
    }

    function outcomeHashOf(uint64 id) internal view returns (bytes32 hash) {
        (,,,,, hash) = market.batchHashes(id);
    }

    function test_LiarsTogetherLoseAllAndAreEjected() public {
        (, Ballot[] memory list, Vote memory v) = conflict(3);
        ClassBallot[] memory all = classBallots(v, honest(0));
        commitClass(v, all);
        settleClass(v, all);
        for (uint256 i; i < 2; ++i) {
            (,, uint128 held, uint128 allocated, uint128 unbonding,,, bool ejected) =
                registry.operator(list[i].member + 1);
            vm.assertEq(uint256(held) + allocated + unbonding, 0, "nothing is left");
            vm.assertTrue(ejected);
            (uint16 units,,) = registry.member(CLASS, list[i].member + 1);
            vm.assertEq(units, 0);
        }
        vm.assertEq(registry.members(CLASS).length, 8);
        assertNoPots();
    }

    function test_AClassVoteThatRepeatsASeatsLieIsTogether() public {
        (, Ballot[] memory list, Vote memory v) = conflict(1);
        ClassBallot[] memory all = classBallots(v, honest(0));
        uint16 accomplice = _other(list);
        all[accomplice].vote = LIE;
        commitClass(v, all);
        settleClass(v, all);
        assertDecided(1, honest(0));
        vm.assertEq(stakeOf(uint24(accomplice) + 1), 0);
        vm.assertEq(stakeOf(list[0].member + 1), STAKE * 8 / 10, "nobody can make a lone seat's mistake dearer");
        assertNoPots();
    }

    /// @dev Who voted wrong by a fault of its machine will vote so again; a sybil repeats that to take all of its stake.
    function test_ALoneSeatThatRepeatsItselfStaysLone() public {
        (, Ballot[] memory list, Vote memory v) = conflict(1);
        ClassBallot[] memory all = classBallots(v, honest(0));
        uint16 sybil = _other(list);
        all[sybil].vote = all[list[0].member].vote = LIE;
        commitClass(v, all);
        settleClass(v, all);
        vm.assertEq(stakeOf(uint24(sybil) + 1), 0);
        vm.assertEq(stakeOf(list[0].member + 1), STAKE * 8 / 10);
        assertNoPots();
    }

    function test_TwoClassVotesOfOneLieAreTogether() public {
        (, Ballot[] memory list, Vote memory v) = conflict(1);
        ClassBallot[] memory all = classBallots(v, honest(0));
        uint16 other = _other(list);
        all[other].vote = bytes32(uint256(1));
        all[list[0].member].vote = bytes32(uint256(1));
        commitClass(v, all);
        settleClass(v, all);
        vm.assertEq(stakeOf(uint24(other) + 1), 0);
        vm.assertEq(stakeOf(list[0].member + 1), 0, "its class vote was another one's lie");
        assertNoPots();
    }

    function test_TwoDifferentLiesAreBothLone() public {
        (, Ballot[] memory list, Vote memory v) = conflict(1);
        ClassBallot[] memory all = classBallots(v, honest(0));
        uint16 other = _other(list);
        all[other].vote = bytes32(uint256(1));
        all[list[0].member].act = Act.SILENT;
        commitClass(v, all);
        passVote(v, 1);
        settleClass(v, all);
        vm.assertEq(stakeOf(uint24(other) + 1), STAKE * 8 / 10);
        // And one window of silence, of its units as they were: 0.1 %.
        vm.assertEq(stakeOf(list[0].member + 1), STAKE * 8 / 10 - HELD / 1000);
        assertNoPots();
    }

    function test_RepeatingItsOwnLieIsNotTogether() public {
        (, Ballot[] memory list, Vote memory v) = conflict(1);
        ClassBallot[] memory all = classBallots(v, honest(0));
        all[list[0].member].vote = LIE;
        commitClass(v, all);
        settleClass(v, all);
        vm.assertEq(stakeOf(list[0].member + 1), STAKE * 8 / 10, "one operator is not two");
        assertNoPots();
    }

    function _other(Ballot[] memory list) internal pure returns (uint16 m) {
        while (m == list[0].member || m == list[1].member || m == list[2].member) {
            ++m;
        }
    }

    function test_TheMajorityOfSeatsCanLose() public {
        (, Ballot[] memory list, Vote memory v) = conflict(3); // two of three seats lie
        uint256 before = freeOf(requester) + escrowOf(requester);
        ClassBallot[] memory all = classBallots(v, honest(0));
        all[list[0].member].act = all[list[1].member].act = Act.SILENT;
        commitClass(v, all);
        passVote(v, 1);
        settleClass(v, all);
        assertDecided(1, honest(0));
        vm.assertEq(stakeOf(list[2].member + 1), STAKE + P);
        vm.assertEq(freeOf(requester), before - P - FEE - AUDIT_FEE);
        assertNoPots();
    }

    function test_NeitherRootMayWin() public {
        (, Ballot[] memory list, Vote memory v) = conflict(1);
        uint256 r = freeOf(requester);
        ClassBallot[] memory all = classBallots(v, bytes32(uint256(42)));
        commitClass(v, all);
        settleClass(v, all);
        assertDecided(4, 0);
        vm.assertEq(decision.answer, bytes32(uint256(42)));
        vm.assertEq(freeOf(requester), r + ESCROW, "refunded");
        vm.assertEq(stakeOf(list[0].member + 1), STAKE * 8 / 10, "alone with its lie");
        vm.assertEq(stakeOf(list[1].member + 1), 0, "two with one lie");
        assertNoPots();
    }
}

/// @title Windows of class votes
contract VoteWindowsTest is DisputeCase {
    function test_HalfTheUnitsIsNoMajority() public {
        (, Ballot[] memory list, Vote memory v) = conflict(1);
        uint256 r = freeOf(requester);
        ClassBallot[] memory all = classBallots(v, honest(0));
        for (uint256 i; i < 5; ++i) {
            all[i].act = Act.SILENT;
        }
        voteToTheEnd(v, all);
        assertDecided(4, 0);
        vm.assertEq(v.window, 2, "three windows");
        vm.assertEq(decision.tally, hex"03030303030000000000");
        vm.assertEq(freeOf(requester), r + ESCROW, "refunded");
        for (uint256 m; m < 10; ++m) {
            // 0.1 + 1 + 5 % of its units for the silent ones; nobody is slashed for its vote.
            vm.assertEq(stakeOf(uint24(m) + 1), STAKE - (m < 5 ? HELD * 610 / 10_000 : 0));
        }
        vm.assertEq(list.length, 3);
        assertNoPots();
    }

    function test_CastVotesStandAndALateMemberDecides() public {
        (,, Vote memory v) = conflict(1);
        ClassBallot[] memory all = classBallots(v, honest(0));
        for (uint256 m; m < 5; ++m) {
            all[m].act = Act.SILENT;
        }
        commitClass(v, all);
        passVote(v, 3);
        settleClass(v, all);
        vm.assertEq(v.window, 1);
        vm.assertEq(_uint(v.cast, 0, 2), 5, "five votes stand");
        vm.assertTrue(disputes.hasSpoken(v.id, 7));
        ClassBallot[] memory late = unspoken(v, classBallots(v, honest(0)));
        for (uint256 m = 1; m < 5; ++m) {
            late[m].act = Act.SILENT;
        }
        commitClass(v, late); // member 0 is back
        passVote(v, 1);
        settleClass(v, late);
        assertDecided(1, honest(0));
        vm.assertEq(uint8(decision.tally[0]) & 7, 1, "silent in the first window only");
        vm.assertEq(uint8(decision.tally[1]) & 7, 2);
        assertNoPots();
    }

    function test_AVoteCannotBeChangedInALaterWindow() public {
        (,, Vote memory v) = conflict(1);
        ClassBallot[] memory all = classBallots(v, honest(0));
        for (uint256 m; m < 5; ++m) {
            all[m].act = Act.SILENT;
        }
        commitClass(v, all);
        passVote(v, 3);
        settleClass(v, all);
        ClassBallot memory changed = ClassBallot(9, Act.OPEN, LIE);
        vm.expectEmit(address(disputes));
        emit IDisputes.VotesCommitted(v.id, 1, classList(v, changed), hex"000007");
        disputes.commitVotes(v.id, v.record, v.question, classList(v, changed));
    }

    function test_AbstentionsAreNotSilenceAndDoNotStand() public {
        (,, Vote memory v) = conflict(1);
        ClassBallot[] memory all = classBallots(v, honest(0));
        for (uint256 m; m < 6; ++m) {
            (all[m].act, all[m].vote) = (Act.ABSTAIN, bytes32(uint256(2)));
        }
        commitClass(v, all);
        settleClass(v, all); // everybody has spoken
        vm.assertEq(v.window, 1);
        vm.assertFalse(disputes.hasSpoken(v.id, 0), "who abstained may vote now");
        ClassBallot[] memory back = unspoken(v, classBallots(v, honest(0)));
        commitClass(v, back);
        settleClass(v, back);
        assertDecided(1, honest(0));
        for (uint256 m; m < 10; ++m) {
            vm.assertEq(uint8(decision.tally[m]) & 7, 0, "nobody was silent");
        }
        assertNoPots();
    }

    function test_NoDataVoidsAndVotesCountAsAbstentions() public {
        (, Ballot[] memory list, Vote memory v) = conflict(1);
        uint256 r = freeOf(requester);
        ClassBallot[] memory all = classBallots(v, NO_DATA);
        for (uint256 m; m < 10; ++m) {
            all[m].act = m < 4 ? Act.ABSTAIN : Act.SILENT;
        }
        voteToTheEnd(v, all); // of those who answered, all say so
        assertDecided(4, 0);
        vm.assertEq(freeOf(requester), r + ESCROW);
        for (uint256 m; m < 10; ++m) {
            bool isSeat = m == list[0].member || m == list[1].member || m == list[2].member;
            vm.assertEq(uint8(decision.tally[m]), isSeat ? 0x20 : 0);
            vm.assertEq(stakeOf(uint24(m) + 1), STAKE - (isSeat ? P : 0), "silence is no fault then");
            (, uint32 failed,,,,,,,) = registry.faults(uint24(m) + 1);
            vm.assertEq(failed, 0, "nor a vote: the data may have been withdrawn");
        }
        assertNoPots();
    }

    function test_NobodyVotesIsVoid() public {
        (,, Vote memory v) = conflict(1);
        ClassBallot[] memory none = new ClassBallot[](0);
        expectTooEarly(v, none);
        passVote(v, 1); // nobody committed, so there is nobody to wait for
        settleClass(v, none);
        vm.assertEq(v.window, 1);
        voteToTheEnd(v, none);
        assertDecided(4, 0);
        assertNoPots();
    }

    function test_AHiddenVoteDelaysUntilTheSecondWindow() public {
        (,, Vote memory v) = conflict(1);
        ClassBallot[] memory all = classBallots(v, honest(0));
        all[9].act = Act.HIDE;
        commitClass(v, all);
        expectTooEarly(v, all);
        passVote(v, 1);
        expectTooEarly(v, all);
        vm.warp(vm.getBlockTimestamp() + 10); // its seconds, not its blocks
        vm.roll(vm.getBlockNumber() + 1);
        expectTooEarly(v, all);
        passVote(v, 2);
        settleClass(v, all);
        assertDecided(1, honest(0));
        vm.assertEq(uint8(decision.tally[9]) & 7, 0, "a call that decides without it does not blame it");
        assertNoPots();
    }

    function test_WhoHidesWithoutADecisionIsSilent() public {
        (,, Vote memory v) = conflict(1);
        ClassBallot[] memory all = classBallots(v, honest(0));
        for (uint256 m; m < 6; ++m) {
            all[m].act = Act.HIDE;
        }
        voteToTheEnd(v, all);
        assertDecided(4, 0);
        vm.assertEq(uint8(decision.tally[0]), 3);
        vm.assertEq(uint8(decision.tally[9]), 0);
        assertNoPots();
    }

    function expectTooEarly(Vote memory v, ClassBallot[] memory list) internal {
        VoteSettlement memory s = classSettlement(v, one(list));
        vm.expectRevert(IDisputes.TooEarly.selector);
        disputes.settleVotes(v.id, v.record, v.question, s, 10);
    }

    function test_RevealedVotesCannotBeLeftOut() public {
        (, Ballot[] memory list, Vote memory v) = conflict(1);
        ClassBallot[] memory all = classBallots(v, honest(0));
        for (uint256 m; m < 5; ++m) {
            all[m].act = Act.SILENT;
        }
        commitClass(v, all);
        sendReveal(v, all, "commit");
        passVote(v, 1);
        sendReveal(v, all, "");
        for (uint256 m = 5; m < 10; ++m) {
            vm.assertTrue(disputes.isRevealed(v.id, uint16(m)));
        }
        ClassBallot[] memory shy = classBallots(v, honest(0));
        for (uint256 m; m < 10; ++m) {
            shy[m].act = m < 5 ? Act.SILENT : Act.HIDE;
        }
        passVote(v, 3);
        VoteSettlement memory s = classSettlement(v, one(shy));
        vm.expectRevert(abi.encodeWithSelector(IDisputes.SeatOmitted.selector, 0, 5));
        disputes.settleVotes(v.id, v.record, v.question, s, 10);
        settleClass(v, all);
        vm.assertEq(_uint(v.cast, 0, 2), 5);
        vm.assertFalse(disputes.isRevealed(v.id, 9), "another window, another word");
        vm.assertEq(list.length, 3);
        passVote(v, 2);
        VoteSettlement memory late = classSettlement(v, one(unspoken(v, all)));
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WindowPast.selector, "reveal"));
        disputes.revealVotes(v.id, v.record, v.question, late.commitPages, late.votes, late.openings);
    }

    function sendReveal(Vote memory v, ClassBallot[] memory list, string memory open) internal {
        VoteSettlement memory s = classSettlement(v, one(list));
        if (bytes(open).length > 0) vm.expectRevert(abi.encodeWithSelector(IDisputes.WindowOpen.selector, open));
        disputes.revealVotes(v.id, v.record, v.question, s.commitPages, s.votes, s.openings);
    }
}

/// @title What class votes skip and refuse, and punishment in pages
contract VotePagesTest is DisputeCase {
    function test_SkipsBadLists() public {
        (,, Vote memory v) = conflict(1);
        ClassBallot[] memory all = classBallots(v, honest(0));
        bytes memory good = classList(v, all[0]);
        bytes memory noMember = classList(v, all[1]);
        (noMember[0], noMember[1]) = (0x00, 0x0a);
        bytes memory forged = classList(v, all[2]);
        forged[98] ^= 0x01;
        bytes memory lists = bytes.concat(noMember, good, forged, good);
        vm.expectEmit(address(disputes));
        emit IDisputes.VotesCommitted(v.id, 0, lists, hex"000001000202000307");
        disputes.commitVotes(v.id, v.record, v.question, lists);
        vm.assertEq(disputes.dispute(v.id).committed, 1);
        ClassBallot memory changed = all[0];
        changed.vote = LIE;
        vm.expectEmit(address(disputes));
        emit IDisputes.VotesCommitted(v.id, 0, classList(v, changed), hex"000007");
        disputes.commitVotes(v.id, v.record, v.question, classList(v, changed));
    }

    function test_RefusesLateMalformedAndUnknown() public {
        (,, Vote memory v) = conflict(1);
        bytes memory list = classList(v, classBallots(v, honest(0))[0]);
        vm.expectRevert(IDisputes.MalformedPage.selector);
        disputes.commitVotes(v.id, v.record, v.question, "");
        vm.expectRevert(IDisputes.MalformedPage.selector);
        disputes.commitVotes(v.id, v.record, v.question, bytes.concat(list, hex"00"));
        vm.expectRevert(abi.encodeWithSelector(IDisputes.DisputeUnknown.selector, v.id + 1));
        disputes.commitVotes(v.id + 1, v.record, v.question, list);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.DisputeUnknown.selector, 0));
        disputes.dispute(0);
        bytes memory forged = bytes.concat(v.record);
        forged[70] ^= 0x01; // another escrow
        vm.expectRevert(abi.encodeWithSelector(IDisputes.HashMismatch.selector, "record"));
        disputes.commitVotes(v.id, forged, v.question, list);
        bytes memory other = bytes.concat(v.question, hex"00");
        vm.expectRevert(abi.encodeWithSelector(IDisputes.HashMismatch.selector, "question"));
        disputes.commitVotes(v.id, v.record, other, list);
        passVote(v, 1);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WindowPast.selector, "commit"));
        disputes.commitVotes(v.id, v.record, v.question, list);
    }

    function test_SettleRefusesForgeries() public {
        (,, Vote memory v) = conflict(1);
        ClassBallot[] memory all = classBallots(v, honest(0));
        commitClass(v, all);
        VoteSettlement memory s = classSettlement(v, one(all));
        bytes32[] memory pages = s.commitPages;
        s.commitPages = new bytes32[](0);
        expectSettle(v, s, abi.encodeWithSelector(IDisputes.HashMismatch.selector, "commitPages"));
        (s.commitPages, s.cast) = (pages, hex"0000");
        expectSettle(v, s, abi.encodeWithSelector(IDisputes.HashMismatch.selector, "cast"));
        s.cast = "";
        s.openings[s.openings.length - 1] ^= 0x01;
        expectSettle(v, s, abi.encodeWithSelector(IDisputes.HashMismatch.selector, "openings"));
        s.openings[s.openings.length - 1] ^= 0x01;
        bytes memory votes = s.votes;
        s.votes = bytes.concat(votes, hex"00");
        expectSettle(v, s, abi.encodePacked(IDisputes.MalformedPage.selector));
        s.votes = abi.encodePacked(uint16(2), LIE, honest(0)); // they descend
        expectSettle(v, s, abi.encodePacked(IDisputes.MalformedPage.selector));
        s.votes = abi.encodePacked(uint16(1), honest(0)); // the liar's root is missing
        expectSettle(v, s, abi.encodePacked(IDisputes.MalformedPage.selector));
        bytes memory openings = s.openings;
        s.votes = votes;
        s.openings = bytes.concat(openings, hex"00");
        expectSettle(v, s, abi.encodePacked(IDisputes.MalformedPage.selector));
        s.openings = "";
        expectSettle(v, s, abi.encodePacked(IDisputes.MalformedPage.selector)); // all pages must stand
        s.openings = openings;
        s.openings[7] = 0x02; // an answer that is not listed
        expectSettle(v, s, abi.encodePacked(IDisputes.MalformedPage.selector));
    }

    function expectSettle(Vote memory v, VoteSettlement memory s, bytes memory error) internal {
        vm.expectRevert(error);
        disputes.settleVotes(v.id, v.record, v.question, s, 10);
    }

    function test_SettledOnceAndTheSlotIsReused() public {
        (,, Vote memory v) = conflict(1);
        ClassBallot[] memory all = classBallots(v, honest(0));
        commitClass(v, all);
        VoteSettlement memory s = classSettlement(v, one(all));
        settleClass(v, all);
        expectSettle(v, s, abi.encodeWithSelector(IDisputes.DisputeUnknown.selector, v.id));
        (,, Vote memory next) = conflict(1);
        vm.assertEq(uint256(next.id), (2 << 32) | 0, "same slot, other id");
        vm.assertFalse(disputes.hasSpoken(next.id, 0), "votes of the former dispute are gone");
        all = classBallots(next, honest(0));
        commitClass(next, all);
        settleClass(next, all);
        assertNoPots();
    }

    function test_PunishesInPages() public {
        (, Ballot[] memory list, Vote memory v) = conflict(3);
        ClassBallot[] memory all = classBallots(v, honest(0));
        commitClass(v, all);
        settleClass(v, one(all), 3);
        vm.assertFalse(isSettled);
        IDisputes.Dispute memory d = disputes.dispute(v.id);
        vm.assertEq(d.row, 3);
        vm.assertEq(d.tallyHash, keccak256(decision.tally));
        bytes memory forged = new bytes(10);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.HashMismatch.selector, "tally"));
        disputes.punish(v.id, v.record, forged, 10);
        punish(v, 2); // behind us already
        vm.assertEq(disputes.dispute(v.id).row, 3);
        punish(v, 7);
        vm.assertEq(disputes.dispute(v.id).row, 7);
        vm.assertFalse(isSettled);
        punish(v, 1000);
        vm.assertTrue(isSettled);
        for (uint256 i; i < 2; ++i) {
            vm.assertEq(stakeOf(list[i].member + 1), 0);
        }
        assertNoPots();
    }

    function test_RewardsAreAtMostTwoFifthsOfTheSlash() public {
        // A bundle so dear that its price is above what a poor liar can lose.
        Order[] memory dear = orders(1);
        (dear[0].taskCount, dear[0].fuelLimit, dear[0].commitPeriod) = (256, 40_000_000, 60);
        (terms.commitPeriod, terms.rounds) = (60, 0);
        uint64 id = post(dear);
        assign(id);
        Ballot[] memory list = ballots(id);
        list[0].vote = LIE;
        play(id, list);
        Vote memory v = voteOf(0);
        askWhole(v);
        uint256 price = uint256(TASK_PRICE) * 10 * 256; // 0.01 ether
        uint24 liar = uint24(list[0].member) + 1;
        // It has lost nearly all elsewhere.
        vm.prank(address(market));
        registry.fine(liar, STAKE - 1 ether / 100, FineKind.ABSENT);
        vm.prank(address(market));
        registry.releasePot(STAKE - 1 ether / 100);
        uint256 treasury = treasuryOf();
        ClassBallot[] memory all = classBallots(v, honest(0));
        commitClass(v, all);
        settleClass(v, all);
        uint256 slashed = 1 ether / 100 / 5;
        uint256 share = slashed * 4 / 10 / 7;
        vm.assertLt(share, price, "the slash is the bound here");
        for (uint24 op = 1; op <= 10; ++op) {
            if (op == liar) continue;
            bool isSeat = op == list[1].member + 1 || op == list[2].member + 1;
            vm.assertEq(stakeOf(op), STAKE + (isSeat ? price : share));
        }
        vm.assertEq(treasuryOf() - treasury, slashed - 7 * share + price / 100);
        assertNoPots();
    }

    function test_UnbondingStakeIsSlashed() public {
        (, Ballot[] memory list, Vote memory v) = conflict(3);
        uint24 liar = uint24(list[0].member) + 1;
        vm.prank(ownerOf(list[0].member));
        registry.leave(CLASS);
        vm.prank(ownerOf(list[0].member));
        registry.unstake(10 ether);
        vm.assertEq(stakeOf(liar), 0);
        ClassBallot[] memory all = classBallots(v, honest(0));
        commitClass(v, all);
        settleClass(v, all);
        vm.assertEq(unbondingOf(liar), 0, "it did not get away");
        vm.warp(vm.getBlockTimestamp() + 5400);
        vm.expectRevert(IStakeRegistry.NothingToWithdraw.selector);
        vm.prank(ownerOf(list[0].member));
        registry.withdraw();
        assertNoPots();
    }
}
