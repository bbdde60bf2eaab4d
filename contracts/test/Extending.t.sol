// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IBeacon} from "../src/interfaces/IBeacon.sol";
import {IMarketEvents} from "../src/interfaces/IMarketEvents.sol";
import {Extension} from "../src/types/Extension.sol";
import {Proof} from "../src/types/Proof.sol";
import {Batches} from "./support/Batches.sol";
import {Proofs} from "./support/Proofs.sol";
import {TestWallet} from "./support/Wallets.sol";

/// @title More rounds for what ended void, or was accepted by a committee that was convicted since
contract ExtendingTest is Proofs {
    uint256 internal constant P = TASK_PRICE;
    bytes32 internal constant EXTENSION_TYPE =
        keccak256("Extension(bytes32 postHash,bytes32 bundlesHash,uint8 round,uint8 rounds)");

    function setUp() public {
        deployWithMembers(10, 8);
        terms.rounds = 0;
    }

    /// @dev A settled batch; the last seat of each bundle was silent, so each is void with two votes.
    function voided(uint256 count) internal returns (uint64 id) {
        id = posted(count);
        playSilent(id);
    }

    function playSilent(uint64 id) internal returns (Ballot[] memory seats) {
        seats = ballots(id);
        for (uint256 i; i < seats.length; ++i) {
            if (seats[i].seat == 2) seats[i].act = Act.SILENT;
        }
        commit(id, seats);
        pass(id, 4);
        settleAs(collator, id, settlement(id, 0, seats));
    }

    function accepted(uint256 count) internal returns (uint64 id, Ballot[] memory seats) {
        id = posted(count);
        seats = ballots(id);
        play(id, seats);
    }

    function extension(uint64 id, uint8 rounds, uint16[] memory bundles) internal view returns (Extension memory e) {
        (e.rounds, e.bundles, e.proof) = (rounds, bundles, proofOf(id, 0, toldOutcomes[id].length - 1));
    }

    function extend(address sender, uint64 id, Extension memory e) internal {
        (uint256 free, uint256 round) = (freeOf(sender), roundOf(id));
        vm.recordLogs();
        vm.prank(sender);
        market.extend(id, e);
        learn(id);
        (, address owner,,,,,,,,,) = market.batch(id);
        vm.assertTrue(owner == sender, "whoever extends collates");
        vm.assertLe(freeOf(sender), free - 0.01 ether, "and locks a bond");
        vm.assertEq(roundOf(id), round + 1);
        assertStatus(id, IMarketEvents.BatchStatus.AWAITING);
        checkBooks();
    }

    function refuse(address sender, uint64 id, Extension memory e, bytes memory error) internal {
        vm.expectRevert(error);
        vm.prank(sender);
        market.extend(id, e);
    }

    function notExtendable(uint16 bundle) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(IMarketEvents.NotExtendable.selector, bundle);
    }

    function eject(uint16 member) internal {
        vm.prank(address(disputes));
        registry.slash(member + 1, true);
    }

    function test_VotesStandAndARoundMoreAccepts() public {
        uint64 id = voided(1);
        assertVerdict(0, IMarketEvents.Verdict.VOID);
        vm.assertEq(escrowOf(requester), 0);
        uint256 before = freeOf(requester);
        Extension memory e = extension(id, 1, list(0));
        extend(requester, id, e);
        vm.assertEq(escrowOf(requester), P * 5 + FEE + P / 100, "two votes that stand and three seats");
        bytes memory page = settlePages[id][1][0];
        (uint16[] memory voters, bytes32 vote) = votersOf(toldOutcomes[id][0], 0);
        bytes memory expected = abi.encodePacked(
            uint16(0), requester, uint96(P), uint16(1), uint8(0), uint16(5), uint128(0), uint16(2), uint8(2), vote
        );
        vm.assertEq(page, abi.encodePacked(expected, voters[0], voters[1], uint8(0)), "carry page");
        vm.assertEq(market.struckBelow(id, 0), 1);
        assign(id);
        vm.assertTrue(market.isPending(id, 0));
        Ballot[] memory seats = ballots(id);
        uint256 fresh;
        for (uint256 i; i < seats.length; ++i) {
            if (seats[i].member != voters[0] && seats[i].member != voters[1]) ++fresh;
            else seats[i].act = Act.SILENT;
        }
        vm.startPrank(requester);
        market.commit(id, 0, 1, commitLists(id, seats));
        vm.stopPrank();
        commitPages[id][1].push(pageHashOf(commitLists(id, seats)));
        settleAs(requester, id, settlement(id, 0, seats));
        assertVerdict(0, IMarketEvents.Verdict.ACCEPTED);
        vm.assertEq(
            freeOf(requester), before - P * (2 + fresh) - P / 100, "paid: standing and fresh votes; its own fee"
        );
        vm.assertEq(escrowOf(requester), 0);
        checkBooks();
    }

    function test_SeveralBundlesOfOneRequester() public {
        uint64 id = voided(3);
        extend(requester, id, extension(id, 2, list(0, 2)));
        (,,,, uint16 pending,,,,,,) = market.batch(id);
        vm.assertEq(pending, 2);
        assign(id);
        vm.assertTrue(market.isPending(id, 0));
        vm.assertFalse(market.isPending(id, 1));
        vm.assertTrue(market.isPending(id, 2));
        vm.assertEq(market.batchTerms(id).rounds, 2, "rounds 1 and 2");
    }

    function test_AnothersSignedExtension() public {
        uint64 id = voided(1);
        Extension memory e = extension(id, 1, list(0));
        refuse(collator, id, e, abi.encodeWithSelector(IMarketEvents.Unauthorized.selector));
        e.signature = signed(requesterSecret + 1, id, e);
        refuse(collator, id, e, abi.encodeWithSelector(IMarketEvents.Unauthorized.selector));
        e.signature = signed(requesterSecret, id, e);
        e.rounds = 2;
        refuse(collator, id, e, abi.encodeWithSelector(IMarketEvents.Unauthorized.selector));
        e.rounds = 1;
        extend(collator, id, e);
    }

    function signed(uint256 secret, uint64 id, Extension memory e) internal view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, digestOf(id, e));
        return abi.encodePacked(r, s, v);
    }

    function digestOf(uint64 id, Extension memory e) internal view returns (bytes32) {
        bytes memory packed;
        for (uint256 i; i < e.bundles.length; ++i) {
            packed = abi.encodePacked(packed, uint16(e.bundles[i]));
        }
        bytes32 structHash = keccak256(
            abi.encode(EXTENSION_TYPE, hashOf(id), keccak256(packed), uint256(roundOf(id)), uint256(e.rounds))
        );
        return keccak256(abi.encodePacked(hex"1901", separator(), structHash));
    }

    function test_AWalletsExtension() public {
        address wallet = address(new TestWallet(TestWallet.Manner.HONEST));
        watch(wallet);
        market.depositFor{value: 10 ether}(wallet);
        Order memory o = order();
        bytes32 job = jobId(wallet, o);
        bytes memory page = bytes.concat(groupHead(wallet, 1, 1), encodeBody(o), abi.encodePacked(uint16(32), job));
        uint64 id = postPage(0, page, true);
        vm.assertEq(lastSkips, "");
        assign(id);
        playSilent(id);
        Extension memory e = extension(id, 1, list(0));
        e.signature = new bytes(65);
        refuse(collator, id, e, abi.encodeWithSelector(IMarketEvents.Unauthorized.selector));
        e.signature = abi.encodePacked(digestOf(id, e));
        extend(collator, id, e);
        vm.assertEq(escrowOf(wallet), P * 5 + FEE + P / 100);
    }

    function test_AConvictedCommitteeIsFollowedByAnother() public {
        (uint64 id, Ballot[] memory seats) = accepted(1);
        Extension memory e = extension(id, 1, list(0));
        refuse(requester, id, e, notExtendable(0));
        eject(seats[0].member);
        eject(seats[1].member);
        refuse(requester, id, e, notExtendable(0));
        eject(seats[2].member);
        (, uint256 treasury) = potsAndTreasury();
        uint256 before = freeOf(requester);
        extend(requester, id, e);
        vm.assertEq(treasuryOf(), treasury, "no refund: it would be free money for who owns order and committee");
        vm.assertEq(before - freeOf(requester), 0.01 ether + 3 * P + FEE + P / 100, "no vote stands");
        vm.prank(address(disputes));
        vm.assertFalse(market.reverse(id, 0, 0), "and no refund later");
        vm.assertEq(market.struckBelow(id, 0), 1);
        assign(id);
        vm.assertTrue(market.isPending(id, 0));
        vm.prank(address(disputes));
        vm.assertTrue(market.reverse(id, 0, 1), "but what the fresh committee finds can be overturned");
    }

    function test_OnlyVoidOrConvicted() public {
        (uint64 id,) = accepted(2);
        refuse(requester, id, extension(id, 1, list(0)), notExtendable(0));
        refuse(requester, id, extension(id, 1, list(7)), notExtendable(7));
    }

    function test_VoidWithoutVotes() public {
        uint64 id = posted(1);
        pass(id, 4);
        settleAs(collator, id, settlement(id, 0, new Ballot[](0)));
        assertVerdict(0, IMarketEvents.Verdict.VOID);
        refuse(requester, id, extension(id, 1, list(0)), notExtendable(0));
    }

    function test_BundlesOfTwoRequesters() public {
        uint256 other = uint256(keccak256("other"));
        fund(vm.addr(other), 1 ether);
        uint64 id = postPage(0, bytes.concat(pageOf(orders(1)), group(other, orders(1))), true);
        assign(id);
        playSilent(id);
        refuse(requester, id, extension(id, 1, list(0, 1)), notExtendable(1));
        refuse(requester, id, extension(id, 1, list(1)), abi.encodeWithSelector(IMarketEvents.Unauthorized.selector));
        fund(vm.addr(other), 1 ether);
        extend(vm.addr(other), id, extension(id, 1, list(1)));
    }

    function test_RefusesPagesOfOthers() public {
        uint64 id = voided(1);
        Extension memory e = extension(id, 1, list(0));
        e.proof.prior = keccak256("");
        refuse(requester, id, e, abi.encodeWithSelector(IMarketEvents.HashMismatch.selector, "page"));
        e = extension(id, 1, list(0));
        e.proof.outcomes[3] = 0x01; // a verdict that was never given
        refuse(requester, id, e, abi.encodeWithSelector(IMarketEvents.HashMismatch.selector, "outcomes"));
        e = extension(id, 1, list(0));
        e.proof.outcomeTail = new bytes32[](1);
        refuse(requester, id, e, abi.encodeWithSelector(IMarketEvents.HashMismatch.selector, "outcomes"));
    }

    function test_RefusesBundlesThatDoNotAscend() public {
        uint64 id = voided(2);
        refuse(
            requester, id, extension(id, 1, list(1, 0)), abi.encodeWithSelector(IMarketEvents.MalformedPage.selector)
        );
        refuse(
            requester, id, extension(id, 1, list(0, 0)), abi.encodeWithSelector(IMarketEvents.MalformedPage.selector)
        );
        bytes memory error = abi.encodeWithSelector(IMarketEvents.InvalidTerms.selector, "bundles");
        refuse(requester, id, extension(id, 1, new uint16[](0)), error);
        refuse(requester, id, extension(id, 3, new uint16[](1366)), error); // × 3 seats × 4 rounds
    }

    function test_RefusesTooManyRounds() public {
        uint64 id = voided(1);
        bytes memory error = abi.encodeWithSelector(IMarketEvents.InvalidTerms.selector, "rounds");
        refuse(requester, id, extension(id, 0, list(0)), error);
        refuse(requester, id, extension(id, 6, list(0)), error); // round 6 would be the seventh
        extend(requester, id, extension(id, 5, list(0)));
    }

    function test_AnExtensionMayBeExtendedUpToTheLastRoundThereIs() public {
        uint64 id = voided(1);
        for (uint256 round = 1; round < 6; ++round) {
            Extension memory e = extension(id, 1, list(0));
            extend(requester, id, e);
            assign(id);
            playNobody(id);
            assertVerdict(0, IMarketEvents.Verdict.VOID);
            e.proof = proofOf(id, 0, 0);
            refuse(
                requester,
                id,
                e,
                round == 5 ? abi.encodeWithSelector(IMarketEvents.InvalidTerms.selector, "rounds") : notExtendable(0)
            );
        }
        checkBooks();
    }

    function playNobody(uint64 id) internal {
        pass(id, 4);
        settleAs(stranger, id, settlement(id, 0, new Ballot[](0)));
    }

    function test_RefusesWhatIsNotSettledOrFinal() public {
        uint64 id = voided(1);
        Extension memory e = extension(id, 1, list(0));
        refuse(requester, id + 1, e, abi.encodeWithSelector(IMarketEvents.BatchUnknown.selector, id + 1));
        (,,,,,,,,,, uint40 finalAt) = market.batch(id);
        vm.warp(finalAt);
        refuse(requester, id, e, abi.encodeWithSelector(IMarketEvents.WindowPast.selector, "extend"));
        vm.warp(finalAt - 1);
        extend(requester, id, e);
        bytes memory error =
            abi.encodeWithSelector(IMarketEvents.WrongStatus.selector, id, IMarketEvents.BatchStatus.AWAITING);
        refuse(requester, id, e, error);
    }

    function test_RefusesWhoCannotPay() public {
        uint64 id = voided(1);
        Extension memory e = extension(id, 1, list(0));
        e.signature = signed(requesterSecret, id, e);
        refuse(stranger, id, e, abi.encodeWithSelector(IMarketEvents.InsufficientDeposit.selector, 0, 0.01 ether));
        uint128 free = uint128(freeOf(requester));
        uint256 cost = P * 5 + FEE + P / 100;
        vm.prank(requester);
        market.withdraw(free - uint128(cost) + 1);
        bytes memory error = abi.encodeWithSelector(IMarketEvents.InsufficientDeposit.selector, cost - 1, cost);
        refuse(collator, id, e, error);
        market.depositFor{value: 1}(requester);
        extend(collator, id, e);
        vm.assertEq(freeOf(requester), 0);
    }

    function test_AnExtendedBatchHoldsUpNoOther() public {
        uint64 first = voided(1);
        (uint64 second,) = accepted(1);
        extend(requester, first, extension(first, 1, list(0)));
        tick(30, 1);
        vm.assertTrue(market.isBatchFinal(second));
        advanceEra();
        vm.assertEq(uint16(post(orders(1))), 2, "the oldest goes to the end, this time for a new slot");
        vm.assertEq(uint16(post(orders(1))), uint16(second), "and the next is free");
        vm.assertEq(uint16(post(orders(1))), 3);
        assign(first);
        playNobody(first);
        tick(30, 1);
        advanceEra();
        vm.assertEq(uint16(post(orders(1))), uint16(first), "its turn came");
    }

    // Audits' draw ------------------------------------------------------------------------------------------------

    function test_AuditsAreDrawnOnce() public {
        terms.commitPeriod = 12;
        (uint64 id,) = accepted(1);
        (,,,,,,, uint48 beaconBlock,,,) = market.batch(id);
        vm.assertEq(beaconBlock, vm.getBlockNumber() + 1);
        vm.expectRevert(abi.encodeWithSelector(IBeacon.BeaconUnavailable.selector, uint256(beaconBlock)));
        market.proveAudit(id, "");
        tick(1, 2);
        bytes32 seed = keccak256(abi.encode("beacon", uint256(beaconBlock)));
        vm.expectEmit(address(market));
        emit IMarketEvents.AuditDrawn(id, seed);
        vm.prank(stranger);
        market.proveAudit(id, "");
        (, bool isDrawn,,,) = market.batchFlags(id);
        vm.assertTrue(isDrawn);
        vm.expectRevert(IMarketEvents.AlreadyDrawn.selector);
        market.proveAudit(id, "");
    }

    /// @dev Neither calls an extension off an audit that is under way, nor is an outcome drawn a second time.
    function test_AnExtensionWaitsForAuditsAndDrawsThemAnew() public {
        terms.commitPeriod = 12;
        uint64 id = voided(1);
        tick(1, 2);
        market.proveAudit(id, "");
        Extension memory e = extension(id, 1, list(0));
        refuse(requester, id, e, abi.encodeWithSelector(IMarketEvents.WindowOpen.selector, "audit"));
        tick(24, 1);
        extend(requester, id, e);
        (, bool isDrawn,,, uint8 from) = market.batchFlags(id);
        (,, uint8 round,,,,,,,,) = market.batch(id);
        vm.assertFalse(isDrawn);
        vm.assertEq(from, round);
    }

    function test_NoAuditWhereThereIsNoTime() public {
        (uint64 id,) = accepted(1); // commitPeriod 20, auditPeriod 12
        tick(1, 2);
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.WindowPast.selector, "audit"));
        market.proveAudit(id, "");
        terms.commitPeriod = 12;
        (id,) = accepted(1);
        tick(30, 2);
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.WindowPast.selector, "audit"));
        market.proveAudit(id, "");
        id = posted(1);
        bytes memory error =
            abi.encodeWithSelector(IMarketEvents.WrongStatus.selector, id, IMarketEvents.BatchStatus.ASSIGNED);
        vm.expectRevert(error);
        market.proveAudit(id, "");
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.BatchUnknown.selector, id + 1));
        market.proveAudit(id + 1, "");
    }

    function test_NoAuditWhereNobodyJudges() public {
        useUnjudgedClass();
        terms.commitPeriod = 12;
        (uint64 id,) = accepted(1);
        tick(1, 2);
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.WindowPast.selector, "audit"));
        market.proveAudit(id, "");
    }

    // Reversals ---------------------------------------------------------------------------------------------------

    function test_AnOutcomeIsReversedOnce() public {
        (uint64 id,) = accepted(26);
        vm.expectRevert(IMarketEvents.Unauthorized.selector);
        market.reverse(id, 0, 0);
        vm.startPrank(address(disputes));
        vm.assertTrue(market.reverse(id, 25, 0));
        vm.assertFalse(market.reverse(id, 25, 0));
        vm.assertTrue(market.reverse(id, 24, 2), "each by itself");
        vm.assertFalse(market.reverse(id, 24, 1), "nor one before it");
        vm.stopPrank();
        vm.assertEq(market.struckBelow(id, 25), 1, "the outcome counts no more");
        vm.assertEq(market.struckBelow(id, 24), 3);
        vm.assertEq(market.struckBelow(id, 23), 0);
    }

    function test_AReversedBundleIsNotExtended() public {
        (uint64 id, Ballot[] memory seats) = accepted(1);
        for (uint256 i; i < seats.length; ++i) {
            eject(seats[i].member);
        }
        vm.prank(address(disputes));
        market.reverse(id, 0, 0);
        refuse(requester, id, extension(id, 1, list(0)), notExtendable(0));
    }
}
