// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IMarketEvents} from "../../src/interfaces/IMarketEvents.sol";
import {Proof} from "../../src/types/Proof.sol";
import {Batches} from "./Batches.sol";
import {Vm} from "./Vm.sol";

/// @title What anybody can prove of a batch from its events
abstract contract Proofs is Batches {
    function proofOf(uint64 id, uint256 page, uint256 outcome) internal view returns (Proof memory p) {
        (p.prior, p.page, p.tail) = _link(settlePages[id][0], page);
        (p.outcomePrior, p.outcomes, p.outcomeTail) = _link(toldOutcomes[id], outcome);
    }

    function _link(bytes[] storage pages, uint256 shown)
        private
        view
        returns (bytes32 prior, bytes memory page, bytes32[] memory tail)
    {
        page = pages[shown];
        tail = new bytes32[](pages.length - shown - 1);
        for (uint256 i; i < pages.length; ++i) {
            if (i < shown) prior = keccak256(abi.encodePacked(prior, keccak256(pages[i])));
            if (i > shown) tail[i - shown - 1] = keccak256(pages[i]);
        }
    }

    function list(uint16 bundle) internal pure returns (uint16[] memory bundles) {
        bundles = new uint16[](1);
        bundles[0] = bundle;
    }

    function list(uint16 first, uint16 second) internal pure returns (uint16[] memory bundles) {
        bundles = new uint16[](2);
        (bundles[0], bundles[1]) = (first, second);
    }

    /// @dev Voters and vote of the row that begins an outcome page.
    function votersOf(bytes memory page, uint256 row) internal pure returns (uint16[] memory voters, bytes32 vote) {
        uint256 at = 1;
        for (; row > 0; --row) {
            at += 38 + 2 * uint8(page[at + 37]);
        }
        voters = new uint16[](uint8(page[at + 37]));
        vote = bytes32(_uint(page, at + 3, 32));
        for (uint256 i; i < voters.length; ++i) {
            voters[i] = uint16(_uint(page, at + 38 + 2 * i, 2));
        }
    }

    /// @dev Pages of an extension, from the logs of the call.
    function learn(uint64 id) internal {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].topics[0] != IMarketEvents.BundlesCarried.selector) continue;
            (uint8 round, bytes memory page) = abi.decode(logs[i].data, (uint8, bytes));
            delete settlePages[id][round];
            settlePages[id][round].push(page);
        }
    }
}
