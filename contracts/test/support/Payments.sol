// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFilecoinPay} from "../../src/filecoin/IFilecoinPay.sol";
import {IPaidToken} from "../../src/filecoin/IPaidToken.sol";
import {IRetrievalOperator} from "../../src/filecoin/IRetrievalOperator.sol";
import {Vm} from "./Vm.sol";

/// @title A Filecoin network: token, Filecoin Pay, operator; and a reader with money there
abstract contract Payments {
    Vm internal constant vm = Vm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);

    uint256 internal constant PERIOD = 100;
    uint256 internal constant FUNDS = 1_000_000;
    uint256 internal constant ALLOWANCE = 100_000;
    uint256 internal constant LOCKUP = 10_000;
    bytes32 internal constant TERMS = keccak256("terms");
    uint256 internal constant ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    IPaidToken internal token;
    IFilecoinPay internal pay;
    IRetrievalOperator internal operator;

    uint256 internal payerSecret = uint256(keccak256("payer"));
    address internal payer = vm.addr(payerSecret);
    address internal payee = address(uint160(uint256(keccak256("payee"))));
    address internal stranger = address(uint160(uint256(keccak256("stranger"))));

    function setUp() public virtual {
        vm.warp(1_700_000_000);
        vm.roll(1000);
        token = IPaidToken(vm.deployCode("DevnetToken.sol:DevnetToken", abi.encode(address(this), 1e27)));
        pay = IFilecoinPay(vm.deployCode("DevnetPay.sol:DevnetPay", ""));
        operator = deployOperator();
        endow(payer);
    }

    function deployOperator() internal returns (IRetrievalOperator) {
        bytes memory arguments = abi.encode(address(pay), PERIOD);
        return IRetrievalOperator(vm.deployCode("RetrievalOperator.sol:RetrievalOperator", arguments));
    }

    /// @dev FUNDS in Filecoin Pay, of which the operator may lock ALLOWANCE.
    function endow(address who) internal {
        token.transfer(who, FUNDS);
        vm.startPrank(who);
        token.approve(address(pay), FUNDS);
        pay.deposit(address(token), who, FUNDS);
        pay.setOperatorApproval(address(token), address(operator), true, 0, ALLOWANCE, PERIOD);
        vm.stopPrank();
    }

    function open(uint256 lockup) internal returns (uint256 railId) {
        vm.prank(payer);
        return operator.openRail(address(token), payee, lockup);
    }

    function sign(uint256 secret, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, digest);
        return abi.encodePacked(r, s, v);
    }

    function voucher(uint256 railId, uint256 cumulative) internal view returns (bytes memory) {
        return sign(payerSecret, operator.hashVoucher(railId, cumulative, TERMS));
    }

    function redeem(uint256 railId, uint256 cumulative) internal returns (uint256) {
        return operator.redeem(railId, cumulative, TERMS, voucher(railId, cumulative));
    }

    function fee(uint256 amount) internal pure returns (uint256) {
        return (amount + 199) / 200;
    }

    function fundsOf(address who) internal view returns (uint256 funds) {
        (funds,,,) = pay.accounts(address(token), who);
    }

    function lockedOf(address who) internal view returns (uint256 locked) {
        (, locked,,) = pay.accounts(address(token), who);
    }

    function approvalOf(address who) internal view returns (uint256 allowance, uint256 usage) {
        (,, allowance,, usage,) = pay.operatorApprovals(address(token), who, address(operator));
    }

    function redeemedOf(uint256 railId) internal view returns (uint256 redeemed) {
        (,,, redeemed) = operator.rails(railId);
    }

    /// @dev Every token in Filecoin Pay is on an account, and no account has locked more than it has.
    function checkBooks() internal view {
        uint256 sum = fundsOf(payer) + fundsOf(payee) + fundsOf(stranger) + fundsOf(address(pay));
        vm.assertEq(token.balanceOf(address(pay)), sum, "what Filecoin Pay holds");
        vm.assertLe(lockedOf(payer), fundsOf(payer), "what is locked is there");
    }

    function error1(bytes4 selector, uint256 a) internal pure returns (bytes memory) {
        return abi.encodeWithSelector(selector, a);
    }
}
