// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IMarketEvents} from "../src/interfaces/IMarketEvents.sol";
import {Settlement} from "../src/types/Settlement.sol";
import {Batches} from "./support/Batches.sol";

/// @title What a job costs at the size that chain.md aims at: 1000 operators, 10,000 units, 500 orders, 3 seats
/// @dev Each call is a transaction of its own (isolate), so that slots are as cold as they are on a chain.
/// forge-config: default.isolate = true
contract GasTest is Batches {
    // Events of this name and shape are printed by forge.
    // forge-lint: disable-next-line(pascal-case-struct)
    event log_named_uint(string key, uint256 value);

    uint64 internal turns;
    uint256 internal constant JOBS = 500;
    uint256 internal constant REQUESTERS = 50;

    function setUp() public {
        vm.pauseGasMetering();
        deploy(localParams());
        registry.createClass{value: 0.1 ether}(keccak256("profile"), uint128(UNIT), PRICE, true);
        for (uint256 i; i < 1000; ++i) {
            addMember(i, 10);
        }
        fund(collator, 1000 ether);
        for (uint256 i; i < REQUESTERS; ++i) {
            fund(vm.addr(requesterSecret + i), 100 ether);
        }
        vm.resumeGasMetering();
    }

    function bigPage() internal returns (bytes memory) {
        bytes[] memory parts = new bytes[](REQUESTERS);
        for (uint256 i; i < REQUESTERS; ++i) {
            parts[i] = group(requesterSecret + i, orders(JOBS / REQUESTERS));
        }
        return join(parts);
    }

    /// @dev One call as a transaction under Prague's rules: the calldata floor counts if it is higher. Only a call that
    /// is measured is metered: all of them together exceed a block.
    function spend(bool isMeasured, address to, bytes memory data) internal returns (uint256 used) {
        vm.prank(collator);
        if (isMeasured) vm.resumeGasMetering();
        (bool done,) = to.call(data);
        used = vm.lastCallGas().gasTotalUsed;
        vm.pauseGasMetering();
        require(done, "refused");
        uint256 tokens;
        for (uint256 i; i < data.length; ++i) {
            tokens += data[i] == 0 ? 1 : 4;
        }
        if (used < 21_000 + 10 * tokens) used = 21_000 + 10 * tokens;
    }

    function test_GasOfPost() public {
        check("gas a job, post", 0, 17_500);
    }

    function test_GasOfCommit() public {
        check("gas a job, commit", 1, 25_000);
    }

    function test_GasOfSettle() public {
        check("gas a job, settle", 2, 34_000);
    }

    /// @dev The third batch in the same slot: what it writes was written before. Limits are today's figures and a
    /// little room; the aim is 45,000 for all three.
    function check(string memory name, uint256 which, uint256 limit) internal {
        vm.pauseGasMetering();
        advanceEraOf(CLASS);
        uint256 used;
        for (uint256 turn; turn < 3; ++turn) {
            used = life(turn < 2 ? 3 : which);
            tick(30, 1);
            (,,,,, uint40 eraEnd,,,) = registry.class_(CLASS);
            if (vm.getBlockTimestamp() >= eraEnd) advanceEraOf(CLASS);
        }
        emit log_named_uint(name, used / JOBS);
        vm.assertLt(used / JOBS, limit, name);
    }

    /// @dev One batch, posted to settled; gas of one of its three transactions.
    function life(uint256 which) internal returns (uint256) {
        uint256[4] memory used;
        bytes memory page = bigPage();
        used[0] = spend(which == 0, address(market), abi.encodeCall(market.post, (0, terms, page, true)));
        uint64 id = ++turns << 32;
        settlePages[id][0].push(recordOf(page, 0, ""));
        vm.assertEq(hashOf(id), foldPages(settlePages[id][0]));
        assign(id);
        Ballot[] memory list = ballots(id);
        bytes memory lists = commitLists(id, list);
        used[1] = spend(which == 1, address(market), abi.encodeCall(market.commit, (id, 0, uint16(JOBS), lists)));
        commitPages[id][0].push(pageHashOf(lists));
        Settlement memory s = settlement(id, 0, list);
        used[2] = spend(which == 2, address(market), abi.encodeCall(market.settle, (id, s)));
        assertStatus(id, IMarketEvents.BatchStatus.SETTLED);
        return used[which];
    }
}
