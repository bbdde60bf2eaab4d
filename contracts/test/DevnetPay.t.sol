// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFilecoinPay} from "../src/filecoin/IFilecoinPay.sol";
import {Payments} from "./support/Payments.sol";
import {StrangeToken} from "./support/StrangeTokens.sol";

/// @dev Errors of the contract that are not Filecoin Pay's own.
interface IDevnetPay {
    error NotOnADevnet(string what);
    error ReentrancyGuardReentrantCall();
    error SafeERC20FailedOperation(address token);
}

/// @title What stands in for Filecoin Pay: accounts, approvals, rails, one-time payments and their fee
contract DevnetPayTest is Payments {
    address internal op = address(uint160(uint256(keccak256("op"))));

    function setUp() public override {
        super.setUp();
        approve(ALLOWANCE, PERIOD);
    }

    function approve(uint256 lockup, uint256 period) internal {
        vm.prank(payer);
        pay.setOperatorApproval(address(token), op, true, 0, lockup, period);
    }

    function rail(uint256 lockup, uint256 commissionBps) internal returns (uint256 id) {
        vm.startPrank(op);
        id = pay.createRail(address(token), payer, payee, address(0), commissionBps, commissionBps > 0 ? stranger : op);
        pay.modifyRailLockup(id, PERIOD, lockup);
        vm.stopPrank();
    }

    function lock(uint256 id, uint256 period, uint256 lockup) internal {
        vm.prank(op);
        pay.modifyRailLockup(id, period, lockup);
    }

    function payOnce(uint256 id, uint256 amount) internal {
        vm.prank(op);
        pay.modifyRailPayment(id, 0, amount);
    }

    function terminate(address who, uint256 id) internal {
        vm.prank(who);
        pay.terminateRail(id);
    }

    function lockupOf(uint256 id) internal view returns (uint256) {
        return pay.getRail(id).lockupFixed;
    }

    function opApproval() internal view returns (uint256 allowance, uint256 usage) {
        (,, allowance,, usage,) = pay.operatorApprovals(address(token), payer, op);
    }

    // what Filecoin Pay's own contract has: ../shared/vectors/filecoin.json, and the ABI that was published

    function test_SelectorsAreThoseOfFilecoinPay() public pure {
        vm.assertEq(uint32(IFilecoinPay.setOperatorApproval.selector), 0x875bc8b6);
        vm.assertEq(uint32(IFilecoinPay.increaseOperatorApproval.selector), 0xa159b1ed);
        vm.assertEq(uint32(IFilecoinPay.createRail.selector), 0xf9f78de8);
        vm.assertEq(uint32(IFilecoinPay.modifyRailLockup.selector), 0xde07b8bb);
        vm.assertEq(uint32(IFilecoinPay.modifyRailPayment.selector), 0x97d3ea34);
        vm.assertEq(uint32(IFilecoinPay.terminateRail.selector), 0xcbb0bf18);
        vm.assertEq(uint32(IFilecoinPay.settleRail.selector), 0xbcd40bf8);
        vm.assertEq(uint32(IFilecoinPay.deposit.selector), 0x8340f549);
        vm.assertEq(uint32(IFilecoinPay.withdraw.selector), 0xf3fef3a3);
        vm.assertEq(uint32(IFilecoinPay.OperatorLockupAllowanceExceeded.selector), 0x8dcd0606);
        vm.assertEq(uint32(IFilecoinPay.OneTimePaymentExceedsLockup.selector), 0xc58d5cbc);
        vm.assertEq(uint32(IFilecoinPay.OperatorNotApproved.selector), 0xeef23db6);
        vm.assertEq(uint32(IFilecoinPay.LockupPeriodExceedsOperatorMaximum.selector), 0xb8afa055);
    }

    // accounts

    function test_DepositAndWithdraw() public {
        token.approve(address(pay), 500);
        vm.roll(1001);
        vm.expectEmit(address(pay));
        emit IFilecoinPay.AccountLockupSettled(address(token), stranger, 0, 0, 1001);
        vm.expectEmit(address(pay));
        emit IFilecoinPay.DepositRecorded(address(token), address(this), stranger, 500);
        pay.deposit(address(token), stranger, 500);
        vm.assertEq(fundsOf(stranger), 500);
        vm.expectEmit(address(pay));
        emit IFilecoinPay.WithdrawRecorded(address(token), stranger, stranger, 200);
        vm.prank(stranger);
        pay.withdraw(address(token), 200);
        vm.expectEmit(address(pay));
        emit IFilecoinPay.WithdrawRecorded(address(token), stranger, payee, 100);
        vm.prank(stranger);
        pay.withdrawTo(address(token), payee, 100);
        vm.assertEq(token.balanceOf(stranger), 200);
        vm.assertEq(token.balanceOf(payee), 100);
        vm.assertEq(fundsOf(stranger), 200);
        checkBooks();
    }

    function test_DepositsThatAreRefused() public {
        vm.expectRevert(abi.encodeWithSelector(IFilecoinPay.ZeroAddressNotAllowed.selector, "to"));
        pay.deposit(address(token), address(0), 1);
        vm.expectRevert(IFilecoinPay.NativeTokenNotSupported.selector);
        pay.deposit{value: 1}(address(0), payer, 1);
        vm.expectRevert(error1(IFilecoinPay.NativeTokenNotAccepted.selector, 1));
        pay.deposit{value: 1}(address(token), payer, 1);
        vm.expectRevert(); // the token's own reason
        pay.deposit(address(token), payer, 1);
        vm.assertEq(fundsOf(payer), FUNDS);
    }

    function test_WhatIsLockedCannotBeWithdrawn() public {
        rail(LOCKUP, 0);
        bytes4 selector = IFilecoinPay.InsufficientUnlockedFunds.selector;
        vm.startPrank(payer);
        vm.expectRevert(abi.encodeWithSelector(selector, FUNDS - LOCKUP, FUNDS - LOCKUP + 1));
        pay.withdraw(address(token), FUNDS - LOCKUP + 1);
        vm.expectRevert(abi.encodeWithSelector(IFilecoinPay.ZeroAddressNotAllowed.selector, "to"));
        pay.withdrawTo(address(token), address(0), 1);
        pay.withdraw(address(token), FUNDS - LOCKUP);
        vm.stopPrank();
        vm.assertEq(token.balanceOf(payer), FUNDS - LOCKUP);
        checkBooks();
    }

    function strange(StrangeToken.Way way, bytes memory what) internal returns (StrangeToken made) {
        made = new StrangeToken(way, what);
        made.give(payer, 1000);
    }

    function test_StrangeTokens() public {
        vm.startPrank(payer);
        StrangeToken silent = strange(StrangeToken.Way.SILENT, "");
        pay.deposit(address(silent), payer, 100);
        pay.withdraw(address(silent), 40);
        vm.assertEq(silent.balanceOf(payer), 940);
        StrangeToken half = strange(StrangeToken.Way.TAKES_HALF, "");
        pay.deposit(address(half), payer, 100);
        (uint256 funds,,,) = pay.accounts(address(half), payer);
        vm.assertEq(funds, 50, "what has arrived");
        StrangeToken no = strange(StrangeToken.Way.FALSE, "");
        vm.expectRevert(abi.encodeWithSelector(IDevnetPay.SafeERC20FailedOperation.selector, address(no)));
        pay.deposit(address(no), payer, 100);
        vm.stopPrank();
    }

    function test_ATokenThatCallsBackGetsNothingMore() public {
        bytes[] memory calls = new bytes[](8);
        calls[0] = abi.encodeCall(pay.deposit, (address(token), payer, 1));
        calls[1] = abi.encodeCall(pay.withdraw, (address(token), 1));
        calls[2] = abi.encodeCall(pay.withdrawTo, (address(token), payer, 1));
        calls[3] = abi.encodeCall(pay.createRail, (address(token), payer, payee, address(0), 0, address(0)));
        calls[4] = abi.encodeCall(pay.modifyRailLockup, (1, 1, 1));
        calls[5] = abi.encodeCall(pay.modifyRailPayment, (1, 0, 1));
        calls[6] = abi.encodeCall(pay.terminateRail, (1));
        calls[7] = abi.encodeCall(pay.settleRail, (1, 1));
        for (uint256 i; i < calls.length; ++i) {
            StrangeToken caller = strange(StrangeToken.Way.CALLS_BACK, calls[i]);
            vm.expectRevert(IDevnetPay.ReentrancyGuardReentrantCall.selector);
            vm.prank(payer);
            pay.deposit(address(caller), payer, 100);
        }
    }

    // approvals

    function test_Approvals() public {
        vm.expectEmit(address(pay));
        emit IFilecoinPay.OperatorApprovalUpdated(address(token), payer, stranger, true, 1, 2, 3);
        vm.prank(payer);
        pay.setOperatorApproval(address(token), stranger, true, 1, 2, 3);
        vm.expectEmit(address(pay));
        emit IFilecoinPay.OperatorApprovalUpdated(address(token), payer, stranger, true, 11, 22, 3);
        vm.prank(payer);
        pay.increaseOperatorApproval(address(token), stranger, 10, 20);
        (bool isApproved, uint256 rate, uint256 lockup, uint256 rateUsed, uint256 used, uint256 period) =
            pay.operatorApprovals(address(token), payer, stranger);
        vm.assertTrue(isApproved);
        vm.assertEq(abi.encode(rate, lockup, rateUsed, used, period), abi.encode(11, 22, 0, 0, 3));
    }

    function test_ApprovalsThatAreRefused() public {
        vm.expectRevert(abi.encodeWithSelector(IFilecoinPay.ZeroAddressNotAllowed.selector, "operator"));
        pay.setOperatorApproval(address(token), address(0), true, 0, 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IFilecoinPay.ZeroAddressNotAllowed.selector, "operator"));
        pay.increaseOperatorApproval(address(token), address(0), 0, 0);
        vm.expectRevert(abi.encodeWithSelector(IFilecoinPay.OperatorNotApproved.selector, payer, stranger));
        vm.prank(payer);
        pay.increaseOperatorApproval(address(token), stranger, 0, 1);
    }

    // rails

    function test_CreateRail() public {
        vm.expectEmit(address(pay));
        emit IFilecoinPay.RailCreated(1, payer, payee, address(token), op, address(0), stranger, 250);
        vm.prank(op);
        uint256 id = pay.createRail(address(token), payer, payee, address(0), 250, stranger);
        IFilecoinPay.RailView memory found = pay.getRail(id);
        bytes memory parties = abi.encode(found.token, found.from, found.to, found.operator, found.validator);
        vm.assertEq(parties, abi.encode(token, payer, payee, op, 0));
        bytes memory rest = abi.encode(found.lockupPeriod, found.lockupFixed, found.settledUpTo, found.endEpoch);
        vm.assertEq(rest, abi.encode(0, 0, 1000, 0));
        vm.assertEq(rail(1, 0), 2);
    }

    function test_RailsThatAreRefused() public {
        address t = address(token);
        vm.expectRevert(abi.encodeWithSelector(IFilecoinPay.OperatorNotApproved.selector, payer, stranger));
        vm.prank(stranger);
        pay.createRail(t, payer, payee, address(0), 0, address(0));
        vm.startPrank(op);
        vm.expectRevert(abi.encodeWithSelector(IFilecoinPay.ZeroAddressNotAllowed.selector, "from"));
        pay.createRail(t, address(0), payee, address(0), 0, address(0));
        vm.expectRevert(abi.encodeWithSelector(IFilecoinPay.ZeroAddressNotAllowed.selector, "to"));
        pay.createRail(t, payer, address(0), address(0), 0, address(0));
        vm.expectRevert(abi.encodeWithSelector(IFilecoinPay.CommissionRateTooHigh.selector, 10_000, 10_001));
        pay.createRail(t, payer, payee, address(0), 10_001, op);
        vm.expectRevert(IFilecoinPay.MissingServiceFeeRecipient.selector);
        pay.createRail(t, payer, payee, address(0), 1, address(0));
        vm.expectRevert(abi.encodeWithSelector(IDevnetPay.NotOnADevnet.selector, "validator"));
        pay.createRail(t, payer, payee, stranger, 0, address(0));
        vm.stopPrank();
    }

    function test_ListsOfRails() public {
        uint256 id = rail(100, 0);
        rail(100, 0);
        rail(100, 0);
        terminate(payer, id);
        (IFilecoinPay.RailInfo[] memory found, uint256 next, uint256 total) =
            pay.getRailsForPayerAndToken(payer, address(token), 0, 2);
        vm.assertEq(abi.encode(found.length, next, total), abi.encode(2, 2, 3));
        vm.assertEq(abi.encode(found[0]), abi.encode(id, true, 1000 + PERIOD));
        vm.assertEq(abi.encode(found[1]), abi.encode(id + 1, false, 0));
        vm.roll(1000 + PERIOD);
        pay.settleRail(id, 1000 + PERIOD);
        (found, next, total) = pay.getRailsForPayeeAndToken(payee, address(token), 0, 0);
        vm.assertEq(abi.encode(found.length, next, total), abi.encode(2, 3, 3));
        vm.assertEq(found[0].railId, id + 1);
        (found, next, total) = pay.getRailsForPayeeAndToken(payee, address(token), 9, type(uint256).max);
        vm.assertEq(abi.encode(found.length, next, total), abi.encode(0, 3, 3));
    }

    function test_LockupIsTakenFromAllowanceAndFunds() public {
        vm.prank(op);
        uint256 id = pay.createRail(address(token), payer, payee, address(0), 0, address(0));
        vm.expectEmit(address(pay));
        emit IFilecoinPay.RailLockupModified(id, 0, PERIOD, 0, LOCKUP);
        lock(id, PERIOD, LOCKUP);
        (uint256 allowance, uint256 usage) = opApproval();
        vm.assertEq(abi.encode(allowance, usage, lockedOf(payer)), abi.encode(ALLOWANCE, LOCKUP, LOCKUP));
        lock(id, PERIOD, LOCKUP - 1);
        (, usage) = opApproval();
        vm.assertEq(abi.encode(usage, lockedOf(payer)), abi.encode(LOCKUP - 1, LOCKUP - 1));
        (, uint256 funds, uint256 free,) = pay.getAccountInfoIfSettled(address(token), payer);
        vm.assertEq(abi.encode(funds, free), abi.encode(FUNDS, FUNDS - LOCKUP + 1));
    }

    function test_LockupsThatAreRefused() public {
        uint256 id = rail(LOCKUP, 0);
        bytes4 selector = IFilecoinPay.OperatorLockupAllowanceExceeded.selector;
        vm.expectRevert(abi.encodeWithSelector(selector, ALLOWANCE, ALLOWANCE + 1));
        lock(id, PERIOD, ALLOWANCE + 1);
        selector = IFilecoinPay.LockupPeriodExceedsOperatorMaximum.selector;
        vm.expectRevert(abi.encodeWithSelector(selector, token, op, PERIOD, PERIOD + 1));
        lock(id, PERIOD + 1, LOCKUP);
        vm.expectRevert(abi.encodeWithSelector(IFilecoinPay.OnlyRailOperatorAllowed.selector, op, payer));
        vm.prank(payer);
        pay.modifyRailLockup(id, PERIOD, 0);
        vm.expectRevert(error1(IFilecoinPay.RailInactiveOrSettled.selector, 9));
        lock(9, PERIOD, 1);
        approve(FUNDS * 2, PERIOD);
        vm.expectRevert("the payer's funds do not cover what is to be locked");
        lock(id, PERIOD, FUNDS + 1);
        lock(id, PERIOD, FUNDS);
        vm.assertEq(lockedOf(payer), FUNDS);
    }

    function test_AClosedRailIsOnlyUnlocked() public {
        uint256 id = rail(LOCKUP, 0);
        terminate(op, id);
        bytes4 selector = IFilecoinPay.InvalidTerminatedRailModification.selector;
        vm.expectRevert(abi.encodeWithSelector(selector, PERIOD, LOCKUP, PERIOD, LOCKUP + 1));
        lock(id, PERIOD, LOCKUP + 1);
        vm.expectRevert(abi.encodeWithSelector(selector, PERIOD, LOCKUP, PERIOD - 1, LOCKUP));
        lock(id, PERIOD - 1, LOCKUP);
        lock(id, PERIOD, 1);
        vm.assertEq(lockedOf(payer), 1);
    }

    function test_AOneTimePaymentUsesLockupAndAllowanceUp() public {
        uint256 id = rail(LOCKUP, 0);
        vm.expectEmit(address(pay));
        emit IFilecoinPay.RailRateModified(id, 0, 0);
        vm.expectEmit(address(pay));
        emit IFilecoinPay.RailOneTimePaymentProcessed(id, 995, 0, 6);
        payOnce(id, 1001);
        (uint256 allowance, uint256 usage) = opApproval();
        vm.assertEq(abi.encode(allowance, usage), abi.encode(ALLOWANCE - 1001, LOCKUP - 1001));
        vm.assertEq(abi.encode(lockupOf(id), lockedOf(payer)), abi.encode(LOCKUP - 1001, LOCKUP - 1001));
        vm.assertEq(abi.encode(fundsOf(payer), fundsOf(payee)), abi.encode(FUNDS - 1001, 995));
        vm.assertEq(fundsOf(address(pay)), 6);
        checkBooks();
    }

    /// forge-config: default.fuzz.runs = 64
    function testFuzz_TheFeeIsAPartIn200RoundedUp(uint256 amount, uint16 bps) public {
        amount = 1 + amount % LOCKUP;
        uint256 commissionBps = bps % 10_001;
        uint256 id = rail(LOCKUP, commissionBps);
        payOnce(id, amount);
        uint256 kept = fundsOf(address(pay));
        vm.assertEq(kept, amount % 200 == 0 ? amount / 200 : amount / 200 + 1);
        vm.assertEq(fundsOf(stranger), (amount - kept) * commissionBps / 10_000);
        vm.assertEq(fundsOf(payee), amount - kept - fundsOf(stranger));
        checkBooks();
    }

    function test_PaymentsThatAreRefused() public {
        uint256 id = rail(LOCKUP, 0);
        bytes4 selector = IFilecoinPay.OneTimePaymentExceedsLockup.selector;
        vm.expectRevert(abi.encodeWithSelector(selector, id, LOCKUP, LOCKUP + 1));
        payOnce(id, LOCKUP + 1);
        vm.expectRevert(abi.encodeWithSelector(IFilecoinPay.OnlyRailOperatorAllowed.selector, op, payee));
        vm.prank(payee);
        pay.modifyRailPayment(id, 0, 1);
        vm.expectRevert(error1(IFilecoinPay.RailInactiveOrSettled.selector, 9));
        payOnce(9, 1);
        vm.expectRevert(abi.encodeWithSelector(IDevnetPay.NotOnADevnet.selector, "rate"));
        vm.prank(op);
        pay.modifyRailPayment(id, 1, 0);
        terminate(op, id);
        vm.expectRevert(error1(IFilecoinPay.RateChangeNotAllowedOnTerminatedRail.selector, id));
        vm.prank(op);
        pay.modifyRailPayment(id, 1, 0);
        vm.assertEq(fundsOf(payer), FUNDS);
    }

    function test_PaymentsGoOnWithoutAnApproval() public {
        uint256 id = rail(LOCKUP, 0);
        vm.prank(payer);
        pay.setOperatorApproval(address(token), op, false, 0, 100, 0);
        payOnce(id, 1000);
        (uint256 allowance, uint256 usage) = opApproval();
        vm.assertEq(abi.encode(allowance, usage), abi.encode(0, LOCKUP - 1000)); // not below zero
        vm.assertEq(fundsOf(payer), FUNDS - 1000);
    }

    function test_ATerminatedRailPaysUntilItsEnd() public {
        uint256 id = rail(LOCKUP, 0);
        vm.roll(1010);
        vm.expectEmit(address(pay));
        emit IFilecoinPay.RailTerminated(id, payer, 1010 + PERIOD);
        terminate(payer, id);
        vm.roll(1010 + PERIOD - 1);
        payOnce(id, 1000);
        vm.roll(1010 + PERIOD);
        bytes4 selector = IFilecoinPay.CannotModifyTerminatedRailBeyondEndEpoch.selector;
        vm.expectRevert(abi.encodeWithSelector(selector, id, 1010 + PERIOD, 1010 + PERIOD));
        payOnce(id, 1);
        vm.assertEq(fundsOf(payer), FUNDS - 1000);
    }

    function test_WhoMayTerminate() public {
        uint256 id = rail(LOCKUP, 0);
        bytes4 selector = IFilecoinPay.NotAuthorizedToTerminateRail.selector;
        vm.expectRevert(abi.encodeWithSelector(selector, id, payer, op, payee));
        terminate(payee, id);
        vm.expectRevert(error1(IFilecoinPay.RailInactiveOrSettled.selector, 9));
        terminate(payer, 9);
        terminate(op, id);
        vm.expectRevert(error1(IFilecoinPay.RailAlreadyTerminated.selector, id));
        terminate(payer, id);
    }

    function test_ASettledRailGivesBackWhatItHasLocked() public {
        uint256 id = rail(LOCKUP, 0);
        payOnce(id, 1000);
        vm.roll(1005);
        vm.expectEmit(address(pay));
        emit IFilecoinPay.RailSettled(id, 0, 0, 0, 0, 1005);
        (,,,, uint256 settled, string memory note) = pay.settleRail(id, 1005);
        vm.assertEq(abi.encode(settled, note), abi.encode(1005, "no rate"));
        (,,,, settled, note) = pay.settleRail(id, 1002);
        vm.assertEq(abi.encode(settled, note), abi.encode(1005, "settled before"));
        terminate(payer, id);
        vm.roll(1005 + PERIOD + 7);
        vm.expectEmit(address(pay));
        emit IFilecoinPay.RailSettled(id, 0, 0, 0, 0, 1005 + PERIOD);
        vm.expectEmit(address(pay));
        emit IFilecoinPay.RailFinalized(id);
        (,,,, settled, note) = pay.settleRail(id, 1005 + PERIOD + 7);
        vm.assertEq(abi.encode(settled, note), abi.encode(1005 + PERIOD, "final"));
        (uint256 allowance, uint256 usage) = opApproval();
        vm.assertEq(abi.encode(allowance, usage, lockedOf(payer)), abi.encode(ALLOWANCE - 1000, 0, 0));
        vm.expectRevert(error1(IFilecoinPay.RailInactiveOrSettled.selector, id));
        pay.getRail(id);
        vm.prank(payer);
        pay.withdraw(address(token), FUNDS - 1000);
        checkBooks();
    }

    function test_SettlementsThatAreRefused() public {
        uint256 id = rail(LOCKUP, 0);
        vm.expectRevert(abi.encodeWithSelector(IFilecoinPay.CannotSettleFutureEpochs.selector, id, 1001, 1000));
        pay.settleRail(id, 1001);
        vm.expectRevert(error1(IFilecoinPay.RailInactiveOrSettled.selector, 9));
        pay.settleRail(9, 1000);
        terminate(payer, id);
        (,,,,, string memory note) = pay.settleRail(id, 1000);
        vm.assertEq(bytes(note), "settled before");
        vm.assertEq(lockedOf(payer), LOCKUP); // its end has not come
    }
}
