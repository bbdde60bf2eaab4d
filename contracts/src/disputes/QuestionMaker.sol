// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputes} from "../interfaces/IDisputes.sol";
import {MalformedPage as PageError} from "../libraries/Cursor.sol";
import {DisputeRecord, DisputeRecords} from "../libraries/DisputeRecords.sol";
import {Questions} from "../libraries/Questions.sol";

/// @title Judges leaves and makes questions, apart from `Disputes`, since both together would be too large
/// @dev Keeps nothing; `Disputes` has checked the hash of each record that it passes.
contract QuestionMaker {
    using DisputeRecords for DisputeRecord;
    using DisputeRecords for bytes32[];

    /// @notice Number of the root that `leaves` stand for.
    function find(bytes calldata record, bytes calldata leaves) external pure returns (uint256 index, bytes32 root) {
        DisputeRecord memory r = DisputeRecords.read(record);
        bytes32[] memory roots = r.roots();
        if (!_isPublishable(r, roots) || leaves.length != Questions.LEAF_BYTES * r.tasks) revert PageError();
        root = Questions.merkleRoot(leaves, 0, r.tasks);
        index = roots.rootIndex(root);
        if (index == roots.length) revert IDisputes.UnknownRoot(root);
    }

    /// @notice The question of a dispute.
    /// @param published bit i: the leaves of root i were published
    /// @param leaves those of all roots, one behind the other, or nothing where not all were published
    /// @param isLate whether nobody has to wait for leaves any more
    /// @return question its bytes
    /// @return isMoot whether a challenge claims the very leaf that was accepted
    function make(bytes calldata record, uint256 published, bytes calldata leaves, bool isLate)
        external
        pure
        returns (bytes memory question, bool isMoot)
    {
        DisputeRecord memory r = DisputeRecords.read(record);
        bytes32[] memory roots = r.roots();
        if (published != (1 << roots.length) - 1) {
            if (!isLate && _isPublishable(r, roots)) revert IDisputes.TooEarly();
            if (leaves.length > 0) revert IDisputes.HashMismatch("leaves");
            return (Questions.ofBundle(roots), false);
        }
        uint256 size = Questions.LEAF_BYTES * r.tasks;
        if (leaves.length != size * roots.length) revert IDisputes.HashMismatch("leaves");
        for (uint256 i; i < roots.length; ++i) {
            if (Questions.merkleRoot(leaves, i * size, r.tasks) != roots[i]) revert IDisputes.HashMismatch("leaves");
        }
        bool isChallenge = r.kind == DisputeRecords.CHALLENGE;
        isMoot = isChallenge && bytes32(leaves[32 * r.task:]) == r.claim;
        question = Questions.ofTasks(leaves, roots.length, r.tasks, isChallenge ? r.task : type(uint256).max);
    }

    function _isPublishable(DisputeRecord memory r, bytes32[] memory roots) private pure returns (bool) {
        return roots.length * r.tasks <= Questions.MAX_LEAVES;
    }
}
