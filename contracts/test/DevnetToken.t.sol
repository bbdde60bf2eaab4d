// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "../src/filecoin/IERC20.sol";
import {IPaidToken} from "../src/filecoin/IPaidToken.sol";
import {Payments} from "./support/Payments.sol";

/// @title The local token: transfers, and transfers by signature (EIP-3009)
contract DevnetTokenTest is Payments {
    bytes32 internal constant TRANSFER = keccak256(
        "TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)"
    );
    bytes32 internal constant CANCEL = keccak256("CancelAuthorization(address authorizer,bytes32 nonce)");
    bytes32 internal constant NONCE = keccak256("nonce");
    uint256 internal constant VALUE = 1234;

    uint256 internal validAfter = 1_700_000_000 - 10;
    uint256 internal validBefore = 1_700_000_000 + 60;

    function setUp() public override {
        super.setUp();
        token.transfer(payer, 10_000);
    }

    function digestOf(bytes32 body) internal view returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", token.DOMAIN_SEPARATOR(), body));
    }

    function authorization() internal view returns (uint8 v, bytes32 r, bytes32 s) {
        bytes32 body = keccak256(abi.encode(TRANSFER, payer, payee, VALUE, validAfter, validBefore, NONCE));
        return vm.sign(payerSecret, digestOf(body));
    }

    function pull(uint256 value, uint8 v, bytes32 r, bytes32 s) internal {
        vm.prank(stranger);
        token.transferWithAuthorization(payer, payee, value, validAfter, validBefore, NONCE, v, r, s);
    }

    function expectNothingPaid() internal view {
        vm.assertEq(token.balanceOf(payer), 10_000);
        vm.assertEq(token.balanceOf(payee), 0);
    }

    function test_ItIsAnOrdinaryToken() public {
        vm.assertEq(token.totalSupply(), 1e27);
        vm.assertEq(token.decimals(), 18);
        vm.assertEq(bytes(token.symbol()), "dUSDFC");
        vm.expectEmit(address(token));
        emit IERC20.Transfer(payer, payee, 100);
        vm.prank(payer);
        vm.assertTrue(token.transfer(payee, 100));
        vm.expectEmit(address(token));
        emit IERC20.Approval(payer, stranger, 50);
        vm.prank(payer);
        vm.assertTrue(token.approve(stranger, 50));
        vm.prank(stranger);
        vm.assertTrue(token.transferFrom(payer, payee, 30));
        vm.assertEq(token.allowance(payer, stranger), 20);
        vm.assertEq(token.balanceOf(payee), 130);
        vm.assertEq(token.balanceOf(payer), 9870);
    }

    function test_AnAllowanceWithoutEndStays() public {
        vm.prank(payer);
        token.approve(stranger, type(uint256).max);
        vm.prank(stranger);
        token.transferFrom(payer, payee, 30);
        vm.assertEq(token.allowance(payer, stranger), type(uint256).max);
    }

    function test_NobodySpendsWhatItHasNot() public {
        vm.expectRevert(abi.encodeWithSelector(IPaidToken.InsufficientBalance.selector, payer, 10_000, 10_001));
        vm.prank(payer);
        token.transfer(payee, 10_001);
        vm.expectRevert(abi.encodeWithSelector(IPaidToken.InvalidReceiver.selector, address(0)));
        vm.prank(payer);
        token.transfer(address(0), 1);
        vm.expectRevert(abi.encodeWithSelector(IPaidToken.InsufficientAllowance.selector, stranger, 0, 1));
        vm.prank(stranger);
        token.transferFrom(payer, stranger, 1);
        expectNothingPaid();
    }

    function test_AnybodyCarriesASignedTransferOnce() public {
        (uint8 v, bytes32 r, bytes32 s) = authorization();
        vm.assertFalse(token.authorizationState(payer, NONCE));
        vm.expectEmit(address(token));
        emit IPaidToken.AuthorizationUsed(payer, NONCE);
        vm.expectEmit(address(token));
        emit IERC20.Transfer(payer, payee, VALUE);
        pull(VALUE, v, r, s);
        vm.assertTrue(token.authorizationState(payer, NONCE));
        vm.assertEq(token.balanceOf(payee), VALUE);
        vm.expectRevert(abi.encodeWithSelector(IPaidToken.AuthorizationUsedOrCanceled.selector, payer, NONCE));
        pull(VALUE, v, r, s);
        vm.assertEq(token.balanceOf(payee), VALUE);
    }

    function test_ASignedTransferHasItsTime() public {
        (uint8 v, bytes32 r, bytes32 s) = authorization();
        vm.warp(validAfter);
        vm.expectRevert(error1(IPaidToken.AuthorizationNotYetValid.selector, validAfter));
        pull(VALUE, v, r, s);
        vm.warp(validBefore);
        vm.expectRevert(error1(IPaidToken.AuthorizationExpired.selector, validBefore));
        pull(VALUE, v, r, s);
        expectNothingPaid();
        vm.warp(validBefore - 1);
        pull(VALUE, v, r, s);
        vm.assertEq(token.balanceOf(payee), VALUE);
    }

    function test_NothingSignedCanBeChanged() public {
        (uint8 v, bytes32 r, bytes32 s) = authorization();
        vm.expectRevert(IPaidToken.InvalidSignature.selector);
        pull(VALUE + 1, v, r, s);
        validBefore += 1;
        vm.expectRevert(IPaidToken.InvalidSignature.selector);
        pull(VALUE, v, r, s);
        expectNothingPaid();
    }

    function test_TheOtherFormOfASignatureIsNone() public {
        (uint8 v, bytes32 r, bytes32 s) = authorization();
        vm.expectRevert(IPaidToken.InvalidSignature.selector);
        pull(VALUE, v == 27 ? 28 : 27, r, bytes32(ORDER - uint256(s)));
        vm.expectRevert(IPaidToken.InvalidSignature.selector);
        pull(VALUE, v - 27, r, s);
        vm.expectRevert(IPaidToken.InvalidSignature.selector);
        pull(VALUE, v, bytes32(0), s);
        expectNothingPaid();
    }

    function test_ASignatureForAnotherChainOrTokenIsNone() public {
        (uint8 v, bytes32 r, bytes32 s) = authorization();
        vm.chainId(314);
        vm.expectRevert(IPaidToken.InvalidSignature.selector);
        pull(VALUE, v, r, s);
        vm.chainId(31337);
        token = IPaidToken(vm.deployCode("DevnetToken.sol:DevnetToken", abi.encode(payer, 10_000)));
        vm.expectRevert(IPaidToken.InvalidSignature.selector);
        pull(VALUE, v, r, s);
        expectNothingPaid();
    }

    function test_AnAccountWithoutAKeyIsNobodys() public {
        vm.expectRevert(IPaidToken.InvalidSignature.selector);
        token.transferWithAuthorization(address(0), payee, 0, 0, validBefore, NONCE, 27, bytes32(0), bytes32(0));
    }

    function test_ACancelledNonceIsUseless() public {
        (uint8 v, bytes32 r, bytes32 s) = authorization();
        bytes32 digest = digestOf(keccak256(abi.encode(CANCEL, payer, NONCE)));
        (uint8 cv, bytes32 cr, bytes32 cs) = vm.sign(payerSecret, digest);
        vm.expectRevert(IPaidToken.InvalidSignature.selector);
        token.cancelAuthorization(payer, NONCE, v, r, s);
        vm.expectEmit(address(token));
        emit IPaidToken.AuthorizationCanceled(payer, NONCE);
        token.cancelAuthorization(payer, NONCE, cv, cr, cs);
        vm.assertTrue(token.authorizationState(payer, NONCE));
        vm.expectRevert(abi.encodeWithSelector(IPaidToken.AuthorizationUsedOrCanceled.selector, payer, NONCE));
        pull(VALUE, v, r, s);
        vm.expectRevert(abi.encodeWithSelector(IPaidToken.AuthorizationUsedOrCanceled.selector, payer, NONCE));
        token.cancelAuthorization(payer, NONCE, cv, cr, cs);
        expectNothingPaid();
    }

    function test_ASignedTransferNeedsTheMoney() public {
        (uint8 v, bytes32 r, bytes32 s) = authorization();
        vm.prank(payer);
        token.transfer(stranger, 9000);
        vm.expectRevert(abi.encodeWithSelector(IPaidToken.InsufficientBalance.selector, payer, 1000, VALUE));
        pull(VALUE, v, r, s);
        vm.assertFalse(token.authorizationState(payer, NONCE)); // it can be carried once the money is there
    }
}
