// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFilecoinPay} from "../../src/filecoin/IFilecoinPay.sol";
import {IRetrievalOperator} from "../../src/filecoin/IRetrievalOperator.sol";

/// @title A Filecoin Pay whose rails end when its maker likes, and that redeems the same voucher again while it pays
contract StrangePay {
    uint256 public paid;
    uint256 public payments;
    uint256 public refusals;
    uint256 public endEpoch;
    uint256 private _endsAt;
    bytes private _again;

    function endAt(uint256 epoch) external {
        _endsAt = epoch;
    }

    function callAgain(bytes calldata data) external {
        _again = data;
    }

    function createRail(address, address, address, address, uint256, address) external pure returns (uint256) {
        return 1;
    }

    function modifyRailLockup(uint256, uint256, uint256) external {}

    function terminateRail(uint256) external {
        endEpoch = _endsAt;
    }

    function getRail(uint256) external view returns (IFilecoinPay.RailView memory found) {
        (found.lockupFixed, found.endEpoch) = (1_000_000, endEpoch);
    }

    function modifyRailPayment(uint256, uint256, uint256 amount) external {
        paid += amount;
        if (payments++ > 2) return;
        (bool isDone, bytes memory answer) = msg.sender.call(_again);
        if (!isDone && bytes4(answer) == IRetrievalOperator.StaleVoucher.selector) ++refusals;
    }
}
