// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {NonceWindow, Nonces} from "../src/libraries/Nonces.sol";
import {Statements} from "../src/libraries/Statements.sol";
import {LoadedTable, TableReader} from "../src/libraries/TableReader.sol";
import {Batches} from "./support/Batches.sol";

/// @title The vectors of the Python core, replayed by the code of the contracts
contract VectorsTest is Batches {
    using Nonces for NonceWindow;

    function read(string memory name) internal view returns (string memory) {
        return vm.readFile(string.concat("../tests/vectors/ours/", name, ".json"));
    }

    function test_Statements() public {
        string memory j = read("statements");
        uint256[] memory batchId = vm.parseJsonUintArray(j, ".batchId");
        for (uint256 i; i < batchId.length; ++i) {
            vm.chainId(at(j, "chainId", i));
            bytes32 domain = Statements.roundDomain(
                vm.parseJsonAddressArray(j, ".market")[i],
                uint64(batchId[i]),
                word(j, "postHash", i),
                at(j, "stage", i),
                at(j, "round", i),
                word(j, "beacon", i)
            );
            vm.assertEq(domain, word(j, "roundDomain", i), "roundDomain");
            vm.assertEq(Statements.statement(domain, at(j, "bundle", i)), word(j, "statement", i), "statement");
            bytes16 salt = bytes16(vm.parseJsonBytesArray(j, ".salt")[i]);
            uint24 operatorId = uint24(at(j, "operatorId", i));
            bytes32 c = Statements.commitment(word(j, "statement", i), operatorId, word(j, "vote", i), uint128(salt));
            vm.assertEq(c, word(j, "commitment", i), "commitment");
            bytes32 separator_ = Statements.domainSeparator(vm.parseJsonAddressArray(j, ".market")[i]);
            bytes32 digest = Statements.listDigest(separator_, domain, operatorId, word(j, "itemsHash", i));
            vm.assertEq(digest, word(j, "listDigest", i), "listDigest");
            bytes32 leaf = keccak256(abi.encodePacked(uint16(at(j, "member", i)), word(j, "itemsHash", i)));
            vm.assertEq(leaf, word(j, "leaf", i), "leaf");
            bytes memory page = vm.parseJsonBytesArray(j, ".commitPage")[i];
            vm.assertEq(pageHashOf(page), word(j, "commitPageHash", i), "commitPageHash");
        }
    }

    function test_Orders() public {
        string memory j = read("orders");
        bytes[] memory pages = vm.parseJsonBytesArray(j, ".postPage");
        for (uint256 i; i < pages.length; ++i) {
            vm.chainId(at(j, "chainId", i));
            bytes32 sep = Statements.domainSeparator(vm.parseJsonAddressArray(j, ".market")[i]);
            vm.assertEq(sep, word(j, "separator", i), "separator");
            Order memory o = orderAt(j, i);
            address who = vm.parseJsonAddressArray(j, ".requester")[i];
            bytes32 digest = Statements.typedDigest(sep, structHashOf(j, i, who, o));
            vm.assertEq(digest, word(j, "jobId", i), "job id");
            bytes memory signature = vm.parseJsonBytesArray(j, ".signature")[i];
            vm.assertTrue(
                Statements.isSignedBy(
                    who, digest, _uint(signature, 0, 32), _uint(signature, 32, 32), _uint(signature, 64, 1)
                )
            );
            vm.assertEq(bytes.concat(groupHead(who, 0, 1), encodeBody(o), signature), pages[i], "page");
        }
    }

    function orderAt(string memory j, uint256 i) internal pure returns (Order memory o) {
        (o.nonce, o.specHash) = (uint64(at(j, "nonce", i)), word(j, "specHash", i));
        (o.taskCount, o.fuelLimit) = (uint32(at(j, "taskCount", i)), uint64(at(j, "fuelLimit", i)));
        (o.inputBytes, o.commitPeriod) = (uint64(at(j, "inputBytes", i)), uint32(at(j, "commitPeriod", i)));
        (o.minUnits, o.maxPrice) = (uint32(at(j, "minUnits", i)), uint64(at(j, "maxPrice", i)));
        (o.maxFee, o.validUntil) = (uint64(at(j, "maxFee", i)), uint40(at(j, "validUntil", i)));
        (o.strategy, o.flags) = (uint8(at(j, "strategy", i)), uint8(at(j, "flags", i)));
    }

    function structHashOf(string memory j, uint256 i, address who, Order memory o) internal returns (bytes32) {
        terms.classId = uint32(at(j, "classId", i));
        (terms.seats, terms.rounds) = (uint8(at(j, "seats", i)), uint8(at(j, "rounds", i)));
        return orderStructHash(who, o);
    }

    function test_Draws() public view {
        string memory j = read("draws");
        bytes[] memory units = vm.parseJsonBytesArray(j, ".units");
        for (uint256 i; i < units.length; ++i) {
            uint256 seats = at(j, "seats", i);
            LoadedTable memory table =
                LoadedTable(units[i], "", units[i].length / 2, at(j, "memberCount", i), address(0), address(0));
            uint256[] memory drawn = new uint256[](seats);
            TableReader.draw(table, word(j, "roundDomain", i), at(j, "bundle", i), seats, drawn, 0);
            bytes memory committee = vm.parseJsonBytesArray(j, ".committee")[i];
            vm.assertEq(committee.length, 2 * seats);
            for (uint256 seat; seat < seats; ++seat) {
                vm.assertEq(drawn[seat], _uint(committee, 2 * seat, 2), "seat");
            }
        }
    }

    function test_Nonces() public view {
        string memory j = read("nonces");
        uint256[] memory nonce = vm.parseJsonUintArray(j, ".nonce");
        NonceWindow memory window;
        for (uint256 i; i < nonce.length; ++i) {
            bool isUsed = window.isUsed(nonce[i]);
            vm.assertTrue(isUsed == (at(j, "isUsed", i) == 1), "used");
            if (!isUsed) window.use(nonce[i]);
            vm.assertEq(window.base, at(j, "base", i), "base");
            vm.assertEq(bytes32(uint256(window.used)), word(j, "used", i), "bitmap");
        }
    }

    function test_Signatures() public view {
        string memory j = read("signatures");
        bytes[] memory signature = vm.parseJsonBytesArray(j, ".signature");
        for (uint256 i; i < signature.length; ++i) {
            bytes memory s = signature[i];
            address signer = vm.parseJsonAddressArray(j, ".signer")[i];
            // The zero address stands for "refused"; nobody signs for it.
            bool isSigned =
                Statements.isSignedBy(signer, word(j, "digest", i), _uint(s, 0, 32), _uint(s, 32, 32), _uint(s, 64, 1));
            vm.assertTrue(isSigned == (signer != address(0)), "signed");
            address recovered =
                ecrecover(word(j, "digest", i), uint8(s[64]), bytes32(_uint(s, 0, 32)), bytes32(_uint(s, 32, 32)));
            if (signer == address(0) && recovered != address(0)) {
                isSigned = Statements.isSignedBy(
                    recovered, word(j, "digest", i), _uint(s, 0, 32), _uint(s, 32, 32), _uint(s, 64, 1)
                );
                vm.assertFalse(isSigned, "refused, though ecrecover would not");
            }
        }
    }

    function test_MediansAndPrices() public {
        vm.pauseGasMetering();
        deploy(localParams());
        string memory j = read("prices");
        bytes[] memory asks = vm.parseJsonBytesArray(j, ".asks");
        uint256 operators;
        for (uint256 i; i < asks.length; ++i) {
            uint32 classId = registry.createClass{value: 0.1 ether}("", uint128(UNIT), uint64(at(j, "price", i)), true);
            for (uint256 k; k < asks[i].length; k += 10) {
                addOperator(operators, 50 * UNIT);
                vm.prank(ownerOf(operators++));
                registry.join(classId, uint16(_uint(asks[i], k, 2)), uint64(_uint(asks[i], k + 2, 8)), 1);
            }
            (, uint64 capacity) = mediansOf(classId);
            registry.advanceEra(classId, uint64(at(j, "median", i)), capacity);
            (,, uint64 price, uint64 median,,,,,) = registry.class_(classId);
            vm.assertEq(median, at(j, "median", i), "median");
            vm.assertEq(price, at(j, "next", i), "price");
        }
    }

    function test_Pages() public view {
        string memory j = read("pages");
        bytes[] memory records = vm.parseJsonBytesArray(j, ".recordPage");
        for (uint256 i; i < records.length; ++i) {
            bytes32 hash = keccak256(abi.encodePacked(bytes32(0), keccak256(records[i])));
            vm.assertEq(hash, word(j, "postHash", i), "postHash");
            vm.assertEq(bytes32(_uint(records[i], 0, 32)), word(j, "postPageHash", i), "H(page)");
            vm.assertEq(_uint(records[i], 32, 2), at(j, "firstBundle", i), "firstBundle");
        }
    }

    function at(string memory j, string memory key, uint256 i) internal pure returns (uint256) {
        return vm.parseJsonUintArray(j, string.concat(".", key))[i];
    }

    function word(string memory j, string memory key, uint256 i) internal pure returns (bytes32) {
        return vm.parseJsonBytes32Array(j, string.concat(".", key))[i];
    }
}
