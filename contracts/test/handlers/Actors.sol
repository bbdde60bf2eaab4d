// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IMarketEvents} from "../../src/interfaces/IMarketEvents.sol";
import {Params} from "../../src/types/Params.sol";
import {Checks} from "./Checks.sol";

/// @title All actors together, and the way out that time alone gives
contract Actors is Checks {
    uint256 private constant REQUESTERS = 2;

    constructor() payable {
        Params memory p = localParams();
        p.auditBps = 4000; // at 1 % no audit would happen here
        deploy(p);
        registry.createClass{value: p.classDeposit}(keccak256("profile"), uint128(UNIT), PRICE, true);
        for (uint256 i; i < 12; ++i) {
            addMember(i, uint16(4 + i % 5));
        }
        operators = 12;
        ensureEra();
        fund(collator, 1000 ether);
        fund(stranger, 10 ether);
        for (uint256 i; i < REQUESTERS; ++i) {
            requesterSecrets.push(uint256(keccak256(abi.encode("requester", i))));
            fund(vm.addr(requesterSecrets[i]), 1000 ether);
        }
        registry.donate{value: 1 ether}();
        ++done["era"];
    }

    // Money and time ----------------------------------------------------------------------------------------------

    function moveDeposit(uint256 which, uint256 amount) external {
        address account = vm.addr(requesterSecrets[which % REQUESTERS]);
        uint256 free = freeOf(account);
        if (free < 100 ether) return fund(account, 500 ether);
        vm.prank(account);
        market.withdraw(uint128(1 + amount % 10 ether));
        ++done["withdraw deposit"];
    }

    function wait_(uint256 secs) external {
        tick(1 + secs % (secs % 16 == 0 ? 6000 : 40), 1 + secs % 20);
        ++done["wait"];
    }

    // The way out -------------------------------------------------------------------------------------------------

    /// @dev From here, time and a stranger end everything: then the state is taken back.
    function endEverything(uint256 seed) external {
        if (seed % 4 != 0) return;
        uint256 snapshot = vm.snapshotState();
        checkExit();
        vm.revertToState(snapshot);
        ++done["exit"];
    }

    function checkExit() public {
        for (uint256 step; !_isAllOver(); ++step) {
            require(step < 400, "exit: time and a stranger end everything");
            _endOneStep();
        }
        (uint256 pots,) = potsAndTreasury();
        vm.assertEq(pots, 0, "exit: the pots are empty");
        vm.assertEq(market.bonds(), 0, "exit: bonds are back or lost");
        for (uint256 i; i < requesterSecrets.length; ++i) {
            vm.assertEq(escrowOf(vm.addr(requesterSecrets[i])), 0, "exit: no escrow is left");
        }
        tick(market.params().challengePeriod, 1);
        for (uint256 i; i < known.length; ++i) {
            vm.assertTrue(market.isBatchFinal(known[i]), "exit: every batch is final");
        }
        _takeAllOut();
    }

    function _isAllOver() private view returns (bool) {
        for (uint256 i; i < known.length; ++i) {
            if (lives[known[i]].status != IMarketEvents.BatchStatus.SETTLED) return false;
        }
        return openIds.length == 0;
    }

    /// @dev One permissionless call, after the time it needs.
    function _endOneStep() private {
        for (uint256 i; i < known.length; ++i) {
            uint64 id = known[i];
            IMarketEvents.BatchStatus status = lives[id].status;
            if (status == IMarketEvents.BatchStatus.POSTING) {
                tick(market.params().postPeriod, 1);
                return _expire(id, stranger);
            }
            if (status == IMarketEvents.BatchStatus.AWAITING) {
                tick(257, 257);
                return _expire(id, stranger);
            }
            if (status == IMarketEvents.BatchStatus.SETTLED) continue;
            if (status == IMarketEvents.BatchStatus.ASSIGNED) passWindow(id, 4);
            return _settle(id, 0, stranger, true);
        }
        uint64 quarrel = openIds[0];
        if (quarrels[quarrel].phase == Phase.PUBLISHING) return _ask(quarrel, stranger);
        if (quarrels[quarrel].phase == Phase.VOTING) return _settleVotes(quarrel, stranger, 1024, true);
        _punish(quarrel, stranger, 1024);
    }

    /// @dev Every operator gets its stake, every account its deposit; class deposits and treasury stay.
    function _takeAllOut() private {
        for (uint24 id = 1; id <= operators; ++id) {
            vm.startPrank(ownerOf(id - 1));
            (uint16 present,,) = registry.member(CLASS, id);
            if (present > 0) registry.leave(CLASS);
            uint256 held = stakeOf(id);
            if (held > 0) registry.unstake(uint128(held));
            vm.stopPrank();
        }
        tick(registry.params().unbondingPeriod, 1);
        for (uint24 id = 1; id <= operators; ++id) {
            if (unbondingOf(id) == 0) continue;
            vm.prank(ownerOf(id - 1));
            registry.withdraw();
        }
        for (uint256 i; i < holders.length; ++i) {
            uint256 free = freeOf(holders[i]);
            if (free == 0) continue;
            vm.prank(holders[i]);
            market.withdraw(uint128(free));
        }
        (, uint256 deposits, uint256 treasury) = registry.ledgers();
        vm.assertEq(address(market).balance, 0, "exit: the market is empty");
        vm.assertEq(address(registry).balance, deposits + treasury, "exit: only deposits of classes and treasury stay");
    }
}
