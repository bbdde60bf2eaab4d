// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeMarket} from "../src/interfaces/IComputeMarket.sol";
import {IMarketEvents} from "../src/interfaces/IMarketEvents.sol";
import {Batches} from "./support/Batches.sol";

contract CommittingTest is Batches {
    uint256 internal constant CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    uint64 internal id;
    Ballot[] internal seats; // of bundles 0 and 1, honest
    bytes32 internal domain;

    function setUp() public {
        deployWithMembers(10, 8);
        id = posted(2);
        Ballot[] memory list = ballots(id);
        for (uint256 i; i < list.length; ++i) {
            seats.push(list[i]);
        }
        domain = domainOf(id, 0, 0);
    }

    function keyOf(uint256 member) internal view returns (address key, uint24 operatorId) {
        (,, bytes memory rows) = tableOf(CLASS, 1);
        return rowOf(rows, member);
    }

    /// @dev One list with one item, signed by the member that is named.
    function listOf(Ballot memory b) internal view returns (bytes memory) {
        (address key, uint24 operatorId) = keyOf(b.member);
        return signedList(key, domain, operatorId, b.member, item(domain, operatorId, b));
    }

    function expectSkip(bytes memory list, uint8 reason) internal {
        sendCommit(id, list);
        vm.assertEq(lastSkips, abi.encodePacked(uint16(0), reason));
        (,, bytes32 commitHash,,,) = market.batchHashes(id);
        vm.assertEq(commitHash, 0, "a page without a good list leaves no hash");
    }

    function test_MarksSeatsAndHashes() public {
        bytes memory lists = commitLists(id, seats);
        vm.expectEmit(address(market));
        emit IMarketEvents.CommitPage(id, 0, lists, "");
        vm.prank(collator);
        market.commit(id, 0, 2, lists);
        for (uint256 i; i < seats.length; ++i) {
            vm.assertTrue(market.hasCommitted(id, seats[i].bundle, seats[i].seat));
        }
        vm.assertFalse(market.hasCommitted(id, 0, 3), "no such seat");
        vm.assertFalse(market.hasCommitted(id, 2, 0), "no such bundle");
        (,, bytes32 commitHash,,,) = market.batchHashes(id);
        vm.assertEq(commitHash, keccak256(abi.encodePacked(bytes32(0), pageHashOf(lists))));
    }

    function test_ABadListDoesNotHurtTheOthers() public {
        bytes memory bad = listOf(seats[1]);
        bad[10] ^= 0x01;
        bytes memory lists = bytes.concat(listOf(seats[0]), bad, listOf(seats[2]));
        sendCommit(id, lists);
        vm.assertEq(lastSkips, hex"000102");
        vm.assertTrue(market.hasCommitted(id, 0, 0));
        vm.assertFalse(market.hasCommitted(id, 0, 1));
        vm.assertTrue(market.hasCommitted(id, 0, 2));
        (,, bytes32 commitHash,,,) = market.batchHashes(id);
        bytes memory kept = bytes.concat(listOf(seats[0]), listOf(seats[2]));
        vm.assertEq(commitHash, keccak256(abi.encodePacked(bytes32(0), pageHashOf(kept))));
    }

    // Reasons to skip ---------------------------------------------------------------------------------------------

    function test_Skip1Member() public {
        bytes memory list = listOf(seats[0]);
        (list[0], list[1]) = (0x00, 0x0a);
        expectSkip(list, 1);
    }

    function test_Skip2Signature() public {
        (address key, uint24 operatorId) = keyOf((seats[0].member + 1) % 10);
        (, uint24 drawn) = keyOf(seats[0].member);
        bytes memory items = item(domain, drawn, seats[0]);
        expectSkip(signedList(key, domain, drawn, seats[0].member, items), 2); // by another member
        (key, operatorId) = keyOf(seats[0].member);
        expectSkip(signedList(key, domain, operatorId + 1, seats[0].member, items), 2); // for another operator
        bytes memory list = listOf(seats[0]);
        list[list.length - 1] ^= 0x01;
        expectSkip(list, 2); // another commitment
    }

    function test_Skip2Malleable() public {
        bytes memory list = listOf(seats[0]);
        uint256 s = CURVE_ORDER - _uint(list, 36, 32);
        bytes memory flipped = bytes.concat(
            slice(list, 0, 36),
            bytes32(s),
            _uint(list, 68, 1) == 27 ? bytes1(0x1c) : bytes1(0x1b),
            slice(list, 69, list.length)
        );
        expectSkip(flipped, 2);
        list[68] = bytes1(uint8(list[68]) - 27);
        expectSkip(list, 2);
    }

    function test_Skip2ReplayedFromAnotherBatch() public {
        uint64 other = posted(2);
        Ballot[] memory mine = ballots(other);
        bytes memory lists = commitLists(other, mine);
        expectSkipAll(lists);
    }

    function test_Skip2ReplayedFromAnotherRound() public {
        bytes memory lists = commitLists(id, seats);
        pass(id, 4);
        settle(id, new Ballot[](0)); // nobody came, and a fresh round begins
        assign(id);
        vm.assertEq(roundOf(id), 1);
        expectSkipAll(lists);
    }

    function test_Skip2ReplayedFromAnotherChainOrContract() public {
        uint256 chain = vm.getChainId();
        vm.chainId(chain + 1);
        bytes memory lists = commitLists(id, seats);
        vm.chainId(chain);
        expectSkipAll(lists);

        (bytes32 seed, bytes32 postHash,,,,) = market.batchHashes(id);
        (address key, uint24 operatorId) = keyOf(seats[0].member);
        IComputeMarket here = market;
        market = IComputeMarket(makeAddr("another deployment"));
        bytes32 tag = keccak256("Quorate.Statement.v1");
        bytes32 there = keccak256(abi.encode(tag, chain, market, uint256(id), postHash, uint256(0), uint256(0), seed));
        lists = signedList(key, there, operatorId, seats[0].member, item(there, operatorId, seats[0]));
        market = here;
        expectSkipAll(lists);
    }

    /// @dev The lists of others are in nobody's way, and move nobody's money.
    function expectSkipAll(bytes memory lists) internal {
        uint256 before = heldByAll();
        sendCommit(id, lists);
        vm.assertEq(heldByAll(), before);
        vm.assertGt(lastSkips.length, 0, "skipped");
        for (uint256 i; i < lastSkips.length; i += 3) {
            vm.assertEq(uint8(lastSkips[i + 2]), 2, "signature");
        }
        (,, bytes32 commitHash,,,) = market.batchHashes(id);
        vm.assertEq(commitHash, 0);
    }

    function heldByAll() internal view returns (uint256 sum) {
        for (uint24 op = 1; op <= 10; ++op) {
            sum += stakeOf(op);
        }
    }

    function test_Skip2VoteOfTheClassIsNoCommitment() public {
        (address key, uint24 operatorId) = keyOf(seats[0].member);
        bytes32 voteDomain = domainOf(id, 1, 0);
        expectSkip(signedList(key, voteDomain, operatorId, seats[0].member, item(domain, operatorId, seats[0])), 2);
    }

    function test_Skip3Order() public {
        (address key, uint24 operatorId) = keyOf(seats[0].member);
        bytes memory one = item(domain, operatorId, seats[0]);
        Ballot memory later = seats[0];
        later.bundle = 1;
        bytes memory two = item(domain, operatorId, later);
        expectSkip(signedList(key, domain, operatorId, seats[0].member, bytes.concat(one, one)), 3);
        // The first item with a reason decides: bundle 1's seat may not be drawn for it, and comes first.
        sendCommit(id, signedList(key, domain, operatorId, seats[0].member, bytes.concat(one, two, one)));
        vm.assertTrue(lastSkips.length == 3, "skipped whole");
        vm.assertFalse(market.hasCommitted(id, 0, seats[0].seat), "its good item too");
    }

    function test_Skip4Range() public {
        Ballot memory b = seats[0];
        b.bundle = 2;
        expectSkip(listOf(b), 4);
        (b.bundle, b.seat) = (0, 3);
        expectSkip(listOf(b), 4);
        bytes memory lists = listOf(seats[0]);
        vm.prank(collator);
        market.commit(id, 1, 2, lists); // bundle 0 is not in [1, 2)
        vm.assertFalse(market.hasCommitted(id, 0, 0));
    }

    function test_Skip5NotPending() public {
        Ballot[] memory list = ballots(id);
        for (uint256 i = 3; i < 6; ++i) {
            list[i].act = Act.SILENT;
        }
        commit(id, list);
        isLeft[1] = true;
        settle(id, list);
        sendCommit(id, listOf(seats[0]));
        vm.assertEq(lastSkips, hex"000005");
    }

    function test_Skip6NotDrawn() public {
        Ballot memory b = seats[0];
        b.member = _outsider();
        expectSkip(listOf(b), 6);
        (b.member, b.seat) = (seats[0].member, 1); // its own bundle, another's seat
        expectSkip(listOf(b), 6);
    }

    function _outsider() internal view returns (uint16 member) {
        while (member == seats[0].member || member == seats[1].member || member == seats[2].member) {
            ++member;
        }
    }

    function test_Skip7DuplicateNeverReplaces() public {
        Ballot memory b = seats[0];
        bytes memory first = listOf(b);
        b.vote = LIE;
        bytes memory second = listOf(b);
        sendCommit(id, bytes.concat(first, second));
        vm.assertEq(lastSkips, hex"000107", "in one page");
        (,, bytes32 before,,,) = market.batchHashes(id);
        sendCommit(id, second);
        vm.assertEq(lastSkips, hex"000007", "in another page");
        (,, bytes32 afterwards,,,) = market.batchHashes(id);
        vm.assertEq(before, afterwards);
    }

    // Refusals ----------------------------------------------------------------------------------------------------

    function test_RefusesMalformedPages() public {
        bytes memory list = listOf(seats[0]);
        expectMalformed(0, 2, "");
        expectMalformed(0, 2, bytes.concat(list, hex"00"));
        expectMalformed(0, 2, slice(list, 0, list.length - 1));
        expectMalformed(0, 2, bytes.concat(slice(list, 0, 2), hex"0000", slice(list, 4, 69)));
        expectMalformed(0, 3, list);
        expectMalformed(1, 1, list);
    }

    function expectMalformed(uint16 from, uint16 to, bytes memory lists) internal {
        vm.expectRevert(IMarketEvents.MalformedPage.selector);
        vm.prank(collator);
        market.commit(id, from, to, lists);
    }

    function test_OnlyTheCollatorCommits() public {
        bytes memory list = listOf(seats[0]);
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.NotCollator.selector, collator));
        market.commit(id, 0, 2, list);
    }

    function test_NotBeforeTheBeacon() public {
        uint64 waiting = post(orders(1));
        vm.expectRevert(
            abi.encodeWithSelector(IMarketEvents.WrongStatus.selector, waiting, IMarketEvents.BatchStatus.AWAITING)
        );
        vm.prank(collator);
        market.commit(waiting, 0, 1, hex"00");
    }

    // Who and when ------------------------------------------------------------------------------------------------

    function test_WindowsNeedSecondsAndBlocks() public {
        bytes memory list = listOf(seats[0]);
        tick(20, 1);
        expectRefused(stranger, list, abi.encodeWithSelector(IMarketEvents.NotCollator.selector, collator));
        tick(0, 1);
        vm.warp(vm.getBlockTimestamp() - 1);
        expectRefused(stranger, list, abi.encodeWithSelector(IMarketEvents.NotCollator.selector, collator));
        tick(1, 0);
        sendCommitAs(stranger, id, list);
        vm.assertEq(lastSkips, "", "window 1 is past: anyone");
        sendCommit(id, listOf(seats[1]));
        vm.assertEq(lastSkips, "", "the collator too");
        tick(4, 1);
        sendCommitAs(stranger, id, listOf(seats[2]));
        vm.assertEq(lastSkips, "", "window 2: seconds are over, blocks are not");
        vm.roll(vm.getBlockNumber() + 50);
        list = listOf(seats[3]);
        expectRefused(stranger, list, abi.encodeWithSelector(IMarketEvents.WindowPast.selector, "commit"));
        expectRefused(collator, list, abi.encodeWithSelector(IMarketEvents.WindowPast.selector, "commit"));
        vm.warp(vm.getBlockTimestamp() - 1);
        sendCommitAs(stranger, id, list);
        vm.assertEq(lastSkips, "", "window 2: blocks are over, seconds are not");
    }

    function expectRefused(address sender, bytes memory list, bytes memory error) internal {
        vm.expectRevert(error);
        vm.prank(sender);
        market.commit(id, 0, 2, list);
    }

    /// @dev An operator sends the very list that its collator did not; only its seats are missing.
    function test_TheDirectPathTakesTheSameLists() public {
        sendCommit(id, bytes.concat(listOf(seats[0]), listOf(seats[1]), listOf(seats[3])));
        pass(id, 1);
        bytes memory late = listOf(seats[2]);
        sendCommitAs(ownerOf(seats[2].member), id, bytes.concat(listOf(seats[0]), late));
        vm.assertEq(lastSkips, hex"000007", "what the collator brought stands");
        vm.assertTrue(market.hasCommitted(id, 0, 2));
        (,, bytes32 commitHash,,,) = market.batchHashes(id);
        bytes memory first = bytes.concat(listOf(seats[0]), listOf(seats[1]), listOf(seats[3]));
        bytes32 expected = keccak256(abi.encodePacked(bytes32(0), pageHashOf(first)));
        vm.assertEq(commitHash, keccak256(abi.encodePacked(expected, pageHashOf(late))));
    }

    function test_AnAbstentionIsACommitmentLikeAnyOther() public {
        Ballot memory b = seats[0];
        b.act = Act.ABSTAIN;
        bytes memory first = listOf(b);
        sendCommit(id, first);
        vm.assertEq(lastSkips, "");
        vm.assertTrue(market.hasCommitted(id, 0, 0));
        sendCommit(id, listOf(seats[0]));
        vm.assertEq(lastSkips, hex"000007", "nobody thinks better of it");
    }
}
