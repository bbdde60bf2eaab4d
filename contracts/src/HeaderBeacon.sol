// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IBeacon} from "./interfaces/IBeacon.sol";

/// @title Beacon from a proven block header
/// @dev `prevrandao` is visible in its own block only; a header proves that of an earlier one.
contract HeaderBeacon is IBeacon {
    /// @dev Position of `mixHash` among the header's RLP items, the same in every fork.
    uint256 private constant MIX_HASH_INDEX = 13;

    /// @inheritdoc IBeacon
    function read(uint256 blockNumber, bytes calldata proof) external view returns (bytes32 beacon) {
        bytes32 hash = blockhash(blockNumber);
        if (hash == 0) revert BeaconUnavailable(blockNumber);
        if (keccak256(proof) != hash) revert BeaconMismatch(blockNumber);
        // The hash was right, so the RLP is a header's: offsets need no checks.
        uint256 at = 1 + uint8(proof[0]) - 0xf7;
        for (uint256 i; i < MIX_HASH_INDEX; ++i) {
            at += _itemLength(proof, at);
        }
        beacon = bytes32(proof[at + 1:at + 33]);
    }

    function _itemLength(bytes calldata data, uint256 at) private pure returns (uint256) {
        uint256 head = uint8(data[at]);
        if (head < 0x80) return 1;
        if (head < 0xb8) return head - 0x7f;
        uint256 width = head - 0xb7;
        uint256 length;
        for (uint256 i = 1; i <= width; ++i) {
            length = (length << 8) | uint8(data[at + i]);
        }
        return 1 + width + length;
    }
}
