// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @notice An ascending list with one more value, unless it is in it already.
function insertSorted(bytes32[] memory sorted, bytes32 value) pure returns (bytes32[] memory result) {
    uint256 at;
    while (at < sorted.length && sorted[at] < value) {
        ++at;
    }
    if (at < sorted.length && sorted[at] == value) return sorted;
    result = new bytes32[](sorted.length + 1);
    for (uint256 i; i < result.length; ++i) {
        result[i] = i < at ? sorted[i] : i == at ? value : sorted[i - 1];
    }
}
