// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {FineKind} from "../src/types/FineKind.sol";
import {ClassVotes} from "./support/ClassVotes.sol";

/// @title Questions, windows and punishment of class votes, on challenges and audits
/// @dev Ten members of eight units; members 0, 1 and 2 voted for `accepted`, an auditor or challenger found `other`.
contract ClassVoteTest is ClassVotes {
    uint256 internal constant P = TASK_PRICE;
    uint256 internal constant STAKE = 10 ether;
    uint256 internal constant BOND = 0.01 ether;
    uint256 internal constant REFUND = 3 * P;
    uint16 internal constant TASKS = 5;

    uint64 internal batchId;
    bytes32[] internal good;
    bytes32[] internal bad;
    address internal challenger = makeAddr("challenger");

    function setUp() public {
        deployWithMembers(10, 8);
        batchId = post(orders(1));
        good = leavesOf(TASKS, 3, 1);
        bad = leavesOf(TASKS, 3, 2);
        watch(challenger);
    }

    function columns() internal view returns (bytes32[][] memory both) {
        both = new bytes32[][](2);
        (both[0], both[1]) = (good, bad);
    }

    function audit(bytes32 accepted, bytes32 found) internal returns (Vote memory) {
        bytes memory entries = abi.encodePacked(uint16(0), accepted, uint16(1), accepted, uint16(2), accepted);
        entries = abi.encodePacked(entries, uint16(3), found);
        return openAs(address(challenges), makeRecord(2, batchId, TASKS, P, 0, REFUND, "", entries));
    }

    function challenge(bytes32 accepted, uint16 task, bytes32 claim) internal returns (Vote memory) {
        vm.deal(address(challenges), BOND);
        vm.prank(address(challenges));
        registry.depositPot{value: BOND}();
        bytes memory entries = abi.encodePacked(uint16(0), accepted, uint16(1), accepted, uint16(2), accepted);
        bytes memory what = abi.encodePacked(challenger, task, claim);
        return openAs(address(challenges), makeRecord(1, batchId, TASKS, P, BOND, REFUND, what, entries));
    }

    // Opening and asking ------------------------------------------------------------------------------------------

    function test_OnlyMarketAndChallengesOpen() public {
        vm.expectRevert(IDisputes.Unauthorized.selector);
        disputes.open("");
        audit(rootOf(good), rootOf(bad));
        vm.assertFalse(market.isBatchFinal(batchId));
    }

    function test_AsksForTheTaskThatTellsRootsApart() public {
        Vote memory v = audit(rootOf(good), rootOf(bad));
        publishAndAsk(v, columns());
        bytes32 a = keccak256(abi.encodePacked(good[3]));
        bytes32 b = keccak256(abi.encodePacked(bad[3]));
        bool isFirst = v.roots[0] == rootOf(good);
        vm.assertEq(v.question, abi.encodePacked(uint16(1), uint16(3), isFirst ? a : b, isFirst ? b : a));
        IDisputes.Dispute memory d = disputes.dispute(v.id);
        vm.assertEq(uint256(d.status), uint256(IDisputes.Status.VOTING));
        vm.assertEq(d.questionHash, keccak256(abi.encodePacked(keccak256(v.record), v.question)));
    }

    function test_PublishRefuses() public {
        Vote memory v = audit(rootOf(good), rootOf(bad));
        bytes memory leaves = abi.encodePacked(good);
        bytes memory shorter = slice(leaves, 0, leaves.length - 32);
        vm.expectRevert(IDisputes.MalformedPage.selector);
        disputes.publish(v.id, v.record, shorter);
        leaves[0] ^= 0x01;
        bytes32[] memory changed = good;
        changed[0] ^= bytes32(uint256(1) << 248);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.UnknownRoot.selector, rootOf(changed)));
        disputes.publish(v.id, v.record, leaves);
        leaves[0] ^= 0x01;
        vm.expectEmit(address(disputes));
        emit IDisputes.LeavesPublished(v.id, rootOf(good), leaves);
        disputes.publish(v.id, v.record, leaves);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.AlreadyPublished.selector, rootOf(good)));
        disputes.publish(v.id, v.record, leaves);
    }

    function test_AskWaitsForPublication() public {
        Vote memory v = audit(rootOf(good), rootOf(bad));
        disputes.publish(v.id, v.record, abi.encodePacked(good));
        vm.expectRevert(IDisputes.TooEarly.selector);
        disputes.ask(v.id, v.record, "");
        passPublishing(v);
        bytes memory leaves = abi.encodePacked(good);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.HashMismatch.selector, "leaves"));
        disputes.ask(v.id, v.record, leaves); // not all are there: the question is the whole bundle
        askWhole(v);
        bytes memory all = bytes.concat(leaves, abi.encodePacked(bad));
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WrongStatus.selector, v.id, IDisputes.Status.VOTING));
        disputes.ask(v.id, v.record, all);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.WrongStatus.selector, v.id, IDisputes.Status.VOTING));
        disputes.publish(v.id, v.record, leaves);
    }

    function test_AskRefusesForeignLeaves() public {
        Vote memory v = audit(rootOf(good), rootOf(bad));
        disputes.publish(v.id, v.record, abi.encodePacked(good));
        disputes.publish(v.id, v.record, abi.encodePacked(bad));
        bytes memory first = abi.encodePacked(v.roots[0] == rootOf(good) ? good : bad);
        bytes memory second = abi.encodePacked(v.roots[0] == rootOf(good) ? bad : good);
        bytes memory swapped = bytes.concat(second, first);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.HashMismatch.selector, "leaves"));
        disputes.ask(v.id, v.record, swapped);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.HashMismatch.selector, "leaves"));
        disputes.ask(v.id, v.record, first);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.HashMismatch.selector, "leaves"));
        disputes.ask(v.id, v.record, "");
        sendAsk(v, bytes.concat(first, second));
    }

    function test_AQuestionTooLargeToShowIsTheWholeBundle() public {
        bytes memory entries;
        for (uint16 i; i < 33; ++i) {
            entries = abi.encodePacked(entries, uint16(i % 10), keccak256(abi.encode(i)));
        }
        Vote memory v = openAs(address(challenges), makeRecord(2, batchId, 256, P, 0, REFUND, "", entries));
        bytes memory leaves = new bytes(256 * 32);
        vm.expectRevert(IDisputes.MalformedPage.selector);
        disputes.publish(v.id, v.record, leaves);
        sendAsk(v, ""); // nothing to wait for
        vm.assertEq(v.question, abi.encodePacked(uint16(0), v.roots));
    }

    // Verdicts ----------------------------------------------------------------------------------------------------

    function test_AWrongAuditorLosesAFifth() public {
        Vote memory v = audit(rootOf(good), rootOf(bad));
        publishAndAsk(v, columns());
        ClassBallot[] memory all = classBallots(v, answerOf(v, rootOf(good)));
        commitClass(v, all);
        vm.assertTrue(disputes.hasSpoken(v.id, 9));
        settleClass(v, all);
        assertDecided(1, rootOf(good));
        vm.assertTrue(isSettled);
        // Seats 0 to 2 have nothing, the auditor was wrong alone, the rest was right.
        vm.assertEq(decision.tally, hex"00000010080808080808");
        vm.assertEq(stakeOf(4), STAKE * 8 / 10);
        for (uint24 op = 5; op <= 10; ++op) {
            vm.assertEq(stakeOf(op), STAKE + P);
        }
        vm.assertEq(treasuryOf(), 2 ether - 6 * P);
        assertNoPots();
    }

    function test_AnUpheldAuditReversesOnce() public {
        Vote memory first = audit(rootOf(good), rootOf(bad));
        Vote memory second = audit(rootOf(good), rootOf(bad));
        uint256 before = freeOf(requester);
        decideFor(first, rootOf(bad));
        assertDecided(4, 0);
        vm.assertEq(decision.answer, answerOf(first, rootOf(bad)));
        vm.assertEq(freeOf(requester), before + REFUND, "refunded out of the slash");
        for (uint24 op = 1; op <= 3; ++op) {
            vm.assertEq(stakeOf(op), 0, "together: all");
        }
        vm.assertEq(treasuryOf(), 30 ether - REFUND - 6 * P);
        decideFor(second, rootOf(bad));
        vm.assertEq(freeOf(requester), before + REFUND, "not twice");
        assertNoPots();
    }

    /// @dev After an extension of a convicted committee: the fresh one lied too, and the requester is refunded for it.
    function test_AnUpheldAuditReversesTheRoundItDoubts() public {
        vm.prank(address(disputes));
        market.reverse(batchId, 0, 0); // as an extension strikes the row of the first round
        Vote memory v = audit(rootOf(good), rootOf(bad));
        uint256 before = freeOf(requester);
        decideFor(v, rootOf(bad));
        vm.assertEq(freeOf(requester), before, "the first round was undone");
        bytes memory record = v.record;
        record[177] = 0x01;
        for (uint16 m; m < 3; ++m) {
            record[180 + 34 * m] = bytes1(uint8(7 + m)); // others sat: the first are ejected
        }
        Vote memory fresh = openAs(address(challenges), record);
        publishAndAsk(fresh, columns());
        ClassBallot[] memory all = classBallots(fresh, answerOf(fresh, rootOf(bad)));
        commitClass(fresh, all);
        settleClass(fresh, all);
        vm.assertEq(freeOf(requester), before + REFUND, "the fresh one was reversed");
        vm.assertEq(market.struckBelow(batchId, 0), 2);
        assertNoPots();
    }

    function decideFor(Vote memory v, bytes32 root) internal {
        publishAndAsk(v, columns());
        ClassBallot[] memory all = classBallots(v, answerOf(v, root));
        commitClass(v, all);
        settleClass(v, all);
    }

    function test_ARefundNeverExceedsWhatWasTaken() public {
        for (uint24 op = 1; op <= 3; ++op) {
            vm.prank(address(challenges)); // they have nearly nothing left
            registry.fine(op, STAKE - P / 2, FineKind.ABSENT);
            vm.prank(address(challenges));
            registry.releasePot(STAKE - P / 2);
        }
        Vote memory v = audit(rootOf(good), rootOf(bad));
        (uint256 before, uint256 treasury) = (freeOf(requester), treasuryOf());
        decideFor(v, rootOf(bad));
        uint256 taken = 3 * P / 2;
        uint256 share = taken * 4 / 10 / 6;
        vm.assertEq(stakeOf(10), STAKE + share);
        vm.assertEq(freeOf(requester), before + taken - 6 * share);
        vm.assertEq(treasuryOf(), treasury);
        assertNoPots();
    }

    function test_AnUpheldChallengePaysItsChallenger() public {
        Vote memory v = challenge(rootOf(good), 3, bad[3]);
        bytes32[][] memory one_ = new bytes32[][](1);
        one_[0] = good;
        publishAndAsk(v, one_);
        vm.assertEq(v.question, abi.encodePacked(uint16(1), uint16(3), keccak256(abi.encodePacked(good[3]))));
        ClassBallot[] memory all = classBallots(v, keccak256(abi.encodePacked(bad[3])));
        commitClass(v, all);
        settleClass(v, all);
        assertDecided(4, 0);
        uint256 budget = 12 ether - 7 * P; // two fifths of three stakes, less the voters' shares
        vm.assertLe(10 * BOND, budget, "ten bonds are in the budget");
        vm.assertEq(freeOf(challenger), BOND + 10 * BOND);
        assertNoPots();
    }

    function test_AFailedChallengePaysTheVoters() public {
        Vote memory v = challenge(rootOf(good), 3, bad[3]);
        bytes32[][] memory one_ = new bytes32[][](1);
        one_[0] = good;
        publishAndAsk(v, one_);
        ClassBallot[] memory all = classBallots(v, answerOf(v, rootOf(good)));
        commitClass(v, all);
        settleClass(v, one(all), 0);
        assertDecided(1, rootOf(good));
        (uint256 pots,) = potsAndTreasury();
        vm.assertEq(pots, BOND, "the bond waits for the voters");
        punish(v, 4);
        vm.assertFalse(isSettled);
        punish(v, 10);
        vm.assertTrue(isSettled);
        for (uint24 op = 4; op <= 10; ++op) {
            vm.assertEq(stakeOf(op), STAKE + P);
        }
        vm.assertEq(freeOf(challenger), 0);
        vm.assertEq(treasuryOf(), BOND - 7 * P);
        assertNoPots();
    }

    /// @dev The mistake is in task 3: a challenge of task 0 fails, and excuses nobody of the one that is right.
    function test_AChallengeThatFailsExcusesNobody() public {
        Vote memory wrong = challenge(rootOf(bad), 0, keccak256("no mistake here"));
        Vote memory right = challenge(rootOf(bad), 3, good[3]);
        bytes32[][] memory one_ = new bytes32[][](1);
        one_[0] = bad;
        publishAndAsk(wrong, one_);
        publishAndAsk(right, one_);
        ClassBallot[] memory all = classBallots(wrong, keccak256(abi.encodePacked(good[0])));
        commitClass(wrong, all);
        settleClass(wrong, all);
        assertDecided(1, rootOf(bad));
        vm.assertEq(stakeOf(1), STAKE);
        all = classBallots(right, keccak256(abi.encodePacked(good[3])));
        commitClass(right, all);
        settleClass(right, all);
        assertDecided(4, 0);
        for (uint24 op = 1; op <= 3; ++op) {
            vm.assertEq(stakeOf(op), 0, "together: all");
        }
        assertNoPots();
    }

    function test_WhoClaimsWhatWasAcceptedLosesTheBondAtOnce() public {
        Vote memory v = challenge(rootOf(good), 2, good[2]);
        bytes32[][] memory one_ = new bytes32[][](1);
        one_[0] = good;
        publishAndAsk(v, one_);
        assertDecided(1, rootOf(good));
        vm.assertEq(decision.tally, new bytes(10));
        vm.assertTrue(isSettled);
        vm.assertEq(treasuryOf(), BOND);
        assertNoPots();
    }

    function test_ARandomRootIsAskedForWhole() public {
        Vote memory v = audit(rootOf(good), bytes32(uint256(7))); // nobody has leaves for it
        disputes.publish(v.id, v.record, abi.encodePacked(good));
        askWhole(v);
        ClassBallot[] memory all = classBallots(v, rootOf(good));
        commitClass(v, all);
        settleClass(v, all);
        assertDecided(1, rootOf(good));
        vm.assertEq(stakeOf(4), STAKE * 8 / 10, "and it loses");
        assertNoPots();
    }

    function assertNoPots() internal view {
        (uint256 pots,) = potsAndTreasury();
        vm.assertEq(pots, 0, "pots");
        checkBooks();
    }
}
