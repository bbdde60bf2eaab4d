// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IMarketEvents} from "../../src/interfaces/IMarketEvents.sol";
import {IStakeRegistry} from "../../src/interfaces/IStakeRegistry.sol";
import {Params} from "../../src/types/Params.sol";
import {Batches} from "../support/Batches.sol";
import {Vm} from "../support/Vm.sol";

/// @title What a third party knows from events alone: batches, bundles, and the money that each holds
/// @notice Each move that an event tells must stand in the tables of README.md, section 1.
abstract contract Chronicle is Batches {
    enum BundleState {
        NONE,
        PENDING,
        ACCEPTED,
        DISPUTED,
        CARRIED,
        VOID
    }

    enum Phase {
        NONE,
        PUBLISHING,
        VOTING,
        PUNISHING
    }

    struct Life {
        IMarketEvents.BatchStatus status;
        bool isBonded;
        bool isExtended; // once or more
        bool isAuditDrawn;
        uint8 seats;
        uint8 round;
        uint8 rounds;
        uint16 table;
        uint16 bundles;
        uint16 openDisputes;
        uint32 commitPeriod;
        uint40 finalAt;
        uint48 beaconBlock;
        uint64 fee;
        bytes32 beacon;
        bytes32 outcomeHash;
        bytes32 auditBeacon;
    }

    struct BundleLife {
        BundleState state;
        uint8 flags;
        uint8 rowRound;
        uint8 page; // of the outcome pages: that of the last row
        uint8 struckBelow; // the least round whose row counts
        uint16 tasks;
        uint96 price;
        uint128 escrow;
        uint128 pot;
        uint128 opened;
        address requester;
        bytes32 vote;
        uint16[] voters;
    }

    struct DisputeLife {
        uint64 id;
        uint64 batchId;
        uint16 bundle;
        uint8 kind;
        uint8 window;
        Phase phase;
        uint128 pot;
        uint128 taken;
        bytes record;
        bytes question;
        bytes cast;
        bytes tally;
    }

    Params internal rules; // as deployed
    /// @dev Batches whose slot has no other one yet.
    uint64[] internal known;
    mapping(uint64 batchId => Life) internal lives;
    mapping(uint64 batchId => mapping(uint256 bundle => BundleLife)) internal bundleLives;
    mapping(uint64 batchId => bytes[]) internal outcomePages; // round u8 ‖ rows
    mapping(uint64 batchId => mapping(uint256 round => bytes[])) internal listPages; // lists that were not skipped
    mapping(uint64 batchId => mapping(uint256 round => mapping(uint256 place => bool))) internal isShown;
    uint64[] internal openIds;
    mapping(uint64 disputeId => DisputeLife) internal quarrels;
    mapping(uint64 disputeId => mapping(uint256 window => bytes[])) internal votePages;
    mapping(uint64 disputeId => mapping(uint256 window => mapping(uint256 member => bool))) internal isVoteShown;
    mapping(uint64 disputeId => mapping(bytes32 root => bytes)) internal leavesOf;

    mapping(address requester => uint256) internal escrowOwed;
    uint256 internal potsOwed;
    uint256 internal bondsOwed; // number of bonds
    /// @dev By operator: what it holds during one call, before each fine or slash. Written by `_weigh`.
    mapping(uint24 operatorId => uint256) internal heldBefore;
    uint64 internal punishing; // dispute that the present call may punish for
    bool internal isAuditing; // the present call is an auditor's
    uint24 internal judged; // operator whose old faults the present call has just judged
    mapping(string what => uint256) public done;

    // Reading -----------------------------------------------------------------------------------------------------

    /// @dev Everything that happened since `vm.recordLogs`.
    function absorb() internal {
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].emitter == address(market) && logs[i].topics.length > 1) _onMarket(logs[i]);
            else if (logs[i].emitter == address(registry)) _onRegistry(logs[i]);
            else if (logs[i].emitter == address(disputes)) _onDisputes(logs[i]);
        }
        (punishing, judged, isAuditing) = (0, 0, false);
    }

    /// @dev Before a call that may take stake.
    function weigh() internal {
        uint24 last = registry.operatorCount();
        for (uint24 id = 1; id <= last; ++id) {
            heldBefore[id] = stakeOf(id) + unbondingOf(id);
        }
    }

    function _onMarket(Vm.Log memory l) private {
        (bytes32 t, uint64 id) = (l.topics[0], uint64(uint256(l.topics[1])));
        if (t == IMarketEvents.BatchOpened.selector) _onOpened(id, l.data);
        else if (t == IMarketEvents.PagePosted.selector) _onPage(id, l.data);
        else if (t == IMarketEvents.BatchClosed.selector) _onClosed(id, l.data);
        else if (t == IMarketEvents.RoundStarted.selector) _onStarted(id, l.data);
        else if (t == IMarketEvents.CommitPage.selector) _onCommitted(id, l.data);
        else if (t == IMarketEvents.OpeningsRevealed.selector) _onRevealed(id, l.data);
        else if (t == IMarketEvents.BundlesCarried.selector) _onCarried(id, l.data);
        else if (t == IMarketEvents.BundlesSettled.selector) _onSettled(id, l.data);
        else if (t == IMarketEvents.RoundAwaited.selector) _onAwaited(id, l.data);
        else if (t == IMarketEvents.BatchExtended.selector) _onExtended(id, l.data);
        else if (t == IMarketEvents.BatchVoided.selector) _onVoided(id);
        else if (t == IMarketEvents.BatchSettled.selector) _onEnded(id, l.data);
        else if (t == IMarketEvents.AuditDrawn.selector) _onDrawn(id, l.data);
    }

    function _onRegistry(Vm.Log memory l) private {
        bytes32 t = l.topics[0];
        if (t == IStakeRegistry.OperatorFined.selector) {
            (uint256 amount,) = abi.decode(l.data, (uint256, uint8));
            _take(uint24(uint256(l.topics[1])), amount, true);
            judged = 0;
        } else if (t == IStakeRegistry.OperatorJailed.selector) {
            judged = uint24(uint256(l.topics[1]));
            ++done["jailed"];
        } else if (t == IStakeRegistry.OperatorSlashed.selector) {
            (uint256 amount, bool isEjected) = abi.decode(l.data, (uint256, bool));
            uint24 id = uint24(uint256(l.topics[1]));
            _take(id, amount, judged != id);
            if (judged != id) _onSlashed(id);
            if (isEjected) ++done["ejected"];
            judged = 0;
        } else if (t == IStakeRegistry.TreasuryPaid.selector) {
            require(isAuditing, "treasury: pays auditors alone");
        } else if (t == IStakeRegistry.Credited.selector) {
            uint256[] memory entries = abi.decode(l.data, (uint256[]));
            for (uint256 i; i < entries.length; ++i) {
                heldBefore[uint24(entries[i] >> 128)] += uint96(entries[i]);
            }
        }
    }

    /// @dev A slash for a vote, not for faults.
    function _onSlashed(uint24 operatorId) internal virtual;

    function _onDisputes(Vm.Log memory l) internal virtual;

    function _take(uint24 id, uint256 amount, bool isForPots) private {
        require(amount <= heldBefore[id], "taken: no more than there is");
        heldBefore[id] -= amount;
        if (punishing == 0 || !isForPots) return;
        quarrels[punishing].taken += uint128(amount);
        potsOwed += amount;
    }

    // Batches -----------------------------------------------------------------------------------------------------

    function _move(uint64 id, IMarketEvents.BatchStatus to) private {
        require(isStep(lives[id].status, to, lives[id].isExtended), "batch: a move outside the table");
        lives[id].status = to;
    }

    /// @dev README.md, section 1.
    function isStep(IMarketEvents.BatchStatus from, IMarketEvents.BatchStatus to, bool isExtended)
        private
        pure
        returns (bool)
    {
        if (from == IMarketEvents.BatchStatus.NONE) return to == IMarketEvents.BatchStatus.POSTING;
        if (from == IMarketEvents.BatchStatus.POSTING) {
            return to > IMarketEvents.BatchStatus.POSTING && to != IMarketEvents.BatchStatus.ASSIGNED;
        }
        if (from == IMarketEvents.BatchStatus.AWAITING) {
            return to == IMarketEvents.BatchStatus.ASSIGNED || to == IMarketEvents.BatchStatus.VOIDED;
        }
        if (from == IMarketEvents.BatchStatus.ASSIGNED) {
            return to == IMarketEvents.BatchStatus.AWAITING || to == IMarketEvents.BatchStatus.SETTLED;
        }
        if (from == IMarketEvents.BatchStatus.VOIDED) return to == IMarketEvents.BatchStatus.SETTLED;
        return isExtended && to == IMarketEvents.BatchStatus.AWAITING;
    }

    function _onOpened(uint64 id, bytes memory data) private {
        _forget(uint32(id));
        Life storage b = lives[id];
        (, b.table, b.seats, b.rounds, b.commitPeriod, b.fee) =
            abi.decode(data, (uint32, uint16, uint8, uint8, uint32, uint64));
        _move(id, IMarketEvents.BatchStatus.POSTING);
        b.isBonded = true;
        ++bondsOwed;
        known.push(id);
        ++done["open"];
    }

    /// @dev The slot's batch before: it must have been over for good.
    function _forget(uint32 slot) private {
        for (uint256 i; i < known.length; ++i) {
            if (uint32(known[i]) != slot) continue;
            Life storage b = lives[known[i]];
            require(b.status == IMarketEvents.BatchStatus.SETTLED, "slot: of a batch that has not ended");
            require(b.openDisputes == 0, "slot: of a batch with open disputes");
            require(vm.getBlockTimestamp() >= b.finalAt, "slot: of a batch that is not final");
            known[i] = known[known.length - 1];
            known.pop();
            ++done["reuse"];
            return;
        }
    }

    function _onClosed(uint64 id, bytes memory data) private {
        uint16 bundles;
        (bundles, lives[id].beaconBlock) = abi.decode(data, (uint16, uint48));
        require(bundles == lives[id].bundles, "closed: bundles as posted");
        _move(id, IMarketEvents.BatchStatus.AWAITING);
    }

    function _onPage(uint64 id, bytes memory data) private {
        (uint16 first, bytes memory page, bytes memory skips) = abi.decode(data, (uint16, bytes, bytes));
        bytes memory record = recordOf(page, first, skips);
        done["skip"] += skips.length / 3;
        if (record.length == 34) return;
        settlePages[id][0].push(record);
        (,,,, uint64 price,) = registry.currentTable(CLASS);
        require(price > 0, "a class has a price");
        uint16 bundle = first;
        for (uint256 at = 34; at < record.length;) {
            uint256 rows = _uint(record, at + 20, 2);
            for (uint256 i; i < rows; ++i) {
                bundle =
                    _addJob(id, bundle, address(uint160(_uint(record, at, 20))), _uint(record, at + 22 + 12 * i, 12));
            }
            at += 22 + 12 * rows;
        }
        lives[id].bundles = bundle;
    }

    /// @param row taskPrice u64 ‖ taskCount u24 ‖ flags u8
    function _addJob(uint64 id, uint16 bundle, address requester_, uint256 row) private returns (uint16) {
        uint256 tasks = (row >> 8) & 0xffffff;
        for (; tasks > 0; ++bundle) {
            BundleLife storage w = bundleLives[id][bundle];
            w.tasks = uint16(tasks < 256 ? tasks : 256);
            (w.state, w.requester, w.flags) = (BundleState.PENDING, requester_, uint8(row));
            w.price = uint96((row >> 32) * w.tasks);
            _lock(id, w, uint256(lives[id].seats) * (1 + lives[id].rounds));
            tasks -= w.tasks;
        }
        return bundle;
    }

    function auditFeeOf(uint256 price) internal view returns (uint256) {
        return (price * rules.auditBps + 9999) / 10_000;
    }

    function _lock(uint64 id, BundleLife storage w, uint256 shares) private {
        w.escrow = uint128(w.price * shares + lives[id].fee + auditFeeOf(w.price));
        escrowOwed[w.requester] += w.escrow;
    }

    function _onStarted(uint64 id, bytes memory data) private {
        Life storage b = lives[id];
        uint8 round;
        (round, b.beacon) = abi.decode(data, (uint8, bytes32));
        require(round == b.round, "started: the round that was awaited");
        require(
            b.beacon == keccak256(abi.encode("beacon", uint256(b.beaconBlock))), "beacon: of the block fixed before"
        );
        _move(id, IMarketEvents.BatchStatus.ASSIGNED);
        if (round == 0) return;
        bytes[] storage pages = settlePages[id][round];
        for (uint256 p; p < pages.length; ++p) {
            uint16[] memory bundles = carryBundles(pages[p]);
            for (uint256 i; i < bundles.length; ++i) {
                BundleLife storage w = bundleLives[id][bundles[i]];
                require(w.state == BundleState.CARRIED, "started: bundles that were carried");
                w.state = BundleState.PENDING;
            }
        }
    }

    function _onCommitted(uint64 id, bytes memory data) private {
        (uint8 round, bytes memory lists, bytes memory skips) = abi.decode(data, (uint8, bytes, bytes));
        require(skips.length == 0, "commit: the actors' lists are good");
        listPages[id][round].push(lists);
        commitPages[id][round].push(pageHashOf(lists));
    }

    function _onRevealed(uint64 id, bytes memory data) private {
        (uint8 round,, bytes memory shown) = abi.decode(data, (uint8, bytes, bytes));
        for (uint256 at; at < shown.length;) {
            uint256 lists = _uint(shown, at + 2, 2);
            at += 4;
            for (; lists > 0; --lists) {
                uint256 count = _uint(shown, at + 2, 2);
                at += count == 0 ? 36 : 4;
                for (; count > 0; --count) {
                    bool isOpen = _uint(shown, at + 3, 1) != 0xff;
                    if (isOpen) isShown[id][round][_uint(shown, at, 3)] = true;
                    at += isOpen ? 20 : 36;
                }
            }
        }
        ++done["reveal"];
    }

    // Outcomes ----------------------------------------------------------------------------------------------------

    function _onCarried(uint64 id, bytes memory data) private {
        (, bytes memory page) = abi.decode(data, (uint8, bytes));
        Life storage b = lives[id];
        bool isExtension = b.status == IMarketEvents.BatchStatus.SETTLED;
        settlePages[id][isExtension ? b.round : b.round + 1].push(page);
        for (uint256 at; at < page.length; at = carryEnd(page, at)) {
            BundleLife storage w = bundleLives[id][_uint(page, at, 2)];
            potsOwed = potsOwed - w.pot + _uint(page, at + 39, 16);
            w.pot = uint128(_uint(page, at + 39, 16));
            if (!isExtension) continue;
            _extendBundle(id, w, page, at);
        }
    }

    function _extendBundle(uint64 id, BundleLife storage w, bytes memory page, uint256 at) private {
        bool isConvicted = w.state == BundleState.ACCEPTED;
        require(isConvicted || (w.state == BundleState.VOID && w.voters.length > 0), "extend: what may be extended");
        require(w.escrow == 0 && w.pot == 0, "extend: nothing was left of the bundle");
        uint256 voters = isConvicted ? 0 : w.voters.length;
        require(_uint(page, at + 57, 1) == voters, "extend: votes stand");
        _lock(id, w, voters + uint256(lives[id].seats) * (lives[id].rounds + 1 - lives[id].round));
        w.struckBelow = w.rowRound + 1;
        w.state = BundleState.CARRIED;
        ++done[isConvicted ? "extend convicted" : "extend void"];
    }

    /// @dev Offset behind the row of a carry page that starts at `at`.
    function carryEnd(bytes memory page, uint256 at) internal pure returns (uint256) {
        uint256 voters = _uint(page, at + 57, 1);
        at += 58 + (voters > 0 ? 32 + 2 * voters : 0);
        return at + 1 + 2 * _uint(page, at, 1);
    }

    function _onSettled(uint64 id, bytes memory data) private {
        (uint8 round, bytes memory rows) = abi.decode(data, (uint8, bytes));
        require(round == lives[id].round, "settled: in the batch's round");
        outcomePages[id].push(abi.encodePacked(round, rows));
        lives[id].outcomeHash =
            keccak256(abi.encodePacked(lives[id].outcomeHash, keccak256(abi.encodePacked(round, rows))));
        for (uint256 at; at < rows.length;) {
            at = _onRow(id, round, rows, at);
        }
    }

    function _onRow(uint64 id, uint8 round, bytes memory rows, uint256 at) private returns (uint256) {
        BundleLife storage w = bundleLives[id][_uint(rows, at, 2)];
        BundleState to = BundleState(_uint(rows, at + 2, 1) + 1);
        bool isVoided = lives[id].status == IMarketEvents.BatchStatus.VOIDED && w.state == BundleState.CARRIED;
        bool isEnd = to == BundleState.ACCEPTED || to == BundleState.VOID;
        require(
            w.state == BundleState.PENDING || (isVoided && to == BundleState.VOID)
                || (w.state == BundleState.DISPUTED && to == BundleState.ACCEPTED),
            "bundle: a move outside the table"
        );
        uint256 voters = _uint(rows, at + 37, 1);
        if (isEnd) {
            (w.vote, w.opened, w.rowRound) = (bytes32(_uint(rows, at + 3, 32)), uint128(_uint(rows, at + 35, 2)), round);
            w.page = uint8(outcomePages[id].length - 1);
            delete w.voters;
            for (uint256 i; i < voters; ++i) {
                w.voters.push(uint16(_uint(rows, at + 38 + 2 * i, 2)));
            }
            _release(w);
        }
        w.state = to;
        ++done[
            to == BundleState.ACCEPTED
                ? "accept"
                : to == BundleState.VOID ? "void" : to == BundleState.CARRIED ? "carry" : "dispute"
        ];
        return at + 38 + 2 * voters;
    }

    /// @dev An end: nothing is locked for the bundle any more.
    function _release(BundleLife storage w) internal {
        escrowOwed[w.requester] -= w.escrow;
        potsOwed -= w.pot;
        (w.escrow, w.pot) = (0, 0);
    }

    function _onAwaited(uint64 id, bytes memory data) private {
        uint8 round;
        (round, lives[id].beaconBlock) = abi.decode(data, (uint8, uint48));
        if (lives[id].status != IMarketEvents.BatchStatus.SETTLED) ++lives[id].round;
        require(round == lives[id].round, "awaited: the next round");
        _move(id, IMarketEvents.BatchStatus.AWAITING);
        ++done["round"];
    }

    function _onExtended(uint64 id, bytes memory data) private {
        Life storage b = lives[id];
        require(b.status == IMarketEvents.BatchStatus.SETTLED && vm.getBlockTimestamp() < b.finalAt, "extend: in time");
        b.rounds = abi.decode(data, (uint8));
        (b.isExtended, b.isBonded, b.isAuditDrawn) = (true, true, false);
        ++b.round;
        ++bondsOwed;
    }

    function _onVoided(uint64 id) private {
        _move(id, IMarketEvents.BatchStatus.VOIDED);
        _endBond(id);
        ++done["expire"];
    }

    function _endBond(uint64 id) private {
        if (lives[id].isBonded) --bondsOwed;
        lives[id].isBonded = false;
    }

    function _onEnded(uint64 id, bytes memory data) private {
        _move(id, IMarketEvents.BatchStatus.SETTLED);
        lives[id].finalAt = abi.decode(data, (uint40));
        require(lives[id].finalAt >= vm.getBlockTimestamp() + rules.challengePeriod, "final: after the window");
        _endBond(id);
        ++done["end"];
    }

    function _onDrawn(uint64 id, bytes memory data) private {
        require(!lives[id].isAuditDrawn, "audit: drawn once");
        (lives[id].isAuditDrawn, lives[id].auditBeacon) = (true, abi.decode(data, (bytes32)));
        ++done["audit drawn"];
    }
}
