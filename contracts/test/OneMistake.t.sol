// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Params} from "../src/types/Params.sol";
import {Proof} from "../src/types/Proof.sol";
import {ClassVotes} from "./support/ClassVotes.sol";
import {Proofs} from "./support/Proofs.sol";
import {Vm} from "./support/Vm.sol";

/// @title One mistake is punished once, however many doubt it
/// @dev Committees of one seat, every accepted bundle is audited; the money of all is looked at before and after.
contract OneMistakeTest is ClassVotes, Proofs {
    uint256 internal constant P = TASK_PRICE;
    uint256 internal constant BOND = 0.01 ether;
    uint256 internal constant STAKE = 10 ether;
    bytes32 internal constant AUDIT_TYPE =
        keccak256("Audit(bytes32 auditDomain,uint32 operatorId,uint16 bundle,bytes32 vote)");

    function setUp() public {
        Params memory p = localParams();
        p.auditBps = 10_000;
        deployWithMembers(p, 10, 8);
        vm.deal(stranger, 10 ether);
        watch(stranger);
        (terms.seats, terms.rounds, terms.commitPeriod) = (1, 0, 12);
    }

    /// @dev A bundle that its only seat lied about, or made a mistake in.
    function lie() internal returns (uint64 id, uint16 seat) {
        id = posted(1);
        Ballot[] memory list = ballots(id);
        (list[0].vote, seat) = (LIE, list[0].member);
        play(id, list);
        vm.assertEq(stakeOf(seat + 1), STAKE + P, "it is paid");
    }

    function doubt(uint64 id, uint256 number) internal returns (Vote memory) {
        Proof memory p = proofOf(id, 0, 0);
        vm.recordLogs();
        vm.prank(stranger);
        challenges.challenge{value: BOND}(id, p, 0, 0, keccak256(abi.encode(number)));
        return learnDispute();
    }

    function learnDispute() internal returns (Vote memory) {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].emitter != address(disputes)) continue;
            (, bytes memory record) = abi.decode(logs[i].data, (uint16, bytes));
            disputeIds.push(uint64(uint256(logs[i].topics[1])));
            disputeRecords.push(record);
        }
        return voteOf(disputeIds.length - 1);
    }

    /// @dev Everybody tells the truth, but the seat repeats itself and `other` tells a lie of its own.
    function decide(Vote memory v, uint16 seat, uint16 other, uint256 rows) internal {
        if (v.question.length == 0) askWhole(v);
        ClassBallot[] memory all = classBallots(v, honest(0));
        all[seat].vote = LIE;
        if (other < 10) all[other].vote = bytes32(uint256(7));
        commitClass(v, all);
        settleClass(v, one(all), rows);
        assertDecided(4, 0);
    }

    function decide(Vote memory v, uint16 seat) internal {
        decide(v, seat, 10, 10);
    }

    /// @dev The first of the auditors, drawn the plain way; it repeats what was accepted.
    function confirm(uint64 id) internal returns (uint16 auditor) {
        tick(1, 2);
        market.proveAudit(id, "");
        bytes32 domain = auditDomainOf(id);
        (, bytes memory units, bytes memory rows) = tableOf(CLASS, 1);
        (uint16[] memory voters,) = votersOf(toldOutcomes[id][0], 0);
        for (uint8 attempt; attempt < 32; ++attempt) {
            bytes32 seed = keccak256(abi.encodePacked(domain, uint32(0), uint8(0), attempt));
            auditor = uint16(_uint(units, 1 + 2 * (uint256(seed) % 80), 2));
            if (auditor != voters[0]) break;
        }
        (address key, uint24 operatorId) = rowOf(rows, auditor);
        bytes32 structHash = keccak256(abi.encode(AUDIT_TYPE, domain, uint256(operatorId), uint256(0), LIE));
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", separator(), structHash));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secretOf[key], digest);
        challenges.audit(id, proofOf(id, 0, 0), 0, 0, LIE, abi.encodePacked(r, s, v));
    }

    function auditDomainOf(uint64 id) internal view returns (bytes32) {
        return domainOf(id, 2, 0);
    }

    /// @dev Three bonds that come back took 20, 40 and 100 in a hundred of a lone seat's stake, for one mistake.
    function test_ThreeChallengesAtOnceCostALoneSeatAFifth() public {
        (uint64 id, uint16 seat) = lie();
        (Vote memory a, Vote memory b, Vote memory c) = (doubt(id, 1), doubt(id, 2), doubt(id, 3));
        askWhole(a);
        askWhole(b);
        askWhole(c);
        uint256 before = stakeOf(seat + 1);
        uint256 asked = freeOf(requester);
        decide(a, seat);
        vm.assertEq(stakeOf(seat + 1), before - before / 5, "a fifth");
        uint256 reward = 10 * BOND;
        vm.assertEq(freeOf(stranger), BOND + reward);
        vm.assertEq(freeOf(requester), asked + P, "refunded");
        uint256 treasury = treasuryOf();
        decide(b, seat);
        decide(c, seat);
        vm.assertEq(stakeOf(seat + 1), before - before / 5, "nothing more");
        vm.assertEq(freeOf(stranger), 3 * BOND + reward, "each bond comes back; the first to end has the reward");
        vm.assertEq(freeOf(requester), asked + P);
        vm.assertEq(treasuryOf(), treasury);
        (uint256 pots,) = potsAndTreasury();
        vm.assertEq(pots, 0);
        checkBooks();
    }

    /// @dev It is excused for what it was punished for, and nobody else is.
    function test_AnotherLieInTheSecondVoteIsPunished() public {
        (uint64 id, uint16 seat) = lie();
        (Vote memory a, Vote memory b) = (doubt(id, 1), doubt(id, 2));
        askWhole(a);
        askWhole(b);
        uint16 other = seat == 0 ? 1 : 0;
        decide(a, seat);
        (uint256 left, uint256 before) = (stakeOf(seat + 1), stakeOf(other + 1));
        decide(b, seat, other, 10);
        vm.assertEq(stakeOf(seat + 1), left);
        vm.assertEq(stakeOf(other + 1), before - before / 5, "a class vote of the second dispute");
        checkBooks();
    }

    /// @dev A liar that doubts itself, decides first and leaves its row for later is not let off by that.
    function test_ALiarsOwnChallengeSavesNothing() public {
        (uint64 id, uint16 seat) = lie();
        (Vote memory own, Vote memory others) = (doubt(id, 1), doubt(id, 2));
        askWhole(own);
        askWhole(others);
        uint256 before = stakeOf(seat + 1);
        decide(own, seat, 10, 0);
        bytes memory tally = decision.tally;
        decide(others, seat);
        vm.assertEq(stakeOf(seat + 1), before, "its row waits in the first dispute");
        disputes.punish(own.id, own.record, tally, 10); // by anybody
        vm.assertEq(stakeOf(seat + 1), before - before / 5);
        checkBooks();
    }

    /// @dev An auditor that repeats a mistake is together with the seat, and the seat stays lone: else a mistake would
    /// cost all of its stake, or a fifth, by what another member does.
    function test_AnAuditorThatAgreesLeavesTheSeatLone() public {
        (uint64 id, uint16 seat) = lie();
        uint16 auditor = confirm(id);
        (uint256 before, uint256 fee) = (stakeOf(seat + 1), stakeOf(auditor + 1));
        vm.assertEq(fee, STAKE + P, "paid like a seat");
        decide(doubt(id, 1), seat);
        vm.assertEq(stakeOf(seat + 1), before - before / 5, "lone");
        vm.assertEq(stakeOf(auditor + 1), 0, "together with it");
        checkBooks();
    }

    /// @dev One that agreed after the first challenge stands in the second alone, and answers there.
    function test_AnAuditorThatAgreesLateIsNotExcused() public {
        (uint64 id, uint16 seat) = lie();
        Vote memory early = doubt(id, 1);
        uint16 auditor = confirm(id);
        (Vote memory late, Vote memory latest) = (doubt(id, 2), doubt(id, 3));
        askWhole(early);
        askWhole(late);
        askWhole(latest);
        uint256 before = stakeOf(seat + 1);
        decide(early, seat);
        vm.assertEq(stakeOf(auditor + 1), STAKE + 2 * P, "not an entry of the first, but right in its class vote");
        decide(late, seat);
        vm.assertEq(stakeOf(seat + 1), before - before / 5, "once");
        vm.assertEq(stakeOf(auditor + 1), 0, "and the auditor once");
        decide(latest, seat);
        vm.assertEq(stakeOf(seat + 1), before - before / 5);
        checkBooks();
    }
}
