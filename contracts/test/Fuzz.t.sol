// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IMarketEvents} from "../src/interfaces/IMarketEvents.sol";
import {NonceWindow, Nonces} from "../src/libraries/Nonces.sol";
import {LoadedTable, TableReader} from "../src/libraries/TableReader.sol";
import {ClassVotes} from "./support/ClassVotes.sol";

contract FuzzTest is ClassVotes {
    using Nonces for NonceWindow;

    mapping(uint256 nonce => bool) internal naive;

    function setUp() public {
        deployWithMembers(10, 8);
    }

    function pick(uint256 seed, uint256 index, uint256 most) internal pure returns (uint256) {
        return uint256(keccak256(abi.encode(seed, index))) % most;
    }

    /// @dev Whatever stands in a page, each accepted order locks exactly its escrow, and all of it comes back.
    function testFuzz_PostedPagesKeepTheBooks(uint256 seed) public {
        uint256 other = uint256(keccak256("other"));
        fund(vm.addr(other), 1e13 * (1 + pick(seed, 900, 40)));
        terms.seats = uint8(1 + pick(seed, 901, 5));
        terms.rounds = uint8(pick(seed, 902, 3));
        bytes memory page = bytes.concat(
            group(requesterSecret, randomOrders(seed, 1)),
            group(other, randomOrders(seed, 2)),
            group(requesterSecret, randomOrders(seed, 3))
        );
        for (uint256 i; i < pick(seed, 903, 3); ++i) {
            uint256 at = pick(seed, 904 + i, 156) + 23;
            page[at] = bytes1(uint8(pick(seed, 910 + i, 256)));
        }
        uint256 before = freeOf(requester) + freeOf(vm.addr(other));
        uint64 id = postPage(0, page, false);
        checkBooks();
        tick(10, 1);
        market.expire(id);
        for (uint256 i; i < settlePages[id][0].length; ++i) {
            settleAs(stranger, id, settlement(id, i, new Ballot[](0)));
        }
        vm.assertEq(freeOf(requester) + freeOf(vm.addr(other)), before);
        vm.assertEq(escrowOf(requester) + escrowOf(vm.addr(other)), 0);
        assertStatus(id, IMarketEvents.BatchStatus.SETTLED);
        checkBooks();
    }

    function randomOrders(uint256 seed, uint256 salt) internal returns (Order[] memory list) {
        seed = uint256(keccak256(abi.encode(seed, salt)));
        list = orders(1 + pick(seed, 0, 4));
        for (uint256 i; i < list.length; ++i) {
            Order memory o = list[i];
            uint256 kind = pick(seed, 10 + i, 12);
            if (kind == 0) o.taskCount = uint32(pick(seed, 20 + i, 1000));
            if (kind == 1) o.fuelLimit = uint64(pick(seed, 20 + i, 1e10));
            if (kind == 2) o.maxFee = uint64(pick(seed, 20 + i, 2 * FEE));
            if (kind == 3) o.maxPrice = uint64(pick(seed, 20 + i, 2 * PRICE));
            if (kind == 4) o.nonce = uint64(pick(seed, 20 + i, 10));
            if (kind == 5) o.validUntil = uint40(vm.getBlockTimestamp() + pick(seed, 20 + i, 3) - 1);
            if (kind == 6) o.minUnits = uint32(pick(seed, 20 + i, 160));
            if (kind == 7) o.commitPeriod = uint32(pick(seed, 20 + i, 40));
        }
    }

    /// @dev Against a set that never forgets.
    function testFuzz_NonceWindow(uint64 start, uint16[60] calldata steps) public {
        NonceWindow memory window;
        uint256 highest;
        uint256 nonce = start;
        for (uint256 i; i < steps.length; ++i) {
            nonce = i % 3 == 0 ? nonce + steps[i] % 700 : nonce - (nonce < steps[i] % 300 ? 0 : steps[i] % 300);
            if (nonce > type(uint64).max) nonce = type(uint64).max;
            uint256 base = highest < 192 ? 0 : highest - 191;
            bool isUsed = naive[nonce] || nonce < base;
            vm.assertTrue(window.isUsed(nonce) == isUsed, "used");
            vm.assertEq(window.base, base, "base");
            if (isUsed) continue;
            window.use(nonce);
            naive[nonce] = true;
            if (nonce > highest) highest = nonce;
        }
    }

    /// @dev Any weights, down to one member that holds nearly all: distinct members, as a plain reading draws them.
    function testFuzz_Draws(uint16[20] calldata weights, bytes32 domain, uint16 bundle, uint8 seats) public pure {
        uint256 count = 2;
        bytes memory units;
        for (uint16 m; m < 20; ++m) {
            uint256 weight = m % 7 == 0 ? weights[m] % 300 : 1 + weights[m] % 3;
            if (weight == 0) weight = 1;
            for (uint256 i; i < weight; ++i) {
                units = abi.encodePacked(units, m);
            }
        }
        count = 20;
        LoadedTable memory table = LoadedTable(units, "", units.length / 2, count, address(0), address(0));
        seats = 1 + seats % 20;
        uint256[] memory drawn = new uint256[](seats + 2);
        TableReader.draw(table, domain, bundle, seats, drawn, 2);
        uint16[] memory plain = draw(abi.encodePacked(uint8(0), units), count, domain, bundle, seats);
        for (uint256 i; i < seats; ++i) {
            vm.assertLt(drawn[2 + i], count, "in range");
            vm.assertEq(drawn[2 + i], plain[i], "as drawn plainly");
            for (uint256 j; j < i; ++j) {
                vm.assertTrue(drawn[2 + i] != drawn[2 + j], "distinct");
            }
        }
    }

    /// @dev Seats do anything for as long as it goes; every bundle ends once, and every wei is somewhere.
    function testFuzz_WholeLives(uint256 seed) public {
        terms.seats = uint8(1 + pick(seed, 1, 5));
        terms.rounds = uint8(pick(seed, 2, 3));
        uint64 id = posted(1 + pick(seed, 3, 4));
        (,,, uint16 bundles,,,,,,,) = market.batch(id);
        uint256 ended;
        for (uint256 round; statusOf(id) != IMarketEvents.BatchStatus.SETTLED; ++round) {
            if (round > 0) assign(id);
            Ballot[] memory list = ballots(id);
            for (uint256 i; i < list.length; ++i) {
                uint256 what = pick(seed, 1000 * round + i + 10, 10);
                if (what < 2) list[i].act = Act.SILENT;
                else if (what == 2) list[i].act = Act.HIDE;
                else if (what == 3) list[i].vote = LIE;
                else if (what == 4) list[i].vote = bytes32(i);
                else if (what == 5) list[i].act = Act.ABSTAIN;
            }
            commit(id, list);
            pass(id, 4);
            uint256 pages = settlePages[id][round].length;
            for (uint256 p; p < pages; ++p) {
                settle(id, p, list);
                for (uint256 i; i < rowCount(); ++i) {
                    (, IMarketEvents.Verdict verdict,,,) = rowAt(i);
                    if (verdict != IMarketEvents.Verdict.CARRIED) ++ended;
                }
            }
            checkBooks();
        }
        vm.assertEq(ended, bundles, "each bundle ended once");
        for (uint256 d; d < disputeIds.length; ++d) {
            endDispute(d, uint256(keccak256(abi.encode(seed, d))));
        }
        vm.assertEq(escrowOf(requester), 0, "no escrow is left");
        (uint256 pots,) = potsAndTreasury();
        vm.assertEq(pots, 0, "no pot is left");
        vm.assertEq(market.bonds(), 0);
        checkBooks();
    }

    function endDispute(uint256 index, uint256 seed) internal {
        Vote memory v = voteOf(index);
        askWhole(v);
        ClassBallot[] memory all = classBallots(v, honest(v.bundle));
        for (uint256 m; m < all.length; ++m) {
            uint256 what = pick(seed, m, 12);
            if (what == 0) all[m].act = Act.SILENT;
            else if (what == 1) all[m].act = Act.HIDE;
            else if (what == 2) all[m].vote = LIE;
        }
        voteToTheEnd(v, all);
    }
}
