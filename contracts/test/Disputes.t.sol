// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {IMarketEvents} from "../src/interfaces/IMarketEvents.sol";
import {IStakeRegistry} from "../src/interfaces/IStakeRegistry.sol";
import {FineKind} from "../src/types/FineKind.sol";
import {ClassVotes} from "./support/ClassVotes.sol";

contract DisputesTest is ClassVotes {
    uint256 internal constant P = TASK_PRICE;
    uint256 internal constant STAKE = 10 ether;
    uint256 internal constant ESCROW = P * 9 + FEE;

    function setUp() public {
        deployWithMembers(10, 8);
    }

    function test_AConflictMovesNothing() public {
        (uint64 id, Ballot[] memory list, Vote memory v) = conflict(1);
        assertVerdict(0, IMarketEvents.Verdict.DISPUTED);
        vm.assertEq(escrowOf(requester), ESCROW);
        vm.assertEq(v.domain, domainOf(id, 1, 0));
        bytes memory expected = abi.encodePacked(id, uint16(0), requester, uint96(P), uint128(0), uint128(ESCROW));
        expected = abi.encodePacked(expected, uint64(FEE), collator, CLASS, uint16(1), v.domain, uint8(3));
        for (uint256 i; i < 3; ++i) {
            expected = abi.encodePacked(expected, list[i].member, list[i].vote);
        }
        vm.assertEq(v.record, expected, "record");
        (bytes32 recordHash,,, uint48 openBlock, uint16 committed) = disputes.dispute(v.id);
        vm.assertEq(recordHash, keccak256(expected));
        vm.assertEq(openBlock, vm.getBlockNumber());
        vm.assertEq(committed, 0);
        assertStatus(id, IMarketEvents.BatchStatus.SETTLED);
        checkBooks();
    }

    function test_ALoneLiarLosesAFifth() public {
        (, Ballot[] memory list, Vote memory v) = conflict(1);
        uint256 r = freeOf(requester);
        uint256 fees = freeOf(collator);
        ClassBallot[] memory all = classBallots(v, honest(0));
        commitClass(v, all);
        vm.assertTrue(disputes.hasCommitted(v.id, 9));
        settleClass(v, all); // everybody has spoken: no need to wait
        assertDecided(1, honest(0));
        uint24 liar = uint24(list[0].member) + 1;
        vm.assertEq(stakeOf(liar), STAKE * 8 / 10);
        (,, uint256 held,,,, uint8 loneWrong, bool ejected) = registry.operator(liar);
        vm.assertEq(held, 8 ether);
        vm.assertEq(loneWrong, 1);
        vm.assertFalse(ejected);
        vm.assertEq(stakeOf(list[1].member + 1), STAKE + P);
        vm.assertEq(stakeOf(list[2].member + 1), STAKE + P);
        vm.assertEq(freeOf(collator), fees + FEE);
        vm.assertEq(freeOf(requester), r + ESCROW - 2 * P - FEE, "the requester pays the right seats only");
        // Seven voters without a right seat (the liar's class vote was right too, but it is guilty).
        uint256 voters;
        for (uint24 op = 1; op <= 10; ++op) {
            if (op == liar || op == list[1].member + 1 || op == list[2].member + 1) continue;
            vm.assertEq(stakeOf(op), STAKE + P, "a class voter earns the price");
            ++voters;
        }
        vm.assertEq(treasuryOf(), 2 ether - voters * P);
        (uint256 pots,) = potsAndTreasury();
        vm.assertEq(pots, 0);
        checkBooks();
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
        checkBooks();
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
        vm.assertEq(stakeOf(list[0].member + 1), 0);
        checkBooks();
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
        vm.assertEq(stakeOf(list[0].member + 1), STAKE * 8 / 10);
        checkBooks();
    }

    function test_RepeatingItsOwnLieIsNotTogether() public {
        (, Ballot[] memory list, Vote memory v) = conflict(1);
        ClassBallot[] memory all = classBallots(v, honest(0));
        all[list[0].member].vote = LIE;
        commitClass(v, all);
        settleClass(v, all);
        vm.assertEq(stakeOf(list[0].member + 1), STAKE * 8 / 10, "one operator is not two");
        checkBooks();
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
        vm.assertEq(freeOf(requester), before - P - FEE);
        checkBooks();
    }

    function test_HalfTheUnitsIsNoMajority() public {
        (, Ballot[] memory list, Vote memory v) = conflict(1);
        uint256 r = freeOf(requester);
        ClassBallot[] memory all = classBallots(v, honest(0));
        for (uint256 i; i < 5; ++i) {
            all[i].act = Act.SILENT;
        }
        commitClass(v, all);
        passVote(v, 1);
        settleClass(v, all);
        assertDecided(4, 0);
        vm.assertEq(freeOf(requester), r + ESCROW, "refunded");
        vm.assertEq(stakeOf(list[0].member + 1), STAKE, "nobody is slashed");
        vm.assertEq(stakeOf(list[1].member + 1), STAKE);
        checkBooks();
    }

    function test_NobodyVotesIsVoid() public {
        (,, Vote memory v) = conflict(1);
        ClassBallot[] memory none = new ClassBallot[](0);
        expectTooEarly(v, none);
        passVote(v, 1);
        settleClass(v, none);
        assertDecided(4, 0);
        checkBooks();
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
        checkBooks();
    }

    function test_NotEverybodyHasCommittedYet() public {
        (,, Vote memory v) = conflict(1);
        ClassBallot[] memory all = classBallots(v, honest(0));
        all[9].act = Act.SILENT;
        commitClass(v, all);
        expectTooEarly(v, all);
        passVote(v, 1);
        settleClass(v, all);
        assertDecided(1, honest(0));
    }

    function expectTooEarly(Vote memory v, ClassBallot[] memory list) internal {
        ClassSettlement memory s = classSettlement(v, list);
        vm.expectRevert(IDisputes.TooEarly.selector);
        disputes.settleVotes(v.id, v.record, s.pages, s.votes, s.openings);
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
        uint256 price = uint256(TASK_PRICE) * 10 * 256; // 0.01 ether
        uint24 liar = uint24(list[0].member) + 1;
        // It has lost nearly all elsewhere.
        vm.prank(address(market));
        registry.fine(liar, STAKE - 1 ether / 100, FineKind.SILENT);
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
        vm.assertEq(treasuryOf() - treasury, slashed - 7 * share);
        checkBooks();
    }

    // Commitments of the class ------------------------------------------------------------------------------------

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
        emit IDisputes.VotesCommitted(v.id, lists, hex"000001000202000307");
        disputes.commitVotes(v.id, v.record, lists);
        (,,,, uint16 committed) = disputes.dispute(v.id);
        vm.assertEq(committed, 1);
        ClassBallot memory changed = all[0];
        changed.vote = LIE;
        vm.expectEmit(address(disputes));
        emit IDisputes.VotesCommitted(v.id, classList(v, changed), hex"000007");
        disputes.commitVotes(v.id, v.record, classList(v, changed));
    }

    function test_RefusesLateMalformedAndUnknown() public {
        (,, Vote memory v) = conflict(1);
        bytes memory list = classList(v, classBallots(v, honest(0))[0]);
        vm.expectRevert(IDisputes.MalformedPage.selector);
        disputes.commitVotes(v.id, v.record, "");
        vm.expectRevert(IDisputes.MalformedPage.selector);
        disputes.commitVotes(v.id, v.record, bytes.concat(list, hex"00"));
        vm.expectRevert(abi.encodeWithSelector(IDisputes.DisputeUnknown.selector, v.id + 1));
        disputes.commitVotes(v.id + 1, v.record, list);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.DisputeUnknown.selector, 0));
        disputes.dispute(0);
        bytes memory forged = bytes.concat(v.record);
        forged[73] ^= 0x01; // another escrow
        vm.expectRevert(abi.encodeWithSelector(IDisputes.HashMismatch.selector, "record"));
        disputes.commitVotes(v.id, forged, list);
        passVote(v, 1);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WindowPast.selector, "commit"));
        disputes.commitVotes(v.id, v.record, list);
    }

    function test_SettleRefusesForgeries() public {
        (,, Vote memory v) = conflict(1);
        ClassBallot[] memory all = classBallots(v, honest(0));
        commitClass(v, all);
        ClassSettlement memory s = classSettlement(v, all);
        bytes32[] memory none = new bytes32[](0);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.HashMismatch.selector, "commitPages"));
        disputes.settleVotes(v.id, v.record, none, s.votes, s.openings);
        s.openings[s.openings.length - 1] ^= 0x01;
        vm.expectRevert(abi.encodeWithSelector(IDisputes.HashMismatch.selector, "openings"));
        disputes.settleVotes(v.id, v.record, s.pages, s.votes, s.openings);
        s.openings[s.openings.length - 1] ^= 0x01;
        bytes memory lie = abi.encodePacked(uint8(1), LIE);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.HashMismatch.selector, "openings"));
        disputes.settleVotes(v.id, v.record, s.pages, lie, s.openings);
        bytes memory twice = abi.encodePacked(uint8(2), honest(0), honest(0));
        vm.expectRevert(IDisputes.MalformedPage.selector);
        disputes.settleVotes(v.id, v.record, s.pages, twice, s.openings);
        bytes memory longer = bytes.concat(s.votes, hex"00");
        vm.expectRevert(IDisputes.MalformedPage.selector);
        disputes.settleVotes(v.id, v.record, s.pages, longer, s.openings);
        longer = bytes.concat(s.openings, hex"00");
        vm.expectRevert(IDisputes.MalformedPage.selector);
        disputes.settleVotes(v.id, v.record, s.pages, s.votes, longer);
        bytes memory zero = hex"00";
        vm.expectRevert(IDisputes.MalformedPage.selector); // a tag without its vote
        disputes.settleVotes(v.id, v.record, s.pages, zero, s.openings);
    }

    function test_SettledOnceAndTheSlotIsReused() public {
        (,, Vote memory v) = conflict(1);
        ClassBallot[] memory all = classBallots(v, honest(0));
        commitClass(v, all);
        settleClass(v, all);
        ClassSettlement memory s = classSettlement(v, all);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.DisputeUnknown.selector, v.id));
        disputes.settleVotes(v.id, v.record, s.pages, s.votes, s.openings);
        (,, Vote memory next) = conflict(1);
        vm.assertEq(uint256(next.id), (2 << 16) | 0, "same slot, other id");
        vm.assertFalse(disputes.hasCommitted(next.id, 0), "votes of the former dispute are gone");
        all = classBallots(next, honest(0));
        commitClass(next, all);
        settleClass(next, all);
        checkBooks();
    }

    function test_VotesOfOneDisputeDoNotCountInAnother() public {
        (,, Vote memory one) = conflict(1);
        (,, Vote memory two) = conflict(1);
        bytes memory lists = classLists(one, classBallots(one, honest(0)));
        disputes.commitVotes(two.id, two.record, lists);
        (,,,, uint16 committed) = disputes.dispute(two.id);
        vm.assertEq(committed, 0);
    }

    function test_OnlyTheMarketOpens() public {
        vm.expectRevert(IDisputes.Unauthorized.selector);
        disputes.open("");
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
        vm.warp(vm.getBlockTimestamp() + 720);
        vm.expectRevert(IStakeRegistry.NothingToWithdraw.selector);
        vm.prank(ownerOf(list[0].member));
        registry.withdraw();
        checkBooks();
    }
}
