// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IMarketEvents} from "../../src/interfaces/IMarketEvents.sol";
import {ClassTable} from "../../src/types/ClassTable.sol";
import {Settlement} from "../../src/types/Settlement.sol";
import {Terms} from "../../src/types/Terms.sol";
import {OperatorActions} from "./OperatorActions.sol";

/// @title What requesters, collators, operators and passers-by do with a batch
abstract contract BatchActions is OperatorActions {
    uint256 internal constant MOST_LIVE = 4;

    address[] internal requesters;
    mapping(address requester => uint256) internal requesterSecretOf; // 0 of a contract wallet
    mapping(uint64 batchId => Terms) internal termsOf;
    mapping(uint64 batchId => address) internal collatorOf;

    // Choosing ----------------------------------------------------------------------------------------------------

    /// @dev A batch with this status, or 0.
    function _pick(IMarketEvents.BatchStatus status, uint256 which) internal view returns (uint64) {
        uint256 count = known.length;
        for (uint256 i; i < count; ++i) {
            uint64 id = known[(which % count + i) % count];
            if (lives[id].status == status) return id;
        }
        return 0;
    }

    function _countLive() private view returns (uint256 count) {
        for (uint256 i; i < known.length; ++i) {
            if (lives[known[i]].status != IMarketEvents.BatchStatus.SETTLED) ++count;
        }
    }

    function _anyone(uint256 seed) internal view returns (address) {
        return seed % 3 == 0 ? collator : seed % 3 == 1 ? stranger : ownerOf(seed % operators);
    }

    // Posting -----------------------------------------------------------------------------------------------------

    function postOrders(uint256 seed) external {
        uint64 id = _pick(IMarketEvents.BatchStatus.POSTING, seed);
        bool isLate = id != 0 && vm.getBlockTimestamp() >= openedAt(id) + rules.postPeriod;
        if (id == 0 || isLate) {
            if (_countLive() >= MOST_LIVE || !_chooseTerms(seed)) return;
            (id, seed) = (0, hashOf(seed, 1, 2, 3));
        } else {
            terms = termsOf[id];
        }
        address sender = id == 0 ? (seed % 4 == 0 ? stranger : collator) : collatorOf[id];
        bytes memory page = _page(seed);
        vm.recordLogs();
        vm.prank(sender);
        uint64 posted_ = market.post(id, terms, page, (seed >> 40) % 4 != 0);
        (termsOf[posted_], collatorOf[posted_]) = (terms, sender);
        if (id == 0) seedOf[posted_] = seed;
        absorb();
        ++done["post"];
    }

    function openedAt(uint64 id) internal view returns (uint256 startTime) {
        (,,,,,,,, startTime,,) = market.batch(id);
    }

    function _chooseTerms(uint256 seed) private returns (bool) {
        ensureEra();
        (ClassTable memory table,,,,,) = registry.currentTable(CLASS);
        terms.seats = uint8(1 + (seed >> 8) % 4);
        terms.rounds = uint8((seed >> 16) % 3);
        terms.commitPeriod = (seed >> 24) % 4 == 0 ? 20 : 12; // the longer one is not audited
        return table.memberCount >= 2 * uint256(terms.seats);
    }

    /// @dev Orders of one or two requesters, some of which are to be skipped.
    function _page(uint256 seed) private returns (bytes memory page) {
        uint256 first = seed % requesters.length;
        for (uint256 g; g <= (seed >> 48) % 2; ++g) {
            Order[] memory list = new Order[](1 + (seed >> (56 + 8 * g)) % 4);
            for (uint256 i; i < list.length; ++i) {
                list[i] = _someOrder(hashOf(seed, g, i, 0));
            }
            address who = requesters[(first + g) % requesters.length];
            uint256 secret = requesterSecretOf[who];
            page = bytes.concat(page, secret == 0 ? _walletGroup(who, list) : group(secret, list));
        }
    }

    /// @dev `TestWallet` confirms what starts with the digest.
    function _walletGroup(address wallet, Order[] memory list) private view returns (bytes memory page) {
        page = groupHead(wallet, 1, list.length);
        for (uint256 i; i < list.length; ++i) {
            page = abi.encodePacked(page, encodeBody(list[i]), uint16(32), jobId(wallet, list[i]));
        }
    }

    function _someOrder(uint256 h) private returns (Order memory o) {
        o = order();
        o.taskCount = uint32(1 + h % 3);
        o.flags = uint8((h >> 8) % 4 == 0 ? 1 : 0);
        uint256 x = (h >> 16) % 32;
        if (x == 0) o.taskCount = 256 + uint32((h >> 24) % 300);
        else if (x == 1) o.maxFee = 0;
        else if (x == 2) o.validUntil = 1;
        else if (x == 3) o.nonce = nextNonce > 300 ? 0 : o.nonce;
        else if (x == 4) o.nonce += 40;
    }

    function expirePosting(uint256 which) external {
        uint64 id = _pick(IMarketEvents.BatchStatus.POSTING, which);
        if (id == 0) return;
        uint256 end = openedAt(id) + rules.postPeriod;
        if (vm.getBlockTimestamp() < end) vm.warp(end);
        _expire(id, _anyone(which));
    }

    function _expire(uint64 id, address sender) internal {
        vm.recordLogs();
        vm.prank(sender);
        market.expire(id);
        absorb();
    }

    // Beacons -----------------------------------------------------------------------------------------------------

    /// @dev Whoever proves it and when, the beacon is that of a block fixed before; `Chronicle` compares.
    function proveBeacon(uint256 which, uint256 delay) external {
        uint64 id = _pick(IMarketEvents.BatchStatus.AWAITING, which);
        if (id == 0) return;
        uint256 beaconBlock = lives[id].beaconBlock;
        uint256 at = beaconBlock + 1 + (delay % 8 == 0 ? delay % 256 : delay % 3);
        if (vm.getBlockNumber() < at) tick(1, at - vm.getBlockNumber());
        if (vm.getBlockNumber() > beaconBlock + 256) return _expire(id, _anyone(which));
        vm.recordLogs();
        vm.prank(_anyone(delay));
        market.proveBeacon(id, "");
        absorb();
        ++done["prove"];
        if (delay % 4 != 3) _commitPage(id, delay);
    }

    function loseBeacon(uint256 which) external {
        uint64 id = _pick(IMarketEvents.BatchStatus.AWAITING, which);
        if (id == 0) return;
        _loseBeacon(id, _anyone(which));
    }

    function _loseBeacon(uint64 id, address sender) internal {
        uint256 at = uint256(lives[id].beaconBlock) + 257;
        if (vm.getBlockNumber() < at) tick(1, at - vm.getBlockNumber());
        _expire(id, sender);
    }

    // Committing --------------------------------------------------------------------------------------------------

    /// @dev By the collator; or, every third time, behind window 1 by anybody.
    function commitSeats(uint256 which, uint256 seed, uint256 late) external {
        uint64 id = _pick(IMarketEvents.BatchStatus.ASSIGNED, which);
        if (id == 0) return;
        if (late % 3 == 0 && !isPast(id, 1)) passWindow(id, 1);
        if (!isPast(id, 2)) _commitPage(id, seed);
    }

    function _commitPage(uint64 id, uint256 seed) private {
        bytes memory lists = _lists(id, seed);
        if (lists.length == 0) return;
        (,,, uint16 bundles,,,,,,,) = market.batch(id);
        vm.recordLogs();
        vm.prank(isPast(id, 1) ? _anyone(seed) : collatorOf[id]);
        market.commit(id, 0, bundles, lists);
        absorb();
        ++done[isPast(id, 1) ? "commit direct" : "commit"];
    }

    /// @dev Lists of members that have not committed yet; some wait for another page.
    function _lists(uint64 id, uint256 seed) private returns (bytes memory lists) {
        (Member[] memory members, uint256[] memory places, uint256[] memory owners, bool mayLie) = _seats(id);
        bytes32 domain = domainOf(id, 0, lives[id].round);
        for (uint256 m; m < members.length; ++m) {
            if (hashOf(seed, m, 0, 0) % 6 == 0) continue;
            bytes memory items;
            for (uint256 i; i < places.length; ++i) {
                if (owners[i] != m) continue;
                (Way way,) = wayOf(id, places[i], members[m].id, mayLie);
                if (way == Way.SILENT || market.hasCommitted(id, uint16(places[i] >> 8), uint8(places[i]))) continue;
                bytes32 c = seatCommitment(id, domain, places[i], members[m].id, mayLie);
                items = abi.encodePacked(items, uint24(places[i]), c);
            }
            if (items.length == 0) continue;
            lists = bytes.concat(lists, signedList(members[m].key, domain, members[m].id, m, items));
        }
    }

    /// @return members of the batch's table
    /// @return places bundle << 8 | seat of each seat of a pending bundle, ascending
    /// @return owners beside them: index of the member drawn
    function _seats(uint64 id)
        internal
        view
        returns (Member[] memory members, uint256[] memory places, uint256[] memory owners, bool mayLie)
    {
        Life storage b = lives[id];
        (members,, mayLie) = membersOf(b.table);
        (places, owners) = (new uint256[](uint256(b.bundles) * b.seats), new uint256[](uint256(b.bundles) * b.seats));
        bytes32 domain = domainOf(id, 0, b.round);
        uint256 count;
        for (uint16 bundle; bundle < b.bundles; ++bundle) {
            if (bundleLives[id][bundle].state != BundleState.PENDING) continue;
            uint16[] memory drawn = drawOthers(b.table, domain, bundle, b.seats, new uint16[](0));
            for (uint256 seat; seat < b.seats; ++seat) {
                (places[count], owners[count]) = (uint256(bundle) << 8 | seat, drawn[seat]);
                ++count;
            }
        }
        assembly ("memory-safe") {
            mstore(places, count)
            mstore(owners, count)
        }
    }

    function isPast(uint64 id, uint256 window) internal view returns (bool) {
        (uint256 end, uint256 blockEnd) = _windowEnd(id, window);
        return vm.getBlockTimestamp() >= end && vm.getBlockNumber() >= blockEnd;
    }

    function _windowEnd(uint64 id, uint256 window) private view returns (uint256 end, uint256 blockEnd) {
        (,,,,,,,, uint40 startTime, uint48 startBlock,) = market.batch(id);
        end = uint256(startTime) + lives[id].commitPeriod;
        if (window > 1) end += rules.directPeriod;
        if (window > 2) end += rules.settlePeriod;
        if (window > 3) end += rules.directPeriod;
        blockEnd = uint256(startBlock) + window * rules.minBlocks;
    }

    function passWindow(uint64 id, uint256 window) internal {
        (uint256 end, uint256 blockEnd) = _windowEnd(id, window);
        if (vm.getBlockTimestamp() < end) vm.warp(end);
        if (vm.getBlockNumber() < blockEnd) vm.roll(blockEnd);
    }
}
