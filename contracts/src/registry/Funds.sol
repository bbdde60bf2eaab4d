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
        uint256 total = _creditAll(entries);
        if (total != msg.value + fromPot) revert WrongValue(msg.value + fromPot, total);
        if (fromPot > 0) _pots -= fromPot;
        emit Credited(entries);
    }

    /// @dev Assembly, since a settled page has an entry for each operator: the word of a pair is read and written once.
    function _creditAll(uint256[] calldata entries) private returns (uint256 total) {
        uint256 era = _faultEra() & 0xff;
        uint256 pair = type(uint256).max; // whose word is in hand: entries ascend
        uint256 slot;
        uint256 word;
        uint256 tooMuch;
        for (uint256 i; i < entries.length;) {
            uint256 id;
            uint256 waiting; // the account, where seats of another era have to be kept for a fault record
            assembly ("memory-safe") {
                let entry := calldataload(add(entries.offset, shl(5, i)))
                i := add(i, 1)
                id := and(shr(128, entry), 0xffffff)
                if xor(shr(1, id), pair) {
                    if slot { sstore(slot, word) }
                    pair := shr(1, id)
                    mstore(0x00, pair)
                    mstore(0x20, _stakes.slot)
                    slot := keccak256(0x00, 0x40)
                    word := sload(slot)
                }
                // stake u96 ‖ faulty u1 ‖ seats u23 ‖ era u8, the odd operator's above the even one's
                let shift := shl(7, and(id, 1))
                let account := and(shr(shift, word), 0xffffffffffffffffffffffffffffffff)
                let amount := and(entry, 0xffffffffffffffffffffffff)
                total := add(total, amount)
                amount := add(shr(32, account), amount)
                tooMuch := or(tooMuch, shr(96, amount))
                let seats := and(shr(96, entry), 0xffffffff)
                switch eq(and(account, 0xff), era)
                case 1 { seats := add(seats, and(shr(8, account), MAX_SEATS)) }
                default { waiting := mul(account, iszero(iszero(and(account, FAULTY)))) }
                if gt(seats, MAX_SEATS) { seats := MAX_SEATS }
                amount := or(or(shl(32, amount), and(account, FAULTY)), or(shl(8, seats), era))
                word := xor(word, shl(shift, xor(account, amount)))
            }
            if (waiting != 0) _keepSeats(uint24(id), waiting);
        }
        if (tooMuch > 0) revert InvalidArgument("amount");
        assembly ("memory-safe") {
            if slot { sstore(slot, word) }
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
