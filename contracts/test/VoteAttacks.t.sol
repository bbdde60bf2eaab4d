// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {IStakeRegistry} from "../src/interfaces/IStakeRegistry.sol";
import {Statements} from "../src/libraries/Statements.sol";
import {VoteSettlement} from "../src/types/VoteSettlement.sol";
import {ClassVotes} from "./support/ClassVotes.sol";

/// @title What liars, copiers and the silent try in a class vote, with their money before and after
contract VoteAttacksTest is ClassVotes {
    uint256 internal constant STAKE = 10 ether;

    function setUp() public {
        deployWithMembers(10, 8);
    }

    // Commitments that belong elsewhere ---------------------------------------------------------------------------

    /// @dev Lists of one dispute, window or question are signed for it alone.
    function test_ListsOfAnotherDisputeAreSkipped() public {
        (,, Vote memory first) = conflict(1);
        (,, Vote memory second) = conflict(1);
        expectSkipped(second, classLists(first, classBallots(first, honest(0))));
    }

    function test_ListsOfAnotherWindowAreSkipped() public {
        (,, Vote memory v) = conflict(1);
        bytes memory before = classLists(v, classBallots(v, honest(0)));
        passVote(v, 3);
        settleClass(v, new ClassBallot[](0));
        vm.assertEq(v.window, 1);
        expectSkipped(v, before);
    }

    function test_ListsForAnotherQuestionAreSkipped() public {
        (,, Vote memory v) = conflict(1);
        bytes memory question = v.question;
        v.question = abi.encodePacked(question, bytes32(0));
        bytes memory lists = classLists(v, classBallots(v, honest(0)));
        v.question = question;
        expectSkipped(v, lists);
    }

    function test_ListsOfAnotherChainOrContractAreSkipped() public {
        (,, Vote memory v) = conflict(1);
        uint256 chain = vm.getChainId();
        vm.chainId(chain + 1);
        bytes memory lists = classLists(v, classBallots(v, honest(0)));
        vm.chainId(chain);
        expectSkipped(v, lists);
        IDisputes here = disputes;
        disputes = IDisputes(makeAddr("another deployment"));
        lists = classLists(v, classBallots(v, honest(0)));
        disputes = here;
        expectSkipped(v, lists);
    }

    function expectSkipped(Vote memory v, bytes memory lists) internal {
        bytes memory skips;
        for (uint16 i; i < 10; ++i) {
            skips = abi.encodePacked(skips, i, uint8(2));
        }
        vm.expectEmit(address(disputes));
        emit IDisputes.VotesCommitted(v.id, v.window, lists, skips);
        disputes.commitVotes(v.id, v.record, v.question, lists);
        vm.assertEq(disputes.dispute(v.id).committed, 0);
    }

    /// @dev The type that is signed is the same; what stands in it as the domain is not.
    function test_ListsOfABundleAreNoClassVotesNorTheReverse() public {
        (uint64 id, Ballot[] memory list, Vote memory v) = conflict(1);
        uint256 before = wealth();
        bytes32 domain = domainOf(id, 0, 0);
        bytes memory lists;
        for (uint16 m; m < 10; ++m) {
            Ballot memory b = Ballot(m, 0, 0, Act.OPEN, honest(0));
            bytes32 commitment = commitmentOf(domain, v.operatorIds[m], b);
            bytes32 digest = listDigest(domain, v.operatorIds[m], keccak256(abi.encodePacked(commitment)));
            (uint8 sigV, bytes32 r, bytes32 s) = vm.sign(secretOf[v.keys[m]], digest);
            lists = abi.encodePacked(lists, m, r, s, sigV, commitment);
        }
        expectSkipped(v, lists);

        id = posted(1);
        list = ballots(id);
        uint256 escrow = escrowOf(requester);
        for (uint256 i; i < 3; ++i) {
            uint16 m = list[i].member;
            bytes memory items = item(statementOf(v), v.operatorIds[m], list[i]);
            sendCommit(id, signedList(v.keys[m], statementOf(v), v.operatorIds[m], m, items));
            vm.assertEq(lastSkips, hex"000002");
        }
        vm.assertEq(escrowOf(requester), escrow);
        vm.assertEq(wealth(), before);
        checkBooks();
    }

    /// @dev Who signs another's commitment cannot open it: the operator's id is in it. All others earn, it does not.
    function test_ACopiedCommitmentCannotBeOpened() public {
        (, Ballot[] memory list, Vote memory v) = conflict(1);
        uint16 thief = _outsider(list, 0);
        uint16 victim = _outsider(list, thief + 1);
        ClassBallot[] memory all = classBallots(v, honest(0));
        bytes32 copied = classCommitment(v, all[victim]);
        all[thief].act = Act.SILENT;
        commitClass(v, all);
        disputes.commitVotes(v.id, v.record, v.question, signedCommitment(v, thief, copied));
        VoteSettlement memory s = classSettlement(v, one(all));
        bytes memory others = s.openings;
        bytes32[] memory pages = new bytes32[](2);
        (pages[0], pages[1]) =
        (s.commitPages[0], keccak256(abi.encodePacked(keccak256(abi.encodePacked(thief, copied)))));
        s.commitPages = pages;
        passVote(v, 1);
        bytes memory votes = abi.encodePacked(uint16(1), honest(0));
        bytes memory opened = abi.encodePacked(uint16(1), uint16(1), thief, uint16(0), classSalt(victim));
        vm.expectRevert(abi.encodeWithSelector(IDisputes.HashMismatch.selector, "openings"));
        disputes.revealVotes(v.id, v.record, v.question, pages, votes, opened);
        passVote(v, 2);
        s.openings = bytes.concat(others, opened);
        vm.expectRevert(abi.encodeWithSelector(IDisputes.HashMismatch.selector, "openings"));
        disputes.settleVotes(v.id, v.record, v.question, s, 10);
        s.openings = abi.encodePacked(others, uint16(1), uint16(1), thief, uint16(0xffff), copied);
        disputes.settleVotes(v.id, v.record, v.question, s, 10);
        vm.assertEq(stakeOf(thief + 1), STAKE, "nothing");
        vm.assertEq(stakeOf(victim + 1), STAKE + TASK_PRICE);
        vm.assertEq(stakeOf(list[0].member + 1), STAKE - STAKE / 5, "the liar");
        checkBooks();
    }

    /// @dev The first member from one on that has no seat.
    function _outsider(Ballot[] memory list, uint16 from) internal pure returns (uint16 m) {
        m = from;
        while (m == list[0].member || m == list[1].member || m == list[2].member) {
            ++m;
        }
    }

    // Roots that stand for nothing --------------------------------------------------------------------------------

    function test_ARandomRootLosesAndIsSlashed() public {
        (, Ballot[] memory list, Vote memory v) = conflict(1); // LIE has no leaves, so the class looks at all
        uint256 free = freeOf(requester) + escrowOf(requester);
        ClassBallot[] memory all = classBallots(v, honest(0));
        commitClass(v, all);
        settleClass(v, all);
        vm.assertEq(stakeOf(list[0].member + 1), STAKE - STAKE / 5);
        vm.assertEq(stakeOf(list[1].member + 1), STAKE + TASK_PRICE);
        vm.assertEq(stakeOf(list[2].member + 1), STAKE + TASK_PRICE);
        vm.assertEq(free - freeOf(requester), 2 * TASK_PRICE + FEE + AUDIT, "the honest seats, and no other");
        checkBooks();
    }

    /// @dev One lie among many tasks: the class looks at one task, and both lies are found by it.
    function test_OneTaskConvictsTheLiars() public {
        Order[] memory many = orders(1);
        many[0].taskCount = 200;
        uint64 id = post(many);
        assign(id);
        bytes32[][] memory columns = new bytes32[][](3);
        for (uint256 i; i < 3; ++i) {
            columns[i] = leavesOf(200, 150, i);
        }
        Ballot[] memory list = ballots(id);
        for (uint256 i; i < 3; ++i) {
            list[i].vote = rootOf(columns[i]);
        }
        play(id, list);
        Vote memory v = voteOf(0);
        publishAndAsk(v, columns);
        vm.assertEq(_uint(v.question, 0, 2), 1, "one task tells all three apart");
        vm.assertEq(_uint(v.question, 2, 2), 150);
        ClassBallot[] memory all = classBallots(v, keccak256(abi.encodePacked(columns[0][150])));
        commitClass(v, all);
        settleClass(v, all);
        assertDecided(1, rootOf(columns[0]));
        vm.assertEq(stakeOf(list[1].member + 1), STAKE * 8 / 10);
        vm.assertEq(stakeOf(list[2].member + 1), STAKE * 8 / 10);
        checkBooks();
    }

    // Money -------------------------------------------------------------------------------------------------------

    /// @dev Requester, liar, and all class voters are one: three fifths of what is slashed are lost for good.
    function test_ADisputeWithOneselfLosesThreeFifths() public {
        (, Ballot[] memory list, Vote memory v) = conflict(1);
        uint256 before = wealth();
        ClassBallot[] memory all = classBallots(v, honest(0));
        commitClass(v, all);
        settleClass(v, all);
        uint256 slashed = STAKE / 5;
        vm.assertLe(wealth() + slashed * 6 / 10, before, "at least three fifths are gone");
        vm.assertEq(list.length, 3);
    }

    /// @dev The same with a reversal, where a refund comes back too: never more than was taken from oneself.
    function test_AReversalOfOneselfLosesToo() public {
        uint64 id = posted(1);
        play(id, ballots(id));
        bytes memory entries;
        for (uint16 i; i < 3; ++i) {
            entries = abi.encodePacked(entries, i, honest(0));
        }
        entries = abi.encodePacked(entries, uint16(3), LIE);
        // A price so high that refund and rewards are bound by what was taken alone.
        bytes memory record = makeRecord(2, id, 1, 1000 ether, 0, 3000 ether, "", entries);
        uint256 before = wealth();
        Vote memory v = openAs(address(challenges), record);
        askWhole(v);
        ClassBallot[] memory all = classBallots(v, LIE);
        commitClass(v, all);
        settleClass(v, all);
        assertDecided(4, 0);
        vm.assertLe(wealth(), before, "nothing is won");
        checkBooks();
    }

    function wealth() internal view returns (uint256 sum) {
        sum = freeOf(requester) + escrowOf(requester) + freeOf(collator) + market.bonds();
        for (uint24 op = 1; op <= registry.operatorCount(); ++op) {
            sum += stakeOf(op) + unbondingOf(op);
        }
    }

    /// @dev What unbonds cannot be taken out in the block of the slash, nor before it.
    function test_NobodyWithdrawsBeforeTheSlash() public {
        (, Ballot[] memory list, Vote memory v) = conflict(3);
        uint256 liar = list[0].member;
        vm.prank(ownerOf(liar));
        registry.leave(CLASS);
        vm.prank(ownerOf(liar));
        registry.unstake(10 ether);
        ClassBallot[] memory all = classBallots(v, honest(0));
        commitClass(v, all);
        passVote(v, 3);
        settleClass(v, one(all), 0); // decided, not punished yet
        (,,,,, uint40 releaseAt,,) = registry.operator(uint24(liar) + 1);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.NotReleased.selector, releaseAt));
        vm.prank(ownerOf(liar));
        registry.withdraw();
        punish(v, 10);
        vm.assertEq(unbondingOf(uint24(liar) + 1), 0);
        vm.expectRevert(IStakeRegistry.NothingToWithdraw.selector);
        vm.prank(ownerOf(liar));
        registry.withdraw();
        vm.assertEq(ownerOf(liar).balance, 0);
        checkBooks();
    }
}

/// @title Many identities against few
/// @dev Ten honest members of 36 units (9 % each) against a hundred of 4 tenths of a percent in all: 100 × 0.1 %.
contract ManyIdentitiesTest is ClassVotes {
    function setUp() public {
        vm.pauseGasMetering();
        deploy(localParams());
        registry.createClass{value: 0.1 ether}(keccak256("profile"), uint128(UNIT), PRICE, true);
        for (uint256 i; i < 10; ++i) {
            addMember(i, 90);
        }
        for (uint256 i = 10; i < 110; ++i) {
            addMember(i, 1);
        }
        advanceEraOf(CLASS);
        fund(requester, 1000 ether);
        fund(collator, 1000 ether);
        vm.resumeGasMetering();
    }

    /// @dev A tenth of the stake as a hundred identities that lie together: all of it is lost, whatever the pages are.
    function test_AHundredIdentitiesLoseAll() public {
        vm.pauseGasMetering();
        Vote memory v = open(50, LIE);
        ClassBallot[] memory all = classBallots(v, honest(0));
        for (uint256 m = 10; m < 110; ++m) {
            all[m].vote = LIE;
        }
        uint256 before = treasuryOf();
        commitClass(v, all);
        settleClass(v, one(all), 0);
        assertDecided(1, honest(0));
        for (uint256 upTo = 37; !isSettled; upTo += 37) {
            punish(v, upTo);
        }
        for (uint24 op = 11; op <= 110; ++op) {
            vm.assertEq(stakeOf(op), op == 51 ? 3 ether * 8 / 10 : 0, "all but a lone seat, which loses a fifth");
        }
        uint256 taken = 99 * 3 ether + 3 ether / 5; // a unit and what each had besides
        vm.assertGe(treasuryOf() - before, taken * 6 / 10, "three fifths");
        vm.assertEq(stakeOf(1), 92 ether, "a seat is paid by the market");
        vm.assertEq(stakeOf(10), 92 ether + TASK_PRICE);
        checkBooks();
    }

    /// @dev They answer each another thing, so that each is wrong alone, and reveal it all: nobody can be left out, the
    /// honest decide anyway, and each loses a fifth.
    function test_AHundredAnswersStopNothing() public {
        vm.pauseGasMetering();
        Vote memory v = open(50, LIE);
        ClassBallot[] memory all = classBallots(v, honest(0));
        for (uint256 m = 10; m < 110; ++m) {
            all[m].vote = keccak256(abi.encode("answer", m));
        }
        commitClass(v, all);
        settleClass(v, all);
        assertDecided(1, honest(0));
        vm.assertEq(stakeOf(11), 3 ether * 8 / 10);
        vm.assertTrue(isSettled);
        checkBooks();
    }

    /// @dev Members 0, 1 and one small one sat; the small one lied.
    function open(uint16 liar, bytes32 lie) internal returns (Vote memory v) {
        uint64 id = post(orders(1));
        bytes memory entries =
            abi.encodePacked(uint16(0), honest(0), uint16(1), honest(0), uint16(2), honest(0), liar, lie);
        v = openAs(address(challenges), makeRecord(2, id, 1, TASK_PRICE, 0, 0, "", entries));
        askWhole(v);
    }
}
