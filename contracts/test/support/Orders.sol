// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Terms} from "../../src/types/Terms.sol";
import {System} from "./System.sol";

/// @title Signed orders and pages of them
abstract contract Orders is System {
    struct Order {
        uint64 nonce;
        bytes32 specHash;
        uint32 taskCount;
        uint64 fuelLimit;
        uint64 inputBytes;
        uint32 commitPeriod;
        uint32 minUnits;
        uint64 maxPrice;
        uint64 maxFee;
        uint40 validUntil;
        uint8 strategy;
        uint8 flags;
    }

    uint64 internal constant FUEL = 4_000_000;
    uint64 internal constant TASK_PRICE = 4e12; // FUEL × PRICE / 1e9
    uint64 internal constant FEE = 1e9;
    uint256 internal constant ESCROW = uint256(TASK_PRICE) * 9 + FEE + TASK_PRICE / 100; // of an order of three rounds
    uint256 internal constant AUDIT = uint256(TASK_PRICE) / 100;
    bytes32 internal constant ORDER_TYPE = keccak256(
        "JobOrder(address requester,uint64 nonce,uint32 classId,bytes32 specHash,uint32 taskCount,uint64 fuelLimit,uint64 inputBytes,uint8 seats,uint8 rounds,uint32 commitPeriod,uint32 minUnits,uint64 maxPrice,uint64 maxFee,uint40 validUntil,uint8 strategy,uint8 flags)"
    );

    uint64 internal nextNonce;
    Terms internal terms = Terms({classId: CLASS, seats: 3, rounds: 2, commitPeriod: 20, feeWei: FEE});

    /// @dev From here on orders are for class 2, whose members judge nothing.
    function useUnjudgedClass() internal {
        registry.createClass{value: 0.1 ether}("unjudged", uint128(UNIT), PRICE, false);
        for (uint256 i = 10; i < 20; ++i) {
            addMemberOf(2, i);
        }
        advanceEraOf(2);
        terms.classId = 2;
    }

    function order() internal returns (Order memory o) {
        o.nonce = nextNonce++;
        (o.specHash, o.taskCount, o.fuelLimit, o.inputBytes) = (keccak256(abi.encode("spec", o.nonce)), 1, FUEL, 1000);
        (o.commitPeriod, o.minUnits, o.maxPrice, o.maxFee) = (60, 1, type(uint64).max, type(uint64).max);
        o.validUntil = type(uint40).max;
    }

    function orders(uint256 count) internal returns (Order[] memory list) {
        list = new Order[](count);
        for (uint256 i; i < count; ++i) {
            list[i] = order();
        }
    }

    function only(Order memory o) internal pure returns (Order[] memory list) {
        list = new Order[](1);
        list[0] = o;
    }

    function separator() internal view returns (bytes32) {
        return keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Quorate"),
                keccak256("1"),
                block.chainid,
                market
            )
        );
    }

    /// @dev The EIP-712 digest of an order under the present terms.
    function jobId(address who, Order memory o) internal view returns (bytes32) {
        return keccak256(abi.encodePacked(hex"1901", separator(), orderStructHash(who, o)));
    }

    function orderStructHash(address who, Order memory o) internal view returns (bytes32) {
        bytes memory head = abi.encode(
            ORDER_TYPE, who, o.nonce, terms.classId, o.specHash, o.taskCount, o.fuelLimit, o.inputBytes, terms.seats
        );
        bytes memory tail = abi.encode(
            terms.rounds, o.commitPeriod, o.minUnits, o.maxPrice, o.maxFee, o.validUntil, o.strategy, o.flags
        );
        return keccak256(bytes.concat(head, tail));
    }

    function encodeBody(Order memory o) internal pure returns (bytes memory) {
        bytes memory head =
            abi.encodePacked(o.nonce, o.specHash, o.taskCount, o.fuelLimit, o.inputBytes, o.commitPeriod);
        return bytes.concat(head, abi.encodePacked(o.minUnits, o.maxPrice, o.maxFee, o.validUntil, o.strategy, o.flags));
    }

    function encodeSigned(uint256 secret, Order memory o) internal view returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(secret, jobId(vm.addr(secret), o));
        return bytes.concat(encodeBody(o), abi.encodePacked(r, s, v));
    }

    function groupHead(address who, uint8 kind, uint256 count) internal pure returns (bytes memory) {
        return abi.encodePacked(who, kind, uint16(count));
    }

    /// @dev Orders of one requester, as they stand in a page.
    function group(uint256 secret, Order[] memory list) internal view returns (bytes memory) {
        bytes[] memory parts = new bytes[](list.length + 1);
        parts[0] = groupHead(vm.addr(secret), 0, list.length);
        for (uint256 i; i < list.length; ++i) {
            parts[i + 1] = encodeSigned(secret, list[i]);
        }
        return join(parts);
    }

    function pageOf(Order[] memory list) internal view returns (bytes memory) {
        return group(requesterSecret, list);
    }

    function join(bytes[] memory parts) internal pure returns (bytes memory whole) {
        uint256 size;
        for (uint256 i; i < parts.length; ++i) {
            size += parts[i].length;
        }
        whole = new bytes(size);
        uint256 at;
        for (uint256 i; i < parts.length; ++i) {
            bytes memory part = parts[i];
            assembly ("memory-safe") {
                mcopy(add(add(whole, 32), at), add(part, 32), mload(part))
            }
            at += part.length;
        }
    }
}
