// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeMarket} from "../src/interfaces/IComputeMarket.sol";
import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {IMarketEvents} from "../src/interfaces/IMarketEvents.sol";
import {IStakeRegistry} from "../src/interfaces/IStakeRegistry.sol";
import {Params} from "../src/types/Params.sol";
import {Settlement} from "../src/types/Settlement.sol";
import {VoteSettlement} from "../src/types/VoteSettlement.sol";
import {ClassVotes} from "./support/ClassVotes.sol";

/// @dev Calls back while it is paid.
contract Thief {
    address internal target;
    bytes internal again;
    bool internal refuses;
    uint256 public tries;
    bool public succeeded;

    function run(address to, uint256 value, bytes calldata data) external returns (bytes memory answer) {
        bool done;
        (done, answer) = to.call{value: value}(data);
        if (!done) {
            assembly ("memory-safe") {
                revert(add(answer, 32), mload(answer))
            }
        }
    }

    function arm(address to, bytes calldata data) external {
        (target, again) = (to, data);
    }

    function refuse(bool yes) external {
        refuses = yes;
    }

    receive() external payable {
        if (refuses) revert("no");
        if (target == address(0)) return;
        ++tries;
        (bool done,) = target.call(again);
        succeeded = succeeded || done;
    }
}

/// @title What a thief would try, with the money before and after
/// @dev Attacks on single arguments stand beside the method that they are for.
contract AttacksTest is ClassVotes {
    uint256 internal constant P = TASK_PRICE;
    uint256 internal constant STAKE = 10 ether;

    Thief internal thief;

    function setUp() public {
        deployWithMembers(10, 8);
        thief = new Thief();
        vm.deal(address(thief), 100 ether);
        watch(address(thief));
    }

    function test_ReenteringTheMarketsWithdrawal() public {
        thief.run(address(market), 2 ether, abi.encodeCall(market.deposit, ()));
        thief.arm(address(market), abi.encodeCall(market.withdraw, (1 ether)));
        uint256 before = address(thief).balance;
        thief.run(address(market), 0, abi.encodeCall(market.withdraw, (1 ether)));
        // It may ask again while it is paid, and gets what is its own; the third call finds nothing.
        vm.assertEq(thief.tries(), 2);
        vm.assertEq(address(thief).balance, before + 2 ether);
        vm.assertEq(freeOf(address(thief)), 0);
        checkBooks();
    }

    function test_ReenteringTheRegistrysWithdrawal() public {
        thief.run(address(registry), 3 ether, abi.encodeCall(registry.register, (address(1))));
        thief.run(address(registry), 0, abi.encodeCall(registry.unstake, (3 ether)));
        tick(5400, 1);
        thief.arm(address(registry), abi.encodeCall(registry.withdraw, ()));
        thief.run(address(registry), 0, abi.encodeCall(registry.withdraw, ()));
        vm.assertEq(thief.tries(), 1);
        vm.assertFalse(thief.succeeded());
        vm.assertEq(address(thief).balance, 100 ether);
        checkBooks();
    }

    function test_AFailedTransferKeepsTheMoneyOwed() public {
        thief.run(address(market), 2 ether, abi.encodeCall(market.deposit, ()));
        thief.run(address(registry), 3 ether, abi.encodeCall(registry.register, (address(1))));
        thief.run(address(registry), 0, abi.encodeCall(registry.unstake, (3 ether)));
        tick(5400, 1);
        thief.refuse(true);
        vm.expectRevert(IMarketEvents.TransferFailed.selector);
        thief.run(address(market), 0, abi.encodeCall(market.withdraw, (1 ether)));
        vm.expectRevert(IStakeRegistry.TransferFailed.selector);
        thief.run(address(registry), 0, abi.encodeCall(registry.withdraw, ()));
        vm.assertEq(freeOf(address(thief)), 2 ether);
        vm.assertEq(unbondingOf(11), 3 ether);
        checkBooks();
    }

    /// @dev 2^255 − 1 fuel would wrap if anything were narrower than its product.
    function test_OverflowingFeesAndPrices() public {
        terms.feeWei = type(uint64).max; // 18.4 ether a bundle
        Order[] memory list = orders(3);
        (list[0].taskCount, list[0].fuelLimit) = (1 << 18, 1); // 1024 fees: 18,889 ether
        (list[1].fuelLimit) = type(uint64).max;
        uint256 before = freeOf(requester);
        uint64 id = post(list);
        vm.assertEq(lastSkips, hex"00000c000102");
        vm.assertEq(before - freeOf(requester), P * 9 + type(uint64).max + AUDIT);
        assign(id);
        uint256 fees = freeOf(collator);
        play(id, ballots(id));
        vm.assertEq(freeOf(collator) - fees, uint256(type(uint64).max) + 0.01 ether);
        checkBooks();
    }

    function test_TheDearestOrderThereIs() public {
        // Price at its highest, 2^64 − 1 wei for a task of one fuel unit, 2^18 tasks, 5 seats, 3 rounds.
        Params memory p = localParams();
        (p.maxPrice, p.maxTaskFuel, p.leastUnitWei) = (type(uint64).max, 40_000_000, 28 ether);
        deploy(p);
        registry.createClass{value: 0.1 ether}("dear", 28 ether, type(uint64).max, true);
        for (uint256 i; i < 10; ++i) {
            addOperator(i, 28 ether);
            vm.prank(ownerOf(i));
            registry.join(1, 1, type(uint64).max, type(uint64).max);
        }
        registry.advanceEra(1, type(uint64).max, type(uint64).max);
        vm.assertEq(registry.tableAt(1, 1).capacity, type(uint64).max, "capped");
        fund(collator, 1 ether);
        terms.seats = 5;
        terms.commitPeriod = 60;
        Order[] memory list = orders(1);
        (list[0].taskCount, list[0].fuelLimit) = (1 << 18, 40_000_000);
        uint256 taskPrice = (40_000_000 * uint256(type(uint64).max) + 1e9 - 1) / 1e9;
        uint256 auditFee = (taskPrice * 256 * 100 + 9999) / 10_000;
        uint256 escrow = taskPrice * (1 << 18) * 15 + (uint256(FEE) + auditFee) * 1024;
        fund(requester, escrow);
        uint256 before = freeOf(requester);
        uint64 id = post(list);
        vm.assertEq(lastSkips, "");
        vm.assertEq(before - freeOf(requester), escrow);
        (,,, uint16 bundles,,,,,,,) = market.batch(id);
        vm.assertEq(bundles, 1024);
        checkBooks();
    }

    /// @dev One whose stake left the class is still drawn by the table of its time, and still pays.
    function test_LeavingAfterTheDrawDoesNotSaveTheStake() public {
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        vm.startPrank(ownerOf(list[0].member));
        registry.leave(CLASS);
        registry.unstake(10 ether);
        vm.stopPrank();
        list[0].act = Act.SILENT;
        commit(id, list);
        pass(id, 4);
        settle(id, list);
        vm.assertEq(unbondingOf(uint24(list[0].member) + 1), STAKE - 2 * P);
        checkBooks();
    }

    /// @dev A key changed after the draw does not change who may sign.
    function test_ChangingTheKeyAfterTheDraw() public {
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        vm.prank(ownerOf(list[0].member));
        registry.setSigningKey(stranger);
        play(id, list);
        assertVerdict(0, IMarketEvents.Verdict.ACCEPTED);
    }

    /// @dev Slashing oneself, with accomplices among the voters, returns at most two fifths.
    function test_SlashingOneselfNeverPays() public {
        (, Ballot[] memory list, Vote memory v) = conflict(1);
        uint256 before = _wealth();
        ClassBallot[] memory all = classBallots(v, honest(0));
        commitClass(v, all);
        settleClass(v, all);
        vm.assertLt(_wealth(), before, "even if requester, collator and all operators are one");
        vm.assertLt(stakeOf(list[0].member + 1), STAKE, "the liar");
        checkBooks();
    }

    function _wealth() internal view returns (uint256 sum) {
        sum = freeOf(requester) + escrowOf(requester) + freeOf(collator) + market.bonds();
        for (uint24 op = 1; op <= 10; ++op) {
            sum += stakeOf(op) + unbondingOf(op);
        }
    }

    /// @dev A liar withholds its class vote, so that nobody can settle before the second window is over, and then is
    /// first with a settlement that opens nothing: it has to wait for those who can show a majority.
    function test_ALiarCannotSettleItsDisputeWithoutOpenings() public {
        (, Ballot[] memory list, Vote memory v) = conflict(1);
        ClassBallot[] memory all = classBallots(v, honest(0));
        all[list[0].member].act = Act.HIDE;
        commitClass(v, all);
        ClassBallot[] memory none = classBallots(v, honest(0));
        for (uint256 m; m < 10; ++m) {
            none[m].act = Act.HIDE;
        }
        passVote(v, 2);
        VoteSettlement memory s = classSettlement(v, one(none));
        vm.expectRevert(IDisputes.TooEarly.selector);
        disputes.settleVotes(v.id, v.record, v.question, s, 10);

        uint256 moment = vm.snapshotState();
        settleClass(v, all);
        assertDecided(1, honest(0));
        vm.assertEq(stakeOf(list[0].member + 1), STAKE - STAKE / 5, "slashed");
        checkBooks();

        vm.revertToState(moment);
        passVote(v, 3);
        settleClass(v, none); // nobody came: another window, and those who were away may come back
        vm.assertEq(v.window, 1);
        voteToTheEnd(v, classBallots(v, honest(0)));
        assertDecided(1, honest(0));
        vm.assertEq(stakeOf(list[0].member + 1), STAKE - STAKE / 5 - 8 * STAKE / 10 / 1000, "slashed, and fined");
        checkBooks();
    }

    /// @dev An order of very many bundles beside a victim's: the page's size decides whether `settle` fits a transaction
    /// (30 million gas a block, 2^24 a transaction since Osaka), and with it whether the victim's escrow comes back.
    function test_AFullPageCanBeSettled() public {
        Order[] memory list = orders(2);
        (list[0].taskCount, list[0].fuelLimit) = (1023 * 256, 1);
        uint64 id = postPage(0, pageOf(list), false);
        vm.assertEq(lastSkips, "");
        tick(10, 1);
        market.expire(id);
        vm.assertLe(gasOfSettling(id, settlement(id, 0, new Ballot[](0))), 1 << 24, "voided");
        vm.assertEq(escrowOf(requester), 0);
        checkBooks();
    }

    /// @dev The same with the largest committees: one bundle is settled, and all others are read.
    function test_AFullPageOfLargeCommitteesCanBeSettled() public {
        vm.pauseGasMetering();
        for (uint256 i = 10; i < 170; ++i) {
            addMember(i, 8);
        }
        advanceEra();
        terms.seats = 85;
        Order[] memory list = orders(1);
        (list[0].taskCount, list[0].fuelLimit) = (64 * 256, 1);
        uint64 id = post(list);
        vm.assertEq(lastSkips, "");
        assign(id);
        pass(id, 4);
        for (uint16 bundle = 1; bundle < 64; ++bundle) {
            isLeft[bundle] = true;
        }
        vm.assertLe(gasOfSettling(id, settlement(id, 0, new Ballot[](0))), 1 << 24, "one of 64");
        checkBooks();
    }

    function gasOfSettling(uint64 id, Settlement memory s) private returns (uint256 used) {
        vm.resumeGasMetering();
        uint256 before = gasleft();
        market.settle(id, s);
        used = before - gasleft();
        vm.pauseGasMetering();
    }

    /// @dev A batch that never closes gives back the escrow, but not the capacity that it took, nor the nonces of others'
    /// orders in it: for that its collator pays.
    function test_WhoTakesCapacityAndNeverClosesLosesTheBond() public {
        (uint256 c, uint256 r) = (freeOf(collator), freeOf(requester));
        Order[] memory list = orders(2);
        for (uint256 i; i < 2; ++i) {
            (list[i].taskCount, list[i].fuelLimit) = (1 << 18, 46_000_000);
        }
        (terms.commitPeriod, terms.feeWei) = (60, 0);
        uint64[2] memory ids;
        for (uint256 i; i < 2; ++i) {
            ids[i] = postPage(0, pageOf(only(list[i])), false);
        }
        tick(10, 1);
        for (uint256 i; i < 2; ++i) {
            market.expire(ids[i]);
            vm.pauseGasMetering();
            settleAs(stranger, ids[i], settlement(ids[i], 0, new Ballot[](0)));
        }
        vm.assertEq(freeOf(collator), c - 2 * 0.01 ether);
        vm.assertEq(treasuryOf(), 2 * 0.01 ether);
        vm.assertEq(freeOf(requester), r);
        (uint128 fuel,) = market.backlog(CLASS);
        vm.assertEq(fuel, 2 * uint256(1 << 18) * 46_000_000 * 3, "what was ordered has yet to drain");
        checkBooks();
    }
}
