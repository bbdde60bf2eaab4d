// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {ClassVotes} from "./support/ClassVotes.sol";
import {Proofs} from "./support/Proofs.sol";
import {Vm} from "./support/Vm.sol";

/// @title One mistake of a lone seat, and who would make it dearer
contract LoneMistakeTest is ClassVotes, Proofs {
    uint256 internal constant BOND = 0.01 ether;
    uint256 internal constant STAKE = 10 ether;

    function setUp() public {
        deployWithMembers(10, 8);
        vm.deal(stranger, 10 ether);
        (terms.seats, terms.rounds) = (1, 0);
    }

    function doubt(uint64 id, bytes32 claim) internal {
        vm.recordLogs();
        vm.prank(stranger);
        disputeIds.push(challenges.challenge{value: BOND}(id, proofOf(id, 0, 0), 0, 0, claim));
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].topics[0] != IDisputes.DisputeOpened.selector) continue;
            (, bytes memory record) = abi.decode(logs[i].data, (uint16, bytes));
            disputeRecords.push(record);
        }
    }

    /// @dev The same leaf doubted with three claims at once: one mistake is the first, the second and the third.
    function test_OneMistakeCostsAFifthHoweverOftenItIsDoubted() public {
        uint64 id = post(only(order()));
        assign(id);
        Ballot[] memory seats = ballots(id);
        seats[0].vote = LIE;
        play(id, seats);
        for (uint256 i; i < 3; ++i) {
            doubt(id, keccak256(abi.encode("claim", i)));
        }
        Vote[] memory votes = new Vote[](3);
        for (uint256 i; i < 3; ++i) {
            votes[i] = voteOf(i);
            askWhole(votes[i]);
            commitClass(votes[i], classBallots(votes[i], honest(0)));
        }
        for (uint256 i; i < 3; ++i) {
            settleClass(votes[i], classBallots(votes[i], honest(0)));
        }
        vm.assertGe(stakeOf(seats[0].member + 1), STAKE * 8 / 10, "one mistake, one fifth");
    }
}
