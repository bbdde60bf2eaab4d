// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {TASK_ALL} from "../types/Limits.sol";

/// @title What commitments and signatures are about
/// @dev Twin of quorate/protocol/commitment.py and of the EIP-712 part of encoding.py.
library Statements {
    bytes32 internal constant STATEMENT_TAG = keccak256("Quorate.Statement.v1");
    uint256 internal constant STAGE_BUNDLE = 0;
    uint256 internal constant STAGE_CLASS_VOTE = 1;
    uint256 internal constant STAGE_AUDIT = 2;
    bytes32 internal constant COMMIT_LIST_TYPEHASH =
        keccak256("CommitList(bytes32 roundDomain,uint32 operatorId,bytes32 itemsHash)");
    bytes32 internal constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    /// @dev Upper bound of s: of two valid signatures only the lower one counts.
    uint256 private constant HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0;

    function domainSeparator(address market) internal view returns (bytes32) {
        return keccak256(abi.encode(DOMAIN_TYPEHASH, keccak256("Quorate"), keccak256("1"), block.chainid, market));
    }

    function roundDomain(address market, uint64 batchId, bytes32 postHash, uint256 stage, uint256 round, bytes32 beacon)
        internal
        view
        returns (bytes32)
    {
        return
            keccak256(
                abi.encode(STATEMENT_TAG, block.chainid, market, uint256(batchId), postHash, stage, round, beacon)
            );
    }

    function statement(bytes32 domain, uint256 bundle) internal pure returns (bytes32 hash) {
        uint256 tail = (bundle << 224) | (TASK_ALL << 192);
        assembly ("memory-safe") {
            mstore(0x00, domain)
            mstore(0x20, tail)
            hash := keccak256(0x00, 40)
        }
    }

    /// @dev Assembly, since thousands of openings a call would leave their bytes behind in memory.
    function commitment(bytes32 statement_, uint24 operatorId, bytes32 vote, uint128 salt)
        internal
        pure
        returns (bytes32 hash)
    {
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, statement_)
            mstore(add(free, 32), shl(224, operatorId))
            mstore(add(free, 36), vote)
            mstore(add(free, 68), shl(128, salt))
            hash := keccak256(free, 84)
        }
    }

    /// @dev Assembly for the same reason as `commitment`.
    function listDigest(bytes32 separator, bytes32 domain, uint24 operatorId, bytes32 itemsHash)
        internal
        pure
        returns (bytes32)
    {
        bytes32 typeHash = COMMIT_LIST_TYPEHASH;
        bytes32 structHash;
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, typeHash)
            mstore(add(free, 0x20), domain)
            mstore(add(free, 0x40), operatorId)
            mstore(add(free, 0x60), itemsHash)
            structHash := keccak256(free, 0x80)
        }
        return typedDigest(separator, structHash);
    }

    /// @dev Assembly, since a page has hundreds, and their bytes would stay in memory.
    function typedDigest(bytes32 separator, bytes32 structHash) internal pure returns (bytes32 digest) {
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, shl(240, 0x1901))
            mstore(add(free, 2), separator)
            mstore(add(free, 34), structHash)
            digest := keccak256(free, 66)
        }
    }

    /// @notice What a commit page keeps of a list, and a vote page of a vote: H(member u16 ‖ hash).
    function leaf(uint256 member, bytes32 hash) internal pure returns (bytes32 digest) {
        assembly ("memory-safe") {
            mstore(0x00, shl(240, member))
            mstore(0x02, hash)
            digest := keccak256(0x00, 34)
        }
    }

    /// @notice Append to a hash chain.
    function chain(bytes32 before, bytes32 hash) internal pure returns (bytes32 digest) {
        assembly ("memory-safe") {
            mstore(0x00, before)
            mstore(0x20, hash)
            digest := keccak256(0x00, 64)
        }
    }

    /// @notice Whether `signer`, which is not zero, signed `digest`.
    function isSignedBy(address signer, bytes32 digest, uint256 r, uint256 s, uint256 v) internal pure returns (bool) {
        if (s > HALF_ORDER || (v != 27 && v != 28)) return false;
        return signer != address(0) && ecrecover(digest, uint8(v), bytes32(r), bytes32(s)) == signer;
    }

    /// @notice Whether `signer`, which is not zero, signed `digest`: r ‖ s ‖ v, 65 bytes.
    /// @dev Assembly, since a page of orders has hundreds: the signature goes to the precompile as it stands.
    function isSignedBy(address signer, bytes32 digest, bytes calldata signature)
        internal
        view
        returns (bool isSigned)
    {
        if (signature.length != 65) return false;
        uint256 half = HALF_ORDER;
        assembly ("memory-safe") {
            let free := mload(0x40)
            let v := shr(248, calldataload(add(signature.offset, 64)))
            mstore(free, digest)
            mstore(add(free, 32), v)
            calldatacopy(add(free, 64), signature.offset, 64)
            mstore(0, 0) // no answer is the zero address
            pop(staticcall(gas(), 1, free, 128, 0, 32))
            isSigned := and(iszero(gt(mload(add(free, 96)), half)), or(eq(v, 27), eq(v, 28)))
            isSigned := and(isSigned, and(iszero(iszero(signer)), eq(mload(0), signer)))
        }
    }

    /// @notice Append page hashes to a hash chain.
    function fold(bytes32 start, bytes32[] calldata hashes) internal pure returns (bytes32) {
        for (uint256 i; i < hashes.length; ++i) {
            start = chain(start, hashes[i]);
        }
        return start;
    }
}
