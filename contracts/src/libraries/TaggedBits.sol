// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Bitmaps that need no clearing
/// @notice The upper 56 bits of each word tell whose bits these are; a word with another tag counts as empty, so that
/// a recycled slot costs its next user one warm write and nobody a clean-up.
library TaggedBits {
    uint256 internal constant BITS = 200;
    uint256 private constant DATA_MASK = (1 << BITS) - 1;

    /// @notice Bits of a word, or none when it is tagged for somebody else.
    function load(mapping(uint256 => uint256) storage words, uint256 key, uint256 tag)
        internal
        view
        returns (uint256 data)
    {
        uint256 word = words[key];
        if (word >> BITS == tag) data = word & DATA_MASK;
    }

    function store(mapping(uint256 => uint256) storage words, uint256 key, uint256 tag, uint256 data) internal {
        words[key] = (tag << BITS) | data;
    }
}
