// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice A window of 256 nonces that moves up with the highest one used.
struct NonceWindow {
    uint64 base;
    uint256 used;
}

/// @title Requesters' nonces
library Nonces {
    uint256 private constant WIDTH = 256;

    function isUsed(NonceWindow memory window, uint256 nonce) internal pure returns (bool) {
        if (nonce < window.base) return true;
        if (nonce - window.base >= WIDTH) return false;
        return (window.used >> (nonce - window.base)) & 1 == 1;
    }

    /// @notice Mark a nonce that is not used; those that fall out of the window count as used from now on.
    function use(NonceWindow memory window, uint256 nonce) internal pure {
        if (nonce - window.base >= WIDTH) {
            uint256 shift = nonce - window.base - (WIDTH - 1);
            window.base += uint64(shift);
            window.used = shift >= WIDTH ? 0 : window.used >> shift;
        }
        window.used |= 1 << (nonce - window.base);
    }
}
