// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IMarketEvents} from "../src/interfaces/IMarketEvents.sol";
import {Settlement} from "../src/types/Settlement.sol";
import {ClassVotes} from "./support/ClassVotes.sol";

/// @title What collators and seats keep back, and what it costs them; money before and after
contract WithholdingTest is ClassVotes {
    uint256 internal constant P = TASK_PRICE;
    uint256 internal constant STAKE = 10 ether;

    function setUp() public {
        deployWithMembers(10, 8);
        terms.rounds = 0;
    }

    function expectRefused(address sender, uint64 id, Settlement memory s, bytes memory error) internal {
        vm.expectRevert(error);
        vm.prank(sender);
        market.settle(id, s);
    }

    function omitted(uint16 bundle, uint8 seat) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(IMarketEvents.SeatOmitted.selector, bundle, seat);
    }

    function tooEarly() internal pure returns (bytes memory) {
        return abi.encodeWithSelector(IMarketEvents.TooEarly.selector, 0);
    }

    /// @dev A batch of one bundle in which all have committed, seat 0 by the collator's friend.
    function committed() internal returns (uint64 id, Ballot[] memory list) {
        id = posted(1);
        list = ballots(id);
        commit(id, list);
    }

    function hide(Ballot[] memory list, uint256 seats) internal pure returns (Ballot[] memory shown) {
        shown = new Ballot[](list.length);
        for (uint256 i; i < list.length; ++i) {
            Ballot memory b = list[i];
            shown[i] = Ballot(b.member, b.bundle, b.seat, (seats >> i) & 1 == 1 ? Act.HIDE : b.act, b.vote);
        }
    }

    function assertAllPaid(Ballot[] memory list) internal view {
        assertVerdict(0, IMarketEvents.Verdict.ACCEPTED);
        for (uint256 i; i < list.length; ++i) {
            vm.assertEq(stakeOf(list[i].member + 1), STAKE + P, "paid, and nobody fined");
        }
        vm.assertEq(freeOf(requester), 1000 ether - 3 * P - FEE - AUDIT);
        checkBooks();
    }

    // The collator ------------------------------------------------------------------------------------------------

    /// @dev It leaves openings out and hopes for the fines and the escrow: the seats reveal, and nobody can settle
    /// without them any more.
    function test_ACollatorThatHidesOpeningsGainsNothing() public {
        (uint64 id, Ballot[] memory list) = committed();
        expectRefused(collator, id, settlement(id, 0, hide(list, 6)), tooEarly());
        pass(id, 3);
        revealAs(ownerOf(list[1].member), id, 0, hide(list, 5));
        revealAs(ownerOf(list[2].member), id, 0, hide(list, 3));
        pass(id, 4);
        expectRefused(collator, id, settlement(id, 0, hide(list, 6)), omitted(0, 1));
        expectRefused(collator, id, settlement(id, 0, hide(list, 4)), omitted(0, 2));
        expectRefused(collator, id, settlement(id, 0, hide(list, 2)), omitted(0, 1));
        uint256 before = freeOf(collator);
        settleAs(stranger, id, settlement(id, 0, list));
        assertAllPaid(list);
        vm.assertEq(freeOf(stranger), FEE, "the fee is another's");
        vm.assertEq(freeOf(collator), before + 0.01 ether, "only the bond");
    }

    /// @dev It drops one list: its operator commits it directly, and the batch goes on as if nothing had happened.
    function test_ACollatorThatDropsAListGainsNothing() public {
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        commit(id, some(list, 3));
        pass(id, 1);
        commitAs(ownerOf(list[2].member), id, some(list, 4));
        Ballot[][] memory pages = new Ballot[][](2);
        (pages[0], pages[1]) = (some(list, 3), some(list, 4));
        settleAs(collator, id, settlement(id, 0, pages));
        assertAllPaid(list);
    }

    /// @dev It settles with its own page alone, as if the direct one did not exist.
    function test_ACollatorCannotSettlePastADirectPage() public {
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        commit(id, some(list, 1));
        pass(id, 1);
        commitAs(stranger, id, some(list, 6));
        Ballot[][] memory pages = new Ballot[][](2);
        pages[0] = some(list, 1);
        expectRefused(collator, id, settlement(id, 0, pages), omitted(0, 1));
        Settlement memory s = settlement(id, 0, pages);
        bytes32[] memory mine = new bytes32[](1);
        mine[0] = s.commitPages[0];
        s.commitPages = mine;
        bytes memory error = abi.encodeWithSelector(IMarketEvents.HashMismatch.selector, "commitPages");
        expectRefused(collator, id, s, error);
        pass(id, 4);
        expectRefused(collator, id, settlement(id, 0, pages), omitted(0, 1));
        pages[1] = some(list, 6);
        settleAs(collator, id, settlement(id, 0, pages));
        assertAllPaid(list);
    }

    /// @dev It cuts a list in two, turns items round, doubles them, or changes one: the signature covers them all.
    function test_ACollatorCannotRearrangeWhatWasSigned() public {
        uint64 id = posted(6); // of 18 seats, some member of ten has two
        Ballot[] memory mine = _twoOfOneMember(ballots(id));
        bytes memory whole = commitLists(id, mine);
        bytes memory head = slice(whole, 0, 2);
        bytes memory signature = slice(whole, 4, 69);
        bytes memory one = slice(whole, 69, 104);
        bytes memory two = slice(whole, 104, 139);
        expectSkipped(id, bytes.concat(head, hex"0001", signature, one));
        expectSkipped(id, bytes.concat(head, hex"0001", signature, two));
        expectSkipped(id, bytes.concat(head, hex"0002", signature, two, one));
        expectSkipped(id, bytes.concat(head, hex"0003", signature, one, one, two));
        two[34] ^= 0x01;
        expectSkipped(id, bytes.concat(head, hex"0002", signature, one, two));
        commit(id, mine);
        for (uint256 i; i < 2; ++i) {
            vm.assertTrue(market.hasCommitted(id, mine[i].bundle, mine[i].seat));
        }
        checkBooks();
    }

    function expectSkipped(uint64 id, bytes memory list) internal {
        sendCommit(id, list);
        vm.assertEq(lastSkips, hex"000002", "not what was signed");
    }

    function _twoOfOneMember(Ballot[] memory list) private pure returns (Ballot[] memory) {
        for (uint256 i; i < list.length; ++i) {
            for (uint256 j = i + 1; j < list.length; ++j) {
                if (list[i].member == list[j].member) return some(list, (1 << i) | (1 << j));
            }
        }
        revert("no member has two seats");
    }

    /// @dev The direct path comes after window 1: nobody can front-run the collator's page with a part of it, and
    /// before, a list that is taken from its hands does not shut out the others of its page.
    function test_DirectItemsBeforeTheCollatorsPageDoNotSpoilIt() public {
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        pass(id, 1);
        commitAs(stranger, id, some(list, 2)); // seen in the mempool, sent first
        bytes memory lists = commitLists(id, list);
        sendCommit(id, lists);
        vm.assertEq(lastSkips.length, 3, "one list is there already");
        vm.assertEq(uint8(lastSkips[2]), 7);
        commitPages[id][0].push(pageHashOf(commitLists(id, some(list, 5))));
        Ballot[][] memory pages = new Ballot[][](2);
        (pages[0], pages[1]) = (some(list, 2), some(list, 5));
        settleAs(collator, id, settlement(id, 0, pages));
        assertAllPaid(list);
    }

    /// @dev In the last block it is first, with nothing opened: what was revealed it must open, what was not it may
    /// hide only if the seats let it.
    function test_SettlingFirstWithoutAnHonestOpening() public {
        (uint64 id, Ballot[] memory list) = committed();
        pass(id, 3);
        revealAs(stranger, id, 0, list);
        pass(id, 4);
        expectRefused(collator, id, settlement(id, 0, hide(list, 7)), omitted(0, 0));
        Settlement memory s = settlement(id, 0, list);
        s.openings = "";
        s.votes = hex"00";
        expectRefused(collator, id, s, omitted(0, 0));
        settleAs(collator, id, settlement(id, 0, list));
        assertAllPaid(list);
    }

    // Seats -------------------------------------------------------------------------------------------------------

    function test_RevealHasItsWindow() public {
        (uint64 id, Ballot[] memory list) = committed();
        (bytes32[] memory pages, bytes memory votes, bytes memory shown) = revelation(id, 0, list);
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.WindowOpen.selector, "settle"));
        market.reveal(id, pages, votes, shown);
        pass(id, 3);
        vm.warp(vm.getBlockTimestamp() - 1);
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.WindowOpen.selector, "settle"));
        market.reveal(id, pages, votes, shown);
        vm.warp(vm.getBlockTimestamp() + 1);
        vm.expectEmit(address(market));
        emit IMarketEvents.OpeningsRevealed(id, 0, votes, shown);
        market.reveal(id, pages, votes, shown);
        market.reveal(id, pages, votes, shown); // once more changes nothing
        pass(id, 4);
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.WindowPast.selector, "reveal"));
        market.reveal(id, pages, votes, shown);
    }

    function test_RevealRefusesWhatWasNotCommitted() public {
        uint64 id = posted(2);
        Ballot[] memory list = ballots(id);
        commit(id, list);
        isLeft[1] = true;
        settle(id, list);
        pass(id, 3);
        bytes memory malformed = abi.encodeWithSelector(IMarketEvents.MalformedPage.selector);
        Ballot[] memory mine = hide(list, 0x2f); // bundle 1, seat 1
        (bytes32[] memory pages, bytes memory votes, bytes memory shown) = revelation(id, 0, hide(list, 0x3e));
        expectRevealRefused(id, pages, votes, shown, malformed); // bundle 0 is not pending
        (pages, votes, shown) = revelation(id, 0, hide(list, 0x3f));
        expectRevealRefused(id, pages, votes, shown, malformed); // nothing is opened
        (pages, votes, shown) = revelation(id, 0, mine);
        expectRevealRefused(id, pages, hex"ff", shown, malformed);
        expectRevealRefused(id, pages, bytes.concat(votes, hex"00"), shown, malformed);
        expectRevealRefused(id, pages, abi.encodePacked(uint8(2), honest(1), honest(1)), shown, malformed);
        bytes memory mismatch = abi.encodeWithSelector(IMarketEvents.HashMismatch.selector, "openings");
        expectRevealRefused(id, pages, abi.encodePacked(uint8(1), LIE), shown, mismatch);
        bytes32[] memory forged = new bytes32[](2);
        mismatch = abi.encodeWithSelector(IMarketEvents.HashMismatch.selector, "commitPages");
        expectRevealRefused(id, forged, votes, shown, mismatch);
        market.reveal(id, pages, votes, shown);
    }

    function expectRevealRefused(
        uint64 id,
        bytes32[] memory pages,
        bytes memory votes,
        bytes memory shown,
        bytes memory error
    ) internal {
        vm.expectRevert(error);
        market.reveal(id, pages, votes, shown);
    }

    /// @dev A seat that opens to nobody until the last moment, and then to the chain alone, is as good as any other.
    function test_ALateRevealStillCounts() public {
        (uint64 id, Ballot[] memory list) = committed();
        pass(id, 4);
        vm.warp(vm.getBlockTimestamp() - 1);
        revealAs(ownerOf(list[2].member), id, 0, hide(list, 3));
        pass(id, 4);
        settleAs(collator, id, settlement(id, 0, list));
        assertAllPaid(list);
    }

    /// @dev A seat cannot take back what it revealed by having the collator settle without it.
    function test_ARevealCannotBeWithdrawn() public {
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        list[2].vote = LIE;
        commit(id, list);
        pass(id, 3);
        revealAs(ownerOf(list[2].member), id, 0, hide(list, 3));
        pass(id, 4);
        expectRefused(collator, id, settlement(id, 0, hide(list, 4)), omitted(0, 2));
        settleAs(collator, id, settlement(id, 0, list));
        assertVerdict(0, IMarketEvents.Verdict.DISPUTED);
        Vote memory v = voteOf(0);
        askWhole(v);
        commitClass(v, classBallots(v, honest(0)));
        settleClass(v, classBallots(v, honest(0)));
        vm.assertEq(stakeOf(list[2].member + 1), STAKE - STAKE / 5, "its lie was told");
        vm.assertEq(stakeOf(list[0].member + 1), STAKE + P);
        vm.assertEq(stakeOf(list[1].member + 1), STAKE + P);
        vm.assertEq(freeOf(requester), 1000 ether - 2 * P - FEE - AUDIT);
        checkBooks();
    }

    function test_ARevealBehindItsWindowIsTooLate() public {
        (uint64 id, Ballot[] memory list) = committed();
        pass(id, 4);
        (bytes32[] memory pages, bytes memory votes, bytes memory shown) = revelation(id, 0, hide(list, 3));
        expectRevealRefused(
            id, pages, votes, shown, abi.encodeWithSelector(IMarketEvents.WindowPast.selector, "reveal")
        );
        settleAs(collator, id, settlement(id, 0, hide(list, 4)));
        assertVoidBy(list[2].member, 2 * P);
        vm.assertEq(stakeOf(list[0].member + 1), STAKE, "votes stand for an extension");
    }

    function assertVoidBy(uint16 member, uint256 fine) internal view {
        assertVerdict(0, IMarketEvents.Verdict.VOID);
        vm.assertEq(stakeOf(member + 1), STAKE - fine);
        vm.assertEq(treasuryOf(), fine);
        vm.assertEq(freeOf(requester), 1000 ether);
        checkBooks();
    }

    // Commitments that cannot be opened ---------------------------------------------------------------------------

    /// @dev Send a list with commitments of any kind; how it stands in a settlement that does not open it.
    function commitItems(uint64 id, uint16 member, bytes memory items) internal returns (bytes memory shown) {
        (address key, uint24 operatorId) = keyOf(member);
        bytes memory lists = signedList(key, domainOf(id, 0, 0), operatorId, member, items);
        sendCommit(id, lists);
        vm.assertEq(lastSkips, "", "nobody can tell yet");
        commitPages[id][0].push(pageHashOf(lists));
        shown = abi.encodePacked(uint16(commitPages[id][0].length - 1), uint16(1), member, uint16(items.length / 35));
        for (uint256 at; at < items.length; at += 35) {
            shown = bytes.concat(shown, slice(items, at, at + 3), hex"ff", slice(items, at + 3, at + 35));
        }
    }

    function keyOf(uint16 member) internal view returns (address key, uint24 operatorId) {
        (,, bytes memory rows) = tableOf(CLASS, 1);
        return rowOf(rows, member);
    }

    /// @dev It signs another's very commitment for its own seat and learns what is in it, but its own id is not.
    function test_WhoCopiesACommitmentPaysLikeASilentOne() public {
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        (, uint24 victim) = keyOf(list[0].member);
        bytes32 copied = commitmentOf(domainOf(id, 0, 0), victim, list[0]);
        commit(id, some(list, 5));
        bytes memory unopened = commitItems(id, list[1].member, abi.encodePacked(list[1].bundle, list[1].seat, copied));
        Ballot[][] memory pages = new Ballot[][](2);
        pages[0] = some(list, 5);
        Settlement memory s = settlement(id, 0, pages);
        bytes memory others = s.openings;
        bytes memory opened = abi.encodePacked(slice(unopened, 0, 11), uint8(0), saltOf(list[0]));
        s.openings = bytes.concat(others, opened);
        expectRefused(collator, id, s, abi.encodeWithSelector(IMarketEvents.HashMismatch.selector, "openings"));
        pass(id, 4);
        s.openings = bytes.concat(others, unopened);
        settleAs(collator, id, s);
        assertVoidBy(list[1].member, 2 * P);
        vm.assertEq(stakeOf(list[0].member + 1), STAKE, "who was copied loses nothing");
    }

    /// @dev Each of two commitments under the other's bundle: neither can be opened, and both seats pay.
    function test_CommitmentsSwappedBetweenBundlesCannotBeOpened() public {
        uint64 id = posted(6);
        Ballot[] memory list = ballots(id);
        Ballot[] memory mine = _twoOfOneMember(list);
        uint16 member = mine[0].member;
        (, uint24 operatorId) = keyOf(member);
        bytes32 domain = domainOf(id, 0, 0);
        (bytes memory one, bytes memory two) = (item(domain, operatorId, mine[0]), item(domain, operatorId, mine[1]));
        bytes memory items = bytes.concat(slice(one, 0, 3), slice(two, 3, 35), slice(two, 0, 3), slice(one, 3, 35));
        bytes memory unopened = commitItems(id, member, items);
        mine[0].act = mine[1].act = Act.SILENT; // they stand in `list` too
        commit(id, list);
        Ballot[][] memory pages = new Ballot[][](2);
        pages[1] = list;
        Settlement memory s = settlement(id, 0, pages);
        bytes memory others = s.openings;
        for (uint256 i; i < 2; ++i) {
            // Seat 0 with the salt of its own statement, then with that of the other.
            bytes memory opened =
                abi.encodePacked(slice(unopened, 0, 11), uint8(0), saltOf(mine[i]), slice(unopened, 44, 80));
            s.openings = bytes.concat(opened, others);
            expectRefused(collator, id, s, abi.encodeWithSelector(IMarketEvents.HashMismatch.selector, "openings"));
        }
        pass(id, 4);
        s.openings = bytes.concat(unopened, others);
        settleAs(collator, id, s);
        uint256 earned;
        for (uint256 i; i < list.length; ++i) {
            if (list[i].member == member && list[i].act == Act.OPEN) earned += P;
        }
        vm.assertEq(stakeOf(operatorId), STAKE + earned - 2 * 2 * P);
        vm.assertEq(treasuryOf(), 2 * 2 * P + 4 * AUDIT);
        vm.assertEq(freeOf(requester), 1000 ether - 4 * (3 * P + FEE + AUDIT), "two of six are void");
        checkBooks();
    }

    /// @dev Commitment A to the collator, B on the direct path: the first one on the chain is the one that counts.
    function test_TwoCommitmentsOfOneSeat() public {
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        commit(id, list);
        pass(id, 1);
        Ballot[] memory other = some(ballots(id), 1);
        other[0].vote = LIE;
        sendCommitAs(ownerOf(list[0].member), id, commitLists(id, other));
        vm.assertEq(lastSkips, hex"000007");
        settleAs(collator, id, settlement(id, 0, list));
        assertAllPaid(list);
    }

    /// @dev Nobody takes an empty seat, and whoever leaves it empty pays.
    function test_WhoWasNotDrawnCannotCommitDirectly() public {
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        commit(id, some(list, 3));
        pass(id, 1);
        Ballot[] memory intruder = some(ballots(id), 4);
        while (
            intruder[0].member == list[0].member || intruder[0].member == list[1].member
                || intruder[0].member == list[2].member
        ) {
            intruder[0].member = (intruder[0].member + 1) % 10;
        }
        sendCommitAs(stranger, id, commitLists(id, intruder));
        vm.assertEq(lastSkips, hex"000006");
        pass(id, 4);
        settleAs(collator, id, settlement(id, 0, some(list, 3)));
        assertVerdict(0, IMarketEvents.Verdict.VOID);
        vm.assertEq(stakeOf(intruder[0].member + 1), STAKE, "no pay");
        vm.assertEq(stakeOf(list[2].member + 1), STAKE - 2 * P, "no commitment, no excuse");
        vm.assertEq(freeOf(requester), 1000 ether);
        checkBooks();
    }

    /// @dev What is brought again leaves no trace, and every seat on a page of its own makes no other end.
    function test_SpamOnTheDirectPathChangesNothing() public {
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        Ballot[][] memory pages = new Ballot[][](3);
        pass(id, 1);
        for (uint256 i; i < 3; ++i) {
            pages[i] = some(list, 1 << i);
            commitAs(ownerOf(list[i].member), id, pages[i]);
        }
        (,, bytes32 before,,,) = market.batchHashes(id);
        bytes memory lists = commitLists(id, list);
        for (uint256 i; i < 20; ++i) {
            sendCommitAs(stranger, id, lists);
            vm.assertEq(lastSkips, hex"000007000107000207");
        }
        (,, bytes32 afterwards,,,) = market.batchHashes(id);
        vm.assertEq(before, afterwards);
        pass(id, 3);
        for (uint16 i; i < 20; ++i) {
            revealAs(stranger, id, i % 3, pages[i % 3]);
        }
        settleAs(collator, id, settlement(id, 0, pages));
        assertAllPaid(list);
    }

    /// @dev Abstaining where one could have voted costs a price and gives the seat away; the requester pays no more.
    function test_AbstainingWithoutNeed() public {
        terms.rounds = 1;
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        list[0].act = Act.ABSTAIN;
        play(id, list);
        assertVerdict(0, IMarketEvents.Verdict.CARRIED);
        assign(id);
        Ballot[] memory second = ballots(id);
        uint256 times = 1;
        for (uint256 i; i < 3; ++i) {
            if (second[i].member != list[0].member) continue;
            second[i].act = Act.ABSTAIN;
            ++times;
        }
        uint256 before = freeOf(requester) + escrowOf(requester);
        play(id, second);
        assertVerdict(0, IMarketEvents.Verdict.ACCEPTED);
        (,,,, uint16[] memory voters) = rowAt(0);
        vm.assertEq(stakeOf(list[0].member + 1), STAKE - times * P, "a price for each");
        vm.assertEq(stakeOf(list[1].member + 1), STAKE + P);
        uint256 paid = before - freeOf(requester) - FEE - AUDIT;
        vm.assertLe(paid, voters.length * P, "not more than for the votes");
        checkBooks();
    }

    // Liars who are silent unless all seats are theirs ------------------------------------------------------------

    /// @dev Two seats are liars', who commit and then do not like the honest third: rule (b) ends the game, or the
    /// bundle is void; in either case they pay for each seat, and no wrong vote is accepted.
    function test_LiarsThatAreSilentUnlessAllSeatsAreTheirs() public {
        terms.rounds = 2;
        uint64 id = posted(1);
        uint256 lost;
        uint256 kept; // seats that said nothing in the end
        uint256 ofRound;
        for (uint256 round; round < 3; ++round) {
            if (round > 0) assign(id);
            Ballot[] memory list = ballots(id);
            uint256 before = wealthOfLiars();
            bool isTheirs = true;
            ofRound = 0;
            for (uint256 i; i < 3; ++i) {
                isTheirs = isTheirs && isLiar(list[i].member);
            }
            require(!isTheirs, "the draw of this test has honest seats");
            for (uint256 i; i < 3; ++i) {
                if (!isLiar(list[i].member)) continue;
                (list[i].act, list[i].vote) = (Act.HIDE, LIE);
                ++ofRound;
            }
            kept += ofRound;
            commit(id, list);
            pass(id, 4);
            settle(id, list);
            lost += before - wealthOfLiars();
            (, IMarketEvents.Verdict verdict, bytes32 vote,,) = rowAt(0);
            vm.assertNotEq(vote, LIE);
            if (verdict != IMarketEvents.Verdict.CARRIED) break;
        }
        (, IMarketEvents.Verdict last,, uint16 opened,) = rowAt(0);
        // A round without any of theirs accepts at once; else it takes 45 % of all nine seats.
        bool isEnough = ofRound == 0 || (opened >= 3 && 20 * uint256(opened) >= 9 * 9);
        vm.assertTrue(last == (isEnough ? IMarketEvents.Verdict.ACCEPTED : IMarketEvents.Verdict.VOID));
        vm.assertEq(lost, kept * 2 * P, "each of their seats");
        checkBooks();
    }

    function isLiar(uint16 member) internal pure returns (bool) {
        return member < 5;
    }

    function wealthOfLiars() internal view returns (uint256 sum) {
        for (uint24 op = 1; op <= 5; ++op) {
            sum += stakeOf(op) + unbondingOf(op);
        }
    }
}
