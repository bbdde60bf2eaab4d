// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IMarketEvents} from "../../src/interfaces/IMarketEvents.sol";
import {Params} from "../../src/types/Params.sol";
import {TestWallet} from "../support/Wallets.sol";
import {Checks} from "./Checks.sol";

/// @title All actors together, and the way out that time alone gives
contract Actors is Checks {
    function start() external {
        Params memory p = localParams();
        // At 1 % no audit would happen here, and within half a minute no committee would be convicted.
        (p.auditBps, p.challengePeriod) = (4000, 120);
        deploy(p);
        rules = p;
        registry.createClass{value: p.classDeposit}(keccak256("profile"), uint128(UNIT), PRICE, true);
        for (uint256 i; i < 12; ++i) {
            addMember(i, uint16(4 + i % 5));
        }
        operators = 12;
        ensureEra();
        fund(collator, 1000 ether);
        fund(stranger, 10 ether);
        for (uint256 i; i < 2; ++i) {
            uint256 secret = uint256(keccak256(abi.encode("requester", i)));
            requesters.push(vm.addr(secret));
            requesterSecretOf[vm.addr(secret)] = secret;
        }
        requesters.push(address(new TestWallet(TestWallet.Manner.HONEST)));
        for (uint256 i; i < requesters.length; ++i) {
            fund(requesters[i], 1000 ether);
        }
        registry.donate{value: 1 ether}();
        ++done["era"];
    }

    // Money and time ----------------------------------------------------------------------------------------------

    function moveDeposit(uint256 which, uint256 amount) external {
        address account = requesters[which % 2];
        uint256 free = freeOf(account);
        if (free < 100 ether) return fund(account, 500 ether);
        vm.prank(account);
        market.withdraw(uint128(1 + amount % 10 ether));
        ++done["withdraw deposit"];
    }

    function letTimePass(uint256 secs) external {
        tick(1 + secs % (secs % 16 == 0 ? 6000 : 40), 1 + secs % 20);
        ++done["wait"];
    }

    // The way out -------------------------------------------------------------------------------------------------

    /// @dev From here, time and a stranger end everything: then the state is taken back.
    function endEverything(uint256 seed) external {
        if (seed % 4 != 0) return;
        vm.pauseGasMetering(); // many transactions in one action
        uint256 snapshot = vm.snapshotState();
        checkExit();
        vm.revertToState(snapshot);
        vm.resumeGasMetering();
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
        for (uint256 i; i < requesters.length; ++i) {
            vm.assertEq(escrowOf(requesters[i]), 0, "exit: no escrow is left");
        }
        tick(rules.challengePeriod, 1);
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
                tick(rules.postPeriod, 1);
                return _expire(id, stranger);
            }
            if (status == IMarketEvents.BatchStatus.AWAITING) return _loseBeacon(id, stranger);
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
        tick(rules.unbondingPeriod, 1);
        for (uint24 id = 1; id <= operators; ++id) {
            if (unbondingOf(id) == 0) continue;
            vm.prank(ownerOf(id - 1));
            registry.withdraw();
        }
        uint256 kept; // by the wallet, which takes no ether
        for (uint256 i; i < holders.length; ++i) {
            uint256 free = freeOf(holders[i]);
            if (holders[i].code.length > 0) kept += free;
            if (free == 0 || holders[i].code.length > 0) continue;
            vm.prank(holders[i]);
            market.withdraw(uint128(free));
        }
        (, uint256 deposits, uint256 treasury) = registry.ledgers();
        vm.assertEq(address(market).balance, kept, "exit: the market is empty");
        vm.assertEq(address(registry).balance, deposits + treasury, "exit: only deposits of classes and treasury stay");
    }
}
