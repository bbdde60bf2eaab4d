// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IMarketEvents} from "../../src/interfaces/IMarketEvents.sol";
import {Extension} from "../../src/types/Extension.sol";
import {Proof} from "../../src/types/Proof.sol";
import {DisputeActions} from "./DisputeActions.sol";

/// @title What happens to accepted and void bundles before they are final: extensions, challenges, audits
abstract contract ChallengeActions is DisputeActions {
    bytes32 private constant EXTENSION_TYPE =
        keccak256("Extension(bytes32 postHash,bytes32 bundlesHash,uint8 round,uint8 rounds)");
    bytes32 private constant AUDIT_TYPE =
        keccak256("Audit(bytes32 auditDomain,uint32 operatorId,uint16 bundle,bytes32 vote)");

    mapping(bytes32 claim => bool) private _isClaimed;
    mapping(bytes32 audit => bool) private _isAudited;

    // Choosing ----------------------------------------------------------------------------------------------------

    /// @dev A bundle in this state of a batch that may still be disputed; `isFound` is false where there is none.
    function _pickBundle(BundleState state, uint256 which)
        private
        view
        returns (bool isFound, uint64 id, uint16 bundle)
    {
        uint256 count = known.length;
        for (uint256 i; i < count; ++i) {
            id = known[(which % count + i) % count];
            Life storage b = lives[id];
            if (b.status != IMarketEvents.BatchStatus.SETTLED || vm.getBlockTimestamp() >= b.finalAt) continue;
            for (uint256 j; j < b.bundles; ++j) {
                bundle = uint16((which % b.bundles + j) % b.bundles);
                BundleLife storage w = bundleLives[id][bundle];
                if (w.state == state && w.voters.length > 0) return (true, id, bundle);
            }
        }
    }

    /// @dev An accepted bundle whose result is not true.
    function _pickLie(uint256 which) private returns (bool isFound, uint64 id, uint16 bundle) {
        uint256 count = known.length;
        for (uint256 i; i < count; ++i) {
            id = known[(which % count + i) % count];
            Life storage b = lives[id];
            if (b.status != IMarketEvents.BatchStatus.SETTLED || vm.getBlockTimestamp() >= b.finalAt) continue;
            for (bundle = 0; bundle < b.bundles; ++bundle) {
                BundleLife storage w = bundleLives[id][bundle];
                if (w.state == BundleState.ACCEPTED && w.vote != rootOf(id, bundle, 0)) return (true, id, bundle);
            }
        }
    }

    function _proof(uint64 id, uint16 bundle) private view returns (Proof memory p) {
        bytes[] storage pages = settlePages[id][0];
        uint256 at;
        while (!_isIn(recordBundles(pages[at]), bundle)) {
            ++at;
        }
        (p.page, p.prior, p.tail) = _link(pages, at);
        (p.outcomes, p.outcomePrior, p.outcomeTail) = _link(outcomePages[id], bundleLives[id][bundle].page);
    }

    function _isIn(uint16[] memory list, uint16 bundle) private pure returns (bool) {
        return isAmong(list, list.length, bundle);
    }

    function _link(bytes[] storage pages, uint256 at)
        private
        view
        returns (bytes memory page, bytes32 prior, bytes32[] memory tail)
    {
        page = pages[at];
        tail = new bytes32[](pages.length - at - 1);
        for (uint256 i; i < pages.length; ++i) {
            if (i < at) prior = keccak256(abi.encodePacked(prior, keccak256(pages[i])));
            if (i > at) tail[i - at - 1] = keccak256(pages[i]);
        }
    }

    // Extensions --------------------------------------------------------------------------------------------------

    function extendBundle(uint256 which, uint256 seed, uint256 kind) external {
        bool isAccepted = kind % 2 == 0;
        BundleState state = isAccepted ? BundleState.ACCEPTED : BundleState.VOID;
        (bool isFound, uint64 id, uint16 bundle) = _pickBundle(state, which);
        if (!isFound) return;
        Life storage b = lives[id];
        if (isAccepted && !_isConvicted(id, bundle)) return;
        if (b.isAuditDrawn && vm.getBlockTimestamp() < openedAt(id) + 2 * uint256(rules.auditPeriod)) return;
        Extension memory e;
        e.rounds = uint8(1 + seed % 2);
        uint256 most = 2 * (1 + uint256(rules.maxRounds));
        if (b.round + e.rounds >= most || uint256(b.seats) * (b.round + 1 + e.rounds) > 255) return;
        e.proof = _proof(id, bundle);
        e.bundles = _withNext(id, bundle, recordBundles(e.proof.page));
        address payer = bundleLives[id][bundle].requester;
        address sender = seed % 2 == 0 ? payer : collator;
        if (sender != payer) e.signature = _signExtension(id, payer, e);
        vm.recordLogs();
        vm.prank(sender);
        market.extend(id, e);
        collatorOf[id] = sender;
        absorb();
        ++done["extend"];
    }

    /// @dev With the bundle behind it, where that may be extended by the same call.
    function _withNext(uint64 id, uint16 bundle, uint16[] memory page) private view returns (uint16[] memory bundles) {
        BundleLife storage w = bundleLives[id][bundle];
        BundleLife storage next = bundleLives[id][uint256(bundle) + 1];
        bool isTwo = next.state == BundleState.VOID && next.voters.length > 0 && next.page == w.page
            && next.requester == w.requester && _isIn(page, bundle + 1);
        bundles = new uint16[](isTwo ? 2 : 1);
        for (uint16 i; i < bundles.length; ++i) {
            bundles[i] = bundle + i;
        }
    }

    function _hashOfBundles(uint16[] memory bundles) private pure returns (bytes32) {
        bytes memory packed;
        for (uint256 i; i < bundles.length; ++i) {
            packed = abi.encodePacked(packed, bundles[i]);
        }
        return keccak256(packed);
    }

    function _isConvicted(uint64 id, uint16 bundle) private view returns (bool) {
        (Member[] memory members,,) = membersOf(lives[id].table);
        uint16[] storage voters = bundleLives[id][bundle].voters;
        for (uint256 i; i < voters.length; ++i) {
            (,,,,,,, bool ejected) = registry.operator(members[voters[i]].id);
            if (!ejected) return false;
        }
        return true;
    }

    function _signExtension(uint64 id, address payer, Extension memory e) private view returns (bytes memory) {
        bytes32 structHash = keccak256(
            abi.encode(
                EXTENSION_TYPE, hashOf(id), _hashOfBundles(e.bundles), uint256(lives[id].round), uint256(e.rounds)
            )
        );
        return _sign(requesterSecretOf[payer], structHash);
    }

    /// @param secret 0 of a contract wallet, which confirms what starts with the digest
    function _sign(uint256 secret, bytes32 structHash) private view returns (bytes memory) {
        bytes32 digest = keccak256(abi.encodePacked(hex"1901", separator(), structHash));
        if (secret == 0) return abi.encodePacked(digest);
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, digest);
        return abi.encodePacked(r, s, v);
    }

    // Challenges --------------------------------------------------------------------------------------------------

    /// @dev A task of an accepted bundle, with the true leaf or a made-up one.
    function challengeResult(uint256 which, uint256 seed) external {
        (bool isFound, uint64 id, uint16 bundle) = _pickLie(which);
        if (!isFound) (isFound, id, bundle) = _pickBundle(BundleState.ACCEPTED, which);
        if (!isFound) return;
        BundleLife storage w = bundleLives[id][bundle];
        uint16 task = uint16(seed % w.tasks);
        bytes32 claim = leaf(id, bundle, seed % 4 == 0 ? 1 : 0, task);
        bytes32 key = keccak256(abi.encode(id, bundle, w.rowRound, task, claim));
        if (_isClaimed[key]) return;
        _isClaimed[key] = true;
        (Member[] memory members,,) = membersOf(lives[id].table);
        uint256 bond = uint256(w.price) / w.tasks * members.length;
        if (bond < rules.challengeBond) bond = rules.challengeBond;
        address sender = ownerOf(seed % operators);
        watch(sender);
        vm.deal(sender, sender.balance + bond);
        Proof memory proof = _proof(id, bundle);
        vm.recordLogs();
        vm.prank(sender);
        challenges.challenge{value: bond}(id, proof, bundle, task, claim);
        absorb();
    }

    // Audits ------------------------------------------------------------------------------------------------------

    function drawAudit(uint256 which) external {
        uint64 id = _pickUndrawn(which);
        if (id == 0) return;
        uint256 at = _auditBlock(id);
        if (vm.getBlockNumber() <= at) tick(0, at + 1 - vm.getBlockNumber());
        vm.recordLogs();
        vm.prank(_anyone(which));
        market.proveAudit(id, "");
        absorb();
        for (uint16 bundle; bundle < lives[id].bundles; ++bundle) {
            bool isNow = hashOf(which, bundle, 3, 3) % 2 == 0;
            if (isNow && bundleLives[id][bundle].state == BundleState.ACCEPTED) _audit(id, bundle, 0, which >> 8);
        }
        require(lives[id].auditBeacon == keccak256(abi.encode("beacon", at)), "audit: beacon of the block fixed before");
    }

    /// @dev A settled batch whose auditors may be drawn, or 0.
    function _pickUndrawn(uint256 which) private view returns (uint64) {
        for (uint256 i; i < known.length; ++i) {
            uint64 id = known[(which % known.length + i) % known.length];
            Life storage b = lives[id];
            bool isDue = b.status == IMarketEvents.BatchStatus.SETTLED && b.bundles > 0 && !b.isAuditDrawn
                && b.commitPeriod <= rules.auditPeriod;
            if (isDue && vm.getBlockTimestamp() < b.finalAt && vm.getBlockNumber() <= _auditBlock(id) + 256) return id;
        }
        return 0;
    }

    function _auditBlock(uint64 id) private view returns (uint256 beaconBlock) {
        (,,,,,,, beaconBlock,,,) = market.batch(id);
    }

    /// @dev The first auditor in its time; after that, and every third time at once, the second one.
    function auditBundle(uint256 which, uint256 seed) external {
        uint64 id = _pickDrawn(which);
        if (id == 0) return;
        uint256 startTime = openedAt(id);
        uint256 period = rules.auditPeriod;
        bool isHasty = seed % 3 == 0 && startTime + period < lives[id].finalAt;
        if (isHasty && vm.getBlockTimestamp() < startTime + period) vm.warp(startTime + period);
        if (vm.getBlockTimestamp() >= startTime + 2 * period) return;
        uint8 auditor = vm.getBlockTimestamp() < startTime + period ? 0 : 1;
        for (uint256 i; i < lives[id].bundles; ++i) {
            uint16 bundle = uint16((which % lives[id].bundles + i) % lives[id].bundles);
            if (bundleLives[id][bundle].state == BundleState.ACCEPTED && _audit(id, bundle, auditor, seed)) return;
        }
    }

    /// @dev A batch whose auditors are drawn and have time left, or 0.
    function _pickDrawn(uint256 which) private view returns (uint64) {
        for (uint256 i; i < known.length; ++i) {
            uint64 id = known[(which % known.length + i) % known.length];
            Life storage b = lives[id];
            if (b.status != IMarketEvents.BatchStatus.SETTLED || !b.isAuditDrawn) continue;
            uint256 now_ = vm.getBlockTimestamp();
            if (now_ < b.finalAt && now_ < openedAt(id) + 2 * uint256(rules.auditPeriod)) return id;
        }
        return 0;
    }

    function _audit(uint64 id, uint16 bundle, uint8 auditor, uint256 seed) private returns (bool) {
        bytes32 domain = domainOf(id, 2, lives[id].round);
        uint256 lot = uint256(keccak256(abi.encodePacked(domain, uint32(bundle)))) % 10_000;
        bytes32 key = keccak256(abi.encode(domain, bundle));
        BundleLife storage w = bundleLives[id][bundle];
        (Member[] memory members,, bool mayLie) = membersOf(lives[id].table);
        (,,,, uint8 from) = market.batchFlags(id);
        if (
            w.rowRound < from || lot >= rules.auditBps || _isAudited[key]
                || members.length < w.voters.length + auditor + 1
        ) {
            return false;
        }
        _isAudited[key] = true;
        Member memory m = members[_drawAuditor(id, domain, bundle, auditor)];
        uint256 variant = isLiar(m.id) && mayLie && seed % 4 == 0 ? 1 : 0;
        bytes32 vote = rootOf(id, bundle, variant);
        bytes32 structHash = keccak256(abi.encode(AUDIT_TYPE, domain, uint256(m.id), uint256(bundle), vote));
        bytes memory signature = _sign(secretOf[m.key], structHash);
        Proof memory proof = _proof(id, bundle);
        weigh();
        isAuditing = true;
        vm.recordLogs();
        vm.prank(_anyone(seed));
        challenges.audit(id, proof, bundle, auditor, vote, signature);
        absorb();
        ++done["audit"];
        return true;
    }

    /// @dev Auditors sit behind the bundle's voters.
    function _drawAuditor(uint64 id, bytes32 domain, uint16 bundle, uint8 auditor) private view returns (uint16) {
        uint16[] memory voters = bundleLives[id][bundle].voters;
        uint16[] memory drawn = drawOthers(lives[id].table, domain, bundle, uint256(auditor) + 1, voters);
        return drawn[drawn.length - 1];
    }
}
