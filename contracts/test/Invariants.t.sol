// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IMarketEvents} from "../src/interfaces/IMarketEvents.sol";
import {ClassTable} from "../src/types/ClassTable.sol";
import {ClassVotes} from "./support/ClassVotes.sol";

/// @title Actors that do at random what the rules allow them; each action is right, so none may revert
contract Actors is ClassVotes {
    uint256 internal members = 12;
    uint64[] internal live; // batches that are not settled
    uint64[] internal settled;
    mapping(uint64 batchId => Ballot[]) internal plans; // of the round that has committed
    mapping(uint64 batchId => uint256 roundPlusOne) internal committedRound;
    mapping(uint64 batchId => mapping(uint256 bundle => uint256)) internal ends;
    uint256[] internal openVotes; // indices of disputes that are not settled
    uint256 public doubleEnds;
    mapping(string => uint256) public done;

    constructor() payable {
        deployWithMembers(12, 8);
    }

    // Actions -----------------------------------------------------------------------------------------------------

    function postOrders(uint256 seed) external {
        ensureEra();
        terms.seats = uint8(1 + seed % 3);
        terms.rounds = uint8((seed >> 8) % 3);
        (ClassTable memory table,,,,,) = registry.currentTable(CLASS);
        if (table.memberCount < 2 * uint256(terms.seats)) return;
        Order[] memory list = orders(1 + (seed >> 16) % 3);
        if ((seed >> 24) % 4 == 0) list[0].taskCount = uint32(1 + (seed >> 32) % 600);
        if ((seed >> 24) % 4 == 1) list[0].maxFee = 0;
        bool last = (seed >> 40) % 5 != 0;
        uint64 id = postPage(0, pageOf(list), last);
        (statusOf(id) == IMarketEvents.BatchStatus.SETTLED ? settled : live).push(id);
        ++done["post"];
    }

    /// @dev The next step of one batch, whatever it waits for.
    function stepBatch(uint256 which, uint256 seed) external {
        if (live.length == 0) return;
        uint64 id = live[which % live.length];
        IMarketEvents.BatchStatus status = statusOf(id);
        if (status == IMarketEvents.BatchStatus.POSTING) {
            tick(11, 1);
            market.expire(id);
        } else if (status == IMarketEvents.BatchStatus.AWAITING) {
            stepAwaiting(id, seed);
        } else {
            stepRound(id, seed);
        }
        if (statusOf(id) != IMarketEvents.BatchStatus.SETTLED) return;
        live[which % live.length] = live[live.length - 1];
        live.pop();
        settled.push(id);
        ++done["settled"];
    }

    function stepAwaiting(uint64 id, uint256 seed) private {
        (,,,,,,, uint48 beaconBlock,,,) = market.batch(id);
        if (vm.getBlockNumber() > uint256(beaconBlock) + 256) {
            market.expire(id);
        } else if (seed % 20 == 0) {
            vm.roll(uint256(beaconBlock) + 257);
            market.expire(id);
        } else {
            assign(id);
        }
    }

    function stepRound(uint64 id, uint256 seed) private {
        bool isVoided = statusOf(id) == IMarketEvents.BatchStatus.VOIDED;
        uint256 round = roundOf(id);
        if (!isVoided && committedRound[id] != round + 1) {
            plan(id, seed);
            committedRound[id] = round + 1;
            if (isInTime(id)) commit(id, plans[id]);
            else silence(id);
            return;
        }
        if (!isVoided) pass(id, 4);
        uint256 pages = settlePages[id][round].length;
        for (uint256 p; p < pages; ++p) {
            if (roundOf(id) == round && hasPending(id, p)) settleAs(who(seed), id, settlement(id, p, plans[id]));
            else continue;
            noteEnds(id);
        }
        ++done["rounds"];
    }

    function hasPending(uint64 id, uint256 page) private view returns (bool) {
        bytes memory data = settlePages[id][roundOf(id)][page];
        uint16[] memory bundles = roundOf(id) == 0 ? recordBundles(data) : carryBundles(data);
        return bundles.length > 0 && market.isPending(id, bundles[0]);
    }

    function isInTime(uint64 id) private view returns (bool) {
        (,,,,,,,, uint40 startTime, uint48 startBlock,) = market.batch(id);
        uint256 end = uint256(startTime) + market.batchTerms(id).commitPeriod;
        return vm.getBlockTimestamp() < end || vm.getBlockNumber() < uint256(startBlock) + 2;
    }

    function who(uint256 seed) private view returns (address) {
        return seed % 2 == 0 ? collator : stranger;
    }

    function plan(uint64 id, uint256 seed) private {
        delete plans[id];
        Ballot[] memory list = ballots(id);
        for (uint256 i; i < list.length; ++i) {
            uint256 what = uint256(keccak256(abi.encode(seed, i))) % 24;
            if (what == 0) list[i].act = Act.SILENT;
            if (what == 1) list[i].act = Act.HIDE;
            if (what == 2) list[i].vote = LIE;
            if (what == 3) list[i].vote = bytes32(uint256(1));
            if (what == 4) list[i].act = Act.ABSTAIN;
            plans[id].push(list[i]);
        }
    }

    function silence(uint64 id) private {
        for (uint256 i; i < plans[id].length; ++i) {
            plans[id][i].act = Act.SILENT;
        }
    }

    function noteEnds(uint64 id) private {
        while (openVotes.length + done["votes"] < disputeIds.length) {
            openVotes.push(openVotes.length + done["votes"]);
        }
        for (uint256 i; i < rowCount(); ++i) {
            (uint16 bundle, IMarketEvents.Verdict verdict,,,) = rowAt(i);
            if (verdict == IMarketEvents.Verdict.CARRIED) continue;
            if (++ends[id][bundle] > 1) ++doubleEnds;
        }
    }

    /// @dev Disputes end in the order in which they were opened.
    function decideDispute(uint256 seed) external {
        if (openVotes.length == 0) return;
        Vote memory v = voteOf(done["votes"]);
        ClassBallot[] memory all = classBallots(v, honest(v.bundle));
        (,, uint40 openTime, uint48 openBlock,) = disputes.dispute(v.id);
        bool isLate = vm.getBlockTimestamp() >= uint256(openTime) + 20 && vm.getBlockNumber() >= uint256(openBlock) + 2;
        for (uint256 m; m < all.length; ++m) {
            uint256 what = uint256(keccak256(abi.encode(seed, m))) % 16;
            if (what == 0 || isLate) all[m].act = Act.SILENT;
            else if (what == 1) all[m].act = Act.HIDE;
            else if (what == 2) all[m].vote = LIE;
        }
        if (classLists(v, all).length > 0) commitClass(v, all);
        passVote(v, 3);
        settleClass(v, all);
        openVotes.pop();
        ++done["votes"];
    }

    function stakeMore(uint256 number, uint256 amount) external {
        registry.stake{value: amount % 1 ether}(uint24(1 + number % members));
    }

    function takeOut(uint256 number, uint256 amount) external {
        uint24 id = uint24(1 + number % members);
        (,, uint128 held, uint128 allocated,,,,) = registry.operator(id);
        if (held == allocated) return;
        vm.prank(ownerOf(id - 1));
        registry.unstake(uint128(1 + amount % (held - allocated)));
        ++done["unstake"];
    }

    function withdrawStake(uint256 number) external {
        uint24 id = uint24(1 + number % members);
        (,,,, uint128 unbonding, uint40 releaseAt,,) = registry.operator(id);
        if (unbonding == 0 || vm.getBlockTimestamp() < releaseAt) return;
        uint256 before = ownerOf(id - 1).balance;
        vm.prank(ownerOf(id - 1));
        registry.withdraw();
        require(ownerOf(id - 1).balance == before + unbonding, "withdrawn exactly");
        ++done["withdraw"];
    }

    function joinOrLeave(uint256 number, uint16 units) external {
        uint24 id = uint24(1 + number % members);
        (,, uint128 held, uint128 allocated,,,, bool ejected) = registry.operator(id);
        (uint16 present,,) = registry.member(CLASS, id);
        if (present > 0 && registry.members(CLASS).length > 8) {
            vm.prank(ownerOf(id - 1));
            registry.leave(CLASS);
        } else if (present == 0 && !ejected && held - allocated >= UNIT) {
            uint256 most = (held - allocated) / UNIT;
            vm.prank(ownerOf(id - 1));
            registry.join(CLASS, uint16(1 + units % (most < 20 ? most : 20)), PRICE, CAPACITY);
        }
    }

    function newcomer() external {
        if (members >= 30) return;
        addMember(members++, 5);
    }

    function moveDeposit(uint256 amount, bool isIn) external {
        if (isIn) fund(requester, amount % 1 ether);
        uint256 free = freeOf(requester);
        if (isIn || free < 100 ether) return;
        vm.prank(requester);
        market.withdraw(uint128(1 + amount % 1 ether));
    }

    function wait_(uint256 secs) external {
        tick(1 + secs % 100, 1 + secs % 5);
    }

    function ensureEra() private {
        (,,,,, uint40 eraEnd,,,) = registry.class_(CLASS);
        if (vm.getBlockTimestamp() >= eraEnd) advanceEraOf(CLASS);
    }

    // What must hold ----------------------------------------------------------------------------------------------

    function check() external view {
        checkBooks();
        (uint256 pots,) = potsAndTreasury();
        uint256 escrow;
        uint256 inPots;
        uint256 bonds;
        for (uint256 i; i < live.length; ++i) {
            (uint256 e, uint256 p) = locked(live[i]);
            (escrow, inPots) = (escrow + e, inPots + p);
            if (statusOf(live[i]) != IMarketEvents.BatchStatus.VOIDED) bonds += 0.01 ether;
        }
        for (uint256 i = done["votes"]; i < disputeRecords.length; ++i) {
            escrow += _uint(disputeRecords[i], 58, 16);
            inPots += _uint(disputeRecords[i], 42, 16);
        }
        vm.assertEq(escrowOf(requester), escrow, "escrow is that of bundles without an end");
        vm.assertEq(pots, inPots, "pots are those of carried and disputed bundles");
        vm.assertEq(market.bonds(), bonds, "bonds are those of batches without an end");
        vm.assertEq(doubleEnds, 0, "a bundle ends once");
    }

    /// @dev Escrow and pots of a batch's bundles that wait, from its pages.
    function locked(uint64 id) private view returns (uint256 escrow, uint256 pots) {
        uint256 round = roundOf(id);
        uint256 shares = uint256(market.batchTerms(id).seats) * (1 + market.batchTerms(id).rounds);
        for (uint256 k; k <= 1; ++k) {
            for (uint256 p; p < settlePages[id][round + k].length; ++p) {
                bytes memory page = settlePages[id][round + k][p];
                if (round + k > 0) {
                    (uint256 e, uint256 q) = lockedCarry(id, page, k == 1);
                    (escrow, pots) = (escrow + e, pots + q);
                } else {
                    escrow += lockedRecord(id, page, shares);
                }
            }
        }
    }

    function lockedCarry(uint64 id, bytes memory page, bool isNext)
        private
        view
        returns (uint256 escrow, uint256 pots)
    {
        for (uint256 o; o < page.length;) {
            if (isNext || market.isPending(id, uint16(_uint(page, o, 2)))) {
                escrow += escrowFor(_uint(page, o + 22, 12), _uint(page, o + 37, 2));
                pots += _uint(page, o + 39, 16);
            }
            uint256 voters = _uint(page, o + 57, 1);
            o += 58 + (voters > 0 ? 32 + 2 * voters : 0);
            o += 1 + 2 * _uint(page, o, 1);
        }
    }

    function escrowFor(uint256 price, uint256 shares) private pure returns (uint256) {
        return price * shares + FEE + (price * 100 + 9999) / 10_000;
    }

    function lockedRecord(uint64 id, bytes memory page, uint256 shares) private view returns (uint256 escrow) {
        uint16 bundle = uint16(_uint(page, 32, 2));
        for (uint256 o = 34; o < page.length;) {
            uint256 rows = _uint(page, o + 20, 2);
            o += 22;
            for (uint256 i; i < rows; ++i) {
                uint256 tasks = _uint(page, o + 8, 3);
                for (; tasks > 0; ++bundle) {
                    uint256 here = tasks < 256 ? tasks : 256;
                    if (market.isPending(id, bundle)) escrow += escrowFor(_uint(page, o, 8) * here, shares);
                    tasks -= here;
                }
                o += 12;
            }
        }
    }

    /// @dev A settled batch stays settled until its slot has another one.
    function checkTerminal() external view {
        for (uint256 i; i < settled.length; ++i) {
            try market.batch(settled[i]) returns (
                IMarketEvents.BatchStatus status,
                address,
                uint8,
                uint16,
                uint16 pending,
                uint16 carried,
                uint16,
                uint48,
                uint40,
                uint48,
                uint40
            ) {
                vm.assertEq(uint256(status), uint256(IMarketEvents.BatchStatus.SETTLED), "settled for good");
                vm.assertEq(uint256(pending) + carried, 0);
            } catch {}
        }
    }
}

/// forge-config: default.invariant.fail-on-revert = true
contract InvariantsTest {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    Actors internal actors;

    function setUp() public {
        actors = new Actors{value: 1000 ether}();
    }

    function targetContracts() public view returns (address[] memory list) {
        list = new address[](1);
        list[0] = address(actors);
    }

    function targetSelectors() public view returns (FuzzSelector[] memory list) {
        bytes4[] memory s = new bytes4[](16);
        (s[0], s[1], s[2]) = (Actors.postOrders.selector, Actors.postOrders.selector, Actors.postOrders.selector);
        for (uint256 i = 3; i < 7; ++i) {
            s[i] = Actors.stepBatch.selector;
        }
        (s[7], s[8], s[9]) = (Actors.stepBatch.selector, Actors.stepBatch.selector, Actors.decideDispute.selector);
        (s[10], s[11]) = (Actors.takeOut.selector, Actors.withdrawStake.selector);
        (s[12], s[13]) = (Actors.joinOrLeave.selector, Actors.newcomer.selector);
        (s[14], s[15]) = (Actors.moveDeposit.selector, Actors.wait_.selector);
        list = new FuzzSelector[](1);
        list[0] = FuzzSelector(address(actors), s);
    }

    function invariant_EveryWeiIsInOneLedger() public view {
        actors.check();
    }

    function invariant_TerminalStatusesStay() public view {
        actors.checkTerminal();
    }
}
