// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {DisputeRecord, DisputeRecords} from "../src/libraries/DisputeRecords.sol";
import {Statements} from "../src/libraries/Statements.sol";
import {LoadedTable} from "../src/libraries/TableReader.sol";
import {VoteCount, VoteCounts} from "../src/libraries/VoteCounts.sol";
import {Vm} from "./support/Vm.sol";

/// @dev src/disputes/QuestionMaker.sol; importing that would compile it without the optimizer.
interface Maker {
    function find(bytes calldata record, bytes calldata leaves) external pure returns (uint256 index, bytes32 root);
    function make(bytes calldata record, uint256 published, bytes calldata leaves, bool isLate)
        external
        pure
        returns (bytes memory question, bool isMoot);
}

/// @title The library behind class votes, where bytes are calldata
contract Counter {
    using VoteCounts for VoteCount;

    struct Window {
        bytes record;
        bytes question;
        bytes cast;
        bytes answers;
        bytes32[] pages;
        bytes openings;
        uint256 convicted;
    }

    /// @dev Silence is that of a window that decides; conduct is empty without a winner.
    function count(LoadedTable memory table, Window calldata w)
        external
        pure
        returns (bytes32 winner, bytes memory nextCast, uint256[] memory silent, uint256[] memory conduct)
    {
        DisputeRecord memory r = DisputeRecords.read(w.record);
        require(keccak256(DisputeRecords.pack(r)) == keccak256(w.record), "a record is read and packed alike");
        VoteCount memory c = VoteCounts.start(table, w.answers);
        uint256[] memory seats = c.seatAnswers(r, w.question, w.answers);
        c.readCast(w.answers, w.cast);
        c.convicted = w.convicted;
        c.readOpenings(0, w.pages, w.answers, w.openings, true);
        uint256 number = c.findWinner();
        (nextCast,) = c.castPage(w.answers, c.countSilence(w.cast, false));
        silent = c.countSilence(w.cast, true);
        if (number == 0) return (0, nextCast, silent, conduct);
        return (VoteCounts.answerAt(w.answers, number), nextCast, silent, c.findConduct(r, seats, number));
    }
}

/// @title Questions and counts of class votes from the Python twin
contract VoteVectorsTest {
    Vm internal constant vm = Vm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);

    function read(string memory name) internal view returns (string memory) {
        return vm.readFile(string.concat("../tests/vectors/ours/", name, ".json"));
    }

    function test_Questions() public {
        Maker maker = Maker(vm.deployCode("QuestionMaker.sol:QuestionMaker", ""));
        string memory j = read("questions");
        bytes[] memory records = vm.parseJsonBytesArray(j, ".record");
        bytes[] memory leaves = vm.parseJsonBytesArray(j, ".leaves");
        bytes[] memory questions = vm.parseJsonBytesArray(j, ".question");
        uint256[] memory isWhole = vm.parseJsonUintArray(j, ".isWhole");
        uint256[] memory isMoot = vm.parseJsonUintArray(j, ".isMoot");
        bytes32[] memory hashes = vm.parseJsonBytes32Array(j, ".questionHash");
        for (uint256 i; i < records.length; ++i) {
            uint256 tasks = number(records[i], 11, 2);
            uint256 roots = leaves[i].length / (32 * tasks);
            for (uint256 k; k < roots; ++k) {
                (uint256 index,) = maker.find(records[i], slice(leaves[i], 32 * tasks * k, 32 * tasks));
                vm.assertEq(index, k, "root of leaves");
            }
            (bytes memory question, bool moot) = maker.make(
                records[i], isWhole[i] == 1 ? (1 << roots) - 1 : 0, isWhole[i] == 1 ? leaves[i] : bytes(""), true
            );
            vm.assertEq(question, questions[i], "question");
            vm.assertTrue(moot == (isMoot[i] == 1), "moot");
            vm.assertEq(keccak256(abi.encodePacked(keccak256(records[i]), question)), hashes[i], "questionHash");
        }
    }

    function test_Statements() public view {
        string memory j = read("questions");
        uint256[] memory chainId = vm.parseJsonUintArray(j, ".chainId");
        uint256[] memory id = vm.parseJsonUintArray(j, ".disputeId");
        uint256[] memory window = vm.parseJsonUintArray(j, ".window");
        address[] memory where = vm.parseJsonAddressArray(j, ".disputes");
        bytes32[] memory hashes = vm.parseJsonBytes32Array(j, ".questionHash");
        bytes32[] memory statements = vm.parseJsonBytes32Array(j, ".statement");
        for (uint256 i; i < id.length; ++i) {
            bytes32 tag = keccak256("Quorate.ClassVote.v1");
            bytes32 made = keccak256(abi.encode(tag, chainId[i], where[i], id[i], window[i], hashes[i]));
            vm.assertEq(made, statements[i], "statement");
        }
    }

    function test_ClassVotes() public {
        vm.pauseGasMetering(); // many counts in one transaction
        Counter counter = new Counter();
        string memory j = read("class_votes");
        bytes[] memory units = vm.parseJsonBytesArray(j, ".units");
        bytes[] memory tallies = vm.parseJsonBytesArray(j, ".tally");
        bytes[] memory nextCasts = vm.parseJsonBytesArray(j, ".nextCast");
        bytes32[] memory winners = vm.parseJsonBytes32Array(j, ".winner");
        for (uint256 i; i < units.length; ++i) {
            uint256 members = vm.parseJsonUintArray(j, ".memberCount")[i];
            (bytes32 winner, bytes memory nextCast, uint256[] memory silent, uint256[] memory conduct) =
                counter.count(tableOf(units[i], members), windowOf(j, i));
            vm.assertEq(winner, winners[i], "winner");
            vm.assertEq(nextCast, nextCasts[i], "cast page");
            for (uint256 m; winner != 0 && m < members; ++m) {
                vm.assertEq(silent[m] | (conduct[m] << 3), uint8(tallies[i][m]), "row");
            }
        }
    }

    function tableOf(bytes memory units, uint256 members) internal pure returns (LoadedTable memory) {
        bytes memory rows;
        for (uint256 m; m < members; ++m) {
            rows = abi.encodePacked(rows, address(0), uint24(m + 1));
        }
        return LoadedTable(units, bytes.concat(rows, new bytes(32)), units.length / 2, members, address(0), address(0));
    }

    /// @dev One commit page of all that committed; salts are 0.
    function windowOf(string memory j, uint256 i) internal pure returns (Counter.Window memory w) {
        w.record = vm.parseJsonBytesArray(j, ".record")[i];
        w.question = vm.parseJsonBytesArray(j, ".question")[i];
        w.cast = vm.parseJsonBytesArray(j, ".cast")[i];
        w.answers = vm.parseJsonBytesArray(j, ".answers")[i];
        w.convicted = vm.parseJsonUintArray(j, ".convicted")[i];
        bytes memory opened = vm.parseJsonBytesArray(j, ".opened")[i];
        bytes memory closed = vm.parseJsonBytesArray(j, ".closed")[i];
        bytes memory leaves;
        for (uint256 at; at < opened.length; at += 34) {
            uint16 m = uint16(number(opened, at, 2));
            bytes32 answer = bytes32(number(opened, at + 2, 32));
            bytes32 c = Statements.commitment(0, m + 1, answer, 0);
            leaves = abi.encodePacked(leaves, keccak256(abi.encodePacked(m, c)));
            uint16 tag;
            while (bytes32(number(w.answers, 2 + 32 * tag, 32)) != answer) {
                ++tag;
            }
            w.openings = abi.encodePacked(w.openings, m, tag, bytes16(0));
        }
        for (uint256 at; at < closed.length; at += 34) {
            leaves = abi.encodePacked(leaves, keccak256(slice(closed, at, 34)));
            w.openings = abi.encodePacked(w.openings, slice(closed, at, 2), uint16(0xffff), slice(closed, at + 2, 32));
        }
        if (leaves.length == 0) return w;
        w.pages = new bytes32[](1);
        w.pages[0] = keccak256(leaves);
        w.openings = abi.encodePacked(uint16(0), uint16(leaves.length / 32), w.openings);
    }

    function number(bytes memory data, uint256 at, uint256 size) internal pure returns (uint256 value) {
        assembly ("memory-safe") {
            value := shr(sub(256, mul(8, size)), mload(add(add(data, 32), at)))
        }
    }

    function slice(bytes memory data, uint256 from, uint256 size) internal pure returns (bytes memory part) {
        part = new bytes(size);
        assembly ("memory-safe") {
            mcopy(add(part, 32), add(add(data, 32), from), size)
        }
    }
}
