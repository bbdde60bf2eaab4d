// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IStakeRegistry} from "../interfaces/IStakeRegistry.sol";
import {BEACON_REACH, BPS, FUEL_UNIT, VOTE_GAS} from "../types/Limits.sol";
import {Params} from "../types/Params.sol";

/// @title Which parameters a deployment may have
/// @dev Twin of `Params.check` in quorate/protocol/params.py.
library ParamsCheck {
    /// @dev Windows of a class vote in which absence is fined.
    uint256 private constant MAX_VOTE_WINDOWS = 7;
    uint256 private constant UNIT_PERCENT = 8;
    uint256 private constant CLASS_VOTES = 3;

    /// @notice Reverts with `UnsafeParameters` and the name of the first parameter that breaks a rule.
    function check(Params memory p) internal pure {
        _checkCounts(p);
        uint256 exposed = p.eraPeriod + _batchLife(p) + p.challengePeriod + _longestDispute(p);
        _require(p.unbondingPeriod >= 2 * exposed, "unbondingPeriod");
        uint256 audit = uint256(p.beaconDelay) * p.blockPeriod + 2 * uint256(p.auditPeriod);
        _require(p.challengePeriod >= audit, "challengePeriod");
        uint256 execution = (uint256(p.maxTaskFuel) * p.maxPrice + FUEL_UNIT - 1) / FUEL_UNIT;
        uint256 votes = CLASS_VOTES * (execution + VOTE_GAS * p.maxGasPrice);
        _require(UNIT_PERCENT * uint256(p.leastUnitWei) >= 100 * votes, "leastUnitWei");
    }

    /// @dev What is divided by, and what would make a window, a vote or a draw none.
    function _checkCounts(Params memory p) private pure {
        _require(p.eraPeriod > 0, "eraPeriod");
        _require(p.beaconDelay > 0, "beaconDelay");
        _require(p.blockPeriod > 0, "blockPeriod");
        _require(p.minBlocks > 0, "minBlocks");
        _require(p.auditBps <= BPS, "auditBps");
        _require(p.voteWindows > 0 && p.voteWindows <= MAX_VOTE_WINDOWS, "voteWindows");
        _require(p.referenceFuelRate > 0, "referenceFuelRate");
        _require(p.referenceByteRate > 0, "referenceByteRate");
    }

    function _batchLife(Params memory p) private pure returns (uint256) {
        uint256 round = BEACON_REACH * p.blockPeriod + p.maxCommitPeriod + 2 * uint256(p.directPeriod) + p.settlePeriod;
        uint256 extensions = 1 + uint256(p.maxRounds); // each adds a round or more, and a challenge period
        return p.postPeriod + 2 * extensions * round + extensions * p.challengePeriod;
    }

    function _longestDispute(Params memory p) private pure returns (uint256) {
        uint256 window = uint256(p.voteCommitPeriod) + 2 * uint256(p.voteRevealPeriod);
        return p.publishPeriod + p.voteWindows * window;
    }

    function _require(bool holds, string memory name) private pure {
        if (!holds) revert IStakeRegistry.UnsafeParameters(name);
    }
}
