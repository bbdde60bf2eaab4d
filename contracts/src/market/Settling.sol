// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Buffer, Buffers} from "../libraries/Cursor.sol";
import {DisputeRecord, DisputeRecords} from "../libraries/DisputeRecords.sol";
import {LoadedTable, TableReader} from "../libraries/TableReader.sol";
import {FineKind} from "../types/FineKind.sol";
import {BPS} from "../types/Limits.sol";
import {MarketStorage} from "./MarketStorage.sol";
import {Works} from "./SettlementReader.sol";

/// @title What a decided bundle moves: fines, earnings, escrow, what is carried on or disputed
abstract contract Settling is MarketStorage {
    using Buffers for Buffer;
    using DisputeRecords for DisputeRecord;
    using Works for uint256;
    using Works for uint256[];
    using TableReader for LoadedTable;

    /// @dev One settle call: what it knows, and what it owes when it ends.
    struct SettleContext {
        LoadedTable table; // its units are read when a committee is drawn
        bytes32 domain;
        uint256 seats;
        uint256 round;
        uint256 shares; // seats × (1 + rounds): how many prices a bundle's escrow holds in the first round
        uint256 fee;
        uint256 auditBps;
        bool isLast; // no fresh round is left
        bool isVoided;
        bool isOver; // window 4 is past
        bool isJudged;
        uint256[] works;
        uint256[] seen; // by work and seat, see SettlementReader
        uint256[] statuses; // two bits a bundle, from the word of the first work on
        uint256[] oldStatuses; // the same as they were
        uint256 firstStatus;
        uint256[] earned; // seats << 96 | wei, by member
        uint256 fromEscrow;
        uint256 fromPots;
        uint256 leftInPots;
        uint256 fees;
        uint256 auditFees;
        address requester; // whose escrow and refund are gathered before they are written
        uint256 escrow;
        uint256 refund;
        Buffer outcomes;
        Buffer carry;
        uint256 processed;
        uint256 carried;
        BitReader committed;
        BitReader revealed;
    }

    /// @dev One bundle while it is decided; one for all, since memory costs more the more of it there is.
    struct Decision {
        uint256 place;
        address requester;
        uint256 price;
        uint256 shares;
        uint256 pot;
        uint256 opened; // seats with a vote, of all rounds
        uint256[] voters; // members with a vote, standing ones first; `count` of them
        bytes32[] votes; // beside them
        uint256 count;
        uint256 standing;
        uint256 open; // seats of this round with a vote
        bytes32 vote;
        bool isConflict;
        uint256[] abstainers; // members, once a seat; `abstained` of them
        uint256 abstained;
        uint256[] silent; // kind << 16 | member; `silences` of them
        uint256 silences;
        uint256[] committee;
        bool isDrawn;
    }

    uint256 internal constant ONE_SEAT = 1 << 96;
    uint256 internal constant CONSOLATION = 5; // where nobody can be right, a seat earns the price divided by this
    uint256 private constant CARRY_BYTES = 59;

    function _fineAll(SettleContext memory c, Decision memory d) internal {
        for (uint256 i; i < d.abstained; ++i) {
            _fine(c, d, d.abstainers[i], d.price, FineKind.ABSTAINED);
        }
        _fineSilent(c, d);
    }

    function _fineSilent(SettleContext memory c, Decision memory d) internal {
        for (uint256 i; i < d.silences; ++i) {
            _fine(c, d, d.silent[i] & 0xffff, 2 * d.price, FineKind(d.silent[i] >> 16));
        }
    }

    function _fine(SettleContext memory c, Decision memory d, uint256 member, uint256 amount, FineKind kind) internal {
        (, uint24 operatorId) = c.table.findRow(member);
        d.pot += REGISTRY.fine(operatorId, amount, kind);
    }

    function _accept(SettleContext memory c, Decision memory d) internal {
        uint256 due = d.price * d.count;
        uint256 fresh = d.price * (d.count - d.standing);
        uint256 fromPot = d.pot < fresh ? d.pot : fresh;
        for (uint256 i; i < d.count; ++i) {
            c.earned[d.voters[i]] += d.price | (i < d.standing ? 0 : ONE_SEAT);
        }
        uint256 auditFee = _auditFeeOf(c, d.price);
        c.fromEscrow += due - fromPot;
        c.fromPots += fromPot;
        c.leftInPots += d.pot - fromPot;
        c.fees += c.fee;
        c.auditFees += auditFee;
        uint256 escrow = _escrowOf(c, d);
        _gatherRelease(c, d.requester, escrow, escrow - c.fee - auditFee - (due - fromPot));
    }

    /// @dev Ends a bundle without a result; `earners` of its seats get a consolation from the escrow.
    function _void(SettleContext memory c, Decision memory d, uint256 earners) internal {
        uint256 due = d.price / CONSOLATION * earners;
        c.fromEscrow += due;
        c.leftInPots += d.pot;
        uint256 escrow = _escrowOf(c, d);
        _gatherRelease(c, d.requester, escrow, escrow - due);
    }

    function _escrowOf(SettleContext memory c, Decision memory d) internal pure returns (uint256) {
        return d.price * d.shares + c.fee + _auditFeeOf(c, d.price);
    }

    function _auditFeeOf(SettleContext memory c, uint256 price) internal pure returns (uint256) {
        return (price * c.auditBps + BPS - 1) / BPS;
    }

    function _carry(SettleContext memory c, Decision memory d) internal pure {
        if (c.carried++ == 0) c.carry = Buffers.allocate(c.works.count() * (CARRY_BYTES + 32 + 2 * d.voters.length));
        Buffer memory carry = c.carry;
        carry.append(d.place.bundleOf(), 2);
        carry.append(uint160(d.requester), 20);
        carry.append(d.price, 12);
        carry.append(d.place.tasksOf(), 2);
        carry.append(d.place.flagsOf(), 1);
        carry.append(d.shares, 2);
        carry.append(d.pot, 16);
        carry.append(d.opened, 2);
        carry.append(d.count, 1);
        if (d.count > 0) carry.append(uint256(d.vote), 32);
        for (uint256 i; i < d.count; ++i) {
            carry.append(d.voters[i], 2);
        }
        carry.append(d.abstained, 1);
        for (uint256 i; i < d.abstained; ++i) {
            carry.append(d.abstainers[i], 2);
        }
    }

    function _openDispute(Batch storage b, SettleContext memory c, Decision memory d) internal {
        DisputeRecord memory r;
        (r.batchId, r.bundle, r.tasks, r.requester) = (b.id, d.place.bundleOf(), d.place.tasksOf(), d.requester);
        (r.price, r.pot, r.escrow, r.fee, r.auditFee) =
        (d.price, d.pot, _escrowOf(c, d), c.fee, _auditFeeOf(c, d.price));
        (r.collator, r.classId, r.table) = (msg.sender, b.classId, b.table);
        (r.members, r.votes) = (new uint256[](d.count), new bytes32[](d.count));
        for (uint256 i; i < d.count; ++i) {
            (r.members[i], r.votes[i]) = (d.voters[i], d.votes[i]);
        }
        DISPUTES.open(r.pack());
    }

    function _startRow(
        SettleContext memory c,
        uint256 bundle,
        Verdict verdict,
        bytes32 vote,
        uint256 opened,
        uint256 voters
    ) internal pure {
        c.outcomes.append((bundle << 8) | uint256(verdict), 3);
        c.outcomes.append(uint256(vote), 32);
        c.outcomes.append((opened << 8) | voters, 3);
    }

    /// @dev Neighbours of one requester cost one write.
    function _gatherRelease(SettleContext memory c, address requester, uint256 escrow, uint256 refund) internal {
        if (requester != c.requester) {
            if (c.escrow > 0) _release(c.requester, c.escrow, c.refund);
            (c.requester, c.escrow, c.refund) = (requester, 0, 0);
        }
        c.escrow += escrow;
        c.refund += refund;
    }

    function _pay(SettleContext memory c) internal {
        if (c.escrow > 0) _release(c.requester, c.escrow, c.refund);
        if (c.fees > 0) _accounts[msg.sender].free += uint128(c.fees);
        uint256[] memory entries = c.table.entries(c.earned);
        if (entries.length > 0) REGISTRY.credit{value: c.fromEscrow}(entries, c.fromPots);
        if (c.auditFees > 0) REGISTRY.donate{value: c.auditFees}();
        if (c.leftInPots > 0) REGISTRY.releasePot(c.leftInPots);
    }
}
