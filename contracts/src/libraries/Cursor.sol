// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

error MalformedPage();

/// @title Reading packed pages from calldata
/// @dev Twin of `Reader` in quorate/protocol/encoding.py.
library Cursor {
    /// @notice Big-endian integer of `size` (1 to 32) bytes at `at`; reverts past the end.
    function uintAt(bytes calldata data, uint256 at, uint256 size) internal pure returns (uint256 value) {
        // unchecked: offsets come from page lengths, far below 2^256
        unchecked {
            if (at + size > data.length) revert MalformedPage();
        }
        assembly ("memory-safe") {
            value := shr(sub(256, shl(3, size)), calldataload(add(data.offset, at)))
        }
    }

    /// @notice Hash of `size` bytes at `at`; reverts past the end.
    function hashAt(bytes calldata data, uint256 at, uint256 size) internal pure returns (bytes32 hash) {
        unchecked {
            if (at + size > data.length) revert MalformedPage();
        }
        assembly ("memory-safe") {
            let free := mload(0x40)
            calldatacopy(free, add(data.offset, at), size)
            hash := keccak256(free, size)
        }
    }
}

/// @notice A growing byte string whose room was taken at once.
struct Buffer {
    bytes data;
    uint256 used;
}

/// @title Packing bytes into memory
library Buffers {
    /// @notice Room for `size` bytes.
    function allocate(uint256 size) internal pure returns (Buffer memory buffer) {
        buffer.data = new bytes(size + 32); // an append writes a whole word
    }

    /// @notice Append the low `size` bytes of `value`. The caller asked for enough room; else it reverts.
    function append(Buffer memory buffer, uint256 value, uint256 size) internal pure {
        bytes memory data = buffer.data;
        uint256 at = buffer.used;
        unchecked {
            if (at + 32 > data.length) revert MalformedPage();
            buffer.used = at + size;
        }
        assembly ("memory-safe") {
            mstore(add(add(data, 32), at), shl(sub(256, shl(3, size)), value))
        }
    }

    /// @notice Append the low two bytes of `value`, `count` times. Assembly, since a table of 10,240 units has to fit a
    /// transaction together with its code.
    function appendTwoBytes(Buffer memory buffer, uint256 value, uint256 count) internal pure {
        bytes memory data = buffer.data;
        uint256 at = buffer.used;
        if (at + 2 * count + 32 > data.length) revert MalformedPage();
        buffer.used = at + 2 * count;
        assembly ("memory-safe") {
            let word := shl(240, value)
            let end := add(add(add(data, 32), at), shl(1, count))
            for { let to := add(add(data, 32), at) } lt(to, end) { to := add(to, 2) } { mstore(to, word) }
        }
    }

    /// @notice The bytes so far; the buffer is not to be used afterwards.
    function finish(Buffer memory buffer) internal pure returns (bytes memory data) {
        data = buffer.data;
        uint256 used = buffer.used;
        assembly ("memory-safe") {
            mstore(data, used)
        }
    }

    /// @notice Hash of the bytes so far.
    function hash(Buffer memory buffer) internal pure returns (bytes32 digest) {
        bytes memory data = buffer.data;
        uint256 used = buffer.used;
        assembly ("memory-safe") {
            digest := keccak256(add(data, 32), used)
        }
    }
}
