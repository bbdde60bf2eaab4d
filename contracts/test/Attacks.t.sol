// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeMarket} from "../src/interfaces/IComputeMarket.sol";
import {IDisputes} from "../src/interfaces/IDisputes.sol";
import {IMarketEvents} from "../src/interfaces/IMarketEvents.sol";
import {IStakeRegistry} from "../src/interfaces/IStakeRegistry.sol";
import {FineKind} from "../src/types/FineKind.sol";
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

    /// @dev A requester takes its money back while its orders wait: they are skipped, and cost those beside them nothing.
    function test_DepositsWithdrawnWhileOrdersWait() public {
        uint256 secret = uint256(keccak256("fickle"));
        address fickle = vm.addr(secret);
        fund(fickle, 1 ether);
        bytes memory waiting = group(secret, orders(2));
        vm.prank(fickle);
        market.withdraw(1 ether);
        (uint256 r, uint256 c) = (freeOf(requester), freeOf(collator));
        uint64 id = postPage(0, bytes.concat(waiting, pageOf(orders(1))), true);
        vm.assertEq(lastSkips, hex"00000c00010c");
        vm.assertEq(freeOf(fickle) + escrowOf(fickle), 0);
        assign(id);
        play(id, ballots(id));
        vm.assertEq(freeOf(requester), r - 3 * P - FEE - AUDIT);
        vm.assertEq(freeOf(collator), c + FEE);
        checkBooks();
    }

    // The draw ----------------------------------------------------------------------------------------------------

    /// @dev It has seen the draw before anybody proved it. It can prove no other, nor call this one off, nor post the orders
    /// again; and if everybody lets the beacon go, it pays with its bond.
    function test_NoCollatorRerollsACommittee() public {
        bytes memory page = pageOf(orders(1));
        (uint256 c, uint256 r) = (freeOf(collator), freeOf(requester));
        uint64 id = postPage(0, page, true);
        (,,,,,,, uint48 beaconBlock,,,) = market.batch(id);
        tick(1, 2);
        assertStatus(postPage(0, page, true), IMarketEvents.BatchStatus.SETTLED);
        vm.assertEq(lastSkips, hex"00000b", "their nonces are used");
        vm.expectRevert(abi.encodeWithSelector(IMarketEvents.WindowOpen.selector, "beacon"));
        market.expire(id);
        uint256 moment = vm.snapshotState();
        market.proveBeacon(id, "");
        bytes32 domain = market.roundDomain(id);

        vm.revertToState(moment);
        vm.roll(beaconBlock + 256);
        vm.prank(stranger);
        market.proveBeacon(id, "");
        vm.assertEq(market.roundDomain(id), domain, "early or late, by whomever: one draw");
        vm.expectRevert(
            abi.encodeWithSelector(IMarketEvents.WrongStatus.selector, id, IMarketEvents.BatchStatus.ASSIGNED)
        );
        market.expire(id);
        play(id, ballots(id));
        assertVerdict(0, IMarketEvents.Verdict.ACCEPTED);
        vm.assertEq(freeOf(requester), r - 3 * P - FEE - AUDIT);
        vm.assertEq(freeOf(collator), c + FEE);

        vm.revertToState(moment);
        vm.roll(beaconBlock + 257);
        market.expire(id);
        settleAs(stranger, id, settlement(id, 0, new Ballot[](0)));
        vm.assertEq(freeOf(requester), r);
        vm.assertEq(freeOf(collator), c - 0.01 ether);
        vm.assertEq(treasuryOf(), 0.01 ether);
        checkBooks();
    }

    /// @dev Class, stake, jail and ask act at the next table, and so does who joins: in this one all seats stay, and earn.
    function test_WhatChangesAfterTheBeaconChangesNoDraw() public {
        terms.commitPeriod = 60;
        uint256 r = freeOf(requester);
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        (uint24 leaver, uint24 jailed, uint24 dear) = (list[0].member + 1, list[1].member + 1, list[2].member + 1);
        vm.startPrank(ownerOf(leaver - 1));
        registry.leave(CLASS);
        registry.unstake(uint128(STAKE));
        vm.stopPrank();
        vm.prank(ownerOf(dear - 1));
        registry.setAsk(CLASS, 2 * PRICE);
        vm.startPrank(address(market));
        for (uint256 i; i < 4; ++i) {
            registry.fine(jailed, 0, FineKind.SILENT);
        }
        vm.stopPrank();
        uint24 rich = addMember(20, 800);
        tick(59, 1);
        registry.judge(jailed);
        advanceEra();
        vm.assertEq(registry.tableAt(CLASS, 2).memberCount, 9, "the next table has neither leaver nor jailed");
        play(id, list);
        assertVerdict(0, IMarketEvents.Verdict.ACCEPTED);
        vm.assertEq(abi.encode(stakeOf(leaver), unbondingOf(leaver)), abi.encode(P, STAKE));
        vm.assertEq(stakeOf(jailed), STAKE + P);
        vm.assertEq(stakeOf(dear), STAKE + P, "at the price of the order, not at its new one");
        vm.assertEq(stakeOf(rich), 802 ether);
        vm.assertEq(freeOf(requester), r - 3 * P - FEE - AUDIT);
        checkBooks();
    }

    /// @dev The flooder orders all that the class declares to do in a commit period. It pays the honest for it; another's
    /// order waits with its money and its nonce, and the seats' stake is not locked up.
    function test_WhoFloodsAClassPaysTheHonestForIt() public {
        registry.createClass{value: 0.1 ether}("small", uint128(UNIT), PRICE, true);
        for (uint256 i = 10; i < 20; ++i) {
            addOperator(i, 3 ether);
            vm.prank(ownerOf(i));
            registry.join(2, 1, PRICE, 480_000); // ten of them: four orders of FUEL at half speed
        }
        advanceEraOf(2);
        terms.classId = 2;
        uint256 flooder = uint256(keccak256("flooder"));
        fund(vm.addr(flooder), 1 ether);
        uint256 r = freeOf(requester);
        Order[] memory waiting = orders(1);
        uint64 flood = postPage(0, bytes.concat(group(flooder, orders(5)), pageOf(waiting)), true);
        vm.assertEq(lastSkips, hex"000409000509", "full");
        vm.assertEq(freeOf(requester), r);
        assign(flood);
        tick(4, 1);
        uint64 id = post(waiting);
        vm.assertEq(lastSkips, "", "a quarter of it has drained");
        assign(id);
        Ballot[] memory list = ballots(flood);
        vm.prank(ownerOf(10 + list[0].member));
        registry.unstake(2 ether);
        play(id, ballots(id)); // of all ten, whoever works for the flooder
        assertVerdict(0, IMarketEvents.Verdict.ACCEPTED);
        play(flood, list);
        uint256 held;
        for (uint24 op = 11; op <= 20; ++op) {
            held += stakeOf(op) + unbondingOf(op);
        }
        vm.assertEq(held, 30 ether + 5 * 3 * P);
        vm.assertEq(freeOf(vm.addr(flooder)), 1 ether - 4 * (3 * P + FEE + AUDIT));
        vm.assertEq(freeOf(requester), r - 3 * P - FEE - AUDIT);
        checkBooks();
    }

    /// @dev Six identities of one attacker are a class. Whoever asks for more units than it has is skipped there; whoever
    /// asks for none pays for what they say.
    function test_AClassThatTheAttackerAloneHasJoined() public {
        registry.createClass{value: 0.1 ether}("trap", uint128(UNIT), PRICE, true);
        for (uint256 i = 10; i < 16; ++i) {
            addMemberOf(2, i);
        }
        advanceEraOf(2);
        terms.classId = 2;
        uint256 r = freeOf(requester);
        Order memory o = order();
        o.minUnits = 7;
        post(only(o));
        vm.assertEq(lastSkips, hex"000004");
        vm.assertEq(freeOf(requester), r, "nothing lost");
        o.minUnits = 1;
        uint64 id = post(only(o));
        assign(id);
        Ballot[] memory list = ballots(id);
        for (uint256 i; i < 3; ++i) {
            list[i].vote = LIE;
        }
        play(id, list);
        assertRow(0, LIE, 3, 3);
        vm.assertEq(freeOf(requester), r - 3 * P - FEE - AUDIT, "the control: a careless order");
        checkBooks();
    }

    // Those who have nothing left ---------------------------------------------------------------------------------

    /// @dev Who is ejected is drawn until the table changes, with no stake to lose. Lying again it makes the class vote once
    /// more and gets nothing; silent it is replaced. No honest operator loses, and the requester pays for right votes alone.
    function test_EjectedButStillInTheTable() public {
        (, Ballot[] memory liars, Vote memory v) = conflict(3);
        commitClass(v, classBallots(v, honest(0)));
        settleClass(v, classBallots(v, honest(0)));
        (uint16 a, uint16 b) = (liars[0].member, liars[1].member);
        vm.assertEq(stakeOf(a + 1) + stakeOf(b + 1), 0);
        (uint256 r, uint256 before) = (freeOf(requester), _sumOfStakes());
        uint256 done = 1;
        uint64 id = posted(1);
        Ballot[] memory list = ballots(id);
        for (; _set(list, a, b, Act.OPEN, LIE) == 0; ++done) {
            play(id, list);
            id = posted(1);
            list = ballots(id);
        }
        play(id, list);
        assertVerdict(0, IMarketEvents.Verdict.DISPUTED);
        v = voteOf(disputeIds.length - 1);
        askWhole(v);
        commitClass(v, classBallots(v, honest(0)));
        settleClass(v, classBallots(v, honest(0)));
        assertDecided(1, honest(0));

        id = posted(6);
        done += _acceptAll(id, a, b);
        vm.assertEq(stakeOf(a + 1) + stakeOf(b + 1), 0, "lies and silence earn nothing");
        vm.assertEq(_sumOfStakes() - before, r - freeOf(requester) - done * (FEE + AUDIT), "all that is paid is earned");
        for (uint24 op = 1; op <= 10; ++op) {
            if (op != a + 1 && op != b + 1) vm.assertGe(stakeOf(op), STAKE, "no honest operator loses");
        }
        checkBooks();
    }

    /// @dev What two members do in their seats; how many they have.
    function _set(Ballot[] memory list, uint16 a, uint16 b, Act act, bytes32 vote)
        private
        pure
        returns (uint256 count)
    {
        for (uint256 i; i < list.length; ++i) {
            if (list[i].member != a && list[i].member != b) continue;
            (list[i].act, list[i].vote) = (act, vote);
            ++count;
        }
    }

    /// @dev All rounds of a batch in which two members say nothing; how many bundles were accepted.
    function _acceptAll(uint64 id, uint16 a, uint16 b) private returns (uint256 accepted) {
        uint256 silent;
        while (true) {
            Ballot[] memory list = ballots(id);
            silent += _set(list, a, b, Act.SILENT, 0);
            commit(id, list);
            pass(id, 4);
            settle(id, list);
            for (uint256 i = rowCount(); i > 0; --i) {
                (, IMarketEvents.Verdict verdict,,,) = rowAt(i - 1);
                if (verdict == IMarketEvents.Verdict.ACCEPTED) ++accepted;
            }
            if (statusOf(id) == IMarketEvents.BatchStatus.SETTLED) break;
            assign(id);
        }
        vm.assertTrue(silent > 0 && accepted == 6, "drawn, and replaced");
    }

    function _sumOfStakes() private view returns (uint256 sum) {
        for (uint24 op = 1; op <= 10; ++op) {
            sum += stakeOf(op);
        }
    }

    // Slots -------------------------------------------------------------------------------------------------------

    /// @dev However long a class vote takes: its batch is not final, and nobody gets its slot before the liar has paid.
    function test_ASlotIsNotReusedWhileItsDisputeIsOpen() public {
        (uint64 id, Ballot[] memory list, Vote memory v) = conflict(1);
        ClassBallot[] memory all = classBallots(v, honest(0));
        commitClass(v, all);
        tick(31, 1);
        vm.assertFalse(market.isBatchFinal(id));
        vm.assertTrue(uint32(posted(1)) != uint32(id), "another slot");
        settleClass(v, all);
        assertDecided(1, honest(0));
        vm.assertEq(stakeOf(list[0].member + 1), STAKE - STAKE / 5);
        vm.assertEq(stakeOf(list[1].member + 1), STAKE + P);
        vm.assertTrue(market.isBatchFinal(id));
        uint64 next = posted(1);
        vm.assertTrue(uint32(next) == uint32(id) && next != id, "the slot again, under another id");
        checkBooks();
    }
}
