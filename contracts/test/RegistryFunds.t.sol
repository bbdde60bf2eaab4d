// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IStakeRegistry} from "../src/interfaces/IStakeRegistry.sol";
import {FineKind} from "../src/types/FineKind.sol";
import {System} from "./support/System.sol";

/// @title What market, disputes and challenges do with the registry's money
contract RegistryFundsTest is System {
    address internal owner = makeAddr("owner");

    function setUp() public {
        deploy(localParams());
        vm.deal(owner, 10 ether);
        registry.createClass{value: 0.1 ether}("one", uint128(UNIT), PRICE, true);
        vm.prank(owner);
        registry.register{value: 10 ether}(makeAddr("key"));
    }

    function enter(uint16 units, uint128 unbonding) internal {
        vm.startPrank(owner);
        registry.join(1, units, PRICE, 1);
        registry.unstake(unbonding);
        vm.stopPrank();
    }

    function fine(uint256 amount) internal returns (uint256) {
        vm.prank(address(market));
        return registry.fine(1, amount, FineKind.ABSTAINED);
    }

    function slash(bool together) internal returns (uint256) {
        vm.prank(address(disputes));
        return registry.slash(1, together);
    }

    function only(uint256 entry) internal pure returns (uint256[] memory entries) {
        entries = new uint256[](1);
        entries[0] = entry;
    }

    function test_StrangersMoveNothing() public {
        bytes4 refusal = IStakeRegistry.Unauthorized.selector;
        vm.expectRevert(refusal);
        registry.credit{value: 1}(only((1 << 128) | 1), 0);
        vm.expectRevert(refusal);
        registry.fine(1, 1, FineKind.SILENT);
        vm.expectRevert(refusal);
        registry.releasePot(0);
        vm.expectRevert(refusal);
        registry.drawTreasury(0);
        vm.expectRevert(refusal);
        registry.payOut(owner, 0);
        vm.expectRevert(refusal);
        registry.depositPot{value: 1}();
        vm.expectRevert(refusal);
        registry.slash(1, true);
        vm.expectRevert(refusal);
        vm.prank(address(market)); // fines, but does not slash
        registry.slash(1, true);
        vm.expectRevert(refusal);
        vm.prank(address(challenges));
        registry.slash(1, true);
        vm.assertEq(stakeOf(1), 10 ether);
    }

    function test_EachOfThreeMovesMoney() public {
        address[3] memory protocol = [address(market), address(disputes), address(challenges)];
        for (uint256 i; i < 3; ++i) {
            vm.deal(protocol[i], 5);
            vm.startPrank(protocol[i]);
            registry.depositPot{value: 5}();
            registry.fine(1, 6, FineKind.ABSENT);
            registry.releasePot(3);
            vm.assertEq(registry.drawTreasury(2), 2);
            registry.credit(only((1 << 128) | 4), 4);
            registry.payOut(owner, 1);
            vm.stopPrank();
        }
        (uint256 pots, uint256 treasury) = potsAndTreasury();
        vm.assertEq(abi.encode(pots, treasury, freeOf(owner)), abi.encode(15, 3, 3));
        watch(owner);
        checkBooks();
    }

    function test_CreditIsExact() public {
        uint256[] memory entries = only((uint256(1) << 128) | (7 << 96) | 5);
        vm.deal(address(market), 1 ether);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.WrongValue.selector, 6, 5));
        vm.prank(address(market));
        registry.credit{value: 6}(entries, 0);
        vm.expectRevert(panic()); // more than the pots hold
        vm.prank(address(market));
        registry.credit{value: 4}(entries, 1);
        fine(3);
        vm.expectEmit(address(registry));
        emit IStakeRegistry.Credited(entries);
        vm.prank(address(market));
        registry.credit{value: 2}(entries, 3);
        vm.assertEq(stakeOf(1), 10 ether + 2);
        vm.deal(address(market), 0); // given from nowhere above
        checkBooks();
    }

    function test_CreditOfManyReachesEachHalfOfEachWord() public {
        for (uint256 i; i < 8; ++i) {
            addOperator(i, 1 ether); // ids 2 to 9
        }
        uint24[5] memory ids = [uint24(2), 3, 5, 8, 9];
        uint256[] memory entries = new uint256[](5);
        for (uint256 i; i < 5; ++i) {
            entries[i] = (uint256(ids[i]) << 128) | ((i + 1) << 96) | (10 + i);
        }
        fine(60);
        vm.startPrank(address(market));
        registry.credit(entries, 60);
        registry.credit(new uint256[](0), 0);
        vm.stopPrank();
        uint256[10] memory earned = [uint256(0), 0, 10, 11, 0, 12, 0, 0, 13, 14];
        for (uint24 id = 2; id < 10; ++id) {
            vm.assertEq(stakeOf(id), 1 ether + earned[id]);
            (,,,,,,, uint24 seats,) = registry.faults(id);
            vm.assertEq(seats, earned[id] == 0 ? 0 : earned[id] - 9);
        }
        checkBooks();
    }

    function test_SeatsAreCountedForOneEra() public {
        uint256[] memory entries = only((uint256(1) << 128) | ((uint256(1) << 23) - 2) << 96);
        vm.startPrank(address(market));
        registry.credit(entries, 0);
        registry.credit(only((uint256(1) << 128) | (uint256(type(uint32).max) << 96)), 0);
        (,,,,,,, uint24 seats, uint8 era) = registry.faults(1);
        vm.assertEq(seats, (1 << 23) - 1, "held to 23 bits");
        vm.assertEq(era, vm.getBlockTimestamp() / 60 % 256);
        tick(60, 1);
        registry.credit(only((uint256(1) << 128) | (9 << 96)), 0);
        (,,,,,,, seats, era) = registry.faults(1);
        vm.assertEq(abi.encode(seats, era), abi.encode(9, vm.getBlockTimestamp() / 60 % 256));
        vm.stopPrank();
        vm.assertEq(stakeOf(1), 10 ether);
    }

    function test_ACreditBeyondTheWordIsRefused() public {
        fine(1);
        uint256 most = type(uint96).max;
        vm.deal(address(market), most);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.InvalidArgument.selector, "amount"));
        vm.prank(address(market));
        registry.credit{value: most}(only((uint256(1) << 128) | most), 0);
    }

    function test_FineTakesStakeThenUnbondingThenNothing() public {
        enter(4, 5 ether);
        vm.expectEmit(address(registry));
        emit IStakeRegistry.OperatorFined(1, 3 ether, FineKind.ABSTAINED);
        vm.assertEq(fine(3 ether), 3 ether);
        (uint16 units,,) = registry.member(1, 1);
        vm.assertEq(units, 2, "allocations shrink to the stake that is left");
        vm.assertEq(fine(4 ether), 4 ether);
        vm.assertEq(unbondingOf(1), 3 ether);
        vm.assertEq(registry.members(1).length, 0, "no unit is left");
        vm.assertEq(fine(100 ether), 3 ether, "no more than there is");
        vm.assertEq(fine(1), 0);
        (uint256 pots,) = potsAndTreasury();
        vm.assertEq(pots, 10 ether);
        checkBooks();
    }

    function test_ShrinkingOverSeveralClasses() public {
        registry.createClass{value: 0.1 ether}("two", uint128(2 * UNIT), 1, true);
        registry.createClass{value: 0.1 ether}("three", uint128(UNIT), 1, true);
        vm.startPrank(owner);
        registry.join(1, 5, 1, 1);
        registry.join(2, 2, 1, 1);
        registry.join(3, 1, 1, 1);
        vm.stopPrank();
        vm.expectEmit(address(registry));
        emit IStakeRegistry.ClassLeft(3, 1);
        fine(4 ether); // 6 of 10 are left: floor(3), floor(1.2), floor(0.6)
        (uint16 one,,) = registry.member(1, 1);
        (uint16 two,,) = registry.member(2, 1);
        (uint16 three,,) = registry.member(3, 1);
        vm.assertEq(abi.encode(one, two, three), abi.encode(3, 1, 0));
        (,,, uint128 allocated,,,,) = registry.operator(1);
        vm.assertEq(allocated, 5 ether);
        vm.assertEq(registry.operatorClasses(1).length, 2);
        checkBooks();
    }

    function test_LoneWrongVotesCost20Then40Then100Percent() public {
        enter(5, 4 ether);
        vm.expectEmit(address(registry));
        emit IStakeRegistry.OperatorSlashed(1, 2 ether, false);
        slash(false);
        vm.assertEq(stakeOf(1), 4 ether, "of stake and unbonding, stake first");
        (uint16 units,,) = registry.member(1, 1);
        vm.assertEq(units, 4, "allocations shrink");
        vm.assertEq(slash(false), 3.2 ether);
        vm.assertEq(slash(false), 4.8 ether);
        (,, uint128 held,, uint128 unbonding,, uint8 loneWrong, bool ejected) = registry.operator(1);
        vm.assertEq(abi.encode(held, unbonding, loneWrong, ejected), abi.encode(0, 0, 3, true));
        vm.assertEq(registry.members(1).length, 0);
        registry.stake{value: 10 ether}(1);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.Ejected.selector, 1));
        vm.prank(owner);
        registry.join(1, 1, 1, 1);
        vm.prank(owner);
        registry.unstake(10 ether); // what came later is its own
        checkBooks();
    }

    function test_WrongTogetherCostsAll() public {
        vm.assertEq(slash(true), 10 ether);
        (,,,,,, uint8 loneWrong, bool ejected) = registry.operator(1);
        vm.assertEq(loneWrong, 0);
        vm.assertTrue(ejected);
        checkBooks();
    }

    function test_WithdrawalAndSlashInOneBlock() public {
        enter(5, 4 ether);
        vm.warp(vm.getBlockTimestamp() + 5400);
        uint256 now_ = vm.snapshotState();
        slash(true); // first the slash: nothing is left
        vm.expectRevert(IStakeRegistry.NothingToWithdraw.selector);
        vm.prank(owner);
        registry.withdraw();
        checkBooks();
        vm.revertToState(now_);
        slash(false); // 20 % of stake and unbonding, stake first
        vm.prank(owner);
        registry.withdraw();
        vm.assertEq(owner.balance, 4 ether);
        vm.assertEq(stakeOf(1), 4 ether);
        checkBooks();
        vm.revertToState(now_);
        vm.prank(owner);
        registry.withdraw(); // first the withdrawal, which unbondingPeriod leaves nobody a reason to slash for
        vm.assertEq(slash(true), 6 ether);
        checkBooks();
    }

    function test_PotsAndTreasury() public {
        fine(3 ether);
        vm.expectEmit(address(registry));
        emit IStakeRegistry.TreasuryGrew(1 ether);
        vm.prank(address(disputes));
        registry.releasePot(1 ether);
        registry.donate{value: 5}();
        (uint256 pots, uint256 treasury) = potsAndTreasury();
        vm.assertEq(abi.encode(pots, treasury), abi.encode(2 ether, 1 ether + 5));
        vm.expectRevert(panic());
        vm.prank(address(market));
        registry.releasePot(2 ether + 1);
        checkBooks();
    }

    function test_TheTreasuryPaysAsFarAsItReaches() public {
        registry.donate{value: 8}();
        vm.startPrank(address(challenges));
        vm.expectEmit(address(registry));
        emit IStakeRegistry.TreasuryPaid(3);
        vm.assertEq(registry.drawTreasury(3), 3);
        vm.expectEmit(address(registry));
        emit IStakeRegistry.TreasuryPaid(5);
        vm.assertEq(registry.drawTreasury(6), 5);
        vm.assertEq(registry.drawTreasury(1), 0);
        vm.stopPrank();
        (uint256 pots, uint256 treasury) = potsAndTreasury();
        vm.assertEq(abi.encode(pots, treasury), abi.encode(8, 0));
        checkBooks();
    }

    function test_PotsArePaidOutIntoDeposits() public {
        vm.deal(address(disputes), 7);
        vm.startPrank(address(disputes));
        registry.depositPot{value: 7}();
        vm.expectRevert(panic());
        registry.payOut(owner, 8);
        registry.payOut(owner, 7);
        vm.stopPrank();
        vm.assertEq(freeOf(owner), 7);
        (uint256 pots,) = potsAndTreasury();
        vm.assertEq(pots, 0);
        watch(owner);
        checkBooks();
        vm.prank(owner);
        market.withdraw(7);
        vm.assertEq(owner.balance, 7);
    }

    function panic() internal pure returns (bytes memory) {
        return abi.encodeWithSelector(bytes4(keccak256("Panic(uint256)")), 0x11);
    }
}
