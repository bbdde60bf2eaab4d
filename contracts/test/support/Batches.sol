// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeMarket} from "../../src/interfaces/IComputeMarket.sol";
import {IDisputes} from "../../src/interfaces/IDisputes.sol";
import {IMarketEvents} from "../../src/interfaces/IMarketEvents.sol";
import {ClassTable} from "../../src/types/ClassTable.sol";
import {Settlement} from "../../src/types/Settlement.sol";
import {Terms} from "../../src/types/Terms.sol";
import {Orders} from "./Orders.sol";
import {insertSorted} from "./Sorting.sol";
import {Vm} from "./Vm.sol";

/// @title What a collator does: pages of orders, commitments and openings, rebuilt from events alone
abstract contract Batches is Orders {
    enum Act {
        OPEN,
        HIDE, // commits, but never opens
        SILENT,
        ABSTAIN // commits to a reason instead of a vote
    }

    /// @dev One seat of one bundle, and what its operator does.
    struct Ballot {
        uint16 member;
        uint16 bundle;
        uint8 seat;
        Act act;
        bytes32 vote;
    }

    bytes32 internal constant LIE = bytes32(type(uint256).max); // sorts after every honest vote
    bytes32 internal constant ABSTENTION = bytes32(uint256(1)); // what seats here abstain for
    bytes32 internal constant LIST_TYPE =
        keccak256("CommitList(bytes32 roundDomain,uint32 operatorId,bytes32 itemsHash)");

    /// @dev Record pages (round 0) and carry pages (round 1 and on), as events told them.
    mapping(uint64 batchId => mapping(uint256 round => bytes[])) internal settlePages;
    mapping(uint64 batchId => mapping(uint256 round => bytes32[])) internal commitPages;
    mapping(uint16 bundle => bool) internal isLeft; // what the next settlement leaves for later
    bool internal isTerse; // lists without an item that matters stand as their leaves in the next settlement
    bytes internal lastSkips;
    bytes internal lastOutcomes;
    mapping(uint64 batchId => bytes32) internal outcomeChain; // as events told it
    mapping(uint64 batchId => bytes[]) internal toldOutcomes; // round and rows
    uint64[] internal disputeIds;
    bytes[] internal disputeRecords;

    function honest(uint256 bundle) internal pure returns (bytes32) {
        return keccak256(abi.encode("result", bundle)) >> 8;
    }

    // Posting -----------------------------------------------------------------------------------------------------

    /// @dev One page of the requester's orders, open to closed.
    function post(Order[] memory list) internal returns (uint64) {
        return postPage(0, pageOf(list), true);
    }

    function postPage(uint64 batchId, bytes memory page, bool last) internal returns (uint64 id) {
        vm.recordLogs();
        vm.prank(collator);
        id = market.post(batchId, terms, page, last);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i; i < logs.length; ++i) {
            if (logs[i].topics[0] != IMarketEvents.PagePosted.selector) continue;
            (uint16 firstBundle, bytes memory posted, bytes memory skips) =
                abi.decode(logs[i].data, (uint16, bytes, bytes));
            vm.assertEq(posted, page);
            lastSkips = skips;
            bytes memory record = recordOf(page, firstBundle, skips);
            if (record.length > 34) settlePages[id][0].push(record);
        }
        vm.assertEq(hashOf(id), foldPages(settlePages[id][0]), "postHash");
    }

    function hashOf(uint64 id) internal view returns (bytes32 postHash) {
        (, postHash,,,,) = market.batchHashes(id);
    }

    /// @dev The record page that follows from a page and its skips.
    function recordOf(bytes memory page, uint16 firstBundle, bytes memory skips)
        internal
        view
        returns (bytes memory record)
    {
        (,,,, uint64 price,) = registry.currentTable(terms.classId);
        record = abi.encodePacked(keccak256(page), firstBundle);
        uint256 index;
        uint256 skip;
        for (uint256 at; at < page.length;) {
            uint256 count = _uint(page, at + 21, 2);
            (uint256 kind, uint256 end) = (uint8(page[at + 20]), at + 23);
            bytes[] memory parts = new bytes[](count);
            for (uint256 i; i < count; ++i) {
                uint256 o = end;
                end += 91 + (kind == 0 ? 65 : 2 + _uint(page, end + 91, 2));
                if (skip < skips.length && _uint(skips, skip, 2) == index + i) {
                    skip += 3;
                    continue;
                }
                uint256 taskPrice = (_uint(page, o + 44, 8) * price + 1e9 - 1) / 1e9;
                parts[i] = abi.encodePacked(uint64(taskPrice), uint24(_uint(page, o + 40, 4)), uint8(page[o + 90]));
            }
            bytes memory rows = join(parts);
            if (rows.length > 0) {
                record = abi.encodePacked(record, uint160(_uint(page, at, 20)), uint16(rows.length / 12), rows);
            }
            index += count;
            at = end;
        }
    }

    // Assigning ---------------------------------------------------------------------------------------------------

    function assign(uint64 id) internal {
        (,,,,,,, uint48 beaconBlock,,,) = market.batch(id);
        if (vm.getBlockNumber() <= beaconBlock) tick(1, beaconBlock + 1 - vm.getBlockNumber());
        market.proveBeacon(id, "");
    }

    function posted(uint256 count) internal returns (uint64 id) {
        (,,,,, uint40 eraEnd,,,) = registry.class_(terms.classId);
        if (vm.getBlockTimestamp() >= eraEnd) advanceEraOf(terms.classId);
        id = post(orders(count));
        assign(id);
    }

    function domainOf(uint64 id, uint256 stage, uint256 round) internal view returns (bytes32) {
        (bytes32 seed, bytes32 postHash,,,,) = market.batchHashes(id);
        bytes32 tag = keccak256("Quorate.Statement.v1");
        return keccak256(abi.encode(tag, block.chainid, market, uint256(id), postHash, stage, round, seed));
    }

    function roundOf(uint64 id) internal view returns (uint8 round) {
        (,, round,,,,,,,,) = market.batch(id);
    }

    function statusOf(uint64 id) internal view returns (IMarketEvents.BatchStatus status) {
        (status,,,,,,,,,,) = market.batch(id);
    }

    function assertStatus(uint64 id, IMarketEvents.BatchStatus status) internal view {
        vm.assertEq(uint256(statusOf(id)), uint256(status), "status");
    }

    /// @dev The plain way to draw a committee, apart from the library of the contracts.
    function draw(bytes memory units, uint256 memberCount, bytes32 domain, uint256 bundle, uint256 seats)
        internal
        pure
        returns (uint16[] memory members)
    {
        members = new uint16[](seats);
        uint256 unitCount = (units.length - 1) / 2;
        for (uint256 seat; seat < seats; ++seat) {
            uint256 member;
            bool taken = true;
            for (uint256 attempt; taken && attempt < 32; ++attempt) {
                bytes32 seed = keccak256(abi.encodePacked(domain, uint32(bundle), uint8(seat), uint8(attempt)));
                member = _uint(units, 1 + 2 * (uint256(seed) % unitCount), 2);
                taken = _sits(members, seat, member);
            }
            while (taken) {
                member = (member + 1) % memberCount;
                taken = _sits(members, seat, member);
            }
            members[seat] = uint16(member);
        }
    }

    function _sits(uint16[] memory members, uint256 count, uint256 member) private pure returns (bool) {
        for (uint256 i; i < count; ++i) {
            if (members[i] == member) return true;
        }
        return false;
    }

    /// @dev An honest ballot for every seat of every pending bundle, by bundle and seat.
    function ballots(uint64 id) internal view returns (Ballot[] memory list) {
        (,, uint8 round, uint16 bundles,,, uint16 table,,,,) = market.batch(id);
        Terms memory t = market.batchTerms(id);
        (ClassTable memory ct, bytes memory units,) = tableOf(t.classId, table);
        bytes32 domain = domainOf(id, 0, round);
        uint256 count;
        list = new Ballot[](uint256(bundles) * t.seats);
        for (uint16 bundle; bundle < bundles; ++bundle) {
            if (!market.isPending(id, bundle)) continue;
            uint16[] memory members = draw(units, ct.memberCount, domain, bundle, t.seats);
            for (uint8 seat; seat < t.seats; ++seat) {
                list[count++] = Ballot(members[seat], bundle, seat, Act.OPEN, honest(bundle));
            }
        }
        assembly ("memory-safe") {
            mstore(list, count)
        }
    }

    // Committing --------------------------------------------------------------------------------------------------

    function saltOf(Ballot memory b) internal pure returns (bytes16) {
        return bytes16(keccak256(abi.encode("salt", b.member, b.bundle, b.seat)));
    }

    function commitmentOf(bytes32 domain, uint24 operatorId, Ballot memory b) internal pure returns (bytes32) {
        if (b.act == Act.ABSTAIN) return ABSTENTION;
        bytes32 statement = keccak256(abi.encodePacked(domain, uint32(b.bundle), uint32(0xffffffff)));
        return keccak256(abi.encodePacked(statement, uint32(operatorId), b.vote, saltOf(b)));
    }

    function item(bytes32 domain, uint24 operatorId, Ballot memory b) internal pure returns (bytes memory) {
        return abi.encodePacked(b.bundle, b.seat, commitmentOf(domain, operatorId, b));
    }

    /// @dev Ballots that commit, by member: index of each member's first one, and of the next one of the same member.
    function byMember(Ballot[] memory list, uint256 memberCount)
        internal
        pure
        returns (uint256[] memory first, uint256[] memory next, uint256[] memory counts)
    {
        (first, next, counts) = (new uint256[](memberCount), new uint256[](list.length), new uint256[](memberCount));
        for (uint256 i = list.length; i > 0; --i) {
            Ballot memory b = list[i - 1];
            if (b.act == Act.SILENT) continue;
            (next[i - 1], first[b.member]) = (first[b.member], i);
            ++counts[b.member];
        }
    }

    /// @dev A page of commitments: a signed list for each member that has one.
    function commitLists(uint64 id, Ballot[] memory list) internal view returns (bytes memory page) {
        (,,,,,, uint16 table,,,,) = market.batch(id);
        (ClassTable memory ct,, bytes memory rows) = tableOf(market.batchTerms(id).classId, table);
        (uint256[] memory first, uint256[] memory next, uint256[] memory counts) = byMember(list, ct.memberCount);
        bytes32 domain = domainOf(id, 0, roundOf(id));
        bytes[] memory parts = new bytes[](ct.memberCount);
        for (uint256 m; m < ct.memberCount; ++m) {
            if (counts[m] == 0) continue;
            (address key, uint24 operatorId) = rowOf(rows, m);
            bytes[] memory items = new bytes[](counts[m]);
            uint256 count;
            for (uint256 i = first[m]; i > 0; i = next[i - 1]) {
                items[count++] = item(domain, operatorId, list[i - 1]);
            }
            parts[m] = signedList(key, domain, operatorId, m, join(items));
        }
        return join(parts);
    }

    function signedList(address key, bytes32 domain, uint24 operatorId, uint256 member, bytes memory items)
        internal
        view
        returns (bytes memory)
    {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secretOf[key], listDigest(domain, operatorId, keccak256(items)));
        return abi.encodePacked(uint16(member), uint16(items.length / 35), r, s, v, items);
    }

    function listDigest(bytes32 domain, uint24 operatorId, bytes32 itemsHash) internal view returns (bytes32) {
        bytes32 structHash = keccak256(abi.encode(LIST_TYPE, domain, uint256(operatorId), itemsHash));
        return keccak256(abi.encodePacked(hex"1901", separator(), structHash));
    }

    function pageHashOf(bytes memory lists) internal pure returns (bytes32) {
        bytes[] memory leaves = new bytes[](lists.length / 69);
        uint256 count;
        for (uint256 at; at < lists.length;) {
            uint256 size = 35 * _uint(lists, at + 2, 2);
            bytes32 itemsHash = _hash(lists, at + 69, size);
            bytes32 leaf = keccak256(abi.encodePacked(uint16(_uint(lists, at, 2)), itemsHash));
            leaves[count++] = abi.encodePacked(leaf);
            at += 69 + size;
        }
        return keccak256(join(leaves));
    }

    /// @dev Send lists that nothing is wrong with.
    function commit(uint64 id, Ballot[] memory list) internal {
        commitAs(collator, id, list);
    }

    function commitAs(address sender, uint64 id, Ballot[] memory list) internal {
        bytes memory lists = commitLists(id, list);
        if (lists.length == 0) return;
        sendCommitAs(sender, id, lists);
        vm.assertEq(lastSkips, "", "no list is skipped");
        commitPages[id][roundOf(id)].push(pageHashOf(lists));
    }

    function sendCommit(uint64 id, bytes memory lists) internal {
        sendCommitAs(collator, id, lists);
    }

    function sendCommitAs(address sender, uint64 id, bytes memory lists) internal {
        (,,, uint16 bundles,,,,,,,) = market.batch(id);
        vm.recordLogs();
        vm.prank(sender);
        market.commit(id, 0, bundles, lists);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        (,, lastSkips) = abi.decode(logs[logs.length - 1].data, (uint8, bytes, bytes));
    }

    // Settling ----------------------------------------------------------------------------------------------------

    /// @dev Arguments that settle one page of the round with what one commit page opens.
    function settlement(uint64 id, uint256 page, Ballot[] memory list) internal view returns (Settlement memory) {
        Ballot[][] memory lists = new Ballot[][](commitPages[id][roundOf(id)].length);
        if (lists.length > 0) lists[0] = list;
        return settlement(id, page, lists);
    }

    /// @dev The same with ballots for each commit page; pages without a ballot are left out.
    function settlement(uint64 id, uint256 page, Ballot[][] memory lists) internal view returns (Settlement memory s) {
        uint8 round = roundOf(id);
        bytes[] storage pages = settlePages[id][round];
        s.page = pages[page];
        bytes32[] memory hashes = new bytes32[](pages.length);
        s.tail = new bytes32[](pages.length - page - 1);
        for (uint256 i; i < pages.length; ++i) {
            hashes[i] = keccak256(pages[i]);
            if (i < page) s.prior = keccak256(abi.encodePacked(s.prior, hashes[i]));
            if (i > page) s.tail[i - page - 1] = hashes[i];
        }
        s.commitPages = commitPages[id][round];
        if (statusOf(id) == IMarketEvents.BatchStatus.VOIDED) return s;
        uint16[] memory bundles = round == 0 ? recordBundles(s.page) : carryBundles(s.page);
        bytes32[][] memory votes = votesOf(id, bundles, joined(lists));
        bytes[] memory parts = new bytes[](bundles.length);
        for (uint256 i; i < bundles.length; ++i) {
            parts[i] = isLeft[bundles[i]]
                ? bytes(hex"ff")
                : abi.encodePacked(uint8(votes[bundles[i]].length), votes[bundles[i]]);
        }
        s.votes = join(parts);
        for (uint16 i; i < lists.length; ++i) {
            if (lists[i].length > 0) s.openings = bytes.concat(s.openings, openings(id, i, votes, lists[i]));
        }
    }

    function joined(Ballot[][] memory lists) internal pure returns (Ballot[] memory all) {
        uint256 count;
        for (uint256 i; i < lists.length; ++i) {
            count += lists[i].length;
        }
        all = new Ballot[](count);
        count = 0;
        for (uint256 i; i < lists.length; ++i) {
            for (uint256 j; j < lists[i].length; ++j) {
                all[count++] = lists[i][j];
            }
        }
    }

    /// @dev The ballots of some seats: those whose bits are set.
    function some(Ballot[] memory list, uint256 bits) internal pure returns (Ballot[] memory found) {
        found = new Ballot[](list.length);
        uint256 count;
        for (uint256 i; i < list.length; ++i) {
            if ((bits >> i) & 1 == 1) found[count++] = list[i];
        }
        assembly ("memory-safe") {
            mstore(found, count)
        }
    }

    /// @dev What an operator does whose openings the collator keeps to itself: ballots of one commit page that OPEN.
    function revealAs(address sender, uint64 id, uint16 index, Ballot[] memory list) internal {
        (bytes32[] memory pages, bytes memory votes, bytes memory shown) = revelation(id, index, list);
        vm.prank(sender);
        market.reveal(id, pages, votes, shown);
    }

    function revelation(uint64 id, uint16 index, Ballot[] memory list)
        internal
        view
        returns (bytes32[] memory pages, bytes memory votes, bytes memory shown)
    {
        bytes32[] memory distinct;
        for (uint256 i; i < list.length; ++i) {
            if (list[i].act == Act.OPEN) distinct = insertSorted(distinct, list[i].vote);
        }
        (,,, uint16 count,,,,,,,) = market.batch(id);
        bytes32[][] memory everywhere = new bytes32[][](count);
        for (uint256 i; i < count; ++i) {
            everywhere[i] = distinct;
        }
        pages = commitPages[id][roundOf(id)];
        votes = abi.encodePacked(uint8(distinct.length), distinct);
        shown = openings(id, index, everywhere, list);
    }

    /// @dev By bundle: the distinct votes that are opened, ascending; only of bundles of the page.
    function votesOf(uint64 id, uint16[] memory bundles, Ballot[] memory list)
        internal
        view
        returns (bytes32[][] memory votes)
    {
        (,,, uint16 count,,,,,,,) = market.batch(id);
        votes = new bytes32[][](count);
        bool[] memory here = new bool[](count);
        for (uint256 i; i < bundles.length; ++i) {
            here[bundles[i]] = !isLeft[bundles[i]] && market.isPending(id, bundles[i]);
        }
        for (uint256 i; i < list.length; ++i) {
            Ballot memory b = list[i];
            if (b.act == Act.OPEN && here[b.bundle]) votes[b.bundle] = insertSorted(votes[b.bundle], b.vote);
        }
    }

    function openings(uint64 id, uint16 index, bytes32[][] memory votes, Ballot[] memory list)
        internal
        view
        returns (bytes memory)
    {
        (,,,,,, uint16 table,,,,) = market.batch(id);
        (ClassTable memory ct,, bytes memory rows) = tableOf(market.batchTerms(id).classId, table);
        (uint256[] memory first, uint256[] memory next, uint256[] memory counts) = byMember(list, ct.memberCount);
        bytes32 domain = domainOf(id, 0, roundOf(id));
        bytes[] memory parts = new bytes[](ct.memberCount);
        uint16 lists;
        for (uint256 m; m < ct.memberCount; ++m) {
            if (counts[m] == 0) continue;
            (, uint24 operatorId) = rowOf(rows, m);
            ++lists;
            parts[m] = terseList(domain, operatorId, votes, list, first[m], next);
            if (parts[m].length > 0) continue;
            bytes[] memory items = new bytes[](counts[m] + 1);
            items[0] = abi.encodePacked(uint16(m), uint16(counts[m]));
            uint256 count;
            for (uint256 i = first[m]; i > 0; i = next[i - 1]) {
                items[++count] = opening(domain, operatorId, votes[list[i - 1].bundle], list[i - 1]);
            }
            parts[m] = join(items);
        }
        return abi.encodePacked(index, lists, join(parts));
    }

    /// @dev A list as its leaf, where that suffices and is asked for; else nothing.
    function terseList(
        bytes32 domain,
        uint24 operatorId,
        bytes32[][] memory votes,
        Ballot[] memory list,
        uint256 first,
        uint256[] memory next
    ) internal view returns (bytes memory) {
        if (!isTerse) return "";
        bytes memory items;
        for (uint256 i = first; i > 0; i = next[i - 1]) {
            if (votes[list[i - 1].bundle].length > 0) return "";
            items = bytes.concat(items, item(domain, operatorId, list[i - 1]));
        }
        uint16 member = list[first - 1].member;
        return abi.encodePacked(member, uint16(0), keccak256(abi.encodePacked(member, keccak256(items))));
    }

    function opening(bytes32 domain, uint24 operatorId, bytes32[] memory votes, Ballot memory b)
        internal
        pure
        returns (bytes memory)
    {
        for (uint256 tag; b.act == Act.OPEN && tag < votes.length; ++tag) {
            if (votes[tag] == b.vote) return abi.encodePacked(b.bundle, b.seat, uint8(tag), saltOf(b));
        }
        return abi.encodePacked(b.bundle, b.seat, uint8(0xff), commitmentOf(domain, operatorId, b));
    }

    function recordBundles(bytes memory page) internal pure returns (uint16[] memory bundles) {
        uint256 count;
        bundles = new uint16[](4096);
        uint16 bundle = uint16(_uint(page, 32, 2));
        for (uint256 at = 34; at < page.length;) {
            uint256 rows = _uint(page, at + 20, 2);
            for (uint256 i; i < rows; ++i) {
                uint256 tasks = _uint(page, at + 22 + 12 * i + 8, 3);
                for (uint256 j; j < (tasks + 255) / 256; ++j) {
                    bundles[count++] = bundle++;
                }
            }
            at += 22 + 12 * rows;
        }
        assembly ("memory-safe") {
            mstore(bundles, count)
        }
    }

    function carryBundles(bytes memory page) internal pure returns (uint16[] memory bundles) {
        uint256 count;
        bundles = new uint16[](4096);
        for (uint256 at; at < page.length;) {
            bundles[count++] = uint16(_uint(page, at, 2));
            uint256 voters = _uint(page, at + 57, 1);
            at += 58 + (voters > 0 ? 32 + 2 * voters : 0);
            at += 1 + 2 * _uint(page, at, 1);
        }
        assembly ("memory-safe") {
            mstore(bundles, count)
        }
    }

    function settle(uint64 id, Ballot[] memory list) internal {
        settle(id, 0, list);
    }

    function settle(uint64 id, uint256 page, Ballot[] memory list) internal {
        settleAs(collator, id, settlement(id, page, list));
    }

    function settleAs(address sender, uint64 id, Settlement memory s) internal {
        watch(sender);
        vm.recordLogs();
        vm.prank(sender);
        market.settle(id, s);
        Vm.Log[] memory logs = vm.getRecordedLogs();
        for (uint256 i; i < logs.length; ++i) {
            bytes32 topic = logs[i].topics[0];
            if (topic == IMarketEvents.BundlesSettled.selector) {
                uint8 told;
                (told, lastOutcomes) = abi.decode(logs[i].data, (uint8, bytes));
                bytes memory told_ = abi.encodePacked(told, lastOutcomes);
                toldOutcomes[id].push(told_);
                outcomeChain[id] = keccak256(abi.encodePacked(outcomeChain[id], keccak256(told_)));
            } else if (topic == IMarketEvents.BundlesCarried.selector) {
                (uint8 round, bytes memory page) = abi.decode(logs[i].data, (uint8, bytes));
                settlePages[id][round + 1].push(page);
            } else if (topic == IDisputes.DisputeOpened.selector) {
                (, bytes memory record) = abi.decode(logs[i].data, (uint16, bytes));
                disputeIds.push(uint64(uint256(logs[i].topics[1])));
                disputeRecords.push(record);
            }
        }
    }

    /// @dev All of one round where everybody does as the ballots say: commitments, then what they open.
    function play(uint64 id, Ballot[] memory list) internal {
        commit(id, list);
        settle(id, list);
    }

    /// @dev Let window 1 to 4 of the round pass, by seconds and by blocks.
    function pass(uint64 id, uint256 window) internal {
        (,,,,,,,, uint40 startTime, uint48 startBlock,) = market.batch(id);
        uint256 end = uint256(startTime) + market.batchTerms(id).commitPeriod;
        end += (window > 1 ? 4 : 0) + (window > 2 ? 10 : 0) + (window > 3 ? 4 : 0);
        if (vm.getBlockTimestamp() < end) vm.warp(end);
        if (vm.getBlockNumber() < startBlock + 2 * window) vm.roll(startBlock + 2 * window);
    }

    /// @dev A row of what the last settlement told.
    function rowAt(uint256 index)
        internal
        view
        returns (uint16 bundle, IMarketEvents.Verdict verdict, bytes32 vote, uint16 opened, uint16[] memory voters)
    {
        bytes memory o = lastOutcomes;
        uint256 at;
        for (; index > 0; --index) {
            at += 38 + 2 * _uint(o, at + 37, 1);
        }
        (bundle, verdict) = (uint16(_uint(o, at, 2)), IMarketEvents.Verdict(_uint(o, at + 2, 1)));
        (vote, opened) = (bytes32(_uint(o, at + 3, 32)), uint16(_uint(o, at + 35, 2)));
        voters = new uint16[](_uint(o, at + 37, 1));
        for (uint256 i; i < voters.length; ++i) {
            voters[i] = uint16(_uint(o, at + 38 + 2 * i, 2));
        }
    }

    function rowCount() internal view returns (uint256 count) {
        for (uint256 at; at < lastOutcomes.length; ++count) {
            at += 38 + 2 * _uint(lastOutcomes, at + 37, 1);
        }
    }

    function assertRow(uint256 index, bytes32 vote, uint16 opened, uint256 voters) internal view {
        (,, bytes32 told, uint16 toldOpened, uint16[] memory toldVoters) = rowAt(index);
        vm.assertEq(told, vote, "vote");
        vm.assertEq(toldOpened, opened, "opened");
        vm.assertEq(toldVoters.length, voters, "voters");
    }

    function assertVerdict(uint256 index, IMarketEvents.Verdict expected) internal view {
        (, IMarketEvents.Verdict verdict,,,) = rowAt(index);
        vm.assertEq(uint256(verdict), uint256(expected), "verdict");
    }

    // Bytes -------------------------------------------------------------------------------------------------------

    function foldPages(bytes[] storage pages) internal view returns (bytes32 hash) {
        for (uint256 i; i < pages.length; ++i) {
            hash = keccak256(abi.encodePacked(hash, keccak256(pages[i])));
        }
    }

    function _uint(bytes memory data, uint256 at, uint256 size) internal pure returns (uint256 value) {
        require(at + size <= data.length, "past the end");
        assembly ("memory-safe") {
            value := shr(sub(256, mul(8, size)), mload(add(add(data, 32), at)))
        }
    }

    function _hash(bytes memory data, uint256 at, uint256 size) internal pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            hash := keccak256(add(add(data, 32), at), size)
        }
    }

    function slice(bytes memory data, uint256 from, uint256 to) internal pure returns (bytes memory part) {
        part = new bytes(to - from);
        assembly ("memory-safe") {
            mcopy(add(part, 32), add(add(data, 32), from), sub(to, from))
        }
    }
}
