// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice A window of 192 nonces that moves up with the highest one used; one slot.
struct NonceWindow {
    uint64 base;
    uint192 used;
}

/// @title Requesters' nonces
library Nonces {
    uint256 private constant WIDTH = 192;

    function isUsed(NonceWindow memory window, uint256 nonce) internal pure returns (bool) {
        // unchecked: the difference counts only where there is one
        unchecked {
            uint256 base = window.base;
            uint256 offset = nonce - base;
            if (nonce < base) return true;
            return (window.used >> offset) & 1 == 1; // a shift by 192 or more leaves nothing
        }
    }

    /// @notice Mark a nonce that is not used; those that fall out of the window count as used from now on.
    function use(NonceWindow memory window, uint256 nonce) internal pure {
        // unchecked: the nonce is not below the base
        unchecked {
            uint256 offset = nonce - window.base;
            if (offset >= WIDTH) {
                uint256 shift = offset - (WIDTH - 1);
                window.base += uint64(shift);
                window.used >>= shift;
                offset = WIDTH - 1;
            }
            window.used |= uint192(1 << offset); // safe: the offset is below 192
        }
    }
}
