// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputes} from "../interfaces/IDisputes.sol";
import {Cursor} from "../libraries/Cursor.sol";
import {DisputeRecord, DisputeRecords} from "../libraries/DisputeRecords.sol";
import {LoadedTable, TableReader} from "../libraries/TableReader.sol";
import {FineKind} from "../types/FineKind.sol";
import {BPS} from "../types/Limits.sol";
import {DisputeStorage} from "./DisputeStorage.sol";

/// @title The end of a dispute: the bundle's money at once, the members' row by row
abstract contract Punishing is DisputeStorage {
    using Cursor for bytes;
    using TableReader for LoadedTable;

    /// @dev How a class vote ended.
    struct Ending {
        bytes32 root; // what the bundle is accepted with, or 0
        bytes32 answer;
        Aftermath aftermath;
        bytes tally;
    }

    uint8 internal constant ACCEPTED = 1;
    uint8 internal constant VOID = 4;
    /// @dev A row of a tally: windows of silence in three bits, conduct in two, then this.
    uint256 internal constant UNKNOWABLE = 1 << 5;
    uint256 private constant RIGHT = 1;
    uint256 private constant WRONG = 2;
    uint256 private constant WRONG_TOGETHER = 3;
    uint256 private constant SPENT_BPS = 4000;
    uint256 private constant CHALLENGER_BONDS = 10;

    /// @inheritdoc IDisputes
    function punish(uint64 disputeId, bytes calldata record, bytes calldata tally, uint256 upTo) external {
        Dispute storage d = _disputeIn(disputeId, Status.PUNISHING, record);
        if (keccak256(tally) != d.tallyHash) revert HashMismatch("tally");
        DisputeRecord memory r = DisputeRecords.read(record);
        _punish(d, r, _load(r.classId, r.table), tally, upTo);
    }

    function _end(Dispute storage d, DisputeRecord memory r, LoadedTable memory table, Ending memory e, uint256 rows)
        internal
    {
        uint8 verdict = e.root == 0 ? VOID : ACCEPTED;
        emit DisputeDecided(d.id, r.batchId, uint16(r.bundle), verdict, e.root, e.answer, e.tally);
        (d.status, d.tallyHash) = (Status.PUNISHING, keccak256(e.tally));
        if (r.kind == DisputeRecords.CONFLICT) {
            _resolve(r, table, e.root);
            if (r.pot > 0) REGISTRY.releasePot(r.pot);
        } else {
            if (e.aftermath == Aftermath.UPHELD && MARKET.reverse(r.batchId, uint16(r.bundle), r.round)) {
                e.aftermath = Aftermath.REVERSED;
            }
            // The bond of a challenge that failed waits for the voters, who are paid behind the last row.
            if (r.pot > 0 && e.aftermath != Aftermath.DISMISSED) REGISTRY.payOut(r.challenger, r.pot);
        }
        d.aftermath = e.aftermath;
        _punish(d, r, table, e.tally, rows);
    }

    /// @dev Escrow of a conflict: to seats that were right, to who settled, to the treasury, and back.
    function _resolve(DisputeRecord memory r, LoadedTable memory table, bytes32 root) private {
        if (root == 0) {
            return MARKET.resolve(r.batchId, r.requester, r.escrow, r.collator, 0, 0, new uint256[](0), "");
        }
        uint256[] memory right = new uint256[](r.members.length);
        uint256 count;
        for (uint256 i; i < right.length; ++i) {
            if (r.votes[i] == root) right[count++] = r.members[i];
        }
        assembly ("memory-safe") {
            mstore(right, count)
        }
        bytes memory row = abi.encodePacked(uint16(r.bundle), ACCEPTED, root, uint16(0), uint8(count));
        for (uint256 i; i < count; ++i) {
            row = abi.encodePacked(row, uint16(right[i]));
        }
        uint256[] memory entries = _entries(table, right, r.price, 1);
        MARKET.resolve(r.batchId, r.requester, r.escrow, r.collator, r.fee, r.auditFee, entries, row);
    }

    function _punish(
        Dispute storage d,
        DisputeRecord memory r,
        LoadedTable memory table,
        bytes memory tally,
        uint256 upTo
    ) private {
        if (upTo > tally.length) upTo = tally.length;
        uint256 row = d.row;
        if (row < upTo) {
            uint256 taken = d.taken;
            uint256[] memory units = table.unitsOfMembers();
            (, uint256 unitWei,,,,,,,) = REGISTRY.class_(r.classId);
            for (; row < upTo; ++row) {
                taken += _punishRow(table, row, uint8(tally[row]), r.price, units[row] * unitWei);
            }
            (d.row, d.taken) = (uint16(row), uint128(taken));
            emit RowsPunished(d.id, uint16(row), uint128(taken));
        }
        if (row < tally.length) return;
        _shareOut(d, r, table, tally);
        _close(d, r);
    }

    /// @param held units of the member, in wei
    function _punishRow(LoadedTable memory table, uint256 member, uint256 found, uint256 price, uint256 held)
        private
        returns (uint256 taken)
    {
        (, uint24 operatorId) = table.row(member);
        (uint256 silent, uint256 conduct) = (found & 7, (found >> 3) & 3);
        if (found & UNKNOWABLE > 0) taken += REGISTRY.fine(operatorId, price, FineKind.ABSTAINED);
        if (conduct >= WRONG) taken += REGISTRY.slash(operatorId, conduct == WRONG_TOGETHER);
        if (silent > 0) taken += REGISTRY.fine(operatorId, held * _silenceBps(silent) / BPS, FineKind.ABSENT);
    }

    function _silenceBps(uint256 windows) private pure returns (uint256) {
        if (windows == 1) return 10;
        return 110 + 500 * (windows - 2);
    }

    /// @dev Never more than was taken, and at most two fifths of it to who was right: slashing oneself never pays.
    function _shareOut(Dispute storage d, DisputeRecord memory r, LoadedTable memory table, bytes memory tally)
        private
    {
        uint256[] memory right = _rightVoters(tally);
        uint256 left = d.taken;
        uint256 budget = left * SPENT_BPS / BPS;
        Aftermath aftermath = d.aftermath;
        uint256 share = right.length == 0 ? 0 : _min(r.price, budget / right.length);
        budget -= share * right.length;
        left -= share * right.length;
        if (aftermath == Aftermath.DISMISSED) {
            uint256 ofBond = right.length == 0 ? 0 : _min(r.price, r.pot / right.length);
            share += ofBond;
            left += r.pot - ofBond * right.length;
        }
        if (share > 0) REGISTRY.credit(_entries(table, right, share, 0), share * right.length);
        if (r.kind == DisputeRecords.CHALLENGE && (aftermath == Aftermath.UPHELD || aftermath == Aftermath.REVERSED)) {
            left -= _payOut(r.challenger, _min(CHALLENGER_BONDS * r.pot, budget));
        }
        if (aftermath == Aftermath.REVERSED) left -= _payOut(r.requester, _min(r.escrow, left));
        if (left > 0) REGISTRY.releasePot(left);
    }

    function _payOut(address account, uint256 amount) private returns (uint256) {
        if (amount > 0) REGISTRY.payOut(account, amount);
        return amount;
    }

    function _rightVoters(bytes memory tally) private pure returns (uint256[] memory right) {
        right = new uint256[](tally.length);
        uint256 count;
        for (uint256 m; m < tally.length; ++m) {
            if ((uint8(tally[m]) >> 3) & 3 == RIGHT) right[count++] = m;
        }
        assembly ("memory-safe") {
            mstore(right, count)
        }
    }

    /// @dev Registry entries of members that earn the same.
    function _entries(LoadedTable memory table, uint256[] memory members, uint256 amount, uint256 seats)
        private
        pure
        returns (uint256[] memory entries)
    {
        entries = new uint256[](members.length);
        for (uint256 i; i < entries.length; ++i) {
            (, uint24 operatorId) = table.row(members[i]);
            entries[i] = (uint256(operatorId) << 128) | (seats << 96) | amount;
        }
    }

    function _close(Dispute storage d, DisputeRecord memory r) internal {
        uint64 disputeId = d.id;
        (d.id, d.status, d.nextFree) = (0, Status.NONE, _firstFree);
        _firstFree = uint32(disputeId) + 1;
        MARKET.disputeClosed(r.batchId);
        emit DisputeSettled(disputeId, r.batchId, uint16(r.bundle));
    }

    function _min(uint256 a, uint256 b) private pure returns (uint256) {
        return a < b ? a : b;
    }
}
