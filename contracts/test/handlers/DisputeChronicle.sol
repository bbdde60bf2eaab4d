// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IDisputes} from "../../src/interfaces/IDisputes.sol";
import {Vm} from "../support/Vm.sol";
import {Chronicle} from "./Chronicle.sol";

/// @title What a third party knows of disputes from events alone
abstract contract DisputeChronicle is Chronicle {
    function _onDisputes(Vm.Log memory l) internal override {
        (bytes32 t, uint64 id) = (l.topics[0], uint64(uint256(l.topics[1])));
        DisputeLife storage d = quarrels[id];
        if (t == IDisputes.DisputeOpened.selector) {
            (d.bundle, d.record) = abi.decode(l.data, (uint16, bytes));
            _onQuarrel(d, id, uint64(uint256(l.topics[2])));
        } else if (t == IDisputes.LeavesPublished.selector) {
            (bytes32 root, bytes memory leaves) = abi.decode(l.data, (bytes32, bytes));
            leavesOf[id][root] = leaves;
            ++done["publish"];
        } else if (t == IDisputes.QuestionAsked.selector) {
            _step(d, Phase.PUBLISHING, Phase.VOTING);
            d.question = abi.decode(l.data, (bytes));
        } else if (t == IDisputes.VotesCommitted.selector) {
            (, bytes memory lists, bytes memory skips) = abi.decode(l.data, (uint8, bytes, bytes));
            require(skips.length == 0, "class: the actors' lists are good");
            votePages[id][d.window].push(lists);
        } else if (t == IDisputes.VotesRevealed.selector) {
            (,, bytes memory shown) = abi.decode(l.data, (uint8, bytes, bytes));
            _onVotesShown(d, shown);
        } else if (t == IDisputes.VoteWindowOpened.selector) {
            (d.window, d.cast) = abi.decode(l.data, (uint8, bytes));
            ++done["window"];
        } else if (t == IDisputes.DisputeDecided.selector) {
            _onDecided(d, l.data);
        } else if (t == IDisputes.DisputeSettled.selector) {
            _onQuarrelOver(d);
        }
    }

    function _step(DisputeLife storage d, Phase from, Phase to) private {
        require(d.phase == from, "dispute: a move outside the table");
        d.phase = to;
    }

    function _onQuarrel(DisputeLife storage d, uint64 id, uint64 batchId) private {
        _step(d, Phase.NONE, Phase.PUBLISHING);
        (d.id, d.batchId, d.kind) = (id, batchId, uint8(_uint(d.record, 0, 1)));
        d.pot = uint128(_uint(d.record, 45, 16));
        BundleLife storage w = bundleLives[batchId][d.bundle];
        if (d.kind == 0) {
            require(_uint(d.record, 61, 16) == w.escrow, "dispute: the bundle's escrow goes along");
            potsOwed = potsOwed - w.pot + d.pot;
            w.pot = 0;
        } else {
            require(w.state == BundleState.ACCEPTED, "dispute: of an accepted bundle");
            potsOwed += d.pot;
        }
        ++lives[batchId].openDisputes;
        openIds.push(id);
        ++done[d.kind == 0 ? "conflict" : d.kind == 1 ? "challenge" : "dissent"];
    }

    function _onVotesShown(DisputeLife storage d, bytes memory shown) private {
        for (uint256 at; at < shown.length;) {
            uint256 lists = _uint(shown, at + 2, 2);
            at += 4;
            for (; lists > 0; --lists) {
                bool isOpen = _uint(shown, at + 2, 2) != 0xffff;
                if (isOpen) isVoteShown[d.id][d.window][_uint(shown, at, 2)] = true;
                at += isOpen ? 20 : 36;
            }
        }
        ++done["vote shown"];
    }

    function _onDecided(DisputeLife storage d, bytes memory data) private {
        uint8 verdict;
        bytes32 answer;
        (, verdict,, answer, d.tally) = abi.decode(data, (uint16, uint8, bytes32, bytes32, bytes));
        _step(d, Phase.VOTING, Phase.PUNISHING);
        // Only the bond of a challenge that failed waits: for the voters, who are paid behind the last row.
        bool isDismissed = d.kind == 1 && verdict == 1 && answer != 0;
        if (!isDismissed) _emptyPot(d);
        BundleLife storage w = bundleLives[d.batchId][d.bundle];
        if (d.kind == 0 && verdict == 4) {
            require(w.state == BundleState.DISPUTED, "dispute: void only what was open");
            _release(w);
            delete w.voters;
            w.state = BundleState.VOID;
        } else if (d.kind != 0 && verdict == 4 && _uint(d.record, 177, 1) >= w.struckBelow) {
            bool isLive = w.state == BundleState.ACCEPTED && w.rowRound == _uint(d.record, 177, 1);
            require(isLive, "dispute: reverses what was accepted");
            (w.state, w.struckBelow) = (BundleState.VOID, w.rowRound + 1);
            delete w.voters;
            ++done["reverse"];
        }
        ++done[answer == 0 ? "no winner" : "winner"];
    }

    function _emptyPot(DisputeLife storage d) private {
        potsOwed -= d.pot;
        d.pot = 0;
    }

    function _onQuarrelOver(DisputeLife storage d) private {
        _emptyPot(d);
        _step(d, Phase.PUNISHING, Phase.NONE);
        potsOwed -= d.taken;
        d.taken = 0;
        --lives[d.batchId].openDisputes;
        for (uint256 i; i < openIds.length; ++i) {
            if (openIds[i] != d.id) continue;
            openIds[i] = openIds[openIds.length - 1];
            openIds.pop();
            break;
        }
        ++done["dispute over"];
    }
}
