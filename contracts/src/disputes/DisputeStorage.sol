// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeMarket} from "../interfaces/IComputeMarket.sol";
import {IDisputes} from "../interfaces/IDisputes.sol";
import {IStakeRegistry} from "../interfaces/IStakeRegistry.sol";
import {Statements} from "../libraries/Statements.sol";
import {LoadedTable, TableReader} from "../libraries/TableReader.sol";
import {TaggedBits} from "../libraries/TaggedBits.sol";
import {Params} from "../types/Params.sol";

/// @title What the class votes keep: disputes in recycled slots, and bits of their members
abstract contract DisputeStorage is IDisputes {
    enum BitKind {
        SPOKEN, // has committed in this window, or voted in an earlier one
        REVEALED
    }

    bytes32 private constant CLASS_VOTE_TAG = keccak256("Quorate.ClassVote.v1");

    IStakeRegistry public immutable REGISTRY;
    IComputeMarket public immutable MARKET;
    address public immutable CHALLENGES;

    Params internal _params;
    mapping(uint32 slot => Dispute) internal _disputes;
    mapping(uint256 key => uint256 word) internal _bits;
    uint32 internal _sequence;
    /// @dev 32 bits, so that nobody can fill all slots with disputes that nobody ends.
    uint32 internal _slots;
    uint32 internal _firstFree; // slot + 1, or 0
    /// @dev By outcome, of batch, bundle and round: entries of its disputes, the first ones, that were found wrong.
    mapping(bytes32 outcome => uint8) internal _convicted;

    constructor(Params memory params_, address registry, address market, address challenges) {
        _params = params_;
        REGISTRY = IStakeRegistry(registry);
        MARKET = IComputeMarket(market);
        CHALLENGES = challenges;
    }

    function _dispute(uint64 disputeId) internal view returns (Dispute storage d) {
        d = _disputes[uint32(disputeId)];
        if (disputeId == 0 || d.id != disputeId) revert DisputeUnknown(disputeId);
    }

    function _disputeIn(uint64 disputeId, Status status, bytes calldata record)
        internal
        view
        returns (Dispute storage d)
    {
        d = _dispute(disputeId);
        if (d.status != status) revert WrongStatus(disputeId, d.status);
        if (keccak256(record) != d.recordHash) revert HashMismatch("record");
    }

    function _voting(uint64 disputeId, bytes calldata record, bytes calldata question)
        internal
        view
        returns (Dispute storage d)
    {
        d = _disputeIn(disputeId, Status.VOTING, record);
        if (_questionHash(d.recordHash, question) != d.questionHash) revert HashMismatch("question");
    }

    function _load(uint32 classId, uint16 table) internal view returns (LoadedTable memory) {
        return TableReader.load(REGISTRY.tableAt(classId, table));
    }

    function _questionHash(bytes32 recordHash, bytes memory question) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(recordHash, question));
    }

    /// @dev What commitments of the present window are about.
    function _statement(Dispute storage d) internal view returns (bytes32) {
        return keccak256(
            abi.encode(CLASS_VOTE_TAG, block.chainid, address(this), uint256(d.id), uint256(d.window), d.questionHash)
        );
    }

    function _startWindow(Dispute storage d) internal {
        (d.startTime, d.startBlock) = (uint40(block.timestamp), uint48(block.number));
        (d.committed, d.commitHash) = (0, 0);
    }

    /// @dev Commit window (1), reveal window (2) or as long again (3) is over: by its seconds and by its blocks.
    function _isPast(Dispute storage d, uint256 window) internal view returns (bool) {
        uint256 end = uint256(d.startTime) + _params.voteCommitPeriod + (window - 1) * _params.voteRevealPeriod;
        return block.timestamp >= end && block.number >= uint256(d.startBlock) + window * _params.minBlocks;
    }

    /// @dev Bits of a window: those of others in the same words count as none.
    function _loadBits(Dispute storage d, BitKind kind, uint256 word) internal view returns (uint256) {
        return TaggedBits.load(_bits, _bitKey(d.id, kind, word), _bitTag(d));
    }

    function _storeBits(Dispute storage d, BitKind kind, uint256 word, uint256 data) internal {
        TaggedBits.store(_bits, _bitKey(d.id, kind, word), _bitTag(d), data);
    }

    function _bitTag(Dispute storage d) private view returns (uint256) {
        return (uint256(d.id >> 32) << 8) | d.window;
    }

    function _bitKey(uint64 disputeId, BitKind kind, uint256 word) private pure returns (uint256) {
        return (uint256(uint32(disputeId)) << 16) | (uint256(kind) << 8) | word;
    }

    function _hasBit(Dispute storage d, BitKind kind, uint256 member) internal view returns (bool) {
        return (_loadBits(d, kind, member / TaggedBits.BITS) >> (member % TaggedBits.BITS)) & 1 == 1;
    }
}
