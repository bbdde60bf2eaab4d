// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "./IERC20.sol";

/// @title Tokens of other people: those that answer nothing, answer false, or take a part for themselves
library Tokens {
    error SafeERC20FailedOperation(address token);

    /// @notice Take tokens from who allowed it; what has arrived.
    function pull(IERC20 token, address from, uint256 amount) internal returns (uint256 received) {
        uint256 before = token.balanceOf(address(this));
        _call(token, abi.encodeCall(IERC20.transferFrom, (from, address(this), amount)));
        return token.balanceOf(address(this)) - before;
    }

    /// @notice Give tokens away.
    function push(IERC20 token, address to, uint256 amount) internal {
        _call(token, abi.encodeCall(IERC20.transfer, (to, amount)));
    }

    /// @dev What the token reverts with is passed on; no answer at all is a yes, from where there is code.
    function _call(IERC20 token, bytes memory data) private {
        (bool isDone, bytes memory answer) = address(token).call(data);
        if (!isDone) {
            assembly ("memory-safe") {
                revert(add(answer, 32), mload(answer))
            }
        }
        bool isYes =
            answer.length == 0 ? address(token).code.length > 0 : answer.length > 31 && uint256(bytes32(answer)) == 1;
        if (!isYes) revert SafeERC20FailedOperation(address(token));
    }
}
