// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IStakeRegistry} from "../src/interfaces/IStakeRegistry.sol";
import {ClassTable} from "../src/types/ClassTable.sol";
import {FineKind} from "../src/types/FineKind.sol";
import {System} from "./support/System.sol";

/// @title Eras with too many failed seats: jail, slashes, and the way back
contract FaultsTest is System {
    uint256 internal constant ERA = 60;
    uint24 internal constant ID = 1;

    function setUp() public {
        deploy(localParams());
        vm.warp(ERA * 30_000_000); // the first second of a fault era
        registry.createClass{value: 0.1 ether}("one", uint128(UNIT), PRICE, true);
        for (uint256 i; i < 3; ++i) {
            addMember(i, 8); // 10 ether each
        }
        advanceEraOf(1);
    }

    function fail(FineKind kind, uint256 times) internal {
        for (uint256 i; i < times; ++i) {
            vm.prank(address(market));
            registry.fine(ID, 0, kind);
        }
    }

    function fill(uint256 seats) internal {
        uint256[] memory entries = new uint256[](1);
        entries[0] = (uint256(ID) << 128) | (seats << 96);
        vm.prank(address(market));
        registry.credit(entries, 0);
    }

    function nextEra() internal {
        tick(ERA - vm.getBlockTimestamp() % ERA, 1);
    }

    function judge() internal {
        registry.judge(ID);
    }

    function jailedUntil() internal view returns (uint256 until) {
        (,,,, until,,,,) = registry.faults(ID);
    }

    function record() internal view returns (bytes memory) {
        (uint32 era, uint32 failed, uint32 unrevealed, uint32 done,,,,,) = registry.faults(ID);
        return abi.encode(era, failed, unrevealed, done);
    }

    function isDirty(uint32 classId) internal view returns (bool dirty) {
        (,,,,,,, dirty,) = registry.class_(classId);
    }

    function expectNothing() internal {
        vm.expectRevert(IStakeRegistry.NothingToJudge.selector);
        judge();
    }

    function jail() internal {
        fail(FineKind.SILENT, 4);
        nextEra();
        judge();
    }

    function test_NothingIsJudgedBeforeItsEraIsOver() public {
        expectNothing();
        vm.expectRevert(IStakeRegistry.NothingToJudge.selector);
        registry.judge(99); // nobody
        fail(FineKind.ABSENT, 10);
        fail(FineKind.ABSTAINED, 10);
        vm.assertEq(record(), abi.encode(0, 0, 0, 0), "no faults");
        nextEra();
        expectNothing();
        fail(FineKind.SILENT, 2);
        fail(FineKind.UNREVEALED, 3);
        vm.assertEq(record(), abi.encode(vm.getBlockTimestamp() / ERA, 5, 3, 0));
        tick(ERA - 1, 1);
        expectNothing();
        tick(1, 1);
        judge();
        vm.assertEq(record(), abi.encode(0, 0, 0, 0));
        expectNothing();
    }

    function test_ThreeFailuresAreTolerated() public {
        fail(FineKind.UNREVEALED, 3);
        nextEra();
        judge();
        vm.assertEq(jailedUntil(), 0);
        vm.assertFalse(isDirty(1));
        vm.assertEq(stakeOf(ID), 10 ether);
    }

    function test_OneSeatInTwentyIsTolerated() public {
        fail(FineKind.SILENT, 4);
        fill(76); // 4 of 80
        nextEra();
        judge();
        vm.assertEq(jailedUntil(), 0);
        fail(FineKind.SILENT, 4);
        fill(75); // 4 of 79
        nextEra();
        judge();
        vm.assertGt(jailedUntil(), 0, "more than one in twenty");
    }

    function test_JailLastsWholeFaultEras() public {
        fail(FineKind.SILENT, 4);
        nextEra();
        tick(17, 1);
        uint256 until = (vm.getBlockTimestamp() / ERA + 2) * ERA;
        vm.expectEmit(address(registry));
        emit IStakeRegistry.OperatorJailed(ID, uint40(until));
        judge();
        vm.assertEq(jailedUntil(), until);
        vm.assertTrue(isDirty(1));
        vm.assertEq(stakeOf(ID), 10 ether, "nothing was left unrevealed");
        checkBooks();
    }

    function test_SeatsOfAnEraOutliveTheNextCredit() public {
        fail(FineKind.SILENT, 4);
        fill(50);
        nextEra();
        fill(1); // the word counts this era now
        (,,, uint32 done,,,, uint24 seats,) = registry.faults(ID);
        vm.assertEq(abi.encode(done, seats), abi.encode(50, 1));
        tick(ERA, 1);
        fill(26); // of another era again: no part of the record
        judge();
        vm.assertGt(jailedUntil(), 0, "4 of 54 failed");
    }

    function test_SeatsOfAnEraOutliveTheNextCreditAndAcquit() public {
        fill(30);
        fail(FineKind.SILENT, 4);
        fill(46);
        nextEra();
        fill(1);
        fill(1);
        judge();
        vm.assertEq(jailedUntil(), 0, "4 of 80 failed");
    }

    function test_AFaultJudgesTheRecordOfTheEraBefore() public {
        fail(FineKind.UNREVEALED, 4);
        nextEra();
        vm.expectEmit(address(registry));
        emit IStakeRegistry.OperatorSlashed(ID, 0.1 ether, false);
        vm.expectEmit(address(registry));
        emit IStakeRegistry.OperatorFined(ID, 0, FineKind.SILENT);
        fail(FineKind.SILENT, 1);
        vm.assertEq(record(), abi.encode(vm.getBlockTimestamp() / ERA, 1, 0, 0));
        vm.assertGt(jailedUntil(), 0, "in jail");
        fail(FineKind.ABSENT, 1);
        vm.assertEq(record(), abi.encode(vm.getBlockTimestamp() / ERA, 1, 0, 0), "no fault");
    }

    function test_AFineTakesWhatTheJudgementLeaves() public {
        fail(FineKind.UNREVEALED, 4);
        nextEra();
        vm.prank(address(disputes));
        vm.assertEq(registry.fine(ID, 100 ether, FineKind.UNREVEALED), 9.9 ether);
        (uint256 pots, uint256 treasury) = potsAndTreasury();
        vm.assertEq(abi.encode(pots, treasury), abi.encode(9.9 ether, 0.1 ether));
        checkBooks();
    }

    function test_OffencesCost1Then2Then5Percent() public {
        uint256[5] memory cost = [uint256(0.1 ether), 0.198 ether, 0.4851 ether, 0.460845 ether, 0.43780275 ether];
        uint256 left = 10 ether;
        uint256 treasury;
        for (uint256 i; i < 5; ++i) {
            fail(FineKind.UNREVEALED, 4);
            nextEra();
            vm.expectEmit(address(registry));
            emit IStakeRegistry.OperatorSlashed(ID, cost[i], false);
            vm.expectEmit(address(registry));
            emit IStakeRegistry.TreasuryGrew(cost[i]);
            judge();
            (left, treasury) = (left - cost[i], treasury + cost[i]);
            vm.assertEq(stakeOf(ID), left);
            vm.assertEq(treasuryOf(), treasury);
            tick(8 * ERA, 1); // 9 eras apart: 540 s of 600
        }
        checkBooks();
    }

    function test_OffencesAreForgotten() public {
        fail(FineKind.UNREVEALED, 4);
        nextEra();
        judge();
        tick(8 * ERA, 1);
        fail(FineKind.UNREVEALED, 4); // 9 eras later: the second
        nextEra();
        judge();
        vm.assertEq(stakeOf(ID), 9.702 ether);
        tick(9 * ERA, 1);
        fail(FineKind.UNREVEALED, 4); // 10 eras later: 600 s, the first again
        nextEra();
        judge();
        vm.assertEq(stakeOf(ID), 9.60498 ether);
    }

    function test_OffencesReachUnbondingAndShrinkAllocations() public {
        addMember(3, 10);
        vm.startPrank(ownerOf(0));
        registry.unstake(2 ether);
        vm.stopPrank();
        fail(FineKind.UNREVEALED, 4);
        nextEra();
        judge(); // 1 % of 8 + 2 ether out of stake that was all allocated
        vm.assertEq(stakeOf(ID), 7.9 ether);
        (uint16 units,,) = registry.member(1, ID);
        vm.assertEq(units, 7);
        checkBooks();
    }

    function test_NoNewTableHasWhoIsInJail() public {
        jail();
        vm.assertEq(registry.members(1).length, 3);
        uint24[] memory ids = registry.drawable(1);
        vm.assertEq(abi.encode(ids.length, ids[0], ids[1]), abi.encode(2, 2, 3));
        vm.assertEq(registry.tableAt(1, 1).memberCount, 3, "tables that stand stay");
        advanceEraOf(1);
        (ClassTable memory table, bytes memory units, bytes memory rows) = tableOf(1, 2);
        vm.assertEq(abi.encode(table.memberCount, table.unitCount), abi.encode(2, 16));
        vm.assertEq(units.length, 33);
        (, uint24 first) = rowOf(rows, 0);
        (, uint24 second) = rowOf(rows, 1);
        vm.assertEq(abi.encode(first, second), abi.encode(2, 3));
        vm.assertEq(table.capacity, CAPACITY / 8 * 16);
        tick(100 * ERA, 1); // by itself nobody comes back
        vm.prank(ownerOf(1));
        registry.setAsk(1, PRICE + 1);
        advanceEraOf(1);
        vm.assertEq(registry.tableAt(1, 3).memberCount, 2);
    }

    function test_AClassOfPrisonersHasAnEmptyTable() public {
        vm.prank(ownerOf(1));
        registry.leave(1);
        vm.prank(ownerOf(2));
        registry.leave(1);
        jail();
        registry.advanceEra(1, 5, 6); // no medians to prove
        (,, uint64 price, uint64 median,,, uint16 number,,) = registry.class_(1);
        vm.assertEq(abi.encode(price, median), abi.encode(PRICE, 0));
        vm.assertEq(registry.tableAt(1, number).memberCount, 0);
    }

    function test_OnlyTheOwnerEndsAJailOnceItIsOver() public {
        vm.expectRevert(IStakeRegistry.NothingToJudge.selector);
        vm.prank(ownerOf(0));
        registry.rejoin();
        jail();
        advanceEraOf(1);
        uint256 until = jailedUntil();
        vm.warp(until - 1);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.Jailed.selector, until));
        vm.prank(ownerOf(0));
        registry.rejoin();
        vm.warp(until);
        vm.expectRevert(IStakeRegistry.OperatorUnknown.selector);
        vm.prank(stranger);
        registry.rejoin();
        vm.assertFalse(isDirty(1));
        vm.expectEmit(address(registry));
        emit IStakeRegistry.OperatorReleased(ID);
        vm.prank(ownerOf(0));
        registry.rejoin();
        vm.assertTrue(isDirty(1));
        vm.assertEq(jailedUntil(), 0);
        vm.expectRevert(IStakeRegistry.NothingToJudge.selector);
        vm.prank(ownerOf(0));
        registry.rejoin();
        advanceEraOf(1);
        vm.assertEq(registry.tableAt(1, 3).memberCount, 3);
    }

    function test_LeavingAndJoiningIsNoWayOutOfJail() public {
        jail();
        vm.startPrank(ownerOf(0));
        registry.leave(1);
        registry.join(1, 8, PRICE, 1);
        vm.stopPrank();
        vm.assertEq(registry.drawable(1).length, 2);
        vm.prank(ownerOf(0));
        registry.setSigningKey(stranger);
        vm.assertGt(jailedUntil(), 0, "shares a word with the key");
        vm.assertEq(registry.drawable(1).length, 2);
    }

    function test_FaultsInJailProlongIt() public {
        jail();
        uint256 first = jailedUntil();
        fail(FineKind.SILENT, 4); // in tables that still have it
        tick(ERA, 1);
        judge();
        vm.assertEq(jailedUntil(), first + ERA);
    }

    function test_JailReachesEveryClass() public {
        registry.createClass{value: 0.1 ether}("two", uint128(UNIT), PRICE, false);
        vm.prank(ownerOf(0));
        registry.join(2, 2, PRICE, 1);
        advanceEraOf(2);
        vm.assertFalse(isDirty(2));
        jail();
        vm.assertTrue(isDirty(1));
        vm.assertTrue(isDirty(2));
        vm.assertEq(registry.drawable(2).length, 0);
    }
}
