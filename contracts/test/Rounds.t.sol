// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IMarketEvents} from "../src/interfaces/IMarketEvents.sol";
import {IStakeRegistry} from "../src/interfaces/IStakeRegistry.sol";
import {Settlement} from "../src/types/Settlement.sol";
import {ClassVotes} from "./support/ClassVotes.sol";
import {Vm} from "./support/Vm.sol";

/// @title Silent seats: fines, fresh committees, votes that stand
contract RoundsTest is ClassVotes {
    uint256 internal constant P = TASK_PRICE;
    uint256 internal constant STAKE = 10 ether;

    function setUp() public {
        deployWithMembers(10, 8);
    }

    /// @dev Play a round in which the seats whose bits are set commit but stay silent, then prepare the next.
    function silentRound(uint64 id, uint256 silent) internal returns (Ballot[] memory list) {
        list = ballots(id);
        for (uint256 i; i < list.length; ++i) {
            if ((silent >> i) & 1 == 1) list[i].act = i % 2 == 0 ? Act.HIDE : Act.SILENT;
        }
        commit(id, list);
        pass(id, 4);
        settle(id, list);
    }

    function isVoter(Ballot[] memory list, uint256 silent, uint16 member) internal pure returns (bool) {
        for (uint256 i; i < list.length; ++i) {
            if (list[i].member == member && (silent >> i) & 1 == 0) return true;
        }
        return false;
    }

    function test_ASilentSeatIsFinedAndTheBundleCarried() public {
        uint64 id = posted(1);
        Ballot[] memory first = silentRound(id, 2);
        assertVerdict(0, IMarketEvents.Verdict.CARRIED);
        vm.assertEq(stakeOf(first[1].member + 1), STAKE - 2 * P, "twice the price");
        vm.assertEq(stakeOf(first[0].member + 1), STAKE, "who opened is not paid yet");
        (uint256 pots,) = potsAndTreasury();
        vm.assertEq(pots, 2 * P);
        assertStatus(id, IMarketEvents.BatchStatus.AWAITING);
        vm.assertEq(roundOf(id), 1);
        (,, bytes32 commitHash, bytes32 carryHash, bytes32 nextCarryHash,) = market.batchHashes(id);
        vm.assertEq(commitHash, 0);
        vm.assertEq(nextCarryHash, 0);
        vm.assertEq(carryHash, foldPages(settlePages[id][1]));
        bytes memory expected = abi.encodePacked(uint16(0), requester, uint96(P), uint16(1), uint8(0), uint16(9));
        expected = abi.encodePacked(expected, uint128(2 * P), uint16(2), uint8(2), honest(0));
        expected = abi.encodePacked(expected, first[0].member, first[2].member, uint8(0));
        vm.assertEq(settlePages[id][1][0], expected, "carry page");
        checkBooks();
    }

    function test_FreshSeatsArePaidFromThePotFirst() public {
        uint64 id = posted(1);
        uint256 before = freeOf(requester) + escrowOf(requester);
        Ballot[] memory first = silentRound(id, 2);
        bytes32 seedBefore = domainOf(id, 0, 0);
        assign(id);
        vm.assertNotEq(domainOf(id, 0, 1), seedBefore);
        Ballot[] memory second = ballots(id);
        uint256 fresh;
        for (uint256 i; i < 3; ++i) {
            if (isVoter(first, 2, second[i].member)) second[i].act = Act.SILENT; // its vote stands
            else ++fresh;
        }
        play(id, second);
        assertVerdict(0, IMarketEvents.Verdict.ACCEPTED);
        uint256 fromPot = fresh >= 2 ? 2 * P : P * fresh;
        uint256 paid = (2 + fresh) * P - fromPot;
        vm.assertEq(freeOf(requester), before - paid - FEE - AUDIT, "the pot spares the requester");
        vm.assertEq(treasuryOf(), 2 * P - fromPot + AUDIT);
        for (uint256 i; i < 3; ++i) {
            vm.assertGe(stakeOf(second[i].member + 1), STAKE - 2 * P + P, "paid once, whether fresh or standing");
            vm.assertLe(stakeOf(second[i].member + 1), STAKE + P, "never twice");
        }
        checkBooks();
    }

    function test_AStandingVoterThatRepeatsItselfIsPaidOnce() public {
        (uint64 id, Ballot[] memory second, uint256 seat) = redrawn(0);
        play(id, second);
        assertVerdict(0, IMarketEvents.Verdict.ACCEPTED);
        vm.assertEq(stakeOf(second[seat].member + 1), STAKE + P);
        checkBooks();
    }

    function test_AStandingVoterThatContradictsItselfIsAConflict() public {
        (uint64 id, Ballot[] memory second, uint256 seat) = redrawn(0);
        second[seat].vote = LIE;
        play(id, second);
        assertVerdict(0, IMarketEvents.Verdict.DISPUTED);
        Vote memory v = voteOf(0);
        askWhole(v);
        commitClass(v, classBallots(v, honest(0)));
        settleClass(v, classBallots(v, honest(0)));
        assertDecided(1, honest(0));
        (,, uint256 held,,,, uint8 loneWrong,) = registry.operator(second[seat].member + 1);
        vm.assertEq(loneWrong, 1, "slashed once");
        vm.assertEq(held, (STAKE + P) - (STAKE + P) / 5, "also for what it earned");
        checkBooks();
    }

    /// @dev A batch in its second round where a voter of the first is drawn again, and not silent again.
    function redrawn(uint256 tries) internal returns (uint64 id, Ballot[] memory second, uint256 seat) {
        id = posted(1);
        Ballot[] memory first = silentRound(id, 2);
        assign(id);
        second = ballots(id);
        for (; seat < 3; ++seat) {
            if (isVoter(first, 2, second[seat].member) && stakeOf(second[seat].member + 1) == STAKE) {
                return (id, second, seat);
            }
        }
        play(id, second);
        require(tries < 30, "never drawn again");
        return redrawn(tries + 1);
    }

    function test_NoVotesAtAllVoidsAfterTheLastRound() public {
        uint64 id = posted(1);
        uint256 before = freeOf(requester) + escrowOf(requester);
        for (uint256 round; round < 3; ++round) {
            vm.assertEq(roundOf(id), round);
            silentRound(id, 7);
            if (round < 2) assign(id);
        }
        assertVerdict(0, IMarketEvents.Verdict.VOID);
        vm.assertEq(freeOf(requester), before, "all of it returns");
        vm.assertEq(treasuryOf(), 3 * 3 * 2 * P, "fines to the treasury, nobody voted");
        assertStatus(id, IMarketEvents.BatchStatus.SETTLED);
        checkBooks();
    }

    /// @dev Too few votes at the end: they are kept in the row, and paid only if the requester extends.
    function test_VotersOfAVoidBundleKeepTheirVotes() public {
        terms.rounds = 1;
        uint64 id = posted(1);
        Ballot[] memory first = silentRound(id, 6); // one opens
        assign(id);
        Ballot[] memory second = ballots(id);
        for (uint256 i; i < 3; ++i) {
            second[i].act = Act.SILENT;
        }
        commit(id, second);
        pass(id, 4);
        settle(id, second);
        assertVerdict(0, IMarketEvents.Verdict.VOID);
        bool again = sits(second, first[0].member);
        assertRow(0, honest(0), again ? 2 : 1, 1);
        vm.assertEq(stakeOf(first[0].member + 1), STAKE, "neither paid nor fined");
        vm.assertEq(treasuryOf(), (again ? 4 : 5) * 2 * P);
        vm.assertEq(freeOf(requester), 1000 ether);
        checkBooks();
    }

    function sits(Ballot[] memory list, uint16 member) internal pure returns (bool) {
        for (uint256 i; i < list.length; ++i) {
            if (list[i].member == member) return true;
        }
        return false;
    }

    function test_ALostBeaconOfALaterRoundKeepsStandingVotes() public {
        uint64 id = posted(1);
        Ballot[] memory first = silentRound(id, 2);
        vm.roll(vm.getBlockNumber() + 300);
        market.expire(id);
        Settlement memory s = settlement(id, 0, new Ballot[](0));
        s.votes = hex"00";
        vm.expectRevert(IMarketEvents.MalformedPage.selector);
        market.settle(id, s);
        s.votes = "";
        settleAs(stranger, id, s);
        assertVerdict(0, IMarketEvents.Verdict.VOID);
        assertRow(0, honest(0), 2, 2);
        vm.assertEq(stakeOf(first[0].member + 1), STAKE);
        vm.assertEq(freeOf(requester), 1000 ether);
        vm.assertEq(treasuryOf(), 0.01 ether + 2 * P, "the bond and the pot");
        checkBooks();
    }

    function test_SilentSeatsOfAConflictHaveTimeUntilWindow4() public {
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        (list[0].vote, list[2].act) = (LIE, Act.HIDE);
        commit(id, list);
        Settlement memory s = settlement(id, 0, list);
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.TooEarly.selector, 0));
        vm.prank(collator);
        market.settle(id, s);
        pass(id, 4);
        settle(id, list);
        assertVerdict(0, IMarketEvents.Verdict.DISPUTED);
        assertRow(0, 0, 0, 0);
        (uint256 pots,) = potsAndTreasury();
        vm.assertEq(pots, 2 * P, "the pot goes with the dispute");
        checkBooks();
    }

    // Abstentions -------------------------------------------------------------------------------------------------

    function kindsOf(Vm.Log[] memory logs) internal pure returns (uint256[4] memory counts) {
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].topics[0] != IStakeRegistry.OperatorFined.selector) continue;
            (, uint8 kind) = abi.decode(logs[i].data, (uint256, uint8));
            ++counts[kind];
        }
    }

    /// @dev Who cannot do it says so at once: nobody waits, and it pays one price, not two, once others could.
    function test_AnAbstentionIsCarriedAtOnceAndPaysForWhoStepsIn() public {
        uint64 id = posted(1);
        Ballot[] memory first = ballots(id);
        first[1].act = Act.ABSTAIN;
        play(id, first); // before any window is past
        assertVerdict(0, IMarketEvents.Verdict.CARRIED);
        vm.assertEq(stakeOf(first[1].member + 1), STAKE, "not yet");
        bytes memory page = settlePages[id][1][0];
        vm.assertEq(_uint(page, page.length - 3, 3), (1 << 16) | first[1].member, "it is on record");
        assign(id);
        Ballot[] memory second = ballots(id);
        uint256 fresh;
        for (uint256 i; i < 3; ++i) {
            if (!isVoter(first, 2, second[i].member)) ++fresh;
        }
        play(id, second);
        assertVerdict(0, IMarketEvents.Verdict.ACCEPTED);
        uint256 fines = P - (sits(second, first[1].member) ? P : 0);
        vm.assertEq(stakeOf(first[1].member + 1), STAKE - fines, "one price, or earned by now");
        vm.assertEq(freeOf(requester), 1000 ether - (2 + fresh) * P + (fresh > 0 ? P : 0) - FEE - AUDIT);
        checkBooks();
    }

    function test_WhereAllAbstainNobodyIsFinedAndEachGetsAFifth() public {
        terms.rounds = 1;
        uint64 id = posted(1);
        uint256[10] memory times;
        for (uint256 round; round < 2; ++round) {
            if (round > 0) assign(id);
            Ballot[] memory list = ballots(id);
            for (uint256 i; i < 3; ++i) {
                list[i].act = Act.ABSTAIN;
                ++times[list[i].member];
            }
            play(id, list);
        }
        assertVerdict(0, IMarketEvents.Verdict.VOID);
        for (uint256 m; m < 10; ++m) {
            vm.assertEq(stakeOf(uint24(m) + 1), STAKE + times[m] * (P / 5));
        }
        vm.assertEq(freeOf(requester), 1000 ether - 6 * (P / 5), "one and a fifth of a price");
        checkBooks();
    }

    /// @dev One silent seat among abstentions: then all pay, since somebody may have been able to.
    function test_OneSilentSeatMakesAllAbstentionsDear() public {
        terms.rounds = 0;
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        (list[0].act, list[1].act, list[2].act) = (Act.ABSTAIN, Act.ABSTAIN, Act.SILENT);
        commit(id, list);
        pass(id, 4);
        vm.recordLogs();
        Settlement memory s = settlement(id, 0, list);
        vm.prank(collator);
        market.settle(id, s);
        uint256[4] memory kinds = kindsOf(vm.getRecordedLogs());
        vm.assertEq(kinds[1], 2, "abstained");
        vm.assertEq(kinds[2], 1, "silent");
        vm.assertEq(treasuryOf(), 4 * P);
        vm.assertEq(freeOf(requester), 1000 ether);
        checkBooks();
    }

    function test_SilentAndUnrevealedAreTwoKinds() public {
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        (list[0].act, list[1].act) = (Act.HIDE, Act.SILENT);
        commit(id, list);
        pass(id, 4);
        Settlement memory s = settlement(id, 0, list);
        vm.recordLogs();
        vm.prank(stranger);
        market.settle(id, s);
        uint256[4] memory kinds = kindsOf(vm.getRecordedLogs());
        vm.assertEq(kinds[2], 1, "silent");
        vm.assertEq(kinds[3], 1, "unrevealed");
    }

    // The last round ----------------------------------------------------------------------------------------------

    /// @dev All open in the first of two rounds but one; then one of three: four of six, more than 45 %.
    function lastRound(uint8 flags, uint256 openSeats) internal returns (uint64 id, Ballot[] memory second) {
        terms.rounds = 1;
        Order[] memory list = orders(1);
        list[0].flags = flags;
        id = post(list);
        assign(id);
        silentRound(id, 4);
        assign(id);
        second = ballots(id);
        for (uint256 i; i < 3; ++i) {
            if ((openSeats >> i) & 1 == 0) second[i].act = Act.HIDE;
        }
        commit(id, second);
        pass(id, 4);
        settle(id, second);
    }

    function test_AfterTheLastRoundEnoughSeatsSuffice() public {
        (, Ballot[] memory second) = lastRound(0, 1);
        assertVerdict(0, IMarketEvents.Verdict.ACCEPTED);
        (,, bytes32 vote, uint16 opened, uint16[] memory voters) = rowAt(0);
        vm.assertEq(vote, honest(0));
        vm.assertTrue(opened >= 3 && voters.length >= 2);
        uint256 silent;
        for (uint256 i = 1; i < 3; ++i) {
            if (!holds(voters, second[i].member)) ++silent;
        }
        uint256 pot = (1 + silent) * 2 * P;
        uint256 fresh = voters.length - 2;
        uint256 fromPot = pot < fresh * P ? pot : fresh * P;
        vm.assertEq(freeOf(requester), 1000 ether - voters.length * P + fromPot - FEE - AUDIT);
        vm.assertEq(treasuryOf(), pot - fromPot + AUDIT);
        checkBooks();
    }

    function holds(uint16[] memory members, uint16 member) internal pure returns (bool) {
        for (uint256 i; i < members.length; ++i) {
            if (members[i] == member) return true;
        }
        return false;
    }

    function test_AStrictOrderIsVoidAllTheSame() public {
        lastRound(1, 1);
        assertVerdict(0, IMarketEvents.Verdict.VOID);
        vm.assertEq(freeOf(requester), 1000 ether);
        (,,,, uint16[] memory voters) = rowAt(0);
        vm.assertGe(voters.length, 2, "but its votes stand for an extension");
        checkBooks();
    }

    // Classes that are not judged ---------------------------------------------------------------------------------

    function test_AConflictIsVoidInAClassThatIsNotJudged() public {
        useUnjudgedClass();
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        list[0].vote = LIE;
        play(id, list);
        assertVerdict(0, IMarketEvents.Verdict.VOID);
        assertRow(0, 0, 3, 0);
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(stakeOf(uint24(list[i].member) + 11), 3 * UNIT + P / 5, "a fifth, liar or not");
        }
        vm.assertEq(freeOf(requester), 1000 ether - 3 * (P / 5));
        assertStatus(id, IMarketEvents.BatchStatus.SETTLED);
        checkBooks();
    }

    // Several bundles ---------------------------------------------------------------------------------------------

    function test_OneRoundMayCarrySomeAndSettleOthers() public {
        uint64 id = posted(30);
        Ballot[] memory list = ballots(id);
        for (uint256 i; i < 90; i += 9) {
            list[i].act = Act.HIDE; // every third bundle
        }
        commit(id, list);
        pass(id, 4);
        settle(id, list);
        (,,,, uint16 pending, uint16 carried,,,,,) = market.batch(id);
        vm.assertEq(pending, 10);
        vm.assertEq(carried, 0);
        assign(id);
        for (uint16 b; b < 30; ++b) {
            vm.assertTrue(market.isPending(id, b) == (b % 3 == 0), "only the carried ones");
        }
        for (uint256 i; i < 90; ++i) {
            vm.assertFalse(market.hasCommitted(id, uint16(i / 3), uint8(i % 3)), "bits of the round before");
        }
        play(id, ballots(id));
        assertStatus(id, IMarketEvents.BatchStatus.SETTLED);
        checkBooks();
    }

    function test_CarriedInTwoCalls() public {
        uint64 id = posted(2);
        Ballot[] memory list = ballots(id);
        (list[0].act, list[3].act) = (Act.HIDE, Act.HIDE);
        commit(id, list);
        pass(id, 4);
        isLeft[1] = true;
        settle(id, list);
        (,,, bytes32 carryHash, bytes32 nextCarryHash,) = market.batchHashes(id);
        vm.assertEq(carryHash, 0);
        vm.assertEq(nextCarryHash, foldPages(settlePages[id][1]));
        isLeft[1] = false;
        settle(id, list);
        vm.assertEq(settlePages[id][1].length, 2);
        assign(id);
        Ballot[] memory second = ballots(id);
        commit(id, second);
        settle(id, 1, second);
        settle(id, 0, second);
        assertStatus(id, IMarketEvents.BatchStatus.SETTLED);
        checkBooks();
    }

    function test_AFineReachesUnbondingAndShrinksAllocations() public {
        // 25.6e15 of fuel price for a bundle; an operator with hardly any stake left
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        uint16 m = list[0].member;
        vm.prank(ownerOf(m));
        registry.unstake(2 ether); // stake = allocation
        list[0].act = Act.SILENT;
        commit(id, list);
        pass(id, 4);
        settle(id, list);
        (uint16 units,,) = registry.member(CLASS, uint24(m) + 1);
        vm.assertEq(units, 7, "a unit that is not whole is none");
        vm.assertEq(stakeOf(uint24(m) + 1), 8 ether - 2 * P);
        vm.assertEq(unbondingOf(uint24(m) + 1), 2 ether);
        checkBooks();
    }
}
