// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ClassTable} from "../src/types/ClassTable.sol";
import {FineKind} from "../src/types/FineKind.sol";
import {System} from "./support/System.sol";

/// @title Random fines, earnings, faults, slashes and eras: every wei is somewhere, and tables hold whom they should
contract RegistryFuzzTest is System {
    uint256 internal constant OPERATORS = 6;

    function setUp() public {
        deployWithMembers(OPERATORS, 8);
        vm.deal(address(market), address(market).balance + 1000 ether); // for earnings
    }

    function pick(uint256 seed, uint256 index, uint256 most) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, index))) % most;
    }

    function testFuzz_Ledgers(uint256 seed) public {
        uint256 sum = total();
        for (uint256 i; i < 40; ++i) {
            uint256 turn = uint256(keccak256(abi.encode(seed, i)));
            uint24 op = uint24(1 + pick(turn, 0, OPERATORS));
            uint256 act = pick(turn, 1, 8);
            if (act < 2) fine(turn, op);
            else if (act == 2) sum += credit(turn, op);
            else if (act == 3) slash(turn, op);
            else if (act == 4) movePots(turn);
            else if (act == 5) judgeOrRejoin(turn, op);
            else if (act == 6) advance(turn);
            else sum -= own(turn, op);
            checkOperator(op);
            vm.assertEq(total(), sum, "nothing is made or lost");
        }
        vm.deal(address(market), 2000 ether); // what requester and collator deposited
        checkBooks();
    }

    /// @dev What operators and the protocol hold.
    function total() internal view returns (uint256 sum) {
        (uint256 pots, uint256 treasury) = potsAndTreasury();
        sum = pots + treasury;
        for (uint24 id = 1; id <= OPERATORS; ++id) {
            sum += stakeOf(id) + unbondingOf(id);
        }
        vm.assertEq(address(registry).balance, sum + 0.1 ether, "and a class deposit");
    }

    function fine(uint256 seed, uint24 op) internal {
        FineKind kind = FineKind(pick(seed, 2, 4));
        uint256 amount = pick(seed, 3, 10) == 0 ? pick(seed, 4, 6 ether) : pick(seed, 4, 0.01 ether);
        (uint256 pots,) = potsAndTreasury();
        for (uint256 i; i < 1 + pick(seed, 5, 5); ++i) {
            uint256 held = stakeOf(op) + unbondingOf(op);
            uint256 rest = treasuryOf();
            vm.prank(address(market));
            uint256 taken = registry.fine(op, amount, kind);
            held -= treasuryOf() - rest; // an earlier era was judged
            vm.assertEq(taken, amount < held ? amount : held, "no more than there is");
            vm.assertEq(stakeOf(op) + unbondingOf(op), held - taken);
            pots += taken;
        }
        (uint256 now_,) = potsAndTreasury();
        vm.assertEq(now_, pots);
    }

    function credit(uint256 seed, uint24 op) internal returns (uint256 amount) {
        amount = pick(seed, 2, 1 ether);
        (uint256 pots,) = potsAndTreasury();
        uint256 fromPot = pick(seed, 3, pots + 1);
        uint24 last = uint24(OPERATORS);
        uint256[] memory entries = new uint256[](op == last ? 1 : 2);
        entries[0] = (uint256(op) << 128) | (pick(seed, 4, 100) << 96) | (op == last ? amount + fromPot : amount);
        if (op < last) entries[1] = (uint256(last) << 128) | (pick(seed, 5, 100) << 96) | fromPot;
        (uint256 one, uint256 other) = (stakeOf(op), stakeOf(last));
        vm.prank(address(market));
        registry.credit{value: amount}(entries, fromPot);
        if (op < last) vm.assertEq(stakeOf(op), one + amount);
        vm.assertEq(stakeOf(last), op < last ? other + fromPot : one + amount + fromPot);
    }

    function slash(uint256 seed, uint24 op) internal {
        if (pick(seed, 2, 4) > 0) return;
        uint256 held = stakeOf(op) + unbondingOf(op);
        vm.prank(address(disputes));
        uint256 taken = registry.slash(op, pick(seed, 3, 4) == 0);
        vm.assertLe(taken, held, "slash <= stake");
        vm.assertEq(stakeOf(op) + unbondingOf(op), held - taken);
    }

    function movePots(uint256 seed) internal {
        (uint256 pots, uint256 treasury) = potsAndTreasury();
        uint256 amount = pick(seed, 2, pots + 1);
        vm.startPrank(address(disputes));
        registry.releasePot(amount);
        vm.assertEq(treasuryOf(), treasury + amount);
        uint256 asked = pick(seed, 3, 2 * treasuryOf() + 1);
        uint256 taken = registry.drawTreasury(asked);
        vm.stopPrank();
        vm.assertEq(taken, asked < treasury + amount ? asked : treasury + amount);
    }

    function judgeOrRejoin(uint256 seed, uint24 op) internal {
        (uint32 era, uint32 failed,,, uint40 until,,,,) = registry.faults(op);
        bool isDue = failed > 0 && era != vm.getBlockTimestamp() / 60;
        if (pick(seed, 2, 2) == 0) {
            if (!isDue) vm.expectRevert();
            registry.judge(op);
            return;
        }
        if (until == 0 || vm.getBlockTimestamp() < until) vm.expectRevert();
        vm.prank(ownerOf(op - 1));
        registry.rejoin();
    }

    function advance(uint256 seed) internal {
        tick(1 + pick(seed, 2, 130), 1);
        (,,,,, uint40 eraEnd,,,) = registry.class_(CLASS);
        if (vm.getBlockTimestamp() < eraEnd) return;
        (uint64 ask, uint64 capacity) = mediansOf(CLASS);
        registry.advanceEra(CLASS, ask, capacity);
        (ClassTable memory table,,,,,) = registry.currentTable(CLASS);
        uint24[] memory ids = registry.drawable(CLASS);
        vm.assertEq(table.memberCount, ids.length);
        uint256 units;
        for (uint256 i; i < ids.length; ++i) {
            (uint16 held,,) = registry.member(CLASS, ids[i]);
            units += held;
        }
        vm.assertEq(table.unitCount, units);
        vm.assertEq(table.capacity, capacity * units);
    }

    /// @dev What an owner does; returns what left the contract.
    function own(uint256 seed, uint24 op) internal returns (uint256 paid) {
        (,, uint128 held, uint128 allocated,, uint40 releaseAt,, bool ejected) = registry.operator(op);
        (uint16 units,,) = registry.member(CLASS, op);
        vm.startPrank(ownerOf(op - 1));
        paid = unbondingOf(op);
        if (units == 0 && !ejected && held > UNIT) {
            registry.join(CLASS, 1, PRICE, 1);
            paid = 0;
        } else if (pick(seed, 2, 2) == 0 && held > allocated) {
            registry.unstake(uint128(1 + pick(seed, 3, held - allocated)));
            paid = 0;
        } else if (paid > 0) {
            if (vm.getBlockTimestamp() < releaseAt) vm.warp(releaseAt);
            registry.withdraw();
        }
        vm.stopPrank();
    }

    function checkOperator(uint24 op) internal view {
        (,, uint128 held, uint128 allocated,,,, bool ejected) = registry.operator(op);
        (uint16 units,,) = registry.member(CLASS, op);
        vm.assertEq(uint256(units) * UNIT, allocated, "allocation is units");
        vm.assertLe(allocated, held, "and covered");
        if (ejected) vm.assertEq(units, 0);
        (,,,, uint40 until,,,,) = registry.faults(op);
        uint24[] memory ids = registry.drawable(CLASS);
        for (uint256 i; i < ids.length; ++i) {
            if (ids[i] == op) vm.assertTrue(until == 0 && units > 0, "drawable only outside of jail");
        }
    }

    function testFuzz_PriceMoves(uint64 price, uint64 ask) public {
        (price, ask) = (1 + price % (2 * PRICE), 1 + ask % (2 * PRICE)); // up to maxPrice
        registry.createClass{value: 0.1 ether}("", uint128(UNIT), price, true);
        vm.prank(ownerOf(0));
        registry.join(2, 1, ask, 1);
        registry.advanceEra(2, ask, 1);
        (,, uint64 moved,,,,,,) = registry.class_(2);
        uint256 step = price / 10 == 0 ? 1 : price / 10;
        vm.assertLe(moved > price ? moved - price : price - moved, step, "at most a tenth");
        vm.assertGt(moved, 0, "never free");
        if (ask >= price) vm.assertTrue(moved >= price && moved <= ask);
        else vm.assertTrue(moved < price && moved >= ask);
    }
}
