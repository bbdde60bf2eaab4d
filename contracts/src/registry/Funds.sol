// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeMarket} from "../interfaces/IComputeMarket.sol";
import {IStakeRegistry} from "../interfaces/IStakeRegistry.sol";
import {FineKind} from "../types/FineKind.sol";
import {BPS} from "../types/Limits.sol";
import {Faults} from "./Faults.sol";

/// @title What market, disputes and challenges do with stake, pots and treasury
abstract contract Funds is Faults {
    /// @inheritdoc IStakeRegistry
    function credit(uint256[] calldata entries, uint256 fromPot) external payable onlyProtocol {
        uint256 era = _faultEra() & 0xff;
        uint256 total;
        uint256 pair = type(uint256).max; // word in hand: entries ascend, so each is written once
        uint256 word;
        for (uint256 i; i < entries.length;) {
            uint256 entry = entries[i];
            // unchecked: sums of 96 bits, and numbers of entries and bits
            unchecked {
                ++i;
                total += uint96(entry);
                uint256 id = uint24(entry >> 128);
                if (id >> 1 != pair) {
                    if (i > 1) _stakes[pair] = word;
                    pair = id >> 1;
                    word = _stakes[pair];
                }
                uint256 shift = _shift(id);
                uint256 account = uint128(word >> shift);
                word = word ^ (account ^ _credited(uint24(id), account, entry, era)) << shift;
            }
        }
        if (entries.length > 0) _stakes[pair] = word;
        if (total != msg.value + fromPot) revert WrongValue(msg.value + fromPot, total);
        if (fromPot > 0) _pots -= fromPot;
        emit Credited(entries);
    }

    /// @dev An operator's half of its word after an entry.
    function _credited(uint24 id, uint256 account, uint256 entry, uint256 era) private returns (uint256) {
        // unchecked: sums of 96 and of 32 bits
        unchecked {
            uint256 held = (account >> 32) + uint96(entry);
            if (held > type(uint96).max) revert InvalidArgument("amount");
            uint256 seats = uint32(entry >> 96);
            if (uint8(account) == era) seats += _seatsIn(account);
            else if (account & FAULTY != 0) _keepSeats(id, account);
            if (seats > MAX_SEATS) seats = MAX_SEATS;
            return held << 32 | (account & FAULTY) | seats << 8 | era;
        }
    }

    /// @inheritdoc IStakeRegistry
    function fine(uint24 operatorId, uint256 amount, FineKind kind) external onlyProtocol returns (uint256 taken) {
        if (kind >= FineKind.SILENT) _countFault(operatorId, kind == FineKind.UNREVEALED);
        taken = _take(operatorId, amount);
        _pots += taken;
        _shrink(operatorId);
        emit OperatorFined(operatorId, taken, kind);
    }

    /// @inheritdoc IStakeRegistry
    function slash(uint24 operatorId, bool wrongTogether) external returns (uint256 taken) {
        if (msg.sender != DISPUTES) revert Unauthorized();
        Operator storage o = _operators[operatorId];
        uint256 bps = wrongTogether ? BPS : _loneWrongBps(o.loneWrong);
        if (!wrongTogether && o.loneWrong < type(uint8).max) o.loneWrong += 1;
        taken = _take(operatorId, _holdings(operatorId) * bps / BPS);
        _pots += taken;
        if (bps == BPS) {
            o.ejected = true;
            uint32[] storage ids = _classesOf[operatorId];
            while (ids.length > 0) {
                _leave(ids[ids.length - 1], operatorId);
            }
        } else {
            _shrink(operatorId);
        }
        emit OperatorSlashed(operatorId, taken, o.ejected);
    }

    /// @inheritdoc IStakeRegistry
    function releasePot(uint256 amount) external onlyProtocol {
        _pots -= amount;
        _treasury += amount;
        emit TreasuryGrew(amount);
    }

    /// @inheritdoc IStakeRegistry
    function drawTreasury(uint256 amount) external onlyProtocol returns (uint256 taken) {
        taken = amount < _treasury ? amount : _treasury;
        _treasury -= taken;
        _pots += taken;
        emit TreasuryPaid(taken);
    }

    /// @inheritdoc IStakeRegistry
    function payOut(address account, uint256 amount) external onlyProtocol {
        _pots -= amount;
        IComputeMarket(MARKET).depositFor{value: amount}(account);
    }

    /// @inheritdoc IStakeRegistry
    function depositPot() external payable onlyProtocol {
        _pots += msg.value;
    }

    /// @inheritdoc IStakeRegistry
    function donate() external payable {
        _treasury += msg.value;
        emit TreasuryGrew(msg.value);
    }

    function _loneWrongBps(uint8 before) private pure returns (uint256) {
        if (before == 0) return 2000;
        return before == 1 ? 4000 : BPS;
    }
}
