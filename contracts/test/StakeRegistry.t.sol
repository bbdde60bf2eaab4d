// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IStakeRegistry} from "../src/interfaces/IStakeRegistry.sol";
import {DataContract} from "../src/libraries/DataContract.sol";
import {ClassTable} from "../src/types/ClassTable.sol";
import {System} from "./support/System.sol";

contract StakeRegistryTest is System {
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
        vm.deal(stranger, type(uint128).max);
        vm.expectRevert(invalid("amount"));
        vm.prank(stranger);
        registry.register{value: uint256(type(uint96).max) + 1}(key);
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
        vm.deal(stranger, type(uint128).max);
        vm.expectRevert(invalid("amount"));
        vm.prank(stranger);
        registry.stake{value: uint256(type(uint96).max) - 8 ether}(2);
        checkBooks();
    }

    function test_StakingKeepsWhatSharesItsWord() public {
        for (uint256 i; i < 4; ++i) {
            addOperator(i, 1 ether);
        }
        uint256[] memory entries = new uint256[](2);
        (entries[0], entries[1]) = ((2 << 128) | (7 << 96), (3 << 128) | (9 << 96));
        vm.prank(address(market));
        registry.credit(entries, 0);
        registry.stake{value: 5 ether}(2);
        registry.stake{value: 6 ether}(3);
        (,,,,,,, uint24 seats, uint8 era) = registry.faults(2);
        vm.assertEq(abi.encode(seats, era), abi.encode(7, vm.getBlockTimestamp() / 60 % 256));
        (,,,,,,, seats,) = registry.faults(3);
        vm.assertEq(seats, 9);
        vm.assertEq(stakeOf(2), 6 ether);
        vm.assertEq(stakeOf(3), 7 ether);
    }

    function test_TheOwnerRotatesTheSigningKey() public {
        enter(4 ether);
        vm.expectRevert(invalid("signingKey"));
        vm.prank(owner);
        registry.setSigningKey(address(0));
        vm.prank(key); // signs for the operator, but does not own it
        vm.expectRevert(IStakeRegistry.OperatorUnknown.selector);
        registry.setSigningKey(stranger);
        vm.expectEmit(address(registry));
        emit IStakeRegistry.SigningKeyChanged(1, stranger);
        vm.prank(owner);
        registry.setSigningKey(stranger);
        (address itsOwner, address itsKey,,,,,,) = registry.operator(1);
        vm.assertEq(itsOwner, owner);
        vm.assertEq(itsKey, stranger);
        (,,,,,,, bool dirty,) = registry.class_(1);
        vm.assertFalse(dirty, "it is in no class");
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
        vm.expectRevert(IStakeRegistry.OperatorUnknown.selector);
        registry.rejoin();
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
        uint40 release = uint40(vm.getBlockTimestamp() + 5400);
        vm.expectEmit(address(registry));
        emit IStakeRegistry.Unstaked(1, 1 ether, release);
        registry.unstake(1 ether);
        vm.warp(release - 1);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.NotReleased.selector, release));
        registry.withdraw();
        registry.unstake(1 ether); // all of it waits anew
        vm.warp(release);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.NotReleased.selector, release + 5399));
        registry.withdraw();
        vm.warp(release + 5399);
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
        emit IStakeRegistry.ClassCreated(2, "two", uint128(UNIT), 2 * PRICE, false);
        registry.createClass{value: 0.1 ether}("two", uint128(UNIT), 2 * PRICE, false);
        checkNewClass();
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.WrongValue.selector, 1, 0.1 ether));
        registry.createClass{value: 1}("two", uint128(UNIT), 7, true);
        vm.expectRevert(invalid("unitWei"));
        registry.createClass{value: 0.1 ether}("two", uint128(UNIT) - 1, 7, true);
        vm.expectRevert(invalid("price"));
        registry.createClass{value: 0.1 ether}("two", uint128(UNIT), 0, true);
        vm.expectRevert(invalid("price"));
        registry.createClass{value: 0.1 ether}("two", uint128(UNIT), 2 * PRICE + 1, true);
        (, uint256 deposits,) = registry.ledgers();
        vm.assertEq(deposits, 0.2 ether);
        checkBooks();
    }

    function checkNewClass() internal view {
        (bytes32 profile,, uint64 price,, uint32 era, uint40 eraEnd, uint16 table, bool dirty, bool judged) =
            registry.class_(2);
        vm.assertEq(abi.encode(profile, price, era, table), abi.encode(bytes32("two"), 2 * PRICE, 0, 0));
        vm.assertEq(eraEnd, vm.getBlockTimestamp());
        vm.assertFalse(dirty);
        vm.assertFalse(judged);
        (,,,,, judged) = registry.currentTable(2);
        vm.assertFalse(judged);
        (,,,,, judged) = registry.currentTable(1);
        vm.assertTrue(judged);
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
        vm.expectRevert(invalid("ask"));
        registry.setAsk(1, 2 * PRICE + 1);
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
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.ClassUnknown.selector, 2));
        registry.setAsk(2, 1);
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
        vm.expectRevert(invalid("ask"));
        registry.join(1, 1, 2 * PRICE + 1, 1);
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
        advanceEraOf(1);
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
        registry.advanceEra(1, PRICE, CAPACITY / 3);
        (ClassTable memory first, bytes memory units, bytes memory rows) = tableOf(1, 1);
        vm.assertEq(units, hex"0000000000000100010001");
        vm.assertEq(rows.length, 1 + 46);
        vm.assertEq(first.capacity, CAPACITY / 3 * 5, "the median unit's, for all units");
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.EraNotOver.selector, vm.getBlockTimestamp() + 60));
        registry.advanceEra(1, PRICE, CAPACITY / 3);
        tick(60, 1);
        registry.advanceEra(1, 12345, 67); // not dirty: the medians are ignored
        (,,,, uint32 era,, uint16 table,,) = registry.class_(1);
        vm.assertEq(era, 2);
        vm.assertEq(table, 1, "no change, no new table");
        vm.prank(ownerOf(0));
        registry.setSigningKey(key);
        (,,,,,,, bool dirty,) = registry.class_(1);
        vm.assertTrue(dirty);
        tick(60, 1);
        advanceEraOf(1);
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
        advanceEraOf(1);
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
            registry.join(1, units[i], asks[i], units[i]);
        }
        uint64[6] memory wrong = [uint64(10), 15, 21, 30, 0, type(uint64).max];
        for (uint256 i; i < 6; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.WrongMedian.selector, "ask"));
            registry.advanceEra(1, wrong[i], 1);
        }
        registry.advanceEra(1, 20, 1);
        (,,, uint64 median,,,,,) = registry.class_(1);
        vm.assertEq(median, 20);
    }

    function test_WhoDeclaresMuchAloneChangesNoCapacity() public {
        uint64[3] memory capacities = [uint64(300), 50, type(uint64).max]; // 100, 25 and a boast a unit
        uint16[3] memory units = [uint16(3), 2, 4]; // 2 of 9 at 25, 5 of 9 at 100
        for (uint256 i; i < 3; ++i) {
            addOperator(i, 10 ether);
            vm.prank(ownerOf(i));
            registry.join(1, units[i], PRICE, capacities[i]);
        }
        uint64[5] memory wrong = [uint64(25), 99, 101, 0, type(uint64).max / 4];
        for (uint256 i; i < 5; ++i) {
            vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.WrongMedian.selector, "capacity"));
            registry.advanceEra(1, PRICE, wrong[i]);
        }
        registry.advanceEra(1, PRICE, 100);
        vm.assertEq(registry.tableAt(1, 1).capacity, 900);
        vm.prank(ownerOf(0));
        registry.leave(1); // the boaster has most units now
        tick(60, 1);
        registry.advanceEra(1, PRICE, type(uint64).max / 4);
        vm.assertEq(registry.tableAt(1, 2).capacity, type(uint64).max, "held to 64 bits");
    }

    function test_ATableThatGasDoesNotSufficeForIsNotStored() public {
        addMember(0, 5000);
        addMember(1, 5000);
        bytes memory data = abi.encodeCall(registry.advanceEra, (1, PRICE, CAPACITY / 5000));
        (bool done, bytes memory answer) = address(registry).call{gas: 4_000_000}(data);
        vm.assertFalse(done);
        vm.assertEq(answer, abi.encodeWithSelector(DataContract.DataNotStored.selector));
        (,,,, uint32 era,, uint16 table, bool dirty,) = registry.class_(1);
        vm.assertEq(abi.encode(era, table, dirty), abi.encode(0, 0, true));
        (done,) = address(registry).call{gas: 8_000_000}(data);
        vm.assertTrue(done);
    }

    function test_EraOfAnUnknownClass() public {
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.ClassUnknown.selector, 0));
        registry.advanceEra(0, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.ClassUnknown.selector, 2));
        registry.advanceEra(2, 0, 0);
    }

    function test_PriceFollowsTheAsksEraByEra() public {
        for (uint256 i; i < 3; ++i) {
            addMember(i, 1);
        }
        vm.prank(ownerOf(0));
        registry.setAsk(1, 1); // one alone moves nothing
        uint64 price = PRICE;
        for (uint256 era = 1; era <= 12; ++era) {
            if (era == 3) setAskOf(1, 2 * PRICE);
            if (era == 3) setAskOf(2, 2 * PRICE);
            if (era == 9) setAskOf(1, 4 * PRICE / 5);
            advanceEraOf(1);
            (,, uint64 now_, uint64 median,,,,,) = registry.class_(1);
            uint64 step = price / 10;
            if (era < 3) vm.assertEq(now_, PRICE);
            else if (era < 9) vm.assertEq(now_, price + step, "up a tenth");
            else vm.assertEq(now_, price - step < median ? median : price - step, "down again");
            price = now_;
            tick(60, 1);
        }
    }

    function setAskOf(uint256 member, uint64 value) internal {
        vm.prank(ownerOf(member));
        registry.setAsk(1, value);
    }

    function test_ThePriceMovesByATenthAtMost() public {
        addMember(0, 1);
        vm.prank(ownerOf(0));
        registry.setAsk(1, 2 * PRICE);
        advanceEraOf(1);
        (,, uint64 price,,,,,,) = registry.class_(1);
        vm.assertEq(price, PRICE + PRICE / 10);
        vm.prank(ownerOf(0));
        registry.setAsk(1, PRICE + 5);
        tick(60, 1);
        advanceEraOf(1);
        (,, price,,,,,,) = registry.class_(1);
        vm.assertEq(price, PRICE + 5, "never past its goal");
        registry.createClass{value: 0.1 ether}("", uint128(UNIT), 3, true); // 3 / 10 = 0, but it moves
        vm.prank(ownerOf(0));
        registry.join(2, 1, 1, 1);
        registry.advanceEra(2, 1, 1);
        (,, price,,,,,,) = registry.class_(2);
        vm.assertEq(price, 2);
    }
}
