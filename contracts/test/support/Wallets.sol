// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Contract wallets, good ones and bad ones
/// @dev A signature is right where its first word is the digest.
contract TestWallet {
    enum Manner {
        HONEST,
        BURNS,
        REVERTS,
        RUBBISH,
        SHORT,
        FLOOD,
        FLIPS,
        WRITES,
        NEARLY_BURNS
    }

    Manner internal manner;
    uint256 internal written;

    constructor(Manner manner_) {
        manner = manner_;
    }

    function set(Manner manner_) external {
        manner = manner_;
    }

    fallback(bytes calldata data) external returns (bytes memory) {
        bytes32 magic = bytes32(bytes4(0x1626ba7e));
        Manner m = manner;
        if (m == Manner.BURNS) while (true) {}
        if (m == Manner.REVERTS) revert("no");
        if (m == Manner.RUBBISH) return abi.encode(uint256(magic) + 1);
        if (m == Manner.FLOOD) return abi.encodePacked(magic, new bytes(5000));
        if (m == Manner.FLIPS && block.number % 2 == 1) return "";
        if (m == Manner.WRITES) written = 1;
        if (m == Manner.NEARLY_BURNS) {
            while (gasleft() > 2000) {}
            return abi.encode(magic);
        }
        (bytes32 digest, bytes memory signature) = abi.decode(data[4:], (bytes32, bytes));
        if (signature.length < 32 || abi.decode(signature, (bytes32)) != digest) return abi.encode(bytes32(0));
        return m == Manner.SHORT ? abi.encodePacked(uint248(uint256(magic) >> 8)) : abi.encode(magic);
    }
}
