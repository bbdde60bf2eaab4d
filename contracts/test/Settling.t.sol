// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IMarketEvents} from "../src/interfaces/IMarketEvents.sol";
import {Settlement} from "../src/types/Settlement.sol";
import {ClassVotes} from "./support/ClassVotes.sol";

contract SettlingTest is ClassVotes {
    function setUp() public {
        deployWithMembers(10, 8);
    }

    function test_UnanimousSeatsArePaidAndTheRestReturns() public {
        uint256 before = freeOf(requester);
        uint256 feesBefore = freeOf(collator);
        uint64 id = posted(1);
        uint256 escrow = uint256(TASK_PRICE) * 9 + FEE;
        vm.assertEq(escrowOf(requester), escrow, "escrow of three rounds");
        Ballot[] memory list = ballots(id);

        play(id, list);

        assertVerdict(0, IMarketEvents.Verdict.ACCEPTED);
        for (uint256 i; i < 3; ++i) {
            vm.assertEq(stakeOf(list[i].member + 1), 10 * UNIT + TASK_PRICE, "a seat earns its price");
        }
        vm.assertEq(freeOf(requester), before - 3 * uint256(TASK_PRICE) - FEE, "requester pays one round");
        vm.assertEq(freeOf(collator), feesBefore + FEE, "fee and bond");
        assertStatus(id, IMarketEvents.BatchStatus.SETTLED);
        checkBooks();
    }
}
