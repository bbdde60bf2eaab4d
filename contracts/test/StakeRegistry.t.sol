// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IStakeRegistry} from "../src/interfaces/IStakeRegistry.sol";
import {ClassTable} from "../src/types/ClassTable.sol";
import {FineKind} from "../src/types/FineKind.sol";
import {Params} from "../src/types/Params.sol";
import {Batches} from "./support/Batches.sol";

contract StakeRegistryTest is Batches {
    address internal owner = makeAddr("owner");
    address internal key = makeAddr("key");

    function setUp() public {
        deploy(localParams());
        vm.deal(owner, 1000 ether);
        registry.createClass{value: 0.1 ether}("one", uint128(UNIT), PRICE, true);
    }

    function enter(uint256 amount) internal returns (uint24 id) {
        vm.prank(owner);
        id = registry.register{value: amount}(key);
    }

    function invalid(string memory name) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(IStakeRegistry.InvalidArgument.selector, name);
    }

    // Operators ---------------------------------------------------------------------------------------------------

    function test_Register() public {
        vm.expectEmit(address(registry));
        emit IStakeRegistry.OperatorRegistered(1, owner, key);
        vm.expectEmit(address(registry));
        emit IStakeRegistry.Staked(1, 3 ether);
        vm.assertEq(enter(3 ether), 1);
        vm.assertEq(registry.operatorOf(owner), 1);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.OperatorExists.selector, 1));
        enter(1 ether);
        vm.expectRevert(invalid("signingKey"));
        registry.register(address(0));
        checkBooks();
    }

    function test_TwoOperatorsShareASlotButNoMoney() public {
        for (uint256 i; i < 5; ++i) {
            addOperator(i, (i + 1) * 1 ether);
        }
        vm.expectEmit(address(registry));
        emit IStakeRegistry.Staked(2, 7 ether);
        registry.stake{value: 7 ether}(2);
        vm.prank(ownerOf(2));
        registry.unstake(3 ether);
        uint256[5] memory expected = [uint256(1), 9, 0, 4, 5];
        for (uint24 i; i < 5; ++i) {
            vm.assertEq(stakeOf(i + 1), expected[i] * 1 ether);
        }
        vm.expectRevert(IStakeRegistry.OperatorUnknown.selector);
        registry.stake{value: 1}(6);
        checkBooks();
    }

    function test_OnlyOperators() public {
        vm.expectRevert(IStakeRegistry.OperatorUnknown.selector);
        registry.setSigningKey(key);
        vm.expectRevert(IStakeRegistry.OperatorUnknown.selector);
        registry.announceEndpoint("x");
        vm.expectRevert(IStakeRegistry.OperatorUnknown.selector);
        registry.unstake(1);
        vm.expectRevert(IStakeRegistry.OperatorUnknown.selector);
        registry.withdraw();
        vm.expectRevert(IStakeRegistry.OperatorUnknown.selector);
        registry.join(1, 1, 1, 1);
        vm.expectRevert(IStakeRegistry.OperatorUnknown.selector);
        registry.leave(1);
        vm.expectRevert(IStakeRegistry.OperatorUnknown.selector);
        registry.setAsk(1, 1);
    }

    function test_Endpoint() public {
        enter(0);
        vm.expectEmit(address(registry));
        emit IStakeRegistry.EndpointAnnounced(1, "http://node");
        vm.prank(owner);
        registry.announceEndpoint("http://node");
        vm.prank(owner);
        registry.announceEndpoint(string(new bytes(256)));
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.EndpointTooLong.selector, 257));
        vm.prank(owner);
        registry.announceEndpoint(string(new bytes(257)));
    }

    function test_UnstakeAndWithdraw() public {
        enter(10 ether);
        vm.startPrank(owner);
        vm.expectRevert(invalid("amount"));
        registry.unstake(0);
        registry.join(1, 6, PRICE, 1);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.InsufficientStake.selector, 4 ether, 4 ether + 1));
        registry.unstake(4 ether + 1);
        uint40 release = uint40(vm.getBlockTimestamp() + 720);
        vm.expectEmit(address(registry));
        emit IStakeRegistry.Unstaked(1, 1 ether, release);
        registry.unstake(1 ether);
        vm.warp(release - 1);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.NotReleased.selector, release));
        registry.withdraw();
        registry.unstake(1 ether); // all of it waits anew
        vm.warp(release);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.NotReleased.selector, release + 719));
        registry.withdraw();
        vm.warp(release + 719);
        vm.expectEmit(address(registry));
        emit IStakeRegistry.Withdrawn(1, 2 ether);
        registry.withdraw();
        vm.assertEq(owner.balance, 992 ether);
        vm.expectRevert(IStakeRegistry.NothingToWithdraw.selector);
        registry.withdraw();
        checkBooks();
    }

    // Classes -----------------------------------------------------------------------------------------------------

    function test_CreateClass() public {
        vm.expectEmit(address(registry));
        emit IStakeRegistry.ClassCreated(2, "two", 5, 7, true);
        registry.createClass{value: 0.1 ether}("two", 5, 7, true);
        (bytes32 profile, uint128 unitWei, uint64 price,, uint32 era, uint40 eraEnd, uint16 table, bool dirty,) =
            registry.class_(2);
        vm.assertEq(abi.encode(profile, unitWei, price, era, table), abi.encode(bytes32("two"), 5, 7, 0, 0));
        vm.assertEq(eraEnd, vm.getBlockTimestamp());
        vm.assertFalse(dirty);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.WrongValue.selector, 1, 0.1 ether));
        registry.createClass{value: 1}("two", 5, 7, true);
        vm.expectRevert(invalid("unitWei"));
        registry.createClass{value: 0.1 ether}("two", 0, 7, true);
        vm.expectRevert(invalid("price"));
        registry.createClass{value: 0.1 ether}("two", 5, 0, true);
        (, uint256 deposits,) = registry.ledgers();
        vm.assertEq(deposits, 0.2 ether);
        checkBooks();
    }

    function test_JoinLeaveAndAsk() public {
        enter(10 ether);
        vm.startPrank(owner);
        vm.expectEmit(address(registry));
        emit IStakeRegistry.ClassJoined(1, 1, 6, 5, 9);
        registry.join(1, 6, 5, 9);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.AlreadyMember.selector, 1));
        registry.join(1, 1, 5, 9);
        vm.expectEmit(address(registry));
        emit IStakeRegistry.AskChanged(1, 1, 8);
        registry.setAsk(1, 8);
        vm.expectRevert(invalid("ask"));
        registry.setAsk(1, 0);
        (uint16 units, uint64 ask, uint64 capacity) = registry.member(1, 1);
        vm.assertEq(abi.encode(units, ask, capacity), abi.encode(6, 8, 9));
        vm.expectEmit(address(registry));
        emit IStakeRegistry.ClassLeft(1, 1);
        registry.leave(1);
        (units,,) = registry.member(1, 1);
        vm.assertEq(units, 0);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.NotMember.selector, 1));
        registry.leave(1);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.NotMember.selector, 1));
        registry.setAsk(1, 8);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.ClassUnknown.selector, 2));
        registry.leave(2);
        (,,, uint128 allocated,,,,) = registry.operator(1);
        vm.assertEq(allocated, 0);
    }

    function test_JoinRefuses() public {
        enter(10 ether);
        vm.startPrank(owner);
        vm.expectRevert(invalid("units"));
        registry.join(1, 0, 1, 1);
        vm.expectRevert(invalid("ask"));
        registry.join(1, 1, 0, 1);
        vm.expectRevert(invalid("capacity"));
        registry.join(1, 1, 1, 0);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.InsufficientStake.selector, 10 ether, 11 ether));
        registry.join(1, 11, 1, 1);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.LimitReached.selector, "units"));
        registry.join(1, 12_001, 1, 1);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.ClassUnknown.selector, 9));
        registry.join(9, 1, 1, 1);
        for (uint32 c = 2; c <= 5; ++c) {
            registry.createClass{value: 0.1 ether}("", uint128(UNIT), 1, true);
            registry.join(c, 1, 1, 1);
        }
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.LimitReached.selector, "classes"));
        registry.join(1, 1, 1, 1);
        vm.assertEq(registry.operatorClasses(1).length, 4);
        checkBooks();
    }

    function test_LeavingKeepsTheOthers() public {
        for (uint256 i; i < 4; ++i) {
            addMember(i, uint16(i + 1));
        }
        vm.prank(ownerOf(1));
        registry.leave(1);
        uint24[] memory ids = registry.members(1);
        vm.assertEq(abi.encode(ids[0], ids[1], ids[2]), abi.encode(1, 4, 3));
        (uint16 units,,) = registry.member(1, 4);
        vm.assertEq(units, 4);
        registry.advanceEra(1, PRICE, 1);
        (ClassTable memory table, bytes memory u, bytes memory rows) = tableOf(1, 1);
        vm.assertEq(table.unitCount, 8);
        vm.assertEq(u, hex"00000000010001000100010002000200" hex"02");
        (, uint24 second) = rowOf(rows, 1);
        vm.assertEq(second, 4);
    }

    // Eras --------------------------------------------------------------------------------------------------------

    function test_TablesAreFrozenAndKept() public {
        addMember(0, 2);
        addMember(1, 3);
        vm.expectEmit(address(registry));
        emit IStakeRegistry.EraAdvanced(1, 1, 1, PRICE, uint40(vm.getBlockTimestamp() + 60));
        registry.advanceEra(1, PRICE, 1);
        (ClassTable memory first, bytes memory units, bytes memory rows) = tableOf(1, 1);
        vm.assertEq(units, hex"0000000000000100010001");
        vm.assertEq(rows.length, 1 + 46);
        vm.assertEq(first.capacity, 2 * CAPACITY);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.EraNotOver.selector, vm.getBlockTimestamp() + 60));
        registry.advanceEra(1, PRICE, 1);
        tick(60, 1);
        registry.advanceEra(1, 12345, 1); // not dirty: the median is ignored
        (,,,, uint32 era,, uint16 table,,) = registry.class_(1);
        vm.assertEq(era, 2);
        vm.assertEq(table, 1, "no change, no new table");
        vm.prank(ownerOf(0));
        registry.setSigningKey(key);
        (,,,,,,, bool dirty,) = registry.class_(1);
        vm.assertTrue(dirty);
        tick(60, 1);
        registry.advanceEra(1, PRICE, 1);
        (,, bytes memory newRows) = tableOf(1, 2);
        (address now_,) = rowOf(newRows, 0);
        vm.assertEq(now_, key);
        (ClassTable memory again,, bytes memory oldRows) = tableOf(1, 1);
        vm.assertEq(again.members, first.members);
        vm.assertEq(oldRows, rows);
        vm.assertEq(uint8(rows[0]), 0, "behind a STOP");
    }

    function test_AnEmptyClassHasAnEmptyTable() public {
        addMember(0, 2);
        registry.advanceEra(1, PRICE, 1);
        vm.prank(ownerOf(0));
        registry.leave(1);
        tick(60, 1);
        registry.advanceEra(1, 777, 1);
        (,, uint64 price, uint64 median,,, uint16 table,,) = registry.class_(1);
        vm.assertEq(abi.encode(price, median, table), abi.encode(PRICE, 0, 2));
        ClassTable memory t = registry.tableAt(1, 2);
        vm.assertEq(uint256(t.unitCount) + t.memberCount, 0);
    }

    function test_TheMedianIsProven() public {
        uint64[3] memory asks = [uint64(10), 20, 30];
        uint16[3] memory units = [uint16(3), 2, 5]; // 3 of 10 at 10, 5 of 10 at 20
        for (uint256 i; i < 3; ++i) {
            addOperator(i, 10 ether);
            vm.prank(ownerOf(i));
            registry.join(1, units[i], asks[i], 1);
        }
        uint64[6] memory wrong = [uint64(10), 15, 21, 30, 0, type(uint64).max];
        for (uint256 i; i < 6; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.WrongMedian.selector, wrong[i]));
            registry.advanceEra(1, wrong[i], 1);
        }
        registry.advanceEra(1, 20, 1);
        (,,, uint64 median,,,,,) = registry.class_(1);
        vm.assertEq(median, 20);
    }

    function test_ThePriceMovesByATenthAtMost() public {
        addMember(0, 1);
        vm.prank(ownerOf(0));
        registry.setAsk(1, type(uint64).max);
        registry.advanceEra(1, type(uint64).max, 1);
        (,, uint64 price,,,,,,) = registry.class_(1);
        vm.assertEq(price, PRICE + PRICE / 10);
        vm.prank(ownerOf(0));
        registry.setAsk(1, PRICE + 5);
        tick(60, 1);
        registry.advanceEra(1, PRICE + 5, 1);
        (,, price,,,,,,) = registry.class_(1);
        vm.assertEq(price, PRICE + 5, "never past its goal");
        registry.createClass{value: 0.1 ether}("", 1, 3, true); // 3 / 10 = 0, but it moves
        vm.prank(ownerOf(0));
        registry.join(2, 1, 1, 1);
        registry.advanceEra(2, 1, 1);
        (,, price,,,,,,) = registry.class_(2);
        vm.assertEq(price, 2);
    }

    // Money of the protocol ---------------------------------------------------------------------------------------

    function test_StrangersMoveNothing() public {
        enter(10 ether);
        uint256[] memory entries = new uint256[](1);
        entries[0] = (1 << 128) | 1;
        vm.expectRevert(IStakeRegistry.Unauthorized.selector);
        registry.credit{value: 1}(entries, 0);
        vm.expectRevert(IStakeRegistry.Unauthorized.selector);
        registry.fine(1, 1, FineKind.SILENT);
        vm.expectRevert(IStakeRegistry.Unauthorized.selector);
        registry.slash(1, true);
        vm.expectRevert(IStakeRegistry.Unauthorized.selector);
        registry.releasePot(0);
        vm.expectRevert(IStakeRegistry.Unauthorized.selector);
        vm.prank(address(market)); // fines, but does not slash
        registry.slash(1, true);
        vm.expectRevert(IStakeRegistry.Unauthorized.selector);
        vm.prank(address(disputes)); // slashes, but does not fine
        registry.fine(1, 1, FineKind.SILENT);
        vm.assertEq(stakeOf(1), 10 ether);
    }

    function test_CreditIsExact() public {
        enter(10 ether);
        uint256[] memory entries = new uint256[](1);
        entries[0] = (uint256(1) << 128) | 5;
        vm.deal(address(market), 1 ether);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.WrongValue.selector, 6, 5));
        vm.prank(address(market));
        registry.credit{value: 6}(entries, 0);
        vm.expectRevert(); // more than the pots hold
        vm.prank(address(market));
        registry.credit{value: 4}(entries, 1);
        vm.prank(address(market));
        registry.fine(1, 3, FineKind.SILENT);
        vm.expectEmit(address(registry));
        emit IStakeRegistry.Credited(entries);
        vm.prank(address(market));
        registry.credit{value: 2}(entries, 3);
        vm.assertEq(stakeOf(1), 10 ether + 2);
        vm.deal(address(market), 0); // given from nowhere above
        checkBooks();
    }

    function test_FineTakesStakeThenUnbondingThenNothing() public {
        enter(10 ether);
        vm.startPrank(owner);
        registry.join(1, 4, PRICE, 1);
        registry.unstake(5 ether);
        vm.stopPrank();
        vm.expectEmit(address(registry));
        emit IStakeRegistry.OperatorFined(1, 3 ether, FineKind.SILENT);
        vm.prank(address(market));
        vm.assertEq(registry.fine(1, 3 ether, FineKind.SILENT), 3 ether);
        (uint16 units,,) = registry.member(1, 1);
        vm.assertEq(units, 2, "allocations shrink to the stake that is left");
        vm.prank(address(market));
        vm.assertEq(registry.fine(1, 4 ether, FineKind.SILENT), 4 ether);
        vm.assertEq(unbondingOf(1), 3 ether);
        vm.assertEq(registry.members(1).length, 0, "no unit is left");
        vm.prank(address(market));
        vm.assertEq(registry.fine(1, 100 ether, FineKind.SILENT), 3 ether, "no more than there is");
        vm.prank(address(market));
        vm.assertEq(registry.fine(1, 1, FineKind.SILENT), 0);
        checkBooks();
    }

    function test_ShrinkingOverSeveralClasses() public {
        enter(10 ether);
        registry.createClass{value: 0.1 ether}("two", uint128(UNIT / 2), 1, true);
        registry.createClass{value: 0.1 ether}("three", uint128(UNIT), 1, true);
        vm.startPrank(owner);
        registry.join(1, 5, 1, 1);
        registry.join(2, 8, 1, 1);
        registry.join(3, 1, 1, 1);
        vm.stopPrank();
        vm.prank(address(market));
        registry.fine(1, 4 ether, FineKind.SILENT); // 6 of 10 are left: floor(3), floor(4.8), floor(0.6)
        (uint16 one,,) = registry.member(1, 1);
        (uint16 two,,) = registry.member(2, 1);
        (uint16 three,,) = registry.member(3, 1);
        vm.assertEq(abi.encode(one, two, three), abi.encode(3, 4, 0));
        (,,, uint128 allocated,,,,) = registry.operator(1);
        vm.assertEq(allocated, 5 ether);
        vm.assertEq(registry.operatorClasses(1).length, 2);
        checkBooks();
    }

    function test_LoneWrongVotesCost20Then40Then100Percent() public {
        enter(10 ether);
        vm.startPrank(owner);
        registry.join(1, 5, PRICE, 1);
        registry.unstake(4 ether);
        vm.stopPrank();
        vm.expectEmit(address(registry));
        emit IStakeRegistry.OperatorSlashed(1, 2 ether, false);
        vm.prank(address(disputes));
        registry.slash(1, false);
        vm.assertEq(stakeOf(1), 4 ether, "of stake and unbonding, stake first");
        vm.prank(address(disputes));
        vm.assertEq(registry.slash(1, false), 3.2 ether);
        vm.prank(address(disputes));
        vm.assertEq(registry.slash(1, false), 4.8 ether);
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
        enter(10 ether);
        vm.prank(address(disputes));
        vm.assertEq(registry.slash(1, true), 10 ether);
        (,,,,,, uint8 loneWrong, bool ejected) = registry.operator(1);
        vm.assertEq(loneWrong, 0);
        vm.assertTrue(ejected);
        checkBooks();
    }

    function test_PotsAndTreasury() public {
        enter(10 ether);
        vm.prank(address(market));
        registry.fine(1, 3 ether, FineKind.SILENT);
        vm.expectEmit(address(registry));
        emit IStakeRegistry.TreasuryGrew(1 ether);
        vm.prank(address(disputes));
        registry.releasePot(1 ether);
        registry.donate{value: 5}();
        (uint256 pots, uint256 treasury) = potsAndTreasury();
        vm.assertEq(pots, 2 ether);
        vm.assertEq(treasury, 1 ether + 5);
        vm.expectRevert();
        vm.prank(address(market));
        registry.releasePot(2 ether + 1);
        checkBooks();
    }

    function test_RefusesUnsafeParameters() public {
        Params memory p = localParams();
        // 2 × (60 + 10 + 3 × 70 + 5 + 20 + 10) = 630
        p.unbondingPeriod = 630;
        vm.deployCode("StakeRegistry.sol:StakeRegistry", abi.encode(p, address(1), address(2), address(3)));
        p.unbondingPeriod = 629;
        vm.expectRevert(IStakeRegistry.UnsafeParameters.selector);
        this.deployRegistry(p);
        vm.assertEq(abi.encode(registry.params()), abi.encode(localParams()));
        vm.assertEq(abi.encode(market.params()), abi.encode(localParams()));
        vm.assertEq(abi.encode(disputes.params()), abi.encode(localParams()));
        vm.assertEq(market.domainSeparator(), separator());
    }

    function deployRegistry(Params memory p) external {
        vm.deployCode("StakeRegistry.sol:StakeRegistry", abi.encode(p, address(1), address(2), address(3)));
    }
}
