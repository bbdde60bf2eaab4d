// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IMarketEvents} from "../../src/interfaces/IMarketEvents.sol";
import {ChallengeActions} from "./ChallengeActions.sol";

/// @title The statements of section 9, after any sequence of actions
abstract contract Checks is ChallengeActions {
    /// @dev Every wei is in one ledger, and each ledger is what events say that it is.
    function checkMoney() external view {
        checkBooks();
        (uint256 pots,) = potsAndTreasury();
        for (uint256 i; i < requesters.length; ++i) {
            address account = requesters[i];
            vm.assertEq(escrowOf(account), escrowOwed[account], "escrow: that of bundles without an end");
        }
        vm.assertEq(pots, potsOwed, "pots: those of carried and disputed bundles, of bonds and of what was taken");
        vm.assertEq(market.bonds(), bondsOwed * rules.batchBond, "bonds: one for each batch without an end");
    }

    /// @dev Stake covers allocations, allocations are units of classes, and what unbonds waits for its time.
    function checkStakes() external view {
        uint256 units;
        for (uint24 id = 1; id <= operators; ++id) {
            (,, uint128 held, uint128 allocated, uint128 unbonding, uint40 releaseAt,, bool ejected) =
                registry.operator(id);
            (uint16 present,,) = registry.member(CLASS, id);
            vm.assertLe(allocated, held, "stake covers allocations");
            vm.assertEq(allocated, present * UNIT, "allocations are units");
            vm.assertTrue(!ejected || present == 0, "who was ejected is in no class");
            if (unbonding > 0) {
                uint256 due = lastUnstake[id] + rules.unbondingPeriod;
                vm.assertEq(releaseAt, due, "unbonding takes its time, counted from the last request");
            }
            units += present;
        }
        uint24[] memory ids = registry.members(CLASS);
        uint256 sum;
        for (uint256 i; i < ids.length; ++i) {
            (uint16 present,,) = registry.member(CLASS, ids[i]);
            sum += present;
        }
        vm.assertEq(sum, units, "members of the class are those with units, each once");
    }

    /// @dev The chain is where the events say, and a draw hangs on nothing that came after it was fixed.
    function checkBatches() external view {
        for (uint256 i; i < known.length; ++i) {
            uint64 id = known[i];
            Life storage b = lives[id];
            (IMarketEvents.BatchStatus status,, uint8 round, uint16 bundles,,, uint16 table, uint48 beaconBlock,,,) =
                market.batch(id);
            vm.assertEq(uint256(status), uint256(b.status), "status: as events tell");
            vm.assertEq(round, b.round, "round: as events tell");
            vm.assertEq(bundles, b.bundles, "bundles: as events tell");
            vm.assertEq(hashOf(id), foldPages(settlePages[id][0]), "postHash: of the record pages");
            vm.assertEq(outcomeHashOf(id), b.outcomeHash, "outcomeHash: of the outcome pages");
            vm.assertEq(table, b.table, "draw: the table is that of the opening");
            vm.assertEq(hashOfTable(table), tableHashes[table], "draw: tables never change");
            if (status == IMarketEvents.BatchStatus.AWAITING) {
                vm.assertEq(beaconBlock, b.beaconBlock, "draw: the block is fixed when the round is prepared");
            } else if (status == IMarketEvents.BatchStatus.ASSIGNED) {
                vm.assertEq(beaconOf(id), b.beacon, "draw: the beacon is that of its block");
            }
        }
    }

    function beaconOf(uint64 id) internal view returns (bytes32 beacon_) {
        (beacon_,,,,,) = market.batchHashes(id);
    }

    function outcomeHashOf(uint64 id) internal view returns (bytes32 outcomeHash) {
        (,,,,, outcomeHash) = market.batchHashes(id);
    }

    /// @dev Bundles wait in the rounds that events tell, and end once; nothing is final while it is disputed.
    function checkEnds() external view {
        for (uint256 i; i < known.length; ++i) {
            uint64 id = known[i];
            Life storage b = lives[id];
            uint256 waiting;
            for (uint16 bundle; bundle < b.bundles; ++bundle) {
                BundleLife storage w = bundleLives[id][bundle];
                bool isOpen = w.state == BundleState.PENDING || w.state == BundleState.CARRIED;
                if (isOpen) ++waiting;
                if (b.status == IMarketEvents.BatchStatus.ASSIGNED) {
                    vm.assertEq(
                        market.isPending(id, bundle) ? 1 : 0,
                        w.state == BundleState.PENDING ? 1 : 0,
                        "pending: as events tell"
                    );
                }
                if (b.status == IMarketEvents.BatchStatus.SETTLED) vm.assertFalse(isOpen, "settled: no bundle waits");
            }
            bool isFinal = market.isBatchFinal(id);
            bool isDue = b.status == IMarketEvents.BatchStatus.SETTLED && vm.getBlockTimestamp() >= b.finalAt;
            vm.assertEq(isFinal ? 1 : 0, isDue && b.openDisputes == 0 ? 1 : 0, "final: its time, and no open dispute");
        }
        for (uint256 i; i < openIds.length; ++i) {
            DisputeLife storage d = quarrels[openIds[i]];
            vm.assertEq(uint256(disputes.dispute(d.id).status), uint256(d.phase), "dispute: as events tell");
            vm.assertFalse(market.isBatchFinal(d.batchId), "disputed: its batch is not final");
        }
    }
}
