// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IMarketEvents} from "../interfaces/IMarketEvents.sol";
import {BUNDLE_TASKS} from "../types/Limits.sol";
import {Proof} from "../types/Proof.sol";
import {Cursor} from "./Cursor.sol";
import {Statements} from "./Statements.sol";

/// @notice One bundle as its batch recorded and decided it.
/// @param tasks 0 where the page does not have the bundle
/// @param verdict 0 where the outcomes do not have it
/// @param round in which it was decided
/// @param opened seats with a vote, in all its rounds
/// @param voters members whose vote is `vote`
struct Outcome {
    address requester;
    uint256 taskPrice;
    uint256 tasks;
    uint256 flags;
    uint256 round;
    uint256 verdict;
    bytes32 vote;
    uint256 opened;
    uint256[] voters;
}

/// @title Proving to a contract what a batch decided; the chain keeps hashes alone
/// @dev Twin of quorate/protocol/outcomes.py.
library OutcomeProof {
    using Cursor for bytes;

    uint256 private constant RECORDS_AT = 34;
    uint256 private constant GROUP_BYTES = 22;
    uint256 private constant RECORD_BYTES = 12;
    uint256 private constant ROWS_AT = 1;
    uint256 private constant ROW_BYTES = 38;

    /// @notice Revert unless both pages are the batch's.
    function check(Proof calldata p, bytes32 postHash, bytes32 outcomeHash) internal pure {
        if (_chain(p.prior, p.page, p.tail) != postHash) revert IMarketEvents.HashMismatch("page");
        if (_chain(p.outcomePrior, p.outcomes, p.outcomeTail) != outcomeHash) {
            revert IMarketEvents.HashMismatch("outcomes");
        }
    }

    function _chain(bytes32 prior, bytes calldata page, bytes32[] calldata tail) private pure returns (bytes32) {
        return Statements.fold(keccak256(abi.encodePacked(prior, keccak256(page))), tail);
    }

    /// @notice What pages that were checked say of bundles, which ascend.
    function find(Proof calldata p, uint16[] memory bundles) internal pure returns (Outcome[] memory found) {
        found = new Outcome[](bundles.length);
        _readRecords(p.page, bundles, found);
        _readRows(p.outcomes, bundles, found);
    }

    function _readRecords(bytes calldata page, uint16[] memory bundles, Outcome[] memory found) private pure {
        // unchecked: offsets in calldata, and numbers of bundles
        unchecked {
            uint256 bundle = page.uintAt(32, 2); // first one of the record at hand
            uint256 next; // of `bundles`
            uint256 at = RECORDS_AT;
            while (at < page.length) {
                address requester = address(uint160(page.uintAt(at, 20)));
                uint256 count = page.uintAt(at + 20, 2);
                at += GROUP_BYTES;
                for (; count > 0; --count) {
                    uint256 record = page.uintAt(at, RECORD_BYTES);
                    at += RECORD_BYTES;
                    (next, bundle) = _matchRecord(bundles, found, next, bundle, requester, record);
                }
            }
        }
    }

    /// @dev Fills in the wanted bundles of one order; returns the next wanted one, and the next order's first bundle.
    function _matchRecord(
        uint16[] memory bundles,
        Outcome[] memory found,
        uint256 next,
        uint256 bundle,
        address requester,
        uint256 record
    ) private pure returns (uint256, uint256) {
        // unchecked: as in `_readRecords`
        unchecked {
            uint256 tasks = (record >> 8) & 0xffffff;
            uint256 end = bundle + (tasks + BUNDLE_TASKS - 1) / BUNDLE_TASKS;
            for (; next < bundles.length && bundles[next] < end; ++next) {
                if (bundles[next] < bundle) continue;
                Outcome memory o = found[next];
                uint256 before = (bundles[next] - bundle) * BUNDLE_TASKS;
                (o.requester, o.taskPrice, o.flags) = (requester, record >> 32, record & 0xff);
                o.tasks = tasks - before < BUNDLE_TASKS ? tasks - before : BUNDLE_TASKS;
            }
            return (next, end);
        }
    }

    function _readRows(bytes calldata rows, uint16[] memory bundles, Outcome[] memory found) private pure {
        // unchecked: offsets in calldata
        unchecked {
            uint256 round = rows.uintAt(0, 1);
            uint256 next;
            for (uint256 at = ROWS_AT; at < rows.length;) {
                uint256 bundle = rows.uintAt(at, 2);
                uint256 count = rows.uintAt(at + 37, 1);
                while (next < bundles.length && bundles[next] < bundle) {
                    ++next;
                }
                if (next < bundles.length && bundles[next] == bundle) {
                    Outcome memory o = found[next];
                    (o.round, o.verdict, o.vote) = (round, rows.uintAt(at + 2, 1), bytes32(rows.uintAt(at + 3, 32)));
                    (o.opened, o.voters) = (rows.uintAt(at + 35, 2), new uint256[](count));
                    for (uint256 i; i < count; ++i) {
                        o.voters[i] = rows.uintAt(at + ROW_BYTES + 2 * i, 2);
                    }
                }
                at += ROW_BYTES + 2 * count;
            }
        }
    }
}
