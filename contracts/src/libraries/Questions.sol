// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Buffer, Buffers, Cursor} from "./Cursor.sol";

/// @title What a class is asked: the fewest tasks that tell all roots apart
/// @dev Twin of quorate/protocol/questions.py.
library Questions {
    using Buffers for Buffer;
    using Cursor for bytes;

    /// @notice Roots × tasks above this cannot be shown in one call: the class is asked for the whole bundle.
    uint256 internal constant MAX_LEAVES = 8192;
    uint256 internal constant LEAF_BYTES = 32;

    /// @notice keccak tree over `count` leaves of 32 bytes at `at`, at least one; a node without a sibling is promoted.
    function merkleRoot(bytes calldata leaves, uint256 at, uint256 count) internal pure returns (bytes32 root) {
        // Assembly, since a bundle has 511 nodes, and their bytes would stay in memory.
        assembly ("memory-safe") {
            let level := mload(0x40)
            let node := add(level, shl(5, count))
            let from := add(leaves.offset, at)
            mstore8(0, 0)
            for { let i := 0 } lt(i, count) { i := add(i, 1) } {
                calldatacopy(1, add(from, shl(5, i)), 32)
                mstore(add(level, shl(5, i)), keccak256(0, 33))
            }
            mstore8(node, 1)
            for {} gt(count, 1) {} {
                let pairs := shr(1, count)
                for { let i := 0 } lt(i, pairs) { i := add(i, 1) } {
                    mcopy(add(node, 1), add(level, shl(6, i)), 64)
                    mstore(add(level, shl(5, i)), keccak256(node, 65))
                }
                if and(count, 1) { mstore(add(level, shl(5, pairs)), mload(add(level, shl(5, sub(count, 1))))) }
                count := shr(1, add(count, 1))
            }
            root := mload(level)
        }
    }

    /// @notice Question about whole bundles: no task, and each root is its own answer.
    function ofBundle(bytes32[] memory roots) internal pure returns (bytes memory) {
        return abi.encodePacked(uint16(0), roots);
    }

    /// @notice Question from the leaves of all roots, one behind the other.
    /// @param task the one task of a challenge; `type(uint256).max` to look for those that tell the roots apart
    function ofTasks(bytes calldata leaves, uint256 roots, uint256 tasks, uint256 task)
        internal
        pure
        returns (bytes memory)
    {
        uint256[] memory taken = task < tasks ? new uint256[](1) : _findTasks(leaves, roots, tasks);
        if (task < tasks) taken[0] = task;
        Buffer memory question = Buffers.allocate(2 + 2 * taken.length + LEAF_BYTES * roots);
        question.append(taken.length, 2);
        for (uint256 i; i < taken.length; ++i) {
            question.append(taken[i], 2);
        }
        Buffer memory asked = Buffers.allocate(LEAF_BYTES * taken.length);
        for (uint256 root; root < roots; ++root) {
            asked.used = 0;
            for (uint256 i; i < taken.length; ++i) {
                asked.append(_leaf(leaves, root * tasks + taken[i]), LEAF_BYTES);
            }
            question.append(uint256(asked.hash()), 32);
        }
        return question.finish();
    }

    /// @notice Answer of a root in a question whose hash was checked.
    function answerOf(bytes calldata question, uint256 root) internal pure returns (bytes32) {
        return bytes32(question.uintAt(2 + 2 * question.uintAt(0, 2) + 32 * root, 32));
    }

    /// @dev Goes through the tasks and takes those that split roots which all tasks before left together.
    function _findTasks(bytes calldata leaves, uint256 roots, uint256 tasks)
        private
        pure
        returns (uint256[] memory taken)
    {
        uint256[] memory like = new uint256[](roots); // lowest root with the same leaves up to here
        uint256[] memory was = new uint256[](roots);
        taken = new uint256[](roots);
        uint256 count;
        uint256 groups = 1;
        for (uint256 task; task < tasks && groups < roots; ++task) {
            uint256 before = groups;
            for (uint256 root; root < roots; ++root) {
                uint256 first = like[root];
                was[root] = first;
                uint256 leaf = _leaf(leaves, root * tasks + task);
                if (leaf == _leaf(leaves, first * tasks + task)) continue;
                uint256 other = first + 1;
                while (other < root && !(was[other] == first && _leaf(leaves, other * tasks + task) == leaf)) {
                    ++other;
                }
                like[root] = other;
                if (other == root) ++groups;
            }
            if (groups > before) taken[count++] = task;
        }
        assembly ("memory-safe") {
            mstore(taken, count)
        }
    }

    function _leaf(bytes calldata leaves, uint256 index) private pure returns (uint256 leaf) {
        // The caller has checked the length; assembly, since some thousand leaves are compared.
        assembly ("memory-safe") {
            leaf := calldataload(add(leaves.offset, shl(5, index)))
        }
    }
}
