// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IChallenges} from "../src/interfaces/IChallenges.sol";
import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {IMarketEvents} from "../src/interfaces/IMarketEvents.sol";
import {Params} from "../src/types/Params.sol";
import {Proof} from "../src/types/Proof.sol";
import {Proofs} from "./support/Proofs.sol";
import {Vm} from "./support/Vm.sol";

/// @title Who may doubt what was accepted, and who has to
contract ChallengesTest is Proofs {
    uint256 internal constant P = TASK_PRICE;
    uint256 internal constant BOND = 0.01 ether;
    uint256 internal constant STAKE = 10 ether;
    bytes32 internal constant LEAF = keccak256("another leaf");
    bytes32 internal constant AUDIT_TYPE =
        keccak256("Audit(bytes32 auditDomain,uint32 operatorId,uint16 bundle,bytes32 vote)");

    bytes internal opened; // record of the last dispute

    function setUp() public {
        start(10_000);
    }

    /// @dev Every accepted bundle is audited, or none.
    function start(uint16 auditBps) internal {
        Params memory p = localParams();
        p.auditBps = auditBps;
        deployWithMembers(p, 10, 8);
        vm.deal(stranger, 10 ether);
        (terms.rounds, terms.commitPeriod) = (0, 12);
    }

    function accepted(uint256 count) internal returns (uint64 id, Ballot[] memory seats) {
        id = posted(count);
        seats = ballots(id);
        play(id, seats);
        assertVerdict(0, IMarketEvents.Verdict.ACCEPTED);
    }

    function challenge(uint64 id, Proof memory p, uint16 bundle, uint16 task, bytes32 leaf, uint256 value) internal {
        vm.recordLogs();
        vm.prank(stranger);
        uint64 disputeId = challenges.challenge{value: value}(id, p, bundle, task, leaf);
        learnDispute(disputeId);
    }

    function learnDispute(uint64 disputeId) internal {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].topics[0] != IDisputes.DisputeOpened.selector) continue;
            vm.assertEq(uint256(logs[i].topics[1]), disputeId);
            (, opened) = abi.decode(logs[i].data, (uint16, bytes));
        }
    }

    function refuse(uint64 id, Proof memory p, uint16 bundle, uint16 task, bytes32 leaf, bytes memory error) internal {
        vm.expectRevert(error);
        vm.prank(stranger);
        challenges.challenge{value: BOND}(id, p, bundle, task, leaf);
    }

    function recordHead(uint8 kind, uint64 id, uint256 pot, address challenger, bytes32 claim)
        internal
        view
        returns (bytes memory)
    {
        bytes memory head =
            abi.encodePacked(kind, id, uint16(0), uint16(1), requester, uint96(P), uint128(pot), uint128(3 * P));
        head = abi.encodePacked(head, uint64(0), uint96(0), address(0), CLASS, uint16(1));
        return abi.encodePacked(head, challenger, uint16(0), claim, uint8(0));
    }

    function entries(uint64 id) internal view returns (bytes memory) {
        (uint16[] memory voters, bytes32 vote) = votersOf(toldOutcomes[id][0], 0);
        return abi.encodePacked(voters[0], vote, voters[1], vote, voters[2], vote);
    }

    // Challenges --------------------------------------------------------------------------------------------------

    function test_AChallengeOpensADispute() public {
        (uint64 id,) = accepted(1);
        (uint256 pots,) = potsAndTreasury();
        challenge(id, proofOf(id, 0, 0), 0, 0, LEAF, BOND);
        bytes memory expected = abi.encodePacked(recordHead(1, id, BOND, stranger, LEAF), uint8(3), entries(id));
        vm.assertEq(opened, expected, "record");
        (uint256 after_,) = potsAndTreasury();
        vm.assertEq(after_ - pots, BOND);
        (,,, uint32 disputes_,) = market.batchFlags(id);
        vm.assertEq(disputes_, 1);
        tick(31, 1);
        vm.assertFalse(market.isBatchFinal(id), "not while the class votes");
        checkBooks();
    }

    function test_AnotherLeafOfTheSameTask() public {
        (uint64 id,) = accepted(1);
        Proof memory p = proofOf(id, 0, 0);
        challenge(id, p, 0, 0, LEAF, BOND);
        bytes memory error = abi.encodeWithSelector(IChallenges.AlreadyChallenged.selector, uint16(0), uint16(0));
        refuse(id, p, 0, 0, LEAF, error);
        challenge(id, p, 0, 0, keccak256("yet another"), BOND);
    }

    function test_TheBondPaysTheClass() public {
        Order memory o = order();
        (o.fuelLimit, terms.commitPeriod) = (1e10, 60);
        uint64 id = post(only(o));
        assign(id);
        play(id, ballots(id));
        Proof memory p = proofOf(id, 0, 0);
        // A task costs 0.01 ether, and ten members look at it.
        refuse(id, p, 0, 0, LEAF, abi.encodeWithSelector(IChallenges.WrongValue.selector, BOND, 0.1 ether));
        challenge(id, p, 0, 0, LEAF, 0.1 ether);
        vm.assertEq(challenges.bondOf(1e16, 10), 0.1 ether);
    }

    function test_RefusesWhatWasNotAccepted() public {
        uint64 id = posted(2);
        Ballot[] memory seats = ballots(id);
        for (uint256 i = 3; i < 6; ++i) {
            if (seats[i].seat == 2) seats[i].act = Act.SILENT;
        }
        commit(id, seats);
        pass(id, 4);
        settleAs(collator, id, settlement(id, 0, seats));
        Proof memory p = proofOf(id, 0, 0);
        refuse(id, p, 1, 0, LEAF, abi.encodeWithSelector(IChallenges.NotAccepted.selector, uint16(1)));
        refuse(id, p, 2, 0, LEAF, abi.encodeWithSelector(IChallenges.NotAccepted.selector, uint16(2)));
        refuse(id, p, 0, 1, LEAF, abi.encodeWithSelector(IChallenges.MalformedPage.selector));
        refuse(id, p, 0, 0, 0, abi.encodeWithSelector(IChallenges.MalformedPage.selector));
        p.outcomes[3] = 0x04;
        refuse(id, p, 0, 0, LEAF, abi.encodeWithSelector(IChallenges.HashMismatch.selector, "outcomes"));
        p = proofOf(id, 0, 0);
        p.prior = keccak256("");
        refuse(id, p, 0, 0, LEAF, abi.encodeWithSelector(IChallenges.HashMismatch.selector, "page"));
    }

    function test_RefusesWhatIsReversedOrFinal() public {
        (uint64 id,) = accepted(1);
        Proof memory p = proofOf(id, 0, 0);
        refuse(id + 1, p, 0, 0, LEAF, abi.encodeWithSelector(IMarketEvents.BatchUnknown.selector, id + 1));
        vm.prank(address(disputes));
        market.reverse(id, 0, 0);
        refuse(id, p, 0, 0, LEAF, abi.encodeWithSelector(IChallenges.NotAccepted.selector, uint16(0)));
        tick(30, 1);
        refuse(id, p, 0, 0, LEAF, abi.encodeWithSelector(IChallenges.WindowPast.selector, "challenge"));
    }

    function test_RefusesWhereNobodyJudges() public {
        useUnjudgedClass();
        (uint64 id,) = accepted(1);
        refuse(id, proofOf(id, 0, 0), 0, 0, LEAF, abi.encodeWithSelector(IChallenges.NotJudged.selector));
    }

    // Audits ------------------------------------------------------------------------------------------------------

    function drawn(uint256 count) internal returns (uint64 id) {
        (id,) = accepted(count);
        tick(1, 2);
        market.proveAudit(id, "");
    }

    /// @dev Both auditors of bundle 0, drawn the plain way.
    function auditorsOf(uint64 id) internal view returns (uint16[2] memory members) {
        bytes32 domain = domainOf(id, 2, 0);
        (, bytes memory units,) = tableOf(CLASS, 1);
        (uint16[] memory voters,) = votersOf(toldOutcomes[id][0], 0);
        for (uint256 a; a < 2; ++a) {
            for (uint256 attempt; attempt < 32; ++attempt) {
                bytes32 seed = keccak256(abi.encodePacked(domain, uint32(0), uint8(a), uint8(attempt)));
                uint16 member = uint16(_uint(units, 1 + 2 * (uint256(seed) % 80), 2));
                bool isTaken = a == 1 && member == members[0];
                for (uint256 i; i < voters.length; ++i) {
                    isTaken = isTaken || voters[i] == member;
                }
                members[a] = member;
                if (!isTaken) break;
            }
        }
    }

    function signedBy(uint64 id, uint16 member, bytes32 vote) internal view returns (bytes memory) {
        (,, bytes memory rows) = tableOf(CLASS, 1);
        (address key, uint24 operatorId) = rowOf(rows, member);
        bytes32 structHash =
            keccak256(abi.encode(AUDIT_TYPE, domainOf(id, 2, 0), uint256(operatorId), uint256(0), vote));
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", separator(), structHash));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secretOf[key], digest);
        return abi.encodePacked(r, s, v);
    }

    function audit(uint64 id, uint8 auditor, bytes32 vote, bytes memory signature) internal {
        vm.recordLogs();
        uint64 disputeId = challenges.audit(id, proofOf(id, 0, 0), 0, auditor, vote, signature);
        learnDispute(disputeId);
    }

    function refuseAudit(uint64 id, uint8 auditor, bytes memory signature, bytes memory error) internal {
        Proof memory p = proofOf(id, 0, 0);
        vm.expectRevert(error);
        challenges.audit(id, p, 0, auditor, honest(0), signature);
    }

    function test_AnAuditorThatAgreesIsPaidByTheTreasury() public {
        uint64 id = drawn(1);
        uint16 member = auditorsOf(id)[0];
        uint256 treasury = treasuryOf();
        vm.assertEq(treasury, P, "the audit fee");
        bytes memory signature = signedBy(id, member, honest(0));
        vm.expectEmit(address(challenges));
        emit IChallenges.BundleAudited(id, 0, member + 1, honest(0), 0);
        challenges.audit(id, proofOf(id, 0, 0), 0, 0, honest(0), signature);
        vm.assertEq(stakeOf(member + 1), STAKE + P);
        vm.assertEq(treasuryOf(), 0);
        refuseAudit(id, 0, signature, abi.encodeWithSelector(IChallenges.AlreadyAudited.selector, uint16(0)));
        checkBooks();
    }

    function test_AnAuditorThatAgreedAnswersLikeASeat() public {
        uint64 id = drawn(1);
        uint16 member = auditorsOf(id)[0];
        audit(id, 0, honest(0), signedBy(id, member, honest(0)));
        challenge(id, proofOf(id, 0, 0), 0, 0, LEAF, BOND);
        bytes memory all = abi.encodePacked(uint8(4), entries(id), member, honest(0));
        vm.assertEq(opened, abi.encodePacked(recordHead(1, id, BOND, stranger, LEAF), all), "the auditor is an entry");
    }

    /// @dev One that found another root stands in its own dispute, with that; not in a challenge's, with the accepted.
    function test_AnAuditorThatDissentedIsNoEntryOfAChallenge() public {
        uint64 id = drawn(1);
        audit(id, 0, LIE, signedBy(id, auditorsOf(id)[0], LIE));
        challenge(id, proofOf(id, 0, 0), 0, 0, LEAF, BOND);
        bytes memory all = abi.encodePacked(recordHead(1, id, BOND, stranger, LEAF), uint8(3), entries(id));
        vm.assertEq(opened, all);
    }

    function test_ASilentAuditorIsFinedWhenTheSecondAnswers() public {
        uint64 id = drawn(1);
        uint16[2] memory members = auditorsOf(id);
        bytes memory signature = signedBy(id, members[1], honest(0));
        bytes memory past = abi.encodeWithSelector(IChallenges.WindowPast.selector, "audit");
        refuseAudit(id, 1, signature, past);
        tick(12, 1);
        refuseAudit(id, 0, signedBy(id, members[0], honest(0)), past);
        audit(id, 1, honest(0), signature);
        vm.assertEq(stakeOf(members[0] + 1), STAKE - 2 * P);
        vm.assertEq(stakeOf(members[1] + 1), STAKE + P);
        vm.assertEq(treasuryOf(), 2 * P, "the fine is the treasury's");
        checkBooks();
    }

    function test_NoAuditBehindBothTurns() public {
        uint64 id = drawn(1);
        tick(24, 1);
        bytes memory signature = signedBy(id, auditorsOf(id)[1], honest(0));
        refuseAudit(id, 1, signature, abi.encodeWithSelector(IChallenges.WindowPast.selector, "audit"));
    }

    function test_ADissentGoesToTheClass() public {
        uint64 id = drawn(1);
        uint16 member = auditorsOf(id)[0];
        audit(id, 0, LIE, signedBy(id, member, LIE));
        bytes memory expected =
            abi.encodePacked(recordHead(2, id, 0, address(0), 0), uint8(4), entries(id), member, LIE);
        vm.assertEq(opened, expected, "the auditor is last");
        vm.assertEq(stakeOf(member + 1), STAKE, "not paid, nor fined, before the class has voted");
        checkBooks();
    }

    function test_OnlyTheAuditorsSignature() public {
        uint64 id = drawn(1);
        uint16[2] memory members = auditorsOf(id);
        bytes memory error = abi.encodeWithSelector(IChallenges.Unauthorized.selector);
        refuseAudit(id, 0, signedBy(id, members[1], honest(0)), error);
        refuseAudit(id, 0, signedBy(id, members[0], LIE), error);
        refuseAudit(id, 0, "", error);
    }

    function test_RefusesAuditsThatAreNotDrawn() public {
        (uint64 id,) = accepted(1);
        bytes memory error = abi.encodeWithSelector(IChallenges.NotDrawn.selector, uint16(0));
        refuseAudit(id, 0, "", error);
        tick(1, 2);
        market.proveAudit(id, "");
        refuseAudit(id, 2, "", error);
        vm.prank(address(disputes));
        market.reverse(id, 0, 0);
        refuseAudit(id, 0, "", abi.encodeWithSelector(IChallenges.NotAccepted.selector, uint16(0)));
    }

    function test_RefusesAuditsOfBundlesThatWereNotSelected() public {
        start(0);
        uint64 id = drawn(1);
        refuseAudit(id, 0, "", abi.encodeWithSelector(IChallenges.NotDrawn.selector, uint16(0)));
    }
}
