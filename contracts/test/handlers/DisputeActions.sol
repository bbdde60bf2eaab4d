// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {VoteSettlement} from "../../src/types/VoteSettlement.sol";
import {insertSorted} from "../support/Sorting.sol";
import {SettleActions} from "./SettleActions.sol";

/// @title What anybody does in a dispute, and what the class says
abstract contract DisputeActions is SettleActions {
    /// @dev A dispute in this phase, or 0.
    function _pickQuarrel(Phase phase, uint256 which) internal view returns (uint64) {
        uint256 count = openIds.length;
        for (uint256 i; i < count; ++i) {
            uint64 id = openIds[(which % count + i) % count];
            if (quarrels[id].phase == phase) return id;
        }
        return 0;
    }

    function _tableOfQuarrel(DisputeLife storage d) internal view returns (uint16) {
        return uint16(_uint(d.record, 121, 2));
    }

    /// @dev The distinct votes of a record, ascending.
    function rootsOf(DisputeLife storage d) internal view returns (bytes32[] memory roots) {
        bytes memory record = d.record;
        roots = new bytes32[](0);
        uint256 count = _uint(record, 178, 1);
        for (uint256 i; i < count; ++i) {
            roots = insertSorted(roots, bytes32(_uint(record, 181 + 34 * i, 32)));
        }
    }

    // Question ----------------------------------------------------------------------------------------------------

    function publishLeaves(uint256 which, uint256 seed) external {
        uint64 id = _pickQuarrel(Phase.PUBLISHING, which);
        if (id == 0) return;
        DisputeLife storage d = quarrels[id];
        bytes32[] memory roots = rootsOf(d);
        bytes32 root = roots[seed % roots.length];
        uint256 variant = variantOf(d.batchId, d.bundle, root);
        if (variant >= 3 || leavesOf[id][root].length > 0) return;
        vm.recordLogs();
        vm.prank(_anyone(seed));
        disputes.publish(id, d.record, leaves(d.batchId, d.bundle, variant));
        absorb();
    }

    function askClass(uint256 which, uint256 seed) external {
        uint64 id = _pickQuarrel(Phase.PUBLISHING, which);
        if (id == 0) return;
        _ask(id, _anyone(seed));
        if (seed % 4 != 3 && quarrels[id].phase == Phase.VOTING) _commitVotePage(id, seed);
    }

    function _ask(uint64 id, address sender) internal {
        DisputeLife storage d = quarrels[id];
        bytes32[] memory roots = rootsOf(d);
        bytes memory all;
        bool isAll = true;
        for (uint256 i; i < roots.length; ++i) {
            all = bytes.concat(all, leavesOf[id][roots[i]]);
            isAll = isAll && leavesOf[id][roots[i]].length > 0;
        }
        if (!isAll) {
            _waitFor(id, rules.publishPeriod, 1);
            all = "";
        }
        _begin(id);
        vm.prank(sender);
        disputes.ask(id, d.record, all);
        absorb();
        ++done[isAll ? "ask" : "ask whole"];
    }

    /// @dev Until `secs` and as many times `minBlocks` since the dispute's phase or window began.
    function _waitFor(uint64 id, uint256 secs, uint256 windows) internal {
        (uint256 startTime, uint256 startBlock) = startOf(id);
        uint256 atBlock = startBlock + windows * rules.minBlocks;
        if (vm.getBlockTimestamp() < startTime + secs) vm.warp(startTime + secs);
        if (vm.getBlockNumber() < atBlock) vm.roll(atBlock);
    }

    function _isOver(uint64 id, uint256 secs, uint256 windows) internal view returns (bool) {
        (uint256 startTime, uint256 startBlock) = startOf(id);
        return
            vm.getBlockTimestamp() >= startTime + secs && vm.getBlockNumber() >= startBlock + windows * rules.minBlocks;
    }

    function startOf(uint64 id) internal view returns (uint256 startTime, uint256 startBlock) {
        return (disputes.dispute(id).startTime, disputes.dispute(id).startBlock);
    }

    /// @dev A call that may punish for this dispute.
    function _begin(uint64 id) internal {
        weigh();
        punishing = id;
        vm.recordLogs();
    }

    // Votes -------------------------------------------------------------------------------------------------------

    function _statement(DisputeLife storage d) private view returns (bytes32) {
        bytes32 questionHash = keccak256(abi.encodePacked(keccak256(d.record), d.question));
        bytes32 tag = keccak256("Quorate.ClassVote.v1");
        return keccak256(abi.encode(tag, block.chainid, disputes, d.id, d.window, questionHash));
    }

    function _voteSalt(DisputeLife storage d, uint256 m) private view returns (bytes16) {
        return bytes16(keccak256(abi.encode("vote salt", d.id, d.window, m)));
    }

    function _voteCommitment(DisputeLife storage d, Member memory m, bool mayLie) private returns (bytes32) {
        if (voteWay(d, m) == Way.ABSTAIN) {
            return bytes32(uint256(moodOf(d.batchId) == Mood.EMPTY ? 1 : hashOf(d.id, m.id, 0, 0) % 6));
        }
        bytes32 answer = voteAnswer(d, m, mayLie);
        return keccak256(abi.encodePacked(_statement(d), uint32(m.id), answer, _voteSalt(d, m.index)));
    }

    function commitClassVotes(uint256 which, uint256 seed) external {
        uint64 id = _pickQuarrel(Phase.VOTING, which);
        if (id != 0 && !_isOver(id, rules.voteCommitPeriod, 1)) _commitVotePage(id, seed);
    }

    function _commitVotePage(uint64 id, uint256 seed) private {
        DisputeLife storage d = quarrels[id];
        (Member[] memory members,, bool mayLie) = membersOf(_tableOfQuarrel(d));
        bytes memory lists;
        for (uint256 i; i < members.length; ++i) {
            Member memory m = members[i];
            if (voteWay(d, m) == Way.SILENT || disputes.hasSpoken(id, m.index)) continue;
            if (hashOf(seed, i, 8, 8) % 8 == 0) continue;
            bytes32 c = _voteCommitment(d, m, mayLie);
            bytes32 digest = listDigest(_statement(d), m.id, keccak256(abi.encodePacked(c)));
            (uint8 v, bytes32 r, bytes32 s) = vm.sign(secretOf[m.key], digest);
            lists = abi.encodePacked(lists, m.index, r, s, v, c);
        }
        if (lists.length == 0) return;
        vm.recordLogs();
        vm.prank(_anyone(seed));
        disputes.commitVotes(id, d.record, d.question, lists);
        absorb();
        ++done["class commit"];
    }

    function _votePageHashes(uint64 id, uint8 window) private view returns (bytes32[] memory hashes) {
        bytes[] storage pages = votePages[id][window];
        hashes = new bytes32[](pages.length);
        for (uint256 p; p < pages.length; ++p) {
            bytes memory data = pages[p];
            bytes memory all;
            for (uint256 at; at < data.length; at += 99) {
                all = abi.encodePacked(
                    all, keccak256(bytes.concat(slice(data, at, at + 2), slice(data, at + 67, at + 99)))
                );
            }
            hashes[p] = keccak256(all);
        }
    }

    /// @dev What a caller opens: (votes ascending, openings of all pages).
    function _voteOpenings(DisputeLife storage d, bool isLate, bool isClosing)
        private
        returns (bytes32[] memory votes, bytes memory openings_)
    {
        (Member[] memory members,, bool mayLie) = membersOf(_tableOfQuarrel(d));
        votes = _knownAnswers(d);
        for (uint256 i; i < members.length; ++i) {
            if (_opensVote(d, members[i], isLate, isClosing)) {
                votes = insertSorted(votes, voteAnswer(d, members[i], mayLie));
            }
        }
        for (uint256 p; p < votePages[d.id][d.window].length; ++p) {
            bytes memory data = votePages[d.id][d.window][p];
            openings_ = abi.encodePacked(openings_, uint16(p), uint16(data.length / 99));
            for (uint256 at; at < data.length; at += 99) {
                Member memory m = members[_uint(data, at, 2)];
                openings_ = _opensVote(d, m, isLate, isClosing)
                    ? abi.encodePacked(
                        openings_, m.index, uint16(indexOf(votes, voteAnswer(d, m, mayLie))), _voteSalt(d, m.index)
                    )
                    : abi.encodePacked(openings_, m.index, uint16(0xffff), slice(data, at + 67, at + 99));
            }
        }
    }

    /// @dev Those of the roots, and those cast in earlier windows.
    function _knownAnswers(DisputeLife storage d) private view returns (bytes32[] memory votes) {
        votes = new bytes32[](0);
        for (uint256 at = 2 + 2 * _uint(d.question, 0, 2); at < d.question.length; at += 32) {
            votes = insertSorted(votes, bytes32(_uint(d.question, at, 32)));
        }
        uint256 count = d.cast.length == 0 ? 0 : _uint(d.cast, 0, 2);
        for (uint256 i; i < count; ++i) {
            votes = insertSorted(votes, bytes32(_uint(d.cast, 4 + 34 * i, 32)));
        }
    }

    function _opensVote(DisputeLife storage d, Member memory m, bool isLate, bool isClosing)
        private
        view
        returns (bool)
    {
        if (!_hasVotePage(d, m.index)) return false;
        if (isVoteShown[d.id][d.window][m.index]) return true;
        Way way = voteWay(d, m);
        return way == Way.LATE ? isLate : way == Way.OPEN && !isClosing;
    }

    /// @dev Whoever has committed in the present window opens or abstains.
    function _isClear(DisputeLife storage d, bool isClosing) private view returns (bool) {
        (Member[] memory members,,) = membersOf(_tableOfQuarrel(d));
        for (uint256 i; i < members.length; ++i) {
            bool isMissing = _hasVotePage(d, members[i].index) && voteWay(d, members[i]) != Way.ABSTAIN
                && !_opensVote(d, members[i], false, isClosing);
            if (isMissing) return false;
        }
        return true;
    }

    function _hasVotePage(DisputeLife storage d, uint16 member) private view returns (bool) {
        for (uint256 p; p < votePages[d.id][d.window].length; ++p) {
            bytes memory data = votePages[d.id][d.window][p];
            for (uint256 at; at < data.length; at += 99) {
                if (_uint(data, at, 2) == member) return true;
            }
        }
        return false;
    }

    /// @dev Members whose openings others leave out tell them on chain.
    function revealClassVotes(uint256 which, uint256 seed) external {
        uint64 id = _pickQuarrel(Phase.VOTING, which);
        if (id == 0) return;
        DisputeLife storage d = quarrels[id];
        uint256 commitPeriod = rules.voteCommitPeriod;
        if (!_isOver(id, commitPeriod, 1)) _waitFor(id, commitPeriod, 1);
        if (_isOver(id, commitPeriod + rules.voteRevealPeriod, 2)) return;
        (bytes32[] memory votes, bytes memory openings_) = _voteOpenings(d, true, seed % 2 == 0);
        if (!_opensAny(openings_)) return;
        bytes32[] memory pages = _votePageHashes(id, d.window);
        vm.recordLogs();
        vm.prank(_anyone(seed));
        disputes.revealVotes(id, d.record, d.question, pages, abi.encodePacked(uint16(votes.length), votes), openings_);
        absorb();
    }

    function _opensAny(bytes memory openings_) private pure returns (bool) {
        for (uint256 at; at < openings_.length;) {
            uint256 lists = _uint(openings_, at + 2, 2);
            at += 4;
            for (; lists > 0; --lists) {
                if (_uint(openings_, at + 2, 2) != 0xffff) return true;
                at += 36;
            }
        }
        return false;
    }

    function settleClassVotes(uint256 which, uint256 seed) external {
        uint64 id = _pickQuarrel(Phase.VOTING, which);
        if (id == 0) return;
        _settleVotes(id, _anyone(seed), seed % 4 == 0 ? seed % 7 : 1024, seed % 6 == 0);
    }

    /// @dev At once where every commitment is opened or abstains; else so late that whatever is opened ends the window.
    function _settleVotes(uint64 id, address sender, uint256 rows, bool isClosing) internal {
        DisputeLife storage d = quarrels[id];
        uint256 commitPeriod = rules.voteCommitPeriod;
        if (_isClear(d, isClosing)) _waitFor(id, commitPeriod, 1);
        else _waitFor(id, commitPeriod + 2 * uint256(rules.voteRevealPeriod), 3);
        (bytes32[] memory votes, bytes memory openings_) = _voteOpenings(d, false, isClosing);
        bytes32[] memory pages = _votePageHashes(id, d.window);
        VoteSettlement memory s =
            VoteSettlement(d.cast, pages, abi.encodePacked(uint16(votes.length), votes), openings_);
        _begin(id);
        vm.prank(sender);
        disputes.settleVotes(id, d.record, d.question, s, rows);
        absorb();
        ++done["class settle"];
    }

    function punishRows(uint256 which, uint256 seed) external {
        uint64 id = _pickQuarrel(Phase.PUNISHING, which);
        if (id != 0) _punish(id, _anyone(seed), seed % 3 == 0 ? 1024 : disputes.dispute(id).row + 1 + seed % 5);
    }

    function _punish(uint64 id, address sender, uint256 upTo) internal {
        DisputeLife storage d = quarrels[id];
        _begin(id);
        vm.prank(sender);
        disputes.punish(id, d.record, d.tally, upTo);
        absorb();
        ++done["punish"];
    }

    /// @dev A slash for a vote hits liars alone: the actors let the honest hold more than half of every class that votes.
    function _onSlashed(uint24 operatorId) internal override {
        require(isLiar(operatorId), "slash: not of an operator that voted as the honest majority");
        ++done["slash"];
    }
}
