// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Where randomness comes from
interface IBeacon {
    /// @notice The block is not mined yet, or too old for `blockhash`.
    error BeaconUnavailable(uint256 blockNumber);
    /// @notice The header is not that of the block.
    error BeaconMismatch(uint256 blockNumber);

    /// @notice Randomness of a block, fixed by the chain before anybody could know it.
    /// @param blockNumber at most 256 blocks ago
    /// @param proof for `HeaderBeacon` the RLP of the block's header
    function read(uint256 blockNumber, bytes calldata proof) external view returns (bytes32 beacon);
}
