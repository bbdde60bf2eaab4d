// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IBeacon} from "../src/interfaces/IBeacon.sol";
import {Orders} from "./support/Orders.sol";

/// @title The beacon out of a header: fields before `mixHash` vary in length
contract BeaconTest is Orders {
    IBeacon internal header;
    uint256 internal constant BLOCK = 5000;
    bytes32 internal constant MIX = keccak256("mix");

    function setUp() public {
        header = IBeacon(vm.deployCode("HeaderBeacon.sol:HeaderBeacon", ""));
        vm.roll(BLOCK + 1);
    }

    function str(bytes memory data) internal pure returns (bytes memory) {
        if (data.length == 1 && uint8(data[0]) < 0x80) return data;
        return bytes.concat(_head(0x80, data.length), data);
    }

    function _head(uint8 base, uint256 length) internal pure returns (bytes memory) {
        if (length < 56) return abi.encodePacked(uint8(base + length));
        if (length < 256) return abi.encodePacked(uint8(base + 56), uint8(length));
        return abi.encodePacked(uint8(base + 57), uint16(length));
    }

    /// @dev A header of the given scalars; `more` fields follow after the nonce, as later forks have.
    function rlp(bytes memory difficulty, bytes memory number, bytes memory extra, uint256 more)
        internal
        pure
        returns (bytes memory)
    {
        bytes[] memory parts = new bytes[](15 + more);
        for (uint256 i; i < 6; ++i) {
            parts[i] = str(abi.encodePacked(keccak256(abi.encode(i))));
        }
        parts[2] = str(abi.encodePacked(address(0x1234)));
        parts[6] = str(new bytes(256));
        (parts[7], parts[8]) = (str(difficulty), str(number));
        (parts[9], parts[10], parts[11]) = (str(hex"01c9c380"), str(""), str(hex"05"));
        (parts[12], parts[13], parts[14]) = (str(extra), str(abi.encodePacked(MIX)), str(new bytes(8)));
        for (uint256 i; i < more; ++i) {
            parts[15 + i] = str(abi.encodePacked(keccak256(abi.encode("more", i))));
        }
        bytes memory body = join(parts);
        return bytes.concat(_head(0xc0, body.length), body);
    }

    function expectMix(bytes memory proof) internal {
        vm.setBlockhash(BLOCK, keccak256(proof));
        vm.assertEq(header.read(BLOCK, proof), MIX);
    }

    function test_ReadsMixHash() public {
        expectMix(rlp("", hex"1388", "geth", 6));
    }

    function test_ShortAndLongFields() public {
        expectMix(rlp(hex"7f", hex"00", "", 0)); // single bytes stand for themselves
        expectMix(rlp(hex"80", hex"ffffffffffffffff", new bytes(32), 2));
        expectMix(rlp(hex"0400000000", hex"1388", new bytes(55), 6));
        expectMix(rlp("", hex"1388", new bytes(56), 6));
        expectMix(rlp("", hex"1388", new bytes(300), 6));
    }

    function testFuzz_AnyLengths(bytes calldata difficulty, bytes calldata number, bytes calldata extra, uint8 more)
        public
    {
        vm.assume(difficulty.length < 1000 && number.length < 1000 && extra.length < 1000);
        expectMix(rlp(difficulty, number, extra, more % 12));
    }

    function test_RefusesAnotherHeader() public {
        bytes memory proof = rlp("", hex"1388", "", 6);
        vm.setBlockhash(BLOCK, keccak256("another"));
        vm.expectRevert(abi.encodeWithSelector(IBeacon.BeaconMismatch.selector, BLOCK));
        header.read(BLOCK, proof);
        vm.setBlockhash(BLOCK, keccak256(proof));
        proof[500] ^= 0x01;
        vm.expectRevert(abi.encodeWithSelector(IBeacon.BeaconMismatch.selector, BLOCK));
        header.read(BLOCK, proof);
        vm.expectRevert(abi.encodeWithSelector(IBeacon.BeaconMismatch.selector, BLOCK));
        header.read(BLOCK, "");
    }

    function test_ReachesBack256Blocks() public {
        bytes memory proof = rlp("", hex"1388", "", 6);
        vm.setBlockhash(BLOCK, keccak256(proof));
        vm.roll(BLOCK);
        vm.expectRevert(abi.encodeWithSelector(IBeacon.BeaconUnavailable.selector, BLOCK));
        header.read(BLOCK, proof);
        vm.roll(BLOCK + 256);
        vm.assertEq(header.read(BLOCK, proof), MIX);
        vm.roll(BLOCK + 257);
        vm.expectRevert(abi.encodeWithSelector(IBeacon.BeaconUnavailable.selector, BLOCK));
        header.read(BLOCK, proof);
    }
}
