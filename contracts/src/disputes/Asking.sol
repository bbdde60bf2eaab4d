// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputes} from "../interfaces/IDisputes.sol";
import {Cursor} from "../libraries/Cursor.sol";
import {DisputeRecord, DisputeRecords} from "../libraries/DisputeRecords.sol";
import {Punishing} from "./Punishing.sol";
import {QuestionMaker} from "./QuestionMaker.sol";

/// @title From a conflict, challenge or dissent to the question for the class
abstract contract Asking is Punishing {
    using Cursor for bytes;

    /// @notice Where questions are made; created by this contract and fixed for good.
    QuestionMaker public immutable QUESTIONS = new QuestionMaker();

    /// @inheritdoc IDisputes
    function open(bytes calldata record) external returns (uint64 disputeId) {
        if (msg.sender != address(MARKET) && msg.sender != CHALLENGES) revert Unauthorized();
        uint32 slot;
        if (_firstFree > 0) {
            slot = _firstFree - 1;
            _firstFree = _disputes[slot].nextFree;
        } else {
            slot = _slots++;
        }
        disputeId = (uint64(++_sequence) << 32) | slot;
        Dispute storage d = _disputes[slot];
        (d.id, d.nextFree, d.window, d.voted) = (disputeId, 0, 0, 0);
        (d.status, d.aftermath, d.row, d.taken) = (Status.PUBLISHING, Aftermath.NOTHING, 0, 0);
        (d.published, d.recordHash) = (0, keccak256(record));
        (d.questionHash, d.castHash, d.tallyHash) = (0, 0, 0);
        _startWindow(d);
        uint64 batchId = uint64(record.uintAt(1, 8));
        MARKET.disputeOpened(batchId);
        emit DisputeOpened(disputeId, batchId, uint16(record.uintAt(9, 2)), record);
    }

    /// @inheritdoc IDisputes
    function publish(uint64 disputeId, bytes calldata record, bytes calldata leaves) external {
        Dispute storage d = _disputeIn(disputeId, Status.PUBLISHING, record);
        (uint256 index, bytes32 root) = QUESTIONS.find(record, leaves);
        if ((d.published >> index) & 1 == 1) revert AlreadyPublished(root);
        d.published |= 1 << index;
        emit LeavesPublished(disputeId, root, leaves);
    }

    /// @inheritdoc IDisputes
    function ask(uint64 disputeId, bytes calldata record, bytes calldata leaves) external {
        Dispute storage d = _disputeIn(disputeId, Status.PUBLISHING, record);
        bool isLate = block.timestamp >= uint256(d.startTime) + _params.publishPeriod
            && block.number >= uint256(d.startBlock) + _params.minBlocks;
        (bytes memory question, bool isMoot) = QUESTIONS.make(record, d.published, leaves, isLate);
        emit QuestionAsked(disputeId, question);
        if (isMoot) return _dismiss(d, DisputeRecords.read(record));
        (d.status, d.questionHash) = (Status.VOTING, _questionHash(d.recordHash, question));
        d.castHash = keccak256("");
        _startWindow(d);
    }

    /// @dev A challenge that claims the very leaf that was accepted: nobody is asked, paid or punished.
    function _dismiss(Dispute storage d, DisputeRecord memory r) private {
        bytes memory tally = new bytes(_load(r.classId, r.table).memberCount);
        bytes32 answer = keccak256(abi.encodePacked(r.claim));
        emit DisputeDecided(d.id, r.batchId, uint16(r.bundle), ACCEPTED, r.votes[0], answer, tally);
        if (r.pot > 0) REGISTRY.releasePot(r.pot);
        _close(d, r);
    }
}
