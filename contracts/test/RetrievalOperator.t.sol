// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFilecoinPay} from "../src/filecoin/IFilecoinPay.sol";
import {IRetrievalOperator} from "../src/filecoin/IRetrievalOperator.sol";
import {Payments} from "./support/Payments.sol";
import {StrangePay} from "./support/StrangePays.sol";

/// @title Rails for retrieval: what a reader signs is what it pays, once, and never more than it has allowed
contract RetrievalOperatorTest is Payments {
    function expectPaid(uint256 amount, uint256 fees) internal view {
        vm.assertEq(fundsOf(payer), FUNDS - amount, "the reader");
        vm.assertEq(fundsOf(payee), amount - fees, "the provider");
        vm.assertEq(fundsOf(address(pay)), fees, "the fee");
        checkBooks();
    }

    function revoke() internal {
        vm.prank(payer);
        pay.setOperatorApproval(address(token), address(operator), false, 0, 0, 0);
    }

    function close(address who, uint256 railId) internal {
        vm.prank(who);
        operator.close(railId);
    }

    // opening

    function test_OpenRail() public {
        vm.expectEmit(address(operator));
        emit IRetrievalOperator.RailOpened(1, payer, payee, address(token), LOCKUP);
        uint256 id = open(LOCKUP);
        IFilecoinPay.RailView memory found = pay.getRail(id);
        bytes memory parties = abi.encode(found.from, found.to, found.operator, found.token);
        vm.assertEq(parties, abi.encode(payer, payee, operator, token));
        bytes memory rest = abi.encode(found.lockupPeriod, found.lockupFixed, found.commissionRateBps);
        vm.assertEq(rest, abi.encode(PERIOD, LOCKUP, 0));
        (address from, address to, address paidIn, uint256 redeemed) = operator.rails(id);
        vm.assertEq(abi.encode(from, to, paidIn, redeemed), abi.encode(payer, payee, token, 0));
        vm.assertEq(address(operator.PAY()), address(pay));
        vm.assertEq(operator.LOCKUP_PERIOD(), PERIOD);
    }

    function test_RailsThatAreRefused() public {
        vm.expectRevert(IRetrievalOperator.NothingToLock.selector);
        open(0);
        bytes4 selector = IFilecoinPay.OperatorLockupAllowanceExceeded.selector;
        vm.expectRevert(abi.encodeWithSelector(selector, ALLOWANCE, ALLOWANCE + 1));
        open(ALLOWANCE + 1);
        vm.expectRevert(abi.encodeWithSelector(IFilecoinPay.OperatorNotApproved.selector, stranger, operator));
        vm.prank(stranger);
        operator.openRail(address(token), payee, 1);
        vm.prank(payer);
        pay.setOperatorApproval(address(token), address(operator), true, 0, ALLOWANCE, PERIOD - 1);
        selector = IFilecoinPay.LockupPeriodExceedsOperatorMaximum.selector;
        vm.expectRevert(abi.encodeWithSelector(selector, token, operator, PERIOD - 1, PERIOD));
        open(LOCKUP);
        vm.assertEq(lockedOf(payer), 0);
    }

    function test_TopUp() public {
        uint256 id = open(LOCKUP);
        vm.expectEmit(address(operator));
        emit IRetrievalOperator.RailToppedUp(id, LOCKUP + 5);
        vm.prank(payer);
        operator.topUp(id, 5);
        vm.assertEq(lockedOf(payer), LOCKUP + 5);
        bytes4 selector = IRetrievalOperator.OnlyPayer.selector;
        vm.expectRevert(abi.encodeWithSelector(selector, id, payer));
        vm.prank(payee);
        operator.topUp(id, 5);
        vm.expectRevert(error1(IRetrievalOperator.RailUnknown.selector, 9));
        operator.topUp(9, 5);
        vm.startPrank(payer);
        vm.expectRevert(IRetrievalOperator.NothingToLock.selector);
        operator.topUp(id, 0);
        selector = IFilecoinPay.OperatorLockupAllowanceExceeded.selector;
        vm.expectRevert(abi.encodeWithSelector(selector, ALLOWANCE, ALLOWANCE + 1));
        operator.topUp(id, ALLOWANCE - LOCKUP - 4);
        vm.stopPrank();
        vm.assertEq(lockedOf(payer), LOCKUP + 5);
    }

    // redeeming

    function test_AnybodyRedeemsAVoucherForThePayee() public {
        uint256 id = open(LOCKUP);
        bytes memory signature = voucher(id, 1001);
        vm.expectEmit(address(operator));
        emit IRetrievalOperator.VoucherRedeemed(id, payer, payee, 1001, 1001, 1001, TERMS);
        vm.expectEmit(address(pay));
        emit IFilecoinPay.RailOneTimePaymentProcessed(id, 995, 0, 6);
        vm.prank(stranger);
        vm.assertEq(operator.redeem(id, 1001, TERMS, signature), 1001);
        expectPaid(1001, 6);
        vm.assertEq(redeemedOf(id), 1001);
    }

    function test_OnlyWhatALaterVoucherAddsIsPaid() public {
        uint256 id = open(LOCKUP);
        redeem(id, 1000);
        vm.assertEq(redeem(id, 1500), 500);
        expectPaid(1500, fee(1000) + fee(500));
    }

    function test_AReplayedOrStaleVoucherPaysNothing() public {
        uint256 id = open(LOCKUP);
        redeem(id, 1000);
        bytes4 selector = IRetrievalOperator.StaleVoucher.selector;
        bytes memory signature = voucher(id, 1000);
        vm.expectRevert(abi.encodeWithSelector(selector, id, 1000, 1000));
        operator.redeem(id, 1000, TERMS, signature);
        signature = voucher(id, 999);
        vm.expectRevert(abi.encodeWithSelector(selector, id, 999, 1000));
        operator.redeem(id, 999, TERMS, signature);
        expectPaid(1000, 5);
    }

    function expectWrongSigner(uint256 id, uint256 cumulative, bytes32 terms, bytes memory signature) internal {
        vm.expectRevert(error1(IRetrievalOperator.WrongSigner.selector, id));
        operator.redeem(id, cumulative, terms, signature);
    }

    function test_NothingSignedCanBeChanged() public {
        uint256 id = open(LOCKUP);
        bytes memory signature = voucher(id, 1000);
        expectWrongSigner(id, 1001, TERMS, signature);
        expectWrongSigner(id, 1000, keccak256("other terms"), signature);
        expectPaid(0, 0);
    }

    function test_AVoucherOfAForeignRailPaysNothing() public {
        uint256 id = open(LOCKUP);
        uint256 other = open(LOCKUP);
        bytes memory signature = voucher(id, 1000);
        expectWrongSigner(other, 1000, TERMS, signature);
        vm.expectRevert(error1(IRetrievalOperator.RailUnknown.selector, 9));
        operator.redeem(9, 1000, TERMS, signature);
        expectPaid(0, 0);
    }

    function test_AVoucherForAnotherChainOrOperatorPaysNothing() public {
        uint256 id = open(LOCKUP);
        bytes memory here = voucher(id, 1000);
        vm.chainId(314);
        expectWrongSigner(id, 1000, TERMS, here);
        bytes memory there = voucher(id, 1000);
        vm.chainId(31337);
        expectWrongSigner(id, 1000, TERMS, there);
        IRetrievalOperator first = operator;
        operator = deployOperator();
        there = voucher(id, 1000);
        operator = first;
        expectWrongSigner(id, 1000, TERMS, there);
        expectPaid(0, 0);
    }

    function test_OnlyThePayersSignatureCounts() public {
        uint256 id = open(LOCKUP);
        bytes32 digest = operator.hashVoucher(id, 1000, TERMS);
        expectWrongSigner(id, 1000, TERMS, sign(uint256(keccak256("payee")), digest));
        uint256 secret = uint256(keccak256("another reader"));
        endow(vm.addr(secret));
        expectWrongSigner(id, 1000, TERMS, sign(secret, digest));
        vm.assertEq(fundsOf(payer), FUNDS);
        vm.assertEq(fundsOf(payee), 0);
    }

    function test_TheOtherFormOfASignatureIsNone() public {
        uint256 id = open(LOCKUP);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(payerSecret, operator.hashVoucher(id, 1000, TERMS));
        bytes32 high = bytes32(ORDER - uint256(s));
        expectWrongSigner(id, 1000, TERMS, abi.encodePacked(r, high, v == 27 ? 28 : 27));
        expectWrongSigner(id, 1000, TERMS, abi.encodePacked(r, s, v - 27));
        expectWrongSigner(id, 1000, TERMS, abi.encodePacked(r, s));
        expectWrongSigner(id, 1000, TERMS, abi.encodePacked(r, s, v, hex"00"));
        expectWrongSigner(id, 1000, TERMS, new bytes(65));
        expectWrongSigner(id, 1000, TERMS, "");
        expectPaid(0, 0);
    }

    function test_WhatIsLockedIsPaidAndTheRestAfterATopUp() public {
        uint256 id = open(1000);
        vm.expectEmit(address(operator));
        emit IRetrievalOperator.VoucherRedeemed(id, payer, payee, 1000, 1000, 1600, TERMS);
        vm.assertEq(redeem(id, 1600), 1000);
        bytes memory signature = voucher(id, 1600);
        vm.expectRevert(error1(IRetrievalOperator.LockupSpent.selector, id));
        operator.redeem(id, 1600, TERMS, signature);
        vm.prank(payer);
        operator.topUp(id, 5000);
        vm.assertEq(operator.redeem(id, 1600, TERMS, signature), 600);
        expectPaid(1600, 8);
    }

    function test_APaymentThatCallsBackIsMadeOnce() public {
        StrangePay strange = new StrangePay();
        pay = IFilecoinPay(address(strange));
        operator = deployOperator();
        uint256 id = open(LOCKUP);
        bytes memory signature = voucher(id, 1000);
        strange.callAgain(abi.encodeCall(operator.redeem, (id, 1000, TERMS, signature)));
        operator.redeem(id, 1000, TERMS, signature);
        vm.assertEq(abi.encode(strange.paid(), strange.payments(), strange.refusals()), abi.encode(1000, 1, 1));
        vm.assertEq(redeemedOf(id), 1000);
    }

    // revoking and closing

    function test_WhatWasSignedIsPaidAfterARevocation() public {
        uint256 id = open(LOCKUP);
        redeem(id, 1000);
        revoke();
        close(payer, id);
        vm.roll(1000 + PERIOD - 1);
        redeem(id, 3000); // signed before; and nothing can be signed away that is not locked
        expectPaid(3000, fee(1000) + fee(2000));
        vm.expectRevert(abi.encodeWithSelector(IFilecoinPay.OperatorNotApproved.selector, payer, operator));
        open(1);
        bytes4 selector = IFilecoinPay.InvalidTerminatedRailModification.selector;
        vm.expectRevert(abi.encodeWithSelector(selector, PERIOD, LOCKUP - 3000, PERIOD, LOCKUP - 2999));
        vm.prank(payer);
        operator.topUp(id, 1);
        bytes memory signature = voucher(id, 4000);
        vm.roll(1000 + PERIOD);
        selector = IFilecoinPay.CannotModifyTerminatedRailBeyondEndEpoch.selector;
        vm.expectRevert(abi.encodeWithSelector(selector, id, 1000 + PERIOD, 1000 + PERIOD));
        operator.redeem(id, 4000, TERMS, signature);
        pay.settleRail(id, 1000 + PERIOD);
        vm.expectRevert(error1(IFilecoinPay.RailInactiveOrSettled.selector, id));
        operator.redeem(id, 4000, TERMS, signature);
        expectPaid(3000, fee(1000) + fee(2000));
        vm.assertEq(lockedOf(payer), 0);
    }

    function test_ThePayerClosesARail() public {
        uint256 id = open(LOCKUP);
        vm.roll(1010);
        vm.expectEmit(address(operator));
        emit IRetrievalOperator.RailClosed(id, payer, 1010 + PERIOD);
        close(payer, id);
        vm.assertEq(lockedOf(payer), LOCKUP);
        vm.expectRevert(error1(IFilecoinPay.RailAlreadyTerminated.selector, id));
        close(payer, id);
    }

    function test_ThePayeeClosesARailAndUnlocksIt() public {
        uint256 id = open(LOCKUP);
        redeem(id, 1000);
        vm.expectEmit(address(operator));
        emit IRetrievalOperator.RailClosed(id, payee, 1000 + PERIOD);
        close(payee, id);
        vm.assertEq(lockedOf(payer), 0);
        (uint256 allowance, uint256 usage) = approvalOf(payer);
        vm.assertEq(abi.encode(allowance, usage), abi.encode(ALLOWANCE - 1000, 0));
        bytes memory signature = voucher(id, 2000);
        vm.expectRevert(error1(IRetrievalOperator.LockupSpent.selector, id));
        operator.redeem(id, 2000, TERMS, signature);
        expectPaid(1000, 5);
    }

    function test_ThePayeeUnlocksARailThatThePayerClosed() public {
        uint256 id = open(LOCKUP);
        close(payer, id);
        vm.roll(1050);
        vm.expectEmit(address(operator));
        emit IRetrievalOperator.RailClosed(id, payee, 1000 + PERIOD);
        close(payee, id);
        vm.assertEq(lockedOf(payer), 0);
        close(payee, id); // and finds nothing more to do
        vm.assertEq(lockedOf(payer), 0);
    }

    function test_NobodyElseClosesARail() public {
        uint256 id = open(LOCKUP);
        vm.expectRevert(error1(IRetrievalOperator.OnlyPayerOrPayee.selector, id));
        close(stranger, id);
        vm.expectRevert(error1(IRetrievalOperator.RailUnknown.selector, 9));
        close(payer, 9);
        vm.assertEq(pay.getRail(id).endEpoch, 0);
    }

    function test_APayerThatIsBehindCannotCutItsPayeeOff() public {
        StrangePay strange = new StrangePay();
        pay = IFilecoinPay(address(strange));
        operator = deployOperator();
        uint256 id = open(LOCKUP);
        strange.endAt(1000 + PERIOD - 1);
        vm.expectRevert(abi.encodeWithSelector(IRetrievalOperator.PayerBehind.selector, id, 1000 + PERIOD - 1));
        close(payer, id);
        vm.assertEq(strange.endEpoch(), 0);
        close(payee, id);
        vm.assertEq(strange.endEpoch(), 1000 + PERIOD - 1);
    }

    // any order of all of it

    /// forge-config: default.fuzz.runs = 64
    function testFuzz_NoMoreIsRedeemedThanWasSignedAndAllowed(uint256 seed) public {
        uint256 granted = ALLOWANCE;
        uint256[4] memory signed;
        uint256[4] memory seen;
        uint256 fees;
        for (uint256 i; i < 4; ++i) {
            open(1 + pick(seed, i, 2 * ALLOWANCE / 9));
        }
        for (uint256 turn; turn < 30; ++turn) {
            uint256 chance = uint256(keccak256(abi.encode(seed, "turn", turn)));
            uint256 rail = pick(chance, 0, 4);
            uint256 act = pick(chance, 1, 10);
            if (act < 6) {
                signed[rail] += pick(chance, 2, ALLOWANCE / 8);
                fees += tryRedeem(rail + 1, signed[rail]);
            } else if (act == 6) {
                fees += tryRedeem(rail + 1, pick(chance, 3, signed[rail] + 1)); // an old one
            } else if (act == 7) {
                tryTopUp(rail + 1, 1 + pick(chance, 4, ALLOWANCE / 8));
            } else if (act == 8) {
                if (pick(chance, 5, 3) == 0) revoke();
                else if (pick(chance, 5, 3) == 1) tryClose(chance % 2 == 0 ? payer : payee, rail + 1);
                else granted += tryAllowMore(pick(chance, 6, ALLOWANCE / 4));
            } else {
                vm.roll(vm.getBlockNumber() + pick(chance, 7, PERIOD / 2));
            }
            checkSums(signed, seen, granted, fees);
        }
    }

    function checkSums(uint256[4] memory signed, uint256[4] memory seen, uint256 granted, uint256 fees) internal view {
        uint256 sum;
        for (uint256 i; i < 4; ++i) {
            uint256 redeemed = redeemedOf(i + 1);
            vm.assertLe(redeemed, signed[i], "no more than was signed");
            vm.assertGe(redeemed, seen[i], "and it only grows");
            seen[i] = redeemed;
            sum += redeemed;
        }
        (uint256 allowance, uint256 usage) = approvalOf(payer);
        vm.assertLe(sum + usage, granted, "redeemed, and what still can be, are within what was ever allowed");
        vm.assertLe(sum + allowance, granted, "what was paid is gone from the allowance");
        vm.assertEq(usage, lockedOf(payer), "the only operator");
        expectPaid(sum, fees);
    }

    function pick(uint256 seed, uint256 index, uint256 most) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, index))) % most;
    }

    function tryRedeem(uint256 railId, uint256 cumulative) internal returns (uint256) {
        bytes memory signature = voucher(railId, cumulative);
        try operator.redeem(railId, cumulative, TERMS, signature) returns (uint256 amount) {
            return fee(amount);
        } catch {
            return 0;
        }
    }

    function tryTopUp(uint256 railId, uint256 amount) internal {
        vm.prank(payer);
        try operator.topUp(railId, amount) {} catch {}
    }

    function tryClose(address who, uint256 railId) internal {
        vm.prank(who);
        try operator.close(railId) {} catch {}
    }

    function tryAllowMore(uint256 amount) internal returns (uint256) {
        vm.prank(payer);
        try pay.increaseOperatorApproval(address(token), address(operator), 0, amount) {
            return amount;
        } catch {
            return 0;
        }
    }
}
