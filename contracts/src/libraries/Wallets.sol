// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {WALLET_GAS} from "../types/Limits.sol";

/// @notice Too little gas is left to ask a contract wallet and to outlive its answer.
error MoreGas();

/// @title Signatures of contract wallets (EIP-1271)
library Wallets {
    /// @dev `isValidSignature(bytes32,bytes)`: selector, and the answer that means yes.
    uint256 private constant MAGIC = 0x1626ba7e << 224;
    /// @dev A call gets at most 63 of 64 parts of what is left; the rest is for the call itself.
    uint256 private constant LEAST_GAS = WALLET_GAS * 64 / 63 + 10_000;

    /// @notice Whether the wallet says that it signed `digest`. It gets WALLET_GAS, whoever calls with how much, may
    /// change nothing, and of what it returns one word is read: burning gas, reverting or a flood of bytes is a no.
    function isSignedBy(address wallet, bytes32 digest, bytes calldata signature)
        internal
        view
        returns (bool isSigned)
    {
        uint256 size;
        assembly ("memory-safe") {
            let free := mload(0x40)
            size := and(add(signature.length, 31), not(31))
            mstore(free, MAGIC)
            mstore(add(free, 4), digest)
            mstore(add(free, 36), 64)
            mstore(add(free, add(68, size)), 0) // the last word's padding; the length's, if that is 0
            mstore(add(free, 68), signature.length)
            calldatacopy(add(free, 100), signature.offset, signature.length)
            size := add(size, 100)
        }
        if (gasleft() < LEAST_GAS) revert MoreGas();
        assembly ("memory-safe") {
            isSigned := staticcall(WALLET_GAS, wallet, mload(0x40), size, 0, 32)
            isSigned := and(isSigned, and(gt(returndatasize(), 31), eq(mload(0), MAGIC)))
        }
    }
}
