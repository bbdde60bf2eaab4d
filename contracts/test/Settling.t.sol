// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IMarketEvents} from "../src/interfaces/IMarketEvents.sol";
import {Settlement} from "../src/types/Settlement.sol";
import {Batches} from "./support/Batches.sol";

interface WithSettler {
    function SETTLER() external view returns (address);
}

contract SettlingTest is Batches {
    function setUp() public {
        deployWithMembers(10, 8);
    }

    function test_UnanimousSeatsArePaidAndTheRestReturns() public {
        uint256 before = freeOf(requester);
        uint256 feesBefore = freeOf(collator);
        uint64 id = posted(1);
        vm.assertEq(escrowOf(requester), ESCROW, "escrow of three rounds");
        Ballot[] memory list = ballots(id);
        commit(id, list);
        Settlement memory s = settlement(id, 0, list);
        vm.expectEmit(address(market));
        bytes memory row = abi.encodePacked(uint16(0), uint8(1), honest(0), uint16(3), uint8(3));
        row = abi.encodePacked(row, list[0].member, list[1].member, list[2].member);
        emit IMarketEvents.BundlesSettled(id, 0, row);
        vm.expectEmit(address(market));
        emit IMarketEvents.BatchSettled(id, uint40(vm.getBlockTimestamp() + 30));
        vm.prank(collator);
        market.settle(id, s);

        for (uint256 i; i < 3; ++i) {
            vm.assertEq(stakeOf(list[i].member + 1), 10 * UNIT + TASK_PRICE, "a seat earns its price");
        }
        vm.assertEq(freeOf(requester), before - 3 * uint256(TASK_PRICE) - FEE - AUDIT, "requester pays one round");
        vm.assertEq(escrowOf(requester), 0);
        vm.assertEq(freeOf(collator), feesBefore + FEE, "fee, and the bond is back");
        vm.assertEq(treasuryOf(), AUDIT, "what audits are paid from");
        (,,,,, bytes32 outcomeHash) = market.batchHashes(id);
        bytes32 page = keccak256(abi.encodePacked(uint8(0), row));
        vm.assertEq(outcomeHash, keccak256(abi.encodePacked(bytes32(0), page)), "outcomeHash");
        assertStatus(id, IMarketEvents.BatchStatus.SETTLED);
        checkBooks();
    }

    function test_BundlesAreWorthTheirTasks() public {
        Order[] memory list = orders(1);
        list[0].taskCount = 300; // 256 + 44
        uint64 id = post(list);
        assign(id);
        Ballot[] memory seats = ballots(id);
        isLeft[0] = true;
        play(id, seats);
        vm.assertEq(escrowOf(requester), uint256(TASK_PRICE) * 256 * 9 + FEE + AUDIT * 256);
        uint256 earned;
        for (uint24 op = 1; op <= 10; ++op) {
            earned += stakeOf(op) - 10 * UNIT;
        }
        vm.assertEq(earned, uint256(TASK_PRICE) * 44 * 3);
        isLeft[0] = false;
        settle(id, seats);
        vm.assertEq(escrowOf(requester), 0);
        checkBooks();
    }

    function test_ManyBundlesOverSeveralPagesInAnyOrder() public {
        vm.pauseGasMetering(); // the builder's, which is not what is tested
        uint256 before = freeOf(requester);
        uint64 id = postPage(0, pageOf(orders(150)), false);
        postPage(id, pageOf(orders(70)), true);
        assign(id);
        Ballot[] memory list = ballots(id);
        commit(id, list);
        settle(id, 1, list);
        (,,, uint16 bundles, uint16 pending,,,,,,) = market.batch(id);
        vm.assertEq(bundles, 220);
        vm.assertEq(pending, 150);
        for (uint16 b; b < 220; ++b) {
            vm.assertTrue(market.isPending(id, b) == (b < 150), "the second page is settled");
        }
        settle(id, 0, list);
        assertStatus(id, IMarketEvents.BatchStatus.SETTLED);
        vm.assertEq(freeOf(requester), before - 220 * (3 * uint256(TASK_PRICE) + FEE + AUDIT));
        checkBooks();
    }

    function test_CommitmentsOverSeveralPages() public {
        uint64 id = posted(2);
        Ballot[] memory list = ballots(id);
        Ballot[] memory one = new Ballot[](3);
        Ballot[] memory two = new Ballot[](3);
        for (uint256 i; i < 3; ++i) {
            (one[i], two[i]) = (list[i], list[3 + i]);
        }
        commit(id, one);
        commit(id, two);
        Settlement memory s = settlement(id, 0, list);
        uint16[] memory bundles = recordBundles(s.page);
        bytes32[][] memory votes = votesOf(id, bundles, list);
        s.openings = bytes.concat(openings(id, 1, votes, two), openings(id, 0, votes, one));
        expectRefused(id, s, abi.encodeWithSelector(IMarketEvents.MalformedPage.selector)); // pages not ascending
        s.openings = bytes.concat(openings(id, 0, votes, one), openings(id, 0, votes, one));
        expectRefused(id, s, abi.encodeWithSelector(IMarketEvents.MalformedPage.selector)); // one page twice
        s.openings = bytes.concat(openings(id, 0, votes, one), openings(id, 2, votes, two));
        expectRefused(id, s, abi.encodeWithSelector(IMarketEvents.MalformedPage.selector)); // no such page
        s.openings = bytes.concat(openings(id, 0, votes, one), openings(id, 1, votes, two));
        settleAs(collator, id, s);
        assertStatus(id, IMarketEvents.BatchStatus.SETTLED);
        checkBooks();
    }

    // Who and when ------------------------------------------------------------------------------------------------

    function test_NobodyElseBeforeWindow4() public {
        (uint64 id, Settlement memory s) = ready();
        pass(id, 3);
        vm.warp(vm.getBlockTimestamp() - 1);
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.NotCollator.selector, collator));
        vm.prank(stranger);
        market.settle(id, s);
    }

    function test_AnyoneAfterWindow4ForTheFee() public {
        (uint64 id, Settlement memory s) = ready();
        pass(id, 4);
        settleAs(stranger, id, s);
        vm.assertEq(freeOf(stranger), FEE);
        assertStatus(id, IMarketEvents.BatchStatus.SETTLED);
        checkBooks();
    }

    function test_SilenceIsNotSettledBeforeWindow4() public {
        uint64 id = posted(2);
        Ballot[] memory list = ballots(id);
        list[4].act = Act.HIDE;
        commit(id, list);
        expectRefused(id, settlement(id, 0, list), abi.encodeWithSelector(IMarketEvents.TooEarly.selector, 1));
        isLeft[1] = true;
        settle(id, list);
        assertStatus(id, IMarketEvents.BatchStatus.ASSIGNED);
        isLeft[1] = false;
        vm.warp(vm.getBlockTimestamp() + 40); // seconds alone are not enough
        expectRefused(id, settlement(id, 0, list), abi.encodeWithSelector(IMarketEvents.TooEarly.selector, 1));
        pass(id, 4);
        settle(id, list);
        assertVerdict(0, IMarketEvents.Verdict.CARRIED);
        checkBooks();
    }

    /// @dev One list that matters and one that does not: its leaf is enough, and its member is not looked at.
    function test_ListsThatDoNotMatterStandAsLeaves() public {
        uint64 id = posted(12);
        Ballot[] memory list = ballots(id);
        commit(id, list);
        for (uint16 bundle = 1; bundle < 12; ++bundle) {
            isLeft[bundle] = true;
        }
        uint256 whole = settlement(id, 0, list).openings.length;
        isTerse = true;
        Settlement memory s = settlement(id, 0, list);
        vm.assertLt(s.openings.length, whole, "shorter");
        settleAs(collator, id, s);
        assertVerdict(0, IMarketEvents.Verdict.ACCEPTED);
        vm.assertTrue(!market.isPending(id, 0) && market.isPending(id, 1));
        isLeft[1] = false;
        s = settlement(id, 0, list);
        s.openings[s.openings.length - 1] ^= 0x01;
        expectRefused(id, s, mismatch("openings"));
        checkBooks();
    }

    function test_NotBeforeTheBeaconAndNotAfterTheEnd() public {
        uint64 id = post(orders(1));
        Settlement memory s;
        expectRefused(id, s, wrongStatus(id, IMarketEvents.BatchStatus.AWAITING));
        assign(id);
        Ballot[] memory list = ballots(id);
        commit(id, list);
        s = settlement(id, 0, list);
        settleAs(collator, id, s);
        uint256 stakeAfter = stakeOf(list[0].member + 1);
        expectRefused(id, s, wrongStatus(id, IMarketEvents.BatchStatus.SETTLED));
        vm.assertEq(stakeOf(list[0].member + 1), stakeAfter, "paid once");
    }

    function test_ASettledBundleIsNotPaidAgain() public {
        uint64 id = posted(2);
        Ballot[] memory list = ballots(id);
        commit(id, list);
        isLeft[1] = true;
        Settlement memory s = settlement(id, 0, list);
        settleAs(collator, id, s);
        (uint256 r, uint256 c) = (freeOf(requester), freeOf(collator));
        // The same arguments again open what is settled: refused. Without openings they do nothing.
        expectRefused(id, s, abi.encodeWithSelector(IMarketEvents.MalformedPage.selector));
        s.openings = "";
        settleAs(collator, id, s);
        vm.assertEq(freeOf(requester), r);
        vm.assertEq(freeOf(collator), c);
        vm.assertEq(escrowOf(requester), ESCROW);
        checkBooks();
    }

    // Forgeries ---------------------------------------------------------------------------------------------------

    function ready() internal returns (uint64 id, Settlement memory s) {
        id = posted(1);
        Ballot[] memory list = ballots(id);
        commit(id, list);
        s = settlement(id, 0, list);
    }

    function expectRefused(uint64 id, Settlement memory s, bytes memory error) internal {
        vm.expectRevert(error);
        vm.prank(collator);
        market.settle(id, s);
    }

    function wrongStatus(uint64 id, IMarketEvents.BatchStatus status) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(IMarketEvents.WrongStatus.selector, id, status);
    }

    function mismatch(string memory what) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(IMarketEvents.HashMismatch.selector, what);
    }

    function test_RefusesAForgedPage() public {
        (uint64 id, Settlement memory s) = ready();
        s.page[63] ^= 0x01; // a dearer task
        expectRefused(id, s, mismatch("page"));
        s.page[63] ^= 0x01;
        s.page[34] ^= 0x01; // another requester
        expectRefused(id, s, mismatch("page"));
        s.page[34] ^= 0x01;
        s.prior = bytes32(uint256(1));
        expectRefused(id, s, mismatch("page"));
        s.prior = 0;
        s.tail = new bytes32[](1);
        expectRefused(id, s, mismatch("page"));
    }

    function test_RefusesForgedCommitPages() public {
        (uint64 id, Settlement memory s) = ready();
        bytes32[] memory pages = s.commitPages;
        s.commitPages = new bytes32[](0);
        expectRefused(id, s, mismatch("commitPages"));
        s.commitPages = new bytes32[](2);
        s.commitPages[0] = pages[0];
        expectRefused(id, s, mismatch("commitPages"));
    }

    function test_RefusesAWrongSalt() public {
        (uint64 id, Settlement memory s) = ready();
        s.openings[s.openings.length - 1] ^= 0x01;
        expectRefused(id, s, mismatch("openings"));
    }

    function test_RefusesAnotherVoteForACommitment() public {
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        commit(id, list);
        list[0].vote = LIE;
        expectRefused(id, settlement(id, 0, list), mismatch("openings"));
    }

    function test_RefusesAnOpeningForAnotherSeatOrMember() public {
        (uint64 id, Settlement memory s) = ready();
        // index 2, lists 2, member 2, count 2, bundle 2, seat 1, tag 1
        bytes1 seat = s.openings[10];
        s.openings[10] = bytes1((uint8(seat) + 1) % 3);
        expectRefused(id, s, mismatch("openings"));
        s.openings[10] = seat;
        s.openings[5] = bytes1(uint8(s.openings[5]) ^ 1);
        expectRefused(id, s, mismatch("openings"));
        s.openings[10] = 0x03;
        expectRefused(id, s, abi.encodeWithSelector(IMarketEvents.MalformedPage.selector)); // no such seat
        s.openings[5] = 0xff;
        expectRefused(id, s, abi.encodeWithSelector(IMarketEvents.MalformedPage.selector)); // no such member
    }

    function test_RefusesAFakedConflict() public {
        (uint64 id, Settlement memory s) = ready();
        bytes memory malformed = abi.encodeWithSelector(IMarketEvents.MalformedPage.selector);
        s.votes = abi.encodePacked(uint8(2), honest(0), honest(0)); // one vote under two numbers
        expectRefused(id, s, malformed);
        s.votes = abi.encodePacked(uint8(2), LIE, honest(0)); // not ascending
        expectRefused(id, s, malformed);
        s.votes = abi.encodePacked(uint8(1), honest(0), uint8(0)); // votes of a bundle that is not there
        expectRefused(id, s, malformed);
        s.votes = abi.encodePacked(uint8(0)); // openings without a vote
        expectRefused(id, s, malformed);
        // A vote that nobody gave does no harm, since none can be opened with it.
        s.votes = abi.encodePacked(uint8(2), honest(0), LIE);
        settleAs(collator, id, s);
        assertVerdict(0, IMarketEvents.Verdict.ACCEPTED);
    }

    function test_RefusesAnOpeningOfABundleLeftForLater() public {
        uint64 id = posted(2);
        Ballot[] memory list = ballots(id);
        commit(id, list);
        Settlement memory s = settlement(id, 0, list);
        s.votes = abi.encodePacked(uint8(1), honest(0), uint8(0xff));
        expectRefused(id, s, abi.encodeWithSelector(IMarketEvents.MalformedPage.selector));
    }

    function test_RefusesTrailingOrMissingBytes() public {
        (uint64 id, Settlement memory s) = ready();
        bytes memory whole = s.openings;
        s.openings = bytes.concat(whole, hex"00");
        expectRefused(id, s, abi.encodeWithSelector(IMarketEvents.MalformedPage.selector));
        s.openings = slice(whole, 0, whole.length - 1);
        expectRefused(id, s, abi.encodeWithSelector(IMarketEvents.MalformedPage.selector));
        s.openings = "";
        expectRefused(id, s, abi.encodeWithSelector(IMarketEvents.SeatOmitted.selector, 0, 0));
    }

    function test_ACopiedCommitmentCannotBeOpened() public {
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        (,, bytes memory rows) = tableOf(CLASS, 1);
        bytes32 domain = domainOf(id, 0, 0);
        (, uint24 victim) = rowOf(rows, list[0].member);
        (address thief, uint24 thiefId) = rowOf(rows, list[1].member);
        // The thief signs the victim's very commitment for its own seat, and learns vote and salt afterwards.
        bytes32 copied = commitmentOf(domain, victim, list[0]);
        bytes memory items = abi.encodePacked(list[1].bundle, list[1].seat, copied);
        bytes memory lists = signedList(thief, domain, thiefId, list[1].member, items);
        sendCommit(id, lists);
        vm.assertEq(lastSkips, "", "nobody can tell yet");
        commitPages[id][0].push(pageHashOf(lists));
        Settlement memory s;
        s.page = settlePages[id][0][0];
        s.commitPages = commitPages[id][0];
        s.votes = abi.encodePacked(uint8(1), honest(0));
        s.openings = abi.encodePacked(
            uint16(0), uint16(1), list[1].member, uint16(1), list[1].bundle, list[1].seat, uint8(0), saltOf(list[0])
        );
        expectRefused(id, s, mismatch("openings"));
    }

    function test_ThePageOfARoundIsNoneOfTheNext() public {
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        list[0].act = Act.SILENT;
        commit(id, list);
        pass(id, 4);
        Settlement memory old = settlement(id, 0, list);
        settleAs(collator, id, old);
        assign(id);
        pass(id, 4);
        expectRefused(id, old, mismatch("page"));
        old.page = settlePages[id][1][0];
        expectRefused(id, old, mismatch("commitPages"));
    }

    // The module --------------------------------------------------------------------------------------------------

    function test_TheSettlingModuleAloneMovesNothing() public {
        (uint64 id, Settlement memory s) = ready();
        address module = WithSettler(address(market)).SETTLER();
        uint256 before = address(market).balance;
        (bool done, bytes memory answer) = module.call(abi.encodeCall(market.settle, (id, s)));
        vm.assertFalse(done);
        vm.assertEq(answer, abi.encodeWithSelector(IMarketEvents.BatchUnknown.selector, id));
        vm.assertEq(address(market).balance, before);
        vm.assertTrue(market.isPending(id, 0));
    }

    function test_OnlyDisputesResolve() public {
        uint64 id = posted(1);
        vm.expectRevert(IMarketEvents.Unauthorized.selector);
        vm.prank(requester);
        market.resolve(id, requester, ESCROW, stranger, 0, 0, new uint256[](0), "");
        vm.assertEq(escrowOf(requester), ESCROW);
    }
}
