// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title EIP-712 digests, and who signed them
library Signatures {
    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    /// @dev Half of the curve's order: of the two signatures that say the same, the one with the lower s is valid.
    uint256 private constant HALF_ORDER = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0;

    /// @notice Separator of the calling contract on the chain as it is now: a fork has another id, and gets another.
    function domain(string memory name, string memory version) internal view returns (bytes32) {
        bytes32 names = keccak256(bytes(name));
        return keccak256(abi.encode(DOMAIN_TYPEHASH, names, keccak256(bytes(version)), block.chainid, address(this)));
    }

    function digest(bytes32 separator, bytes32 structHash) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", separator, structHash));
    }

    /// @notice The signer; 0 where there is none: a malformed signature, s in the upper half, v not 27 or 28.
    function recover(bytes32 digest_, uint8 v, bytes32 r, bytes32 s) internal pure returns (address) {
        if (uint256(s) > HALF_ORDER || (v != 27 && v != 28)) return address(0);
        return ecrecover(digest_, v, r, s);
    }

    /// @notice As above, for 65 bytes r ‖ s ‖ v. Other lengths are no signature.
    function recover(bytes32 digest_, bytes calldata signature) internal pure returns (address) {
        if (signature.length != 65) return address(0);
        bytes32 r = bytes32(signature[:32]);
        bytes32 s = bytes32(signature[32:64]);
        return recover(digest_, uint8(signature[64]), r, s);
    }
}
