// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IBeacon} from "../src/interfaces/IBeacon.sol";
import {IMarketEvents} from "../src/interfaces/IMarketEvents.sol";
import {MoreGas} from "../src/libraries/Wallets.sol";
import {Params} from "../src/types/Params.sol";
import {Settlement} from "../src/types/Settlement.sol";
import {Terms} from "../src/types/Terms.sol";
import {Batches} from "./support/Batches.sol";
import {TestWallet} from "./support/Wallets.sol";

contract PostingTest is Batches {
    uint256 internal constant CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    function setUp() public {
        deployWithMembers(10, 8);
    }

    /// @dev The page's first order is skipped for this reason and moves nothing; the good one behind it is accepted.
    function expectSkip(Order memory bad, uint8 reason) internal {
        Order[] memory list = new Order[](2);
        (list[0], list[1]) = (bad, order());
        expectSkip(pageOf(list), reason);
    }

    function expectSkip(bytes memory page, uint8 reason) internal {
        uint256 before = escrowOf(requester);
        uint64 id = postPage(0, page, true);
        vm.assertEq(lastSkips, abi.encodePacked(uint16(0), reason), "first order skipped");
        vm.assertEq(escrowOf(requester) - before, ESCROW, "only the good order locks escrow");
        (,,, uint16 bundles,,,,,,,) = market.batch(id);
        vm.assertEq(bundles, 1, "one bundle");
        checkBooks();
    }

    function test_OpensAndClosesABatch() public {
        uint256 bonds = market.bonds();
        uint256 era = registry.classCount();
        vm.assertEq(era, 1);
        bytes memory page = pageOf(orders(2));
        vm.expectEmit(address(market));
        emit IMarketEvents.BatchOpened(1 << 32, collator, CLASS, 1, 3, 2, 20, FEE);
        vm.expectEmit(address(market));
        emit IMarketEvents.PagePosted(1 << 32, 0, page, "");
        vm.expectEmit(address(market));
        emit IMarketEvents.BatchClosed(1 << 32, 2, uint48(vm.getBlockNumber() + 1));
        vm.prank(collator);
        uint64 id = market.post(0, terms, page, true);
        vm.assertEq(id, 1 << 32);
        vm.assertEq(market.bonds(), bonds + 0.01 ether);
        assertStatus(id, IMarketEvents.BatchStatus.AWAITING);
        (uint128 fuel, uint40 since) = market.backlog(CLASS);
        vm.assertEq(since, vm.getBlockTimestamp());
        vm.assertEq(fuel, uint256(FUEL) * 3 * 2, "fuel of one round");
        Terms memory t = market.batchTerms(id);
        vm.assertEq(abi.encode(t), abi.encode(terms));
        vm.assertFalse(market.isBatchFinal(id));
        vm.assertFalse(market.isPending(id, 2), "no third bundle");
        vm.assertTrue(market.isPending(id, 1));
        checkBooks();
    }

    function test_PagesNumberBundlesThroughTheBatch() public {
        Order[] memory list = orders(2);
        list[0].taskCount = 257;
        uint64 id = postPage(0, pageOf(list), false);
        postPage(id, pageOf(orders(1)), false);
        postPage(id, "", true);
        (,,, uint16 bundles, uint16 pending,,,,,,) = market.batch(id);
        vm.assertEq(bundles, 4);
        vm.assertEq(pending, 4);
        vm.assertEq(_uint(settlePages[id][0][1], 32, 2), 3, "first bundle of the second page");
    }

    function test_GroupsOfSeveralRequesters() public {
        uint256 other = uint256(keccak256("other"));
        fund(vm.addr(other), 1 ether);
        bytes memory page = bytes.concat(pageOf(orders(2)), group(other, orders(1)), pageOf(orders(1)));
        postPage(0, page, true);
        vm.assertEq(lastSkips, "");
        vm.assertEq(escrowOf(vm.addr(other)), ESCROW);
        vm.assertEq(escrowOf(requester), 3 * ESCROW);
        checkBooks();
    }

    // Reasons to skip ---------------------------------------------------------------------------------------------

    function test_Skip1Empty() public {
        Order memory o = order();
        o.taskCount = 0;
        expectSkip(o, 1);
        o.taskCount = (1 << 20) + 1;
        expectSkip(o, 1);
        (o.taskCount, o.fuelLimit) = (1, 0);
        expectSkip(o, 1);
    }

    function test_Skip2Unsupported() public {
        Order memory o = order();
        o.strategy = 1;
        expectSkip(o, 2);
        (o.strategy, o.flags) = (0, 2);
        expectSkip(o, 2);
        (o.flags, o.fuelLimit) = (0, 1e13 + 1);
        expectSkip(o, 2);
    }

    function test_StrictStandsInTheRecord() public {
        Order memory o = order();
        o.flags = 1;
        uint64 id = post(only(o));
        vm.assertEq(lastSkips, "");
        bytes memory record = settlePages[id][0][0];
        vm.assertEq(uint8(record[record.length - 1]), 1);
    }

    function test_AuditFeesAreRoundedUpForEachBundle() public {
        Order memory o = order();
        (o.taskCount, o.fuelLimit, terms.seats, terms.rounds) = (513, 1, 1, 0);
        registry.createClass{value: 0.1 ether}("", uint128(UNIT), 1e9 + 7, true);
        for (uint256 i; i < 2; ++i) {
            addMemberOf(2, 20 + i);
        }
        advanceEraOf(2);
        terms.classId = 2;
        post(only(o));
        vm.assertEq(lastSkips, "");
        // A task costs 2 wei, since 1.000000007 is rounded up: bundles of 512, 512 and 2 wei with 5.12 and 0.02 for audits.
        vm.assertEq(escrowOf(requester), 1026 + 3 * uint256(FEE) + 6 * 2 + 1);
        checkBooks();
    }

    function test_Skip3Expired() public {
        Order memory o = order();
        o.validUntil = uint40(vm.getBlockTimestamp() - 1);
        expectSkip(o, 3);
        o.validUntil = uint40(vm.getBlockTimestamp());
        post(only(o));
        vm.assertEq(lastSkips, "", "valid in its last second");
    }

    function test_Skip4Units() public {
        Order memory o = order();
        o.minUnits = 81;
        expectSkip(o, 4);
        o.minUnits = 80;
        post(only(o));
        vm.assertEq(lastSkips, "");
    }

    function test_Skip5Fee() public {
        Order memory o = order();
        o.maxFee = FEE - 1;
        expectSkip(o, 5);
    }

    function test_Skip6Price() public {
        Order memory o = order();
        o.maxPrice = PRICE - 1;
        expectSkip(o, 6);
    }

    function test_Skip6PriceOfATaskBeyond64Bits() public {
        Params memory p = localParams();
        (p.maxPrice, p.leastUnitWei) = (2e18, 750 ether);
        deploy(p);
        registry.createClass{value: 0.1 ether}("", 750 ether, 2e18, true);
        for (uint256 i; i < 6; ++i) {
            addOperator(i, 750 ether);
            vm.prank(ownerOf(i));
            registry.join(CLASS, 1, 2e18, CAPACITY);
        }
        advanceEraOf(CLASS);
        fund(collator, 1 ether);
        Order memory o = order();
        o.fuelLimit = 1e10;
        uint64 id = post(only(o));
        vm.assertEq(lastSkips, hex"000006");
        assertStatus(id, IMarketEvents.BatchStatus.SETTLED);
    }

    function test_Skip7Period() public {
        Order memory o = order();
        o.commitPeriod = 19;
        expectSkip(o, 7);
        (o.commitPeriod, o.fuelLimit) = (60, 200_000_000 * 19 + 1);
        expectSkip(o, 7); // 20 s of fuel and 1 s of input
        o.inputBytes = 0;
        post(only(o));
        vm.assertEq(lastSkips, "");
    }

    function test_Skip8Full() public {
        Order[] memory list = orders(3);
        (list[0].taskCount, list[0].fuelLimit) = (1 << 18, 1);
        bytes memory page = pageOf(list);
        uint64 id;
        for (uint256 i; i < 4; ++i) {
            id = postPage(id, page, false);
            vm.assertEq(lastSkips, hex"000108000208", "a page holds 1024 bundles");
            list[0].nonce = nextNonce++;
            page = pageOf(list);
        }
        postPage(id, page, true);
        vm.assertEq(lastSkips, hex"000008000108000208", "and a batch 4096");
        (,,, uint16 bundles,,,,,,,) = market.batch(id);
        vm.assertEq(bundles, 4096);
        checkBooks();
    }

    function test_Skip8FullByItsSeats() public {
        terms.rounds = 2;
        for (uint8 seats = 1; seats <= 5; ++seats) {
            terms.seats = seats;
            Order[] memory list = orders(2);
            (list[0].taskCount, list[0].fuelLimit) = (1 << 18, 1);
            post(list);
            vm.assertEq(lastSkips, hex"000108", "up to 16 places a bundle 1024 of them");
        }
    }

    function test_Skip9CapacityIsHalfOfTheCommitPeriodAndDrains() public {
        Order memory big = order();
        (big.taskCount, big.fuelLimit, terms.commitPeriod) = (1 << 18, 4e7, 60);
        // 80 × 1.25e11 × 60 / 2 = 3e14; one order of 2^18 × 4e7 × 3 = 3.1e13: nine fit
        for (uint256 i; i < 9; ++i) {
            big.nonce = nextNonce++;
            post(only(big));
            vm.assertEq(lastSkips, "");
        }
        (uint128 full,) = market.backlog(CLASS);
        vm.assertEq(full, 9 * uint256(1 << 18) * 4e7 * 3);
        big.nonce = nextNonce++;
        post(only(big));
        vm.assertEq(lastSkips, hex"000009");
        (uint128 fuel,) = market.backlog(CLASS);
        vm.assertEq(fuel, full, "a skipped order adds nothing");
        tick(2, 1); // 2 s × 5e12 drained, 2.9e14 + 3.1e13 - 1e13 is still too much
        post(only(big));
        vm.assertEq(lastSkips, hex"000009");
        tick(2, 1);
        post(only(big));
        vm.assertEq(lastSkips, "");
        (fuel,) = market.backlog(CLASS);
        vm.assertEq(fuel, full + uint256(1 << 18) * 4e7 * 3 - 4 * 5e12);
        tick(50, 1);
        post(orders(1));
        (fuel,) = market.backlog(CLASS);
        vm.assertEq(fuel, full + uint256(1 << 18) * 4e7 * 3 - 54 * 5e12 + uint256(FUEL) * 3);
        tick(60, 1);
        advanceEra();
        post(orders(1));
        (fuel,) = market.backlog(CLASS);
        vm.assertEq(fuel, uint256(FUEL) * 3, "and is never below nothing");
        checkBooks();
    }

    function test_Skip10SignatureOfAnother() public {
        Order memory o = order();
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(requesterSecret + 1, jobId(requester, o));
        expectSkip(_signedPage(o, r, s, v), 10);
    }

    function test_Skip10AlteredOrder() public {
        Order memory o = order();
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(requesterSecret, jobId(requester, o));
        o.maxFee -= 1;
        expectSkip(_signedPage(o, r, s, v), 10);
    }

    function test_Skip10TermsAreSigned() public {
        Order memory o = order();
        bytes memory page = pageOf(only(o));
        terms.seats = 5;
        uint64 id = postPage(0, bytes.concat(page, pageOf(orders(1))), true);
        vm.assertEq(lastSkips, hex"00000a", "a committee of another size was not agreed to");
        (,,, uint16 bundles,,,,,,,) = market.batch(id);
        vm.assertEq(bundles, 1);
    }

    function test_Skip10MalleableSignature() public {
        Order memory o = order();
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(requesterSecret, jobId(requester, o));
        expectSkip(_signedPage(o, r, bytes32(CURVE_ORDER - uint256(s)), v == 27 ? 28 : 27), 10);
        expectSkip(_signedPage(o, r, s, v - 27), 10);
        expectSkip(_signedPage(o, r, s, 0), 10);
        expectSkip(_signedPage(o, 0, 0, 27), 10);
    }

    function test_Skip10NobodySignsForZero() public {
        Order memory o = order();
        bytes memory page = bytes.concat(groupHead(address(0), 0, 1), encodeBody(o), new bytes(64), hex"1b");
        expectSkip(bytes.concat(page, pageOf(orders(1))), 10);
    }

    // Contract wallets --------------------------------------------------------------------------------------------

    function walletOrder(address wallet, bytes memory more) internal returns (bytes memory) {
        Order memory o = order();
        bytes memory signature = abi.encodePacked(jobId(wallet, o), more);
        return bytes.concat(encodeBody(o), abi.encodePacked(uint16(signature.length)), signature);
    }

    function walletOf(TestWallet.Manner manner) internal returns (address wallet) {
        wallet = address(new TestWallet(manner));
        watch(wallet);
        market.depositFor{value: 10 ether}(wallet);
    }

    function test_WalletsOrdersOfAnyLength() public {
        address wallet = walletOf(TestWallet.Manner.HONEST);
        bytes memory page = bytes.concat(groupHead(wallet, 1, 3), walletOrder(wallet, ""), walletOrder(wallet, hex"01"));
        page = bytes.concat(page, walletOrder(wallet, new bytes(2000)), pageOf(orders(2)));
        uint64 id = postPage(0, page, true);
        vm.assertEq(lastSkips, "");
        vm.assertEq(escrowOf(wallet), 3 * ESCROW);
        (,,, uint16 bundles,,,,,,,) = market.batch(id);
        vm.assertEq(bundles, 5);
        checkBooks();
    }

    function test_Skip10BadWallets() public {
        for (uint256 manner = 1; manner < 6; ++manner) {
            address wallet = walletOf(TestWallet.Manner(manner));
            bytes memory page = bytes.concat(groupHead(wallet, 1, 1), walletOrder(wallet, ""));
            bool isGood = TestWallet.Manner(manner) == TestWallet.Manner.FLOOD;
            if (!isGood) expectSkip(bytes.concat(page, pageOf(orders(1))), 10);
            else postPage(0, page, true);
            vm.assertEq(escrowOf(wallet), isGood ? ESCROW : 0);
        }
        address writer = walletOf(TestWallet.Manner.WRITES);
        bytes memory asked = bytes.concat(groupHead(writer, 1, 1), walletOrder(writer, ""));
        expectSkip(bytes.concat(asked, pageOf(orders(1))), 10);
        checkBooks();
    }

    function test_Skip10WalletThatChangesItsAnswer() public {
        address wallet = walletOf(TestWallet.Manner.HONEST);
        bytes memory page = bytes.concat(groupHead(wallet, 1, 1), walletOrder(wallet, ""));
        TestWallet(payable(wallet)).set(TestWallet.Manner.REVERTS);
        expectSkip(bytes.concat(page, pageOf(orders(1))), 10);
        TestWallet(payable(wallet)).set(TestWallet.Manner.HONEST);
        postPage(0, page, true);
        vm.assertEq(lastSkips, "", "a skipped order keeps its nonce");

        // One that says yes when the collator asks, and no one block later: it is skipped, and poisons nothing.
        wallet = walletOf(TestWallet.Manner.FLIPS);
        page = bytes.concat(groupHead(wallet, 1, 1), walletOrder(wallet, ""), pageOf(orders(1)));
        uint256 moment = vm.snapshotState();
        vm.roll(vm.getBlockNumber() / 2 * 2 + 2);
        postPage(0, page, true);
        vm.assertEq(lastSkips, "");
        vm.revertToState(moment);
        vm.roll(vm.getBlockNumber() / 2 * 2 + 3);
        expectSkip(page, 10);
        vm.assertEq(freeOf(wallet), 10 ether);
    }

    function test_Skip10AccountsWithoutCodeAreNoWallets() public {
        bytes memory page = bytes.concat(groupHead(requester, 1, 1), walletOrder(requester, ""));
        expectSkip(bytes.concat(page, pageOf(orders(1))), 10);
    }

    function test_AWalletsOrderForgedOrOfAnother() public {
        address wallet = walletOf(TestWallet.Manner.HONEST);
        bytes memory signed = walletOrder(wallet, "");
        signed[90] = bytes1(uint8(1)); // another flag than the wallet signed
        expectSkip(bytes.concat(groupHead(wallet, 1, 1), signed, pageOf(orders(1))), 10);
        bytes memory empty = bytes.concat(encodeBody(order()), hex"0000");
        expectSkip(bytes.concat(groupHead(wallet, 1, 1), empty, pageOf(orders(1))), 10);
    }

    /// @dev However much gas a caller gives: the wallet's answer is the same, or nothing happens at all.
    function test_NoChoiceOfGasChangesAWalletsAnswer() public {
        address wallet = walletOf(TestWallet.Manner.NEARLY_BURNS);
        bytes memory page = bytes.concat(groupHead(wallet, 1, 1), walletOrder(wallet, ""));
        bytes memory data = abi.encodeCall(market.post, (0, terms, page, true));
        bool isPosted;
        for (uint256 gas_ = 150_000; gas_ < 450_000; gas_ += 7_001) {
            uint256 snapshot = vm.snapshotState();
            vm.prank(collator);
            (bool done, bytes memory said) = address(market).call{gas: gas_}(data);
            if (done) {
                vm.assertEq(escrowOf(wallet), ESCROW, "accepted");
                isPosted = true;
            } else {
                vm.assertTrue(said.length == 0 || bytes4(said) == MoreGas.selector, "out of gas, and said so");
                vm.assertFalse(isPosted);
            }
            vm.revertToState(snapshot);
        }
        vm.assertTrue(isPosted);
    }

    function test_Skip10OtherChain() public {
        bytes memory page = pageOf(orders(1));
        vm.chainId(4242);
        postPage(0, bytes.concat(page, pageOf(orders(1))), true);
        vm.assertEq(lastSkips, hex"00000a");
    }

    function test_Skip11NonceReplayed() public {
        Order memory o = order();
        Order[] memory list = new Order[](2);
        (list[0], list[1]) = (o, o);
        post(list);
        vm.assertEq(lastSkips, hex"00010b", "in one page");
        post(only(o));
        vm.assertEq(lastSkips, hex"00000b", "in another batch");
        (uint64 base, uint256 used) = market.nonces(requester);
        vm.assertEq(base, 0);
        vm.assertEq(used, 1);
    }

    function test_Skip11NonceBelowTheWindow() public {
        Order memory o = order();
        o.nonce = 300;
        post(only(o));
        (uint64 base, uint256 used) = market.nonces(requester);
        vm.assertEq(base, 109);
        vm.assertEq(used, 1 << 191);
        o.nonce = 108;
        expectUsed(o);
        o.nonce = 109;
        post(only(o));
        vm.assertEq(lastSkips, "");
        o.nonce = type(uint64).max;
        post(only(o));
        vm.assertEq(lastSkips, "", "the last nonce there is");
        expectUsed(o);
    }

    function expectUsed(Order memory o) internal {
        post(only(o));
        vm.assertEq(lastSkips, hex"00000b");
    }

    function test_Skip12DepositDrainedBetweenOrdersOfAPage() public {
        uint256 secret = uint256(keccak256("poor"));
        address poor = vm.addr(secret);
        uint256 escrow = ESCROW;
        fund(poor, 2 * escrow + 1);
        Order[] memory list = orders(4);
        list[1].taskCount = 2; // too dear once the first has taken its part
        uint64 id = postPage(0, group(secret, list), true);
        vm.assertEq(lastSkips, hex"00010c00030c");
        vm.assertEq(freeOf(poor), 1);
        vm.assertEq(escrowOf(poor), 2 * escrow);
        (, uint256 used) = market.nonces(poor);
        vm.assertEq(used, 5, "skipped orders keep their nonces");
        (,,, uint16 bundles,,,,,,,) = market.batch(id);
        vm.assertEq(bundles, 2);
        checkBooks();
    }

    function _signedPage(Order memory o, bytes32 r, bytes32 s, uint8 v) internal returns (bytes memory) {
        bytes memory bad = bytes.concat(groupHead(requester, 0, 1), encodeBody(o), abi.encodePacked(r, s, v));
        return bytes.concat(bad, pageOf(orders(1)));
    }

    // Refusals ----------------------------------------------------------------------------------------------------

    function test_RefusesMalformedPages() public {
        bytes memory page = pageOf(orders(1));
        expectMalformed(bytes.concat(page, hex"00"));
        expectMalformed(slice(page, 0, page.length - 1));
        expectMalformed(slice(page, 0, 22));
        expectMalformed(groupHead(requester, 0, 0));
        expectMalformed(bytes.concat(groupHead(requester, 2, 1), encodeSigned(requesterSecret, order())));
        bytes memory body = encodeBody(order());
        expectMalformed(bytes.concat(groupHead(requester, 1, 1), body));
        expectMalformed(bytes.concat(groupHead(requester, 1, 1), body, hex"00"));
        expectMalformed(bytes.concat(groupHead(requester, 1, 1), body, hex"0002", hex"00"));
        expectMalformed(bytes.concat(groupHead(requester, 1, 1), body, hex"0002", hex"000000"));
        expectMalformed(bytes.concat(groupHead(requester, 0, 2), encodeSigned(requesterSecret, order())));
        checkBooks();
    }

    function expectMalformed(bytes memory page) internal {
        vm.expectRevert(IMarketEvents.MalformedPage.selector);
        vm.prank(collator);
        market.post(0, terms, page, true);
    }

    function test_RefusesBadTerms() public {
        Terms memory t = terms;
        t.seats = 0;
        expectTerms(t, "seats");
        t.seats = 6; // of 10 members
        expectTerms(t, "seats");
        (t.seats, t.rounds) = (3, 3);
        expectTerms(t, "rounds");
        (t.rounds, t.commitPeriod) = (2, 0);
        expectTerms(t, "commitPeriod");
        t.commitPeriod = 61;
        expectTerms(t, "commitPeriod");
        t.commitPeriod = 60;
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.InsufficientDeposit.selector, 0, 0.01 ether));
        vm.prank(stranger);
        market.post(0, t, "", true);
        registry.createClass{value: 0.1 ether}("", uint128(UNIT), 1, true);
        t.classId = 2;
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.EraOverdue.selector, 2));
        market.post(0, t, "", true);
        registry.advanceEra(2, 0, 0);
        expectTerms(t, "seats");
    }

    function expectTerms(Terms memory t, string memory name) internal {
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.InvalidTerms.selector, name));
        vm.prank(collator);
        market.post(0, t, "", true);
    }

    function test_RefusesAnOverdueEra() public {
        tick(59, 1);
        postPage(0, "", true);
        tick(1, 1);
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.EraOverdue.selector, CLASS));
        vm.prank(collator);
        market.post(0, terms, "", true);
    }

    function test_OnlyTheCollatorAppendsAndOnlyInTime() public {
        uint64 id = postPage(0, pageOf(orders(1)), false);
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.NotCollator.selector, collator));
        market.post(id, terms, "", true);
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.BatchUnknown.selector, id + 1));
        market.post(id + 1, terms, "", true);
        tick(9, 1);
        postPage(id, pageOf(orders(1)), false);
        tick(1, 1);
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.WindowPast.selector, "post"));
        vm.prank(collator);
        market.post(id, terms, "", true);
    }

    function test_NoPageAfterTheClosingOne() public {
        uint64 id = post(orders(1));
        bytes memory page = pageOf(orders(1));
        vm.expectRevert(
            abi.encodeWithSelector(IMarketEvents.WrongStatus.selector, id, IMarketEvents.BatchStatus.AWAITING)
        );
        vm.prank(collator);
        market.post(id, terms, page, true);
    }

    // Ends without a committee ------------------------------------------------------------------------------------

    function test_ABatchOfSkippedOrdersSettlesAtOnce() public {
        Order memory o = order();
        o.taskCount = 0;
        uint256 before = freeOf(collator);
        uint64 id = post(only(o));
        assertStatus(id, IMarketEvents.BatchStatus.SETTLED);
        vm.assertEq(freeOf(collator), before, "bond is back");
        vm.assertFalse(market.isBatchFinal(id));
        tick(30, 1);
        vm.assertTrue(market.isBatchFinal(id));
        checkBooks();
    }

    function test_ExpirePostingRefundsOrdersAndCostsTheBond() public {
        (uint256 r, uint256 c) = (freeOf(requester), freeOf(collator));
        uint64 id = postPage(0, pageOf(orders(2)), false);
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.WindowOpen.selector, "post"));
        market.expire(id);
        tick(10, 1);
        vm.expectEmit(address(market));
        emit IMarketEvents.BatchVoided(id);
        market.expire(id);
        assertStatus(id, IMarketEvents.BatchStatus.VOIDED);
        vm.assertEq(freeOf(collator), c - 0.01 ether, "orders and capacity were used up");
        vm.assertEq(treasuryOf(), 0.01 ether);
        vm.expectRevert(
            abi.encodeWithSelector(IMarketEvents.WrongStatus.selector, id, IMarketEvents.BatchStatus.VOIDED)
        );
        market.expire(id);

        settleAs(stranger, id, settlement(id, 0, new Ballot[](0)));

        assertVerdict(0, IMarketEvents.Verdict.VOID);
        assertVerdict(1, IMarketEvents.Verdict.VOID);
        vm.assertEq(freeOf(requester), r);
        vm.assertEq(freeOf(stranger), 0, "no fee for a void bundle");
        assertStatus(id, IMarketEvents.BatchStatus.SETTLED);
        checkBooks();
    }

    function test_ExpireAnEmptyBatch() public {
        uint256 before = freeOf(collator);
        uint64 id = postPage(0, "", false);
        tick(10, 1);
        market.expire(id);
        assertStatus(id, IMarketEvents.BatchStatus.SETTLED);
        vm.assertEq(freeOf(collator), before);
        checkBooks();
    }

    function test_ALostBeaconCostsTheBond() public {
        (uint256 r, uint256 c) = (freeOf(requester), freeOf(collator));
        uint64 id = post(orders(2));
        (,,,,,,, uint48 beaconBlock,,,) = market.batch(id);
        vm.expectRevert(abi.encodeWithSelector(IBeacon.BeaconUnavailable.selector, uint256(beaconBlock)));
        market.proveBeacon(id, "");
        vm.roll(beaconBlock + 256);
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.WindowOpen.selector, "beacon"));
        market.expire(id);
        vm.roll(beaconBlock + 257);
        vm.expectRevert(abi.encodeWithSelector(IBeacon.BeaconUnavailable.selector, uint256(beaconBlock)));
        market.proveBeacon(id, "");
        market.expire(id);
        vm.assertEq(treasuryOf(), 0.01 ether, "bond to the treasury");
        vm.assertEq(freeOf(collator), c - 0.01 ether);
        isLeft[0] = true; // means nothing in a void batch
        settleAs(stranger, id, settlement(id, 0, new Ballot[](0)));
        vm.assertEq(freeOf(requester), r);
        vm.assertEq(market.bonds(), 0);
        vm.assertEq(freeOf(collator), c - 0.01 ether, "and not a second time");
        checkBooks();
    }

    function test_ProveBeaconStartsTheRound() public {
        uint64 id = post(orders(1));
        tick(1, 2);
        (,,,,,,, uint48 beaconBlock,,,) = market.batch(id);
        bytes32 seed = keccak256(abi.encode("beacon", uint256(beaconBlock)));
        vm.expectRevert(abi.encodeWithSelector(IBeacon.BeaconMismatch.selector, uint256(beaconBlock)));
        market.proveBeacon(id, "header of another block");
        vm.expectEmit(address(market));
        emit IMarketEvents.RoundStarted(id, 0, seed);
        vm.prank(stranger);
        market.proveBeacon(id, "");
        vm.assertEq(market.roundDomain(id), domainOf(id, 0, 0));
        vm.expectRevert(
            abi.encodeWithSelector(IMarketEvents.WrongStatus.selector, id, IMarketEvents.BatchStatus.ASSIGNED)
        );
        market.proveBeacon(id, "");
        vm.expectRevert(
            abi.encodeWithSelector(IMarketEvents.WrongStatus.selector, id, IMarketEvents.BatchStatus.ASSIGNED)
        );
        market.expire(id);
    }

    // Slots -------------------------------------------------------------------------------------------------------

    function test_SlotsAreReusedOnlyWhenFinalAndIdsNever() public {
        uint64 first = posted(1);
        play(first, ballots(first));
        uint64 second = post(orders(1));
        vm.assertEq(uint16(second), 1, "the challenge period is not over");
        tick(30, 1);
        uint64 third = post(orders(6));
        vm.assertEq(third, (3 << 32) | 0, "same slot, other id");
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.BatchUnknown.selector, first));
        market.batch(first);
        for (uint16 i; i < 6; ++i) {
            vm.assertTrue(market.isPending(third, i), "bits of the former batch are gone");
            vm.assertFalse(market.hasCommitted(third, i, 0));
        }
        assign(third);
        play(third, ballots(third));
        assertStatus(third, IMarketEvents.BatchStatus.SETTLED);
        checkBooks();
    }

    function test_OldestFinalSlotFirst() public {
        uint64[3] memory ids;
        for (uint256 i; i < 3; ++i) {
            ids[i] = post(orders(1));
        }
        for (uint256 i; i < 3; ++i) {
            uint64 id = ids[(i + 1) % 3];
            if (statusOf(id) == IMarketEvents.BatchStatus.AWAITING) assign(id);
            play(id, ballots(id));
            tick(1, 1);
        }
        tick(30, 1);
        vm.assertEq(uint16(post(orders(1))), 1);
        vm.assertEq(uint16(post(orders(1))), 2);
        vm.assertEq(uint16(post(orders(1))), 0);
        vm.assertEq(uint16(post(orders(1))), 3);
    }

    // Accounts ----------------------------------------------------------------------------------------------------

    function test_DepositAndWithdraw() public {
        vm.deal(stranger, 5 ether);
        vm.expectEmit(address(market));
        emit IMarketEvents.Deposited(requester, 2 ether);
        vm.prank(stranger);
        market.depositFor{value: 2 ether}(requester);
        vm.assertEq(freeOf(requester), 1002 ether);
        vm.assertEq(freeOf(stranger), 0);
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.InsufficientDeposit.selector, 0, 1));
        vm.prank(stranger);
        market.withdraw(1);
        vm.expectRevert(IMarketEvents.NothingToWithdraw.selector);
        vm.prank(requester);
        market.withdraw(0);
        vm.expectEmit(address(market));
        emit IMarketEvents.Withdrawn(requester, 1002 ether);
        vm.prank(requester);
        market.withdraw(1002 ether);
        vm.assertEq(requester.balance, 1002 ether);
        checkBooks();
    }

    function test_EscrowCannotBeWithdrawn() public {
        post(orders(1));
        uint256 free = freeOf(requester);
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.InsufficientDeposit.selector, free, 1000 ether));
        vm.prank(requester);
        market.withdraw(1000 ether);
    }
}
