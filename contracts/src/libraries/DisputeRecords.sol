// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Buffer, Buffers} from "./Cursor.sol";

/// @notice All that a class vote needs to know; the chain keeps its hash.
/// @param kind 0 conflict, 1 challenge, 2 audit
/// @param escrow held by the market for kind 0, with fee and audit fee in it; else the most that a reversal refunds
/// @param pot of a challenge is its bond
/// @param round of the outcome that is doubted; 0 for kind 0
/// @param members who voted, beside `votes`, their roots
struct DisputeRecord {
    uint256 kind;
    uint64 batchId;
    uint256 bundle;
    uint256 tasks;
    address requester;
    uint256 price;
    uint256 pot;
    uint256 escrow;
    uint256 fee;
    uint256 auditFee;
    address collator;
    uint32 classId;
    uint16 table;
    address challenger;
    uint256 task;
    bytes32 claim;
    uint8 round;
    uint256[] members;
    bytes32[] votes;
}

/// @title Bytes of a dispute's record
/// @dev Twin of encode_dispute_record in quorate/protocol/dispute_pages.py.
library DisputeRecords {
    using Buffers for Buffer;

    uint256 internal constant CONFLICT = 0;
    uint256 internal constant CHALLENGE = 1;
    uint256 internal constant AUDIT = 2;
    uint256 private constant HEAD_BYTES = 179;
    uint256 private constant ENTRY_BYTES = 34;

    function pack(DisputeRecord memory r) internal pure returns (bytes memory) {
        Buffer memory b = Buffers.allocate(HEAD_BYTES + ENTRY_BYTES * r.members.length);
        b.append(r.kind, 1);
        b.append(r.batchId, 8);
        b.append(r.bundle, 2);
        b.append(r.tasks, 2);
        b.append(uint160(r.requester), 20);
        b.append(r.price, 12);
        b.append(r.pot, 16);
        b.append(r.escrow, 16);
        b.append(r.fee, 8);
        b.append(r.auditFee, 12);
        b.append(uint160(r.collator), 20);
        b.append(r.classId, 4);
        b.append(r.table, 2);
        b.append(uint160(r.challenger), 20);
        b.append(r.task, 2);
        b.append(uint256(r.claim), 32);
        b.append(r.round, 1);
        b.append(r.members.length, 1);
        for (uint256 i; i < r.members.length; ++i) {
            b.append(r.members[i], 2);
            b.append(uint256(r.votes[i]), 32);
        }
        return b.finish();
    }

    /// @dev Whoever reads a record has checked its hash, so the bytes are those of `pack`.
    function read(bytes calldata record) internal pure returns (DisputeRecord memory r) {
        r.kind = _uint(record, 0, 1);
        (r.batchId, r.bundle) = (uint64(_uint(record, 1, 8)), _uint(record, 9, 2));
        (r.tasks, r.requester) = (_uint(record, 11, 2), address(uint160(_uint(record, 13, 20))));
        (r.price, r.pot, r.escrow) = (_uint(record, 33, 12), _uint(record, 45, 16), _uint(record, 61, 16));
        (r.fee, r.auditFee) = (_uint(record, 77, 8), _uint(record, 85, 12));
        r.collator = address(uint160(_uint(record, 97, 20)));
        (r.classId, r.table) = (uint32(_uint(record, 117, 4)), uint16(_uint(record, 121, 2)));
        r.challenger = address(uint160(_uint(record, 123, 20)));
        (r.task, r.claim) = (_uint(record, 143, 2), bytes32(_uint(record, 145, 32)));
        r.round = uint8(_uint(record, 177, 1));
        uint256 count = _uint(record, 178, 1);
        (r.members, r.votes) = (new uint256[](count), new bytes32[](count));
        // unchecked: at most 255 entries
        unchecked {
            for (uint256 i; i < count; ++i) {
                r.members[i] = _uint(record, HEAD_BYTES + ENTRY_BYTES * i, 2);
                r.votes[i] = bytes32(_uint(record, HEAD_BYTES + ENTRY_BYTES * i + 2, 32));
            }
        }
    }

    function _uint(bytes calldata record, uint256 at, uint256 size) private pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := shr(sub(256, shl(3, size)), calldataload(add(record.offset, at)))
        }
    }

    /// @notice Entries that sat; behind them only the auditor that agreed with a result that is challenged.
    function seatCount(DisputeRecord memory r) internal pure returns (uint256 count) {
        count = r.members.length;
        // The escrow of a challenge is the price for each voter of the row.
        if (r.kind == CHALLENGE && count > 1 && (count - 1) * r.price >= r.escrow) --count;
    }

    /// @notice Distinct votes of a record, ascending.
    function roots(DisputeRecord memory r) internal pure returns (bytes32[] memory sorted) {
        sorted = new bytes32[](r.votes.length);
        uint256 count;
        for (uint256 i; i < r.votes.length; ++i) {
            bytes32 vote = r.votes[i];
            uint256 at = count;
            while (at > 0 && sorted[at - 1] > vote) {
                --at;
            }
            if (at > 0 && sorted[at - 1] == vote) continue;
            for (uint256 j = count++; j > at; --j) {
                sorted[j] = sorted[j - 1];
            }
            sorted[at] = vote;
        }
        assembly ("memory-safe") {
            mstore(sorted, count)
        }
    }

    /// @notice Number of a root among `roots`, or their count when it is none of them.
    function rootIndex(bytes32[] memory sorted, bytes32 root) internal pure returns (uint256 index) {
        while (index < sorted.length && sorted[index] != root) {
            ++index;
        }
    }
}
