// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IStakeRegistry} from "../interfaces/IStakeRegistry.sol";
import {Classes} from "./Classes.sol";

/// @title Seats that failed: counted by era, judged once the era is over
abstract contract Faults is Classes {
    uint256 private constant TOLERATED = 3;
    uint256 private constant TOLERATED_SHARE = 20; // one in so many
    uint256 private constant MAX_OFFENCES = 3;

    /// @inheritdoc IStakeRegistry
    function judge(uint24 operatorId) external {
        FaultRecord memory f = _operators[operatorId].faults;
        if (f.failed == 0 || f.era == _faultEra()) revert NothingToJudge();
        _judge(operatorId, f);
    }

    /// @inheritdoc IStakeRegistry
    function rejoin() external {
        uint24 id = _mine();
        uint40 until = _operators[id].jailedUntil;
        if (until == 0) revert NothingToJudge();
        if (block.timestamp < until) revert Jailed(until);
        _operators[id].jailedUntil = 0;
        _touchClasses(id);
        emit OperatorReleased(id);
    }

    function _countFault(uint24 operatorId, bool unrevealed) internal {
        FaultRecord memory f = _operators[operatorId].faults;
        uint32 era = _faultEra();
        if (f.failed > 0 && f.era != era) f = _judge(operatorId, f);
        f.era = era;
        f.failed += 1;
        if (unrevealed) f.unrevealed += 1;
        _operators[operatorId].faults = f;
        _stakes[operatorId >> 1] |= FAULTY << _shift(operatorId);
    }

    /// @dev Seats that an operator filled in an era of which its word keeps no more: they count for the record that
    /// waits.
    function _keepSeats(uint24 operatorId, uint256 account) internal {
        FaultRecord storage f = _operators[operatorId].faults;
        if (uint8(f.era) == uint8(account)) f.done += uint32(_seatsIn(account));
    }

    /// @dev The verdict on a record of an era that is over; returns the empty record that is stored instead.
    function _judge(uint24 operatorId, FaultRecord memory f) private returns (FaultRecord memory) {
        uint256 account = _accountOf(operatorId);
        uint256 done = f.done;
        if (uint8(f.era) == uint8(account)) done += _seatsIn(account);
        bool isFaulty = f.failed > TOLERATED && TOLERATED_SHARE * f.failed > f.failed + done;
        bool isOffence = isFaulty && f.unrevealed > 0;
        if (isOffence) {
            bool isRemembered = (uint256(f.era) - f.offenceEra) * _params.eraPeriod < _params.faultMemory;
            if (!isRemembered) f.offences = 0;
            if (f.offences < MAX_OFFENCES) f.offences += 1;
            f.offenceEra = f.era;
        }
        (f.era, f.failed, f.unrevealed, f.done) = (0, 0, 0, 0);
        _operators[operatorId].faults = f;
        _stakes[operatorId >> 1] &= ~(FAULTY << _shift(operatorId));
        if (isFaulty) _jail(operatorId);
        if (isOffence) _slashOffender(operatorId, f.offences);
        return f;
    }

    function _jail(uint24 operatorId) private {
        uint40 until = uint40((uint256(_faultEra()) + _params.jailEras) * _params.eraPeriod);
        _operators[operatorId].jailedUntil = until;
        _touchClasses(operatorId);
        emit OperatorJailed(operatorId, until);
    }

    function _slashOffender(uint24 operatorId, uint256 offences) private {
        uint256 percent = offences == 1 ? 1 : offences == 2 ? 2 : 5;
        uint256 taken = _take(operatorId, _holdings(operatorId) * percent / 100);
        _treasury += taken;
        _shrink(operatorId);
        emit OperatorSlashed(operatorId, taken, false);
        emit TreasuryGrew(taken);
    }

    /// @dev What can be taken from an operator.
    function _holdings(uint24 operatorId) internal view returns (uint256) {
        return _stakeOf(operatorId) + _operators[operatorId].unbonding;
    }

    /// @dev Takes up to `amount`: stake first, then what is unbonding. The caller books it.
    function _take(uint24 operatorId, uint256 amount) internal returns (uint256 taken) {
        uint256 held = _stakeOf(operatorId);
        if (amount <= held) {
            _setStake(operatorId, held - amount);
            return amount;
        }
        Operator storage o = _operators[operatorId];
        uint256 rest = amount - held;
        uint256 fromUnbonding = rest < o.unbonding ? rest : o.unbonding;
        _setStake(operatorId, 0);
        o.unbonding -= uint96(fromUnbonding); // safe: it is no more than that
        return held + fromUnbonding;
    }
}
