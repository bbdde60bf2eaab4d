// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFilecoinPay} from "../../src/filecoin/IFilecoinPay.sol";

/// @title A token of which all belongs to all, and whose answers and deeds can be chosen
contract StrangeToken {
    enum Way {
        PLAIN,
        SILENT, // moves, and answers nothing
        FALSE, // moves nothing, and says so
        TAKES_HALF,
        CALLS_BACK
    }

    mapping(address => uint256) public balanceOf;
    Way public way;
    bytes public what; // what it calls back with

    constructor(Way way_, bytes memory what_) {
        (way, what) = (way_, what_);
    }

    function give(address to, uint256 amount) external {
        balanceOf[to] += amount;
    }

    function transferFrom(address from, address to, uint256 amount) external returns (bool) {
        return _move(from, to, amount);
    }

    function transfer(address to, uint256 amount) external returns (bool) {
        return _move(msg.sender, to, amount);
    }

    function _move(address from, address to, uint256 amount) private returns (bool) {
        if (way == Way.FALSE) return false;
        if (way == Way.CALLS_BACK) {
            (bool isDone, bytes memory answer) = msg.sender.call(what);
            if (!isDone) {
                assembly {
                    revert(add(answer, 32), mload(answer))
                }
            }
        }
        balanceOf[from] -= amount;
        balanceOf[to] += way == Way.TAKES_HALF ? amount / 2 : amount;
        if (way == Way.SILENT) {
            assembly {
                return(0, 0)
            }
        }
        return true;
    }
}
