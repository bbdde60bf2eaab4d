// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IStakeRegistry} from "../src/interfaces/IStakeRegistry.sol";
import {ClassTable} from "../src/types/ClassTable.sol";
import {FineKind} from "../src/types/FineKind.sol";
import {System} from "./support/System.sol";

/// @title Eras of large classes fit a transaction, and earnings of many operators are cheap
/// @dev Each call is a transaction of its own (isolate), so that slots are as cold as they are on a chain.
/// forge-config: default.isolate = true
contract TableGasTest is System {
    // Events of this name and shape are printed by forge.
    // forge-lint: disable-next-line(pascal-case-struct)
    event log_named_uint(string key, uint256 value);

    function setUp() public {
        vm.pauseGasMetering();
        deploy(localParams());
        registry.createClass{value: 0.1 ether}(keccak256("profile"), uint128(UNIT), PRICE, true);
        for (uint256 i; i < 1000; ++i) {
            addMember(i, 10);
        }
        vm.resumeGasMetering();
    }

    /// @dev Only a call that is measured is metered: all of them together exceed a block.
    function spend(bytes memory data) internal returns (uint256 used) {
        vm.resumeGasMetering();
        (bool done,) = address(registry).call(data);
        used = vm.lastCallGas().gasTotalUsed;
        vm.pauseGasMetering();
        require(done, "refused");
    }

    function advanceCall() internal view returns (bytes memory) {
        (uint64 ask, uint64 capacity) = mediansOf(CLASS);
        return abi.encodeCall(registry.advanceEra, (CLASS, ask, capacity));
    }

    function test_TableOf1000Members() public {
        vm.pauseGasMetering();
        uint256 used = spend(advanceCall());
        emit log_named_uint("advanceEra, 1000 members, 10,000 units", used);
        vm.assertLt(used, 16_000_000, "an era fits a transaction");
    }

    function test_TableOfTheFullestClass() public {
        vm.pauseGasMetering();
        for (uint256 i = 1000; i < 1024; ++i) {
            addMember(i, 10);
        }
        addOperator(1024, 100 ether);
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.LimitReached.selector, "members"));
        vm.prank(ownerOf(1024));
        registry.join(CLASS, 1, PRICE, 1);
        uint256 used = spend(advanceCall());
        emit log_named_uint("advanceEra, 1024 members, 10,240 units", used);
        vm.assertLt(used, 16_000_000, "an era fits a transaction");
        ClassTable memory table = registry.tableAt(CLASS, 1);
        vm.assertLe(table.units.code.length, 24_576, "a table is a contract, and no larger than one may be");
        vm.assertLe(table.members.code.length, 24_576, "rows too");
    }

    function test_CreditsOfAPage() public {
        vm.pauseGasMetering();
        uint256[] memory entries = new uint256[](500);
        for (uint256 i; i < 500; ++i) {
            entries[i] = ((2 * i + 1) << 128) | (1 << 96); // a word each
        }
        uint256 used;
        for (uint256 page; page < 3; ++page) {
            vm.prank(address(market));
            used = spend(abi.encodeCall(registry.credit, (entries, 0)));
        }
        emit log_named_uint("credit an operator, known in this era", used / 500);
        vm.assertLt(used / 500, 7500, "a write, its calldata and its log");
        tick(60, 1);
        vm.prank(address(market));
        used = spend(abi.encodeCall(registry.credit, (entries, 0)));
        emit log_named_uint("credit an operator, first of an era", used / 500);
        vm.assertLt(used / 500, 10_000, "and a look at its faults");
    }

    function test_Fines() public {
        vm.pauseGasMetering();
        for (uint256 i; i < 3; ++i) {
            vm.prank(address(market));
            uint256 used = spend(abi.encodeCall(registry.fine, (1, 1, FineKind.SILENT)));
            emit log_named_uint("fine, a transaction of its own", used);
            vm.assertLt(used, 90_000, "a fine");
        }
    }
}
