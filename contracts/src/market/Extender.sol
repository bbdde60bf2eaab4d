// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Buffer, Buffers} from "../libraries/Cursor.sol";
import {MalformedPage as PageError} from "../libraries/Cursor.sol";
import {Outcome, OutcomeProof} from "../libraries/OutcomeProof.sol";
import {Statements} from "../libraries/Statements.sol";
import {LoadedTable, TableReader} from "../libraries/TableReader.sol";
import {TaggedBits} from "../libraries/TaggedBits.sol";
import {Wallets} from "../libraries/Wallets.sol";
import {Extension} from "../types/Extension.sol";
import {BPS, MAX_PAGE_SEATS, MAX_VOTERS} from "../types/Limits.sol";
import {Params} from "../types/Params.sol";
import {MarketStorage} from "./MarketStorage.sol";

/// @title What happens to a settled batch: more rounds, and the draw of audits
/// @notice The market runs this code on its own storage; together they would be too large for one contract.
contract Extender is MarketStorage {
    using Buffers for Buffer;
    using TableReader for LoadedTable;

    bytes32 private constant EXTENSION_TYPEHASH =
        keccak256("Extension(bytes32 postHash,bytes32 bundlesHash,uint8 round,uint8 rounds)");
    uint256 private constant CARRY_BYTES = 60; // of a bundle without a vote

    constructor(Params memory params_, address registry, address disputes, address beacon)
        MarketStorage(params_, registry, disputes, beacon)
    {}

    /// @notice See `IComputeMarket.extend`.
    function extend(uint64 batchId, Extension calldata e) external {
        Batch storage b = _batchIn(batchId, BatchStatus.SETTLED);
        if (block.timestamp >= b.finalAt) revert WindowPast("extend");
        // Else whoever owns a void order beside a bundle that the lot fell on could call its audit off.
        if (b.auditDrawn && block.timestamp < uint256(b.startTime) + 2 * uint256(_params.auditPeriod)) {
            revert WindowOpen("audit");
        }
        _requireTerms(b, e);
        OutcomeProof.check(e.proof, b.postHash, b.outcomeHash);
        for (uint256 i = 1; i < e.bundles.length; ++i) {
            if (e.bundles[i] <= e.bundles[i - 1]) revert PageError();
        }
        Outcome[] memory found = OutcomeProof.find(e.proof, e.bundles);
        bool[] memory isConvicted = _judge(b, e.bundles, found);
        _authorize(b, e, found[0].requester);
        _lockBond(msg.sender, _params.batchBond);
        bytes memory page = _carry(b, e, found, isConvicted);
        _reopen(b, e, page);
    }

    /// @notice See `IComputeMarket.proveAudit`.
    function proveAudit(uint64 batchId, bytes calldata header) external {
        Batch storage b = _batchIn(batchId, BatchStatus.SETTLED);
        if (!_isAudited(b) || block.timestamp >= b.finalAt) revert WindowPast("audit");
        if (b.auditDrawn) revert AlreadyDrawn();
        b.beacon = BEACON.read(b.beaconBlock, header);
        (b.auditDrawn, b.startTime) = (true, uint40(block.timestamp));
        emit AuditDrawn(batchId, b.beacon);
    }

    function _requireTerms(Batch storage b, Extension calldata e) private view {
        uint256 last = uint256(b.round) + e.rounds; // round that the extension ends with
        if (e.rounds == 0 || last >= 2 * (1 + uint256(_params.maxRounds)) || b.seats * (1 + last) > MAX_VOTERS) {
            revert InvalidTerms("rounds");
        }
        // One call settles the whole carry page: it must fit a transaction.
        if (e.bundles.length == 0 || e.bundles.length * b.seats * (1 + last) > MAX_PAGE_SEATS) {
            revert InvalidTerms("bundles");
        }
    }

    /// @dev Which of the bundles were accepted by a committee that was convicted since; reverts for a bundle that has
    /// no reason to be extended.
    function _judge(Batch storage b, uint16[] calldata bundles, Outcome[] memory found)
        private
        view
        returns (bool[] memory isConvicted)
    {
        LoadedTable memory table = TableReader.load(REGISTRY.tableAt(b.classId, b.table));
        isConvicted = new bool[](found.length);
        for (uint256 i; i < found.length; ++i) {
            Outcome memory o = found[i];
            isConvicted[i] = o.verdict == uint256(Verdict.ACCEPTED) && _areEjected(table, o.voters);
            bool isDue = isConvicted[i] || (o.verdict == uint256(Verdict.VOID) && o.voters.length > 0);
            if (!isDue || o.tasks == 0 || o.requester != found[0].requester || o.round < _struckBelow(b, bundles[i])) {
                revert NotExtendable(bundles[i]);
            }
        }
    }

    function _areEjected(LoadedTable memory table, uint256[] memory voters) private view returns (bool) {
        for (uint256 i; i < voters.length; ++i) {
            (, uint24 operatorId) = table.row(voters[i]);
            (,,,,,,, bool ejected) = REGISTRY.operator(operatorId);
            if (!ejected) return false;
        }
        return true;
    }

    function _authorize(Batch storage b, Extension calldata e, address requester) private view {
        if (msg.sender == requester) return;
        Buffer memory packed = Buffers.allocate(2 * e.bundles.length);
        for (uint256 i; i < e.bundles.length; ++i) {
            packed.append(e.bundles[i], 2);
        }
        bytes32 digest = Statements.typedDigest(
            _separator(), keccak256(abi.encode(EXTENSION_TYPEHASH, b.postHash, packed.hash(), b.round, e.rounds))
        );
        bool isSigned = requester.code.length > 0
            ? Wallets.isSignedBy(requester, digest, e.signature)
            : Statements.isSignedBy(requester, digest, e.signature);
        if (!isSigned) revert Unauthorized();
    }

    /// @dev Locks what the rounds may cost and packs the page that they start with.
    function _carry(Batch storage b, Extension calldata e, Outcome[] memory found, bool[] memory isConvicted)
        private
        returns (bytes memory)
    {
        uint256 fresh = uint256(b.seats) * e.rounds;
        Buffer memory carry = Buffers.allocate(found.length * (CARRY_BYTES + 32 + 2 * MAX_VOTERS));
        uint256 escrow;
        uint256 tag = _bitTag(b, BitKind.STATUS);
        for (uint256 i; i < found.length; ++i) {
            (Outcome memory o, uint16 bundle) = (found[i], e.bundles[i]);
            _strike(b, bundle, o.round);
            _awaitRound(b, bundle, tag);
            if (isConvicted[i]) (o.voters, o.opened) = (new uint256[](0), 0);
            uint256 price = o.taskPrice * o.tasks;
            uint256 shares = o.voters.length + fresh;
            escrow += price * shares + b.feeWei + (price * _params.auditBps + BPS - 1) / BPS;
            _appendCarried(carry, bundle, o, shares);
        }
        Account storage a = _accounts[found[0].requester];
        if (a.free < escrow) revert InsufficientDeposit(a.free, escrow);
        // safe: what moves is at most the free deposit
        a.free -= uint128(escrow);
        a.escrow += uint128(escrow);
        return carry.finish();
    }

    function _appendCarried(Buffer memory carry, uint256 bundle, Outcome memory o, uint256 shares) private pure {
        carry.append(bundle, 2);
        carry.append(uint160(o.requester), 20);
        carry.append(o.taskPrice * o.tasks, 12);
        carry.append(o.tasks, 2);
        carry.append(o.flags, 1);
        carry.append(shares, 2);
        carry.append(0, 16); // pot
        carry.append(o.opened, 2);
        carry.append(o.voters.length, 1);
        if (o.voters.length > 0) carry.append(uint256(o.vote), 32);
        for (uint256 i; i < o.voters.length; ++i) {
            carry.append(o.voters[i], 2);
        }
        carry.append(0, 1); // abstainers
    }

    /// @dev The bundle waits for the next round.
    function _awaitRound(Batch storage b, uint256 bundle, uint256 tag) private {
        uint256 key = _bitKey(b.id, BitKind.STATUS, bundle / BUNDLES_PER_WORD);
        uint256 shift = 2 * (bundle % BUNDLES_PER_WORD);
        uint256 data = TaggedBits.load(_bits, key, tag) & ~(uint256(3) << shift);
        uint256 parity = (uint256(b.round) + 1) & 1;
        TaggedBits.store(_bits, key, tag, data | ((2 * parity) << shift));
    }

    function _reopen(Batch storage b, Extension calldata e, bytes memory page) private {
        uint8 round = b.round + 1;
        // Each outcome is in one draw: its requester paid for one.
        if (b.auditDrawn) b.auditFrom = round;
        (b.round, b.rounds, b.status) = (round, b.round + e.rounds, BatchStatus.AWAITING);
        (b.collator, b.bonded, b.auditDrawn) = (msg.sender, true, false);
        (b.pending, b.carried) = (uint16(e.bundles.length), 0);
        (b.commitHash, b.nextCarryHash) = (0, 0);
        b.carryHash = keccak256(abi.encodePacked(bytes32(0), keccak256(page)));
        b.beaconBlock = uint48(block.number + _params.beaconDelay);
        emit BatchExtended(b.id, msg.sender, b.rounds);
        emit BundlesCarried(b.id, round, page);
        emit RoundAwaited(b.id, round, b.beaconBlock);
    }
}
