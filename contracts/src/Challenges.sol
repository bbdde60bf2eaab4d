// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IChallenges} from "./interfaces/IChallenges.sol";
import {IComputeMarket} from "./interfaces/IComputeMarket.sol";
import {IDisputes} from "./interfaces/IDisputes.sol";
import {IMarketEvents} from "./interfaces/IMarketEvents.sol";
import {IStakeRegistry} from "./interfaces/IStakeRegistry.sol";
import {DisputeRecord, DisputeRecords} from "./libraries/DisputeRecords.sol";
import {Outcome, OutcomeProof} from "./libraries/OutcomeProof.sol";
import {Statements} from "./libraries/Statements.sol";
import {LoadedTable, TableReader} from "./libraries/TableReader.sol";
import {ClassTable} from "./types/ClassTable.sol";
import {FineKind} from "./types/FineKind.sol";
import {BPS, MAX_VOTERS} from "./types/Limits.sol";
import {Params} from "./types/Params.sol";
import {Proof} from "./types/Proof.sol";
import {Terms} from "./types/Terms.sol";

/// @title Who may doubt an accepted result, and who has to
contract Challenges is IChallenges {
    using TableReader for LoadedTable;

    /// @dev What the market says of a batch, as far as it matters here.
    struct Facts {
        uint64 batchId;
        IMarketEvents.BatchStatus status;
        uint256 round;
        uint32 classId;
        uint16 table;
        uint256 startTime;
        uint256 finalAt;
        bytes32 postHash;
        bytes32 outcomeHash;
        bytes32 beacon;
        bool judged;
        bool auditDrawn;
        uint8 auditFrom;
    }

    bytes32 private constant AUDIT_TYPEHASH =
        keccak256("Audit(bytes32 auditDomain,uint32 operatorId,uint16 bundle,bytes32 vote)");
    uint256 private constant ONE_SEAT = 1 << 96;
    uint256 private constant DISSENT = type(uint256).max;

    IStakeRegistry public immutable REGISTRY;
    IComputeMarket public immutable MARKET;
    IDisputes public immutable DISPUTES;

    Params private _params;
    /// @dev Claims that were made, by the hash of what they are about.
    mapping(bytes32 claim => bool) private _isClaimed;
    /// @dev By outcome: the auditor that agreed, its member's number + 1, or DISSENT; 0 before an audit.
    mapping(bytes32 outcome => uint256) private _audits;

    constructor(Params memory params_, address registry, address market, address disputes) {
        _params = params_;
        REGISTRY = IStakeRegistry(registry);
        MARKET = IComputeMarket(market);
        DISPUTES = IDisputes(disputes);
    }

    /// @inheritdoc IChallenges
    function params() external view returns (Params memory) {
        return _params;
    }

    /// @inheritdoc IChallenges
    function bondOf(uint256 taskPrice, uint256 members) public view returns (uint256) {
        uint256 cost = taskPrice * members;
        return cost > _params.challengeBond ? cost : _params.challengeBond;
    }

    /// @inheritdoc IChallenges
    function challenge(uint64 batchId, Proof calldata proof, uint16 bundle, uint16 task, bytes32 leaf)
        external
        payable
        returns (uint64 disputeId)
    {
        Facts memory f = _facts(batchId);
        if (f.status == IMarketEvents.BatchStatus.SETTLED && block.timestamp >= f.finalAt) {
            revert WindowPast("challenge");
        }
        if (!f.judged) revert NotJudged();
        Outcome memory o = _accepted(f, proof, bundle);
        if (task >= o.tasks || leaf == 0) revert MalformedPage();
        bytes32 key = keccak256(abi.encode(batchId, bundle, o.round, task, leaf));
        if (_isClaimed[key]) revert AlreadyChallenged(bundle, task);
        uint256 bond = bondOf(o.taskPrice, REGISTRY.tableAt(f.classId, f.table).memberCount);
        if (msg.value != bond) revert WrongValue(msg.value, bond);
        _isClaimed[key] = true;
        DisputeRecord memory r = _record(f, o, bundle);
        uint256 agreed = _audits[_outcomeKey(batchId, bundle, o)];
        // Who took the fee for looking answers for the result like a seat, or it could repeat it without a look.
        if (agreed != 0 && agreed != DISSENT) _addEntry(r, agreed - 1, o.vote);
        (r.kind, r.pot) = (DisputeRecords.CHALLENGE, bond);
        (r.challenger, r.task, r.claim) = (msg.sender, task, leaf);
        REGISTRY.depositPot{value: bond}();
        disputeId = DISPUTES.open(DisputeRecords.pack(r));
        emit ResultChallenged(batchId, bundle, task, msg.sender, disputeId);
    }

    /// @inheritdoc IChallenges
    function audit(
        uint64 batchId,
        Proof calldata proof,
        uint16 bundle,
        uint8 auditor,
        bytes32 vote,
        bytes calldata signature
    ) external returns (uint64 disputeId) {
        Facts memory f = _facts(batchId);
        if (f.status != IMarketEvents.BatchStatus.SETTLED || !f.auditDrawn || auditor > 1) revert NotDrawn(bundle);
        _requireTurn(f, auditor);
        Outcome memory o = _accepted(f, proof, bundle);
        if (o.round < f.auditFrom) revert NotDrawn(bundle);
        bytes32 domain = _auditDomain(f);
        LoadedTable memory table = _loadTable(f);
        uint256[2] memory members = _draw(table, domain, bundle, o, auditor);
        bytes32 key = _outcomeKey(batchId, bundle, o);
        if (_audits[key] != 0) revert AlreadyAudited(bundle);
        _audits[key] = vote == o.vote ? members[auditor] + 1 : DISSENT;
        (address signer, uint24 operatorId) = table.row(members[auditor]);
        bytes32 structHash = keccak256(abi.encode(AUDIT_TYPEHASH, domain, operatorId, bundle, vote));
        bytes32 digest = Statements.typedDigest(MARKET.domainSeparator(), structHash);
        if (!Statements.isSignedBy(signer, digest, signature)) revert Unauthorized();
        if (auditor == 1) _fineAbsent(table, members[0], 2 * o.taskPrice * o.tasks);
        if (vote == o.vote) _reward(operatorId, o.taskPrice * o.tasks);
        else disputeId = _dissent(f, o, bundle, members[auditor], vote);
        emit BundleAudited(batchId, bundle, operatorId, vote, disputeId);
    }

    /// @dev Each auditor has its time, and both before the batch is final.
    function _requireTurn(Facts memory f, uint256 auditor) private view {
        uint256 start = f.startTime + auditor * _params.auditPeriod;
        bool isDue = block.timestamp >= start && block.timestamp < start + _params.auditPeriod;
        if (!isDue || block.timestamp >= f.finalAt) revert WindowPast("audit");
    }

    function _fineAbsent(LoadedTable memory table, uint256 member, uint256 amount) private {
        (, uint24 operatorId) = table.row(member);
        uint256 taken = REGISTRY.fine(operatorId, amount, FineKind.SILENT);
        if (taken > 0) REGISTRY.releasePot(taken);
    }

    function _reward(uint24 operatorId, uint256 price) private {
        uint256 paid = REGISTRY.drawTreasury(price);
        uint256[] memory entries = new uint256[](1);
        entries[0] = (uint256(operatorId) << 128) | ONE_SEAT | paid;
        REGISTRY.credit(entries, paid);
    }

    function _dissent(Facts memory f, Outcome memory o, uint256 bundle, uint256 member, bytes32 vote)
        private
        returns (uint64)
    {
        DisputeRecord memory r = _record(f, o, bundle);
        r.kind = DisputeRecords.AUDIT;
        _addEntry(r, member, vote);
        return DISPUTES.open(DisputeRecords.pack(r));
    }

    function _addEntry(DisputeRecord memory r, uint256 member, bytes32 vote) private pure {
        uint256 count = r.members.length;
        (uint256[] memory members, bytes32[] memory votes) = (new uint256[](count + 1), new bytes32[](count + 1));
        for (uint256 i; i < count; ++i) {
            (members[i], votes[i]) = (r.members[i], r.votes[i]);
        }
        (members[count], votes[count]) = (member, vote);
        (r.members, r.votes) = (members, votes);
    }

    function _outcomeKey(uint64 batchId, uint256 bundle, Outcome memory o) private pure returns (bytes32) {
        return keccak256(abi.encode(batchId, bundle, o.round));
    }

    function _facts(uint64 batchId) private view returns (Facts memory f) {
        f.batchId = batchId;
        uint8 round;
        (f.status,, round,,,, f.table,, f.startTime,, f.finalAt) = MARKET.batch(batchId);
        f.round = round;
        Terms memory terms = MARKET.batchTerms(batchId);
        f.classId = terms.classId;
        (f.beacon, f.postHash,,,, f.outcomeHash) = MARKET.batchHashes(batchId);
        (f.judged, f.auditDrawn,,, f.auditFrom) = MARKET.batchFlags(batchId);
    }

    /// @dev What is proven of a bundle whose acceptance still counts.
    function _accepted(Facts memory f, Proof calldata proof, uint16 bundle) private view returns (Outcome memory o) {
        OutcomeProof.check(proof, f.postHash, f.outcomeHash);
        uint16[] memory wanted = new uint16[](1);
        wanted[0] = bundle;
        o = OutcomeProof.find(proof, wanted)[0];
        bool isAccepted = o.tasks > 0 && o.verdict == uint256(IMarketEvents.Verdict.ACCEPTED);
        if (!isAccepted || o.round < MARKET.struckBelow(f.batchId, bundle)) revert NotAccepted(bundle);
    }

    function _record(Facts memory f, Outcome memory o, uint256 bundle) private pure returns (DisputeRecord memory r) {
        (r.batchId, r.bundle, r.tasks, r.requester) = (f.batchId, bundle, o.tasks, o.requester);
        r.round = uint8(o.round); // safe: a round of the batch
        r.price = o.taskPrice * o.tasks;
        r.escrow = r.price * o.voters.length;
        (r.classId, r.table, r.members) = (f.classId, f.table, o.voters);
        r.votes = new bytes32[](o.voters.length);
        for (uint256 i; i < o.voters.length; ++i) {
            r.votes[i] = o.vote;
        }
    }

    function _loadTable(Facts memory f) private view returns (LoadedTable memory table) {
        ClassTable memory packed = REGISTRY.tableAt(f.classId, f.table);
        return TableReader.load(packed);
    }

    function _auditDomain(Facts memory f) private view returns (bytes32) {
        return Statements.roundDomain(address(MARKET), f.batchId, f.postHash, Statements.STAGE_AUDIT, f.round, f.beacon);
    }

    /// @dev The auditors of a bundle, up to the one asked for; reverts where the lot did not fall on it.
    function _draw(LoadedTable memory table, bytes32 domain, uint16 bundle, Outcome memory o, uint256 auditor)
        private
        view
        returns (uint256[2] memory members)
    {
        uint256 lot = uint256(keccak256(abi.encodePacked(domain, uint32(bundle)))) % BPS;
        bool isLeft = o.voters.length + auditor < table.memberCount && o.voters.length < MAX_VOTERS;
        if (lot >= _params.auditBps || !isLeft) revert NotDrawn(bundle);
        bool[] memory isSitting = new bool[](table.memberCount);
        for (uint256 i; i < o.voters.length; ++i) {
            isSitting[o.voters[i]] = true;
        }
        for (uint256 i; i <= auditor; ++i) {
            members[i] = table.drawAnother(domain, bundle, i, isSitting);
            isSitting[members[i]] = true;
        }
    }
}
