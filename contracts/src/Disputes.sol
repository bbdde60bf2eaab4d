// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {DisputeStorage} from "./disputes/DisputeStorage.sol";
import {Voting} from "./disputes/Voting.sol";
import {IDisputes} from "./interfaces/IDisputes.sol";
import {Params} from "./types/Params.sol";

/// @title Class votes: what everybody of a class finds decides a conflict
/// @notice Asking, voting and punishing have a file each in `disputes/`; README.md, section 5, says what they do.
contract Disputes is Voting {
    constructor(Params memory params_, address registry, address market, address challenges)
        DisputeStorage(params_, registry, market, challenges)
    {}

    /// @inheritdoc IDisputes
    function params() external view returns (Params memory) {
        return _params;
    }

    /// @inheritdoc IDisputes
    function dispute(uint64 disputeId) external view returns (Dispute memory) {
        return _dispute(disputeId);
    }

    /// @inheritdoc IDisputes
    function hasSpoken(uint64 disputeId, uint16 member) external view returns (bool) {
        return _hasBit(_dispute(disputeId), BitKind.SPOKEN, member);
    }

    /// @inheritdoc IDisputes
    function isRevealed(uint64 disputeId, uint16 member) external view returns (bool) {
        return _hasBit(_dispute(disputeId), BitKind.REVEALED, member);
    }
}
