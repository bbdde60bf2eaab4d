// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IMarketEvents} from "../../src/interfaces/IMarketEvents.sol";
import {Settlement} from "../../src/types/Settlement.sol";
import {insertSorted} from "../support/Sorting.sol";
import {BatchActions} from "./BatchActions.sol";

/// @title Openings: revealed by operators, settled by the collator or by passers-by
abstract contract SettleActions is BatchActions {
    /// @dev One settle call in the making.
    struct Plan {
        uint64 id;
        uint8 round;
        bool mayLie;
        bool isClosing; // the settler opens nothing that it need not
        bytes32 domain;
        Member[] members;
        uint16[] bundles; // of the page
        bool[] isTaken; // beside them
        bytes32[][] votes; // beside them: ascending
    }

    // Revealing ---------------------------------------------------------------------------------------------------

    /// @dev Operators whose openings the settler left out, between windows 3 and 4.
    function revealSeats(uint256 which, uint256 seed) external {
        uint64 id = _pick(IMarketEvents.BatchStatus.ASSIGNED, which);
        if (id == 0 || isPast(id, 4)) return;
        if (!isPast(id, 3)) passWindow(id, 3);
        if (isPast(id, 4)) return;
        Plan memory p = _plan(id);
        bytes32[] memory votes = new bytes32[](0);
        bytes memory openings_;
        for (uint256 page; page < listPages[id][p.round].length; ++page) {
            (bytes memory part, uint256 lists, bytes32[] memory more) = _lateOpenings(p, page, seed, votes);
            votes = more;
            if (lists > 0) openings_ = abi.encodePacked(openings_, uint16(page), uint16(lists), part);
        }
        if (votes.length == 0) return;
        vm.recordLogs();
        vm.prank(_anyone(seed));
        market.reveal(
            id, commitPages[id][p.round], abi.encodePacked(uint8(votes.length), votes), _tagged(openings_, votes)
        );
        absorb();
    }

    /// @dev All lists of a page; seats that open carry their vote's place among `votes` only in the end, see `_tagged`.
    function _lateOpenings(Plan memory p, uint256 page, uint256 seed, bytes32[] memory votes)
        private
        returns (bytes memory part, uint256 lists, bytes32[] memory all)
    {
        all = votes;
        bytes memory data = listPages[p.id][p.round][page];
        for (uint256 at; at < data.length; ++lists) {
            uint256 m = _uint(data, at, 2);
            uint256 count = _uint(data, at + 2, 2);
            part = abi.encodePacked(part, uint16(m), uint16(count));
            at += 69;
            for (; count > 0; --count) {
                uint256 place = _uint(data, at, 3);
                (Way way, uint256 variant) = wayOf(p.id, place, p.members[m].id, p.mayLie);
                bool isShownNow = (way == Way.LATE || (way == Way.OPEN && hashOf(seed, place, 1, 1) % 3 == 0))
                    && bundleLives[p.id][place >> 8].state == BundleState.PENDING;
                if (isShownNow) {
                    bytes32 vote = rootOf(p.id, place >> 8, variant);
                    all = insertSorted(all, vote);
                    // 0xfe stands for a tag that is not known yet; the vote stands behind it for `_tagged`.
                    part = abi.encodePacked(part, uint24(place), uint8(0xfe), seatSalt(p.id, place), vote);
                } else {
                    part = abi.encodePacked(part, uint24(place), uint8(0xff), slice(data, at + 3, at + 35));
                }
                at += 35;
            }
        }
    }

    /// @dev Openings with the number of each vote in the final list.
    function _tagged(bytes memory data, bytes32[] memory votes) private pure returns (bytes memory out) {
        for (uint256 at; at < data.length;) {
            uint256 lists = _uint(data, at + 2, 2);
            out = bytes.concat(out, slice(data, at, at + 4));
            at += 4;
            for (; lists > 0; --lists) {
                uint256 count = _uint(data, at + 2, 2);
                out = bytes.concat(out, slice(data, at, at + 4));
                at += 4;
                for (; count > 0; --count) {
                    if (_uint(data, at + 3, 1) == 0xff) {
                        out = bytes.concat(out, slice(data, at, at + 36));
                        at += 36;
                        continue;
                    }
                    uint8 tag = uint8(indexOf(votes, bytes32(_uint(data, at + 20, 32))));
                    out = abi.encodePacked(out, slice(data, at, at + 3), tag, slice(data, at + 4, at + 20));
                    at += 52;
                }
            }
        }
    }

    function indexOf(bytes32[] memory votes, bytes32 vote) internal pure returns (uint256 i) {
        while (votes[i] != vote) {
            ++i;
        }
    }

    // Settling ----------------------------------------------------------------------------------------------------

    /// @dev By the collator what is complete.
    function settleEarly(uint256 which, uint256 seed) external {
        uint64 id = _pick(IMarketEvents.BatchStatus.ASSIGNED, which);
        if (id == 0 || isPast(id, 4)) return;
        _settle(id, seed, collatorOf[id], false);
    }

    /// @dev By anybody what is left.
    function settleLate(uint256 which, uint256 seed) external {
        uint64 id = _pick(IMarketEvents.BatchStatus.ASSIGNED, which);
        if (id == 0) return;
        passWindow(id, 4);
        _settle(id, seed, _anyone(seed), seed % 8 == 0);
    }

    function settleVoided(uint256 which, uint256 seed) external {
        uint64 id = _pick(IMarketEvents.BatchStatus.VOIDED, which);
        if (id != 0) _settle(id, seed, _anyone(seed), false);
    }

    /// @dev One page that has something left to settle.
    function _settle(uint64 id, uint256 seed, address sender, bool isClosing) internal {
        uint256 pages = settlePages[id][lives[id].round].length;
        for (uint256 i; i < pages; ++i) {
            uint256 page = (seed % pages + i) % pages;
            Plan memory p = _plan(id);
            p.isClosing = isClosing;
            if (!_choose(p, page, seed)) continue;
            Settlement memory s = _settlement(p, page);
            watch(sender);
            weigh();
            vm.recordLogs();
            vm.prank(sender);
            market.settle(id, s);
            absorb();
            ++done["settle"];
            return;
        }
    }

    function _plan(uint64 id) internal view returns (Plan memory p) {
        (p.id, p.round) = (id, lives[id].round);
        p.domain = domainOf(id, 0, p.round);
        (p.members,, p.mayLie) = membersOf(lives[id].table);
    }

    /// @dev Which bundles of the page are settled in this call; before window 4 only complete ones.
    function _choose(Plan memory p, uint256 page, uint256 seed) private view returns (bool isAny) {
        bytes memory data = settlePages[p.id][p.round][page];
        p.bundles = p.round == 0 ? recordBundles(data) : carryBundles(data);
        p.isTaken = new bool[](p.bundles.length);
        bool isVoided = lives[p.id].status == IMarketEvents.BatchStatus.VOIDED;
        bool isOver = !isVoided && isPast(p.id, 4);
        for (uint256 i; i < p.bundles.length; ++i) {
            BundleState state = bundleLives[p.id][p.bundles[i]].state;
            if (isVoided) {
                p.isTaken[i] = state == BundleState.PENDING || state == BundleState.CARRIED;
            } else {
                p.isTaken[i] = state == BundleState.PENDING && (isOver || _isComplete(p, p.bundles[i]))
                    && (i == 0 || hashOf(seed, i, 5, 5) % 6 != 0);
            }
            isAny = isAny || p.isTaken[i];
        }
    }

    /// @dev Every seat has opened, abstained, or a standing vote.
    function _isComplete(Plan memory p, uint16 bundle) private view returns (bool) {
        uint256 seats = lives[p.id].seats;
        uint16[] memory drawn = drawOthers(lives[p.id].table, p.domain, bundle, seats, new uint16[](0));
        for (uint8 seat; seat < seats; ++seat) {
            if (isStanding(p.id, bundle, drawn[seat])) continue;
            if (!market.hasCommitted(p.id, bundle, seat)) return false;
            uint256 place = uint256(bundle) << 8 | seat;
            (Way way,) = wayOf(p.id, place, p.members[drawn[seat]].id, p.mayLie);
            if (way != Way.ABSTAIN && !_isOpened(p, way, place)) return false;
        }
        return true;
    }

    function _isOpened(Plan memory p, Way way, uint256 place) private view returns (bool) {
        if (isShown[p.id][p.round][place]) return true;
        return way == Way.OPEN && !p.isClosing;
    }

    function _settlement(Plan memory p, uint256 page) private returns (Settlement memory s) {
        bytes[] storage pages = settlePages[p.id][p.round];
        s.page = pages[page];
        s.tail = new bytes32[](pages.length - page - 1);
        for (uint256 i; i < pages.length; ++i) {
            if (i < page) s.prior = keccak256(abi.encodePacked(s.prior, keccak256(pages[i])));
            if (i > page) s.tail[i - page - 1] = keccak256(pages[i]);
        }
        s.commitPages = commitPages[p.id][p.round];
        if (lives[p.id].status == IMarketEvents.BatchStatus.VOIDED) return s;
        _collectVotes(p);
        for (uint256 i; i < p.bundles.length; ++i) {
            s.votes = p.isTaken[i]
                ? abi.encodePacked(s.votes, uint8(p.votes[i].length), p.votes[i])
                : abi.encodePacked(s.votes, uint8(0xff));
        }
        for (uint256 i; i < listPages[p.id][p.round].length; ++i) {
            s.openings = bytes.concat(s.openings, _openings(p, i));
        }
    }

    function _find(Plan memory p, uint256 bundle) private pure returns (uint256) {
        for (uint256 i; i < p.bundles.length; ++i) {
            if (p.bundles[i] == bundle && p.isTaken[i]) return i;
        }
        return type(uint256).max;
    }

    /// @return index of the item's bundle in the page, or the highest number where nothing is opened
    function _openedItem(Plan memory p, uint256 m, uint256 place) private returns (uint256 index, bytes32 vote) {
        index = _find(p, place >> 8);
        if (index == type(uint256).max) return (index, 0);
        (Way way, uint256 variant) = wayOf(p.id, place, p.members[m].id, p.mayLie);
        if (!_isOpened(p, way, place)) return (type(uint256).max, 0);
        vote = rootOf(p.id, place >> 8, variant);
    }

    function _collectVotes(Plan memory p) private {
        p.votes = new bytes32[][](p.bundles.length);
        for (uint256 page; page < listPages[p.id][p.round].length; ++page) {
            bytes memory data = listPages[p.id][p.round][page];
            for (uint256 at; at < data.length;) {
                (uint256 m, uint256 count) = (_uint(data, at, 2), _uint(data, at + 2, 2));
                at += 69;
                for (; count > 0; --count) {
                    (uint256 index, bytes32 vote) = _openedItem(p, m, _uint(data, at, 3));
                    if (index != type(uint256).max) p.votes[index] = insertSorted(p.votes[index], vote);
                    at += 35;
                }
            }
        }
    }

    function _openings(Plan memory p, uint256 page) private returns (bytes memory) {
        bytes memory data = listPages[p.id][p.round][page];
        bytes memory out;
        uint256 lists;
        for (uint256 at; at < data.length; ++lists) {
            (uint256 m, uint256 count) = (_uint(data, at, 2), _uint(data, at + 2, 2));
            bytes memory items;
            bool matters;
            for (uint256 i; i < count; ++i) {
                uint256 o = at + 69 + 35 * i;
                uint256 place = _uint(data, o, 3);
                matters = matters || _find(p, place >> 8) != type(uint256).max;
                (uint256 index, bytes32 vote) = _openedItem(p, m, place);
                items = index == type(uint256).max
                    ? abi.encodePacked(items, uint24(place), uint8(0xff), slice(data, o + 3, o + 35))
                    : abi.encodePacked(
                        items, uint24(place), uint8(indexOf(p.votes[index], vote)), seatSalt(p.id, place)
                    );
            }
            bytes32 itemsHash = _hash(data, at + 69, 35 * count);
            out = matters
                ? abi.encodePacked(out, uint16(m), uint16(count), items)
                : abi.encodePacked(out, uint16(m), uint16(0), keccak256(abi.encodePacked(uint16(m), itemsHash)));
            at += 69 + 35 * count;
        }
        return abi.encodePacked(uint16(page), uint16(lists), out);
    }
}
