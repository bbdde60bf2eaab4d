// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IChallenges} from "../../src/interfaces/IChallenges.sol";
import {IComputeMarket} from "../../src/interfaces/IComputeMarket.sol";
import {IDisputes} from "../../src/interfaces/IDisputes.sol";
import {IStakeRegistry} from "../../src/interfaces/IStakeRegistry.sol";
import {ClassTable} from "../../src/types/ClassTable.sol";
import {Params} from "../../src/types/Params.sol";
import {TestBeacon} from "./TestBeacon.sol";
import {Vm} from "./Vm.sol";

/// @title A deployed system with operators in one class
abstract contract System {
    Vm internal constant vm = Vm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);

    uint256 internal constant UNIT = 1 ether;
    uint64 internal constant PRICE = 1e15;
    uint64 internal constant CAPACITY = 1e12;
    uint32 internal constant CLASS = 1;
    /// @dev Each operator stakes two units more than it allocates, so that small fines do not shrink it.
    uint256 internal constant SPARE = 2;

    IStakeRegistry internal registry;
    IComputeMarket internal market;
    IDisputes internal disputes;
    IChallenges internal challenges;
    address internal beacon;

    address internal collator = makeAddr("collator");
    address internal stranger = makeAddr("stranger");
    uint256 internal requesterSecret = uint256(keccak256("requester"));
    address internal requester = vm.addr(requesterSecret);

    /// @dev Whoever may hold money in the market, for the sums.
    address[] internal holders;
    mapping(address => bool) internal isHolder;
    mapping(address signingKey => uint256) internal secretOf;

    function localParams() internal pure returns (Params memory) {
        return Params({
            eraPeriod: 60,
            unbondingPeriod: 5400,
            challengePeriod: 30,
            postPeriod: 10,
            maxCommitPeriod: 60,
            directPeriod: 4,
            settlePeriod: 10,
            publishPeriod: 8,
            voteCommitPeriod: 20,
            voteRevealPeriod: 10,
            auditPeriod: 12,
            faultMemory: 600,
            beaconDelay: 1,
            blockPeriod: 1,
            minBlocks: 2,
            auditBps: 100,
            jailEras: 2,
            maxRounds: 2,
            voteWindows: 3,
            referenceFuelRate: 200_000_000,
            referenceByteRate: 2_000_000,
            maxTaskFuel: 1e10,
            maxPrice: 2e15,
            maxGasPrice: 0,
            batchBond: 0.01 ether,
            challengeBond: 0.01 ether,
            classDeposit: 0.1 ether,
            leastUnitWei: 1 ether
        });
    }

    /// @dev The contracts name each other, so addresses are computed before there is code.
    function deploy(Params memory p) internal {
        vm.warp(1_700_000_000);
        vm.roll(1000);
        beacon = address(new TestBeacon());
        uint256 nonce = vm.getNonce(address(this));
        address r = vm.computeCreateAddress(address(this), nonce);
        address m = vm.computeCreateAddress(address(this), nonce + 1);
        address d = vm.computeCreateAddress(address(this), nonce + 2);
        address c = vm.computeCreateAddress(address(this), nonce + 3);
        address e = vm.computeCreateAddress(address(this), nonce + 4);
        registry = IStakeRegistry(vm.deployCode("StakeRegistry.sol:StakeRegistry", abi.encode(p, m, d, c)));
        market = IComputeMarket(vm.deployCode("ComputeMarket.sol:ComputeMarket", abi.encode(p, r, d, beacon, e)));
        disputes = IDisputes(vm.deployCode("Disputes.sol:Disputes", abi.encode(p, r, m, c)));
        challenges = IChallenges(vm.deployCode("Challenges.sol:Challenges", abi.encode(p, r, m, d)));
        vm.assertEq(vm.deployCode("Extender.sol:Extender", abi.encode(p, r, d, beacon)), e);
        vm.assertEq(address(challenges), c);
        vm.assertEq(address(registry), r);
        vm.assertEq(address(market), m);
        vm.assertEq(address(disputes), d);
    }

    /// @dev A class of `count` members with `units` each, its first era, and a deposit for requester and collator.
    function deployWithMembers(uint256 count, uint16 units) internal {
        deployWithMembers(localParams(), count, units);
    }

    function deployWithMembers(Params memory p, uint256 count, uint16 units) internal {
        deploy(p);
        registry.createClass{value: 0.1 ether}(keccak256("profile"), uint128(UNIT), PRICE, true);
        for (uint256 i; i < count; ++i) {
            addMember(i, units);
        }
        advanceEraOf(CLASS);
        fund(requester, 1000 ether);
        fund(collator, 1000 ether);
    }

    function addMember(uint256 number, uint16 units) internal returns (uint24 id) {
        id = addOperator(number, (units + SPARE) * UNIT);
        vm.prank(ownerOf(number));
        registry.join(CLASS, units, PRICE, CAPACITY);
    }

    function addMemberOf(uint32 classId, uint256 number) internal {
        addOperator(number, (1 + SPARE) * UNIT);
        (,, uint64 price,,,,,,) = registry.class_(classId);
        vm.prank(ownerOf(number));
        registry.join(classId, 1, price, CAPACITY);
    }

    function addOperator(uint256 number, uint256 stake) internal returns (uint24) {
        uint256 secret = uint256(keccak256(abi.encode("operator", number)));
        address key = vm.addr(secret);
        secretOf[key] = secret;
        vm.deal(ownerOf(number), stake);
        vm.prank(ownerOf(number));
        return registry.register{value: stake}(key);
    }

    function ownerOf(uint256 number) internal pure returns (address) {
        return address(uint160(uint256(keccak256(abi.encode("owner", number)))));
    }

    function makeAddr(string memory name) internal pure returns (address) {
        return address(uint160(uint256(keccak256(bytes(name)))));
    }

    function fund(address who, uint256 amount) internal {
        watch(who);
        vm.deal(who, who.balance + amount);
        vm.prank(who);
        market.deposit{value: amount}();
    }

    function watch(address who) internal {
        if (!isHolder[who]) holders.push(who);
        isHolder[who] = true;
    }

    function tick(uint256 secs, uint256 blocks) internal {
        vm.warp(vm.getBlockTimestamp() + secs);
        vm.roll(vm.getBlockNumber() + blocks);
    }

    function advanceEra() internal {
        (,,,,, uint40 eraEnd,,,) = registry.class_(CLASS);
        if (vm.getBlockTimestamp() < eraEnd) vm.warp(eraEnd);
        advanceEraOf(CLASS);
    }

    function advanceEraOf(uint32 classId) internal {
        (uint64 ask, uint64 capacity) = mediansOf(classId);
        registry.advanceEra(classId, ask, capacity);
    }

    /// @dev Medians of the members that the next table is built from, by units: of asks, and of capacity a unit.
    function mediansOf(uint32 classId) internal view returns (uint64 ask, uint64 capacity) {
        uint24[] memory ids = registry.drawable(classId);
        uint64[] memory asks = new uint64[](ids.length);
        uint64[] memory capacities = new uint64[](ids.length);
        uint16[] memory units = new uint16[](ids.length);
        for (uint256 i; i < ids.length; ++i) {
            (units[i], asks[i], capacities[i]) = registry.member(classId, ids[i]);
            capacities[i] /= units[i];
        }
        return (_median(asks, units), _median(capacities, units));
    }

    function _median(uint64[] memory values, uint16[] memory units) private pure returns (uint64) {
        for (uint256 i; i < values.length; ++i) {
            uint256 below;
            uint256 equal;
            uint256 above;
            for (uint256 j; j < values.length; ++j) {
                if (values[j] < values[i]) below += units[j];
                else if (values[j] == values[i]) equal += units[j];
                else above += units[j];
            }
            if (below < equal + above && below + equal >= above) return values[i];
        }
        return 0;
    }

    function freeOf(address who) internal view returns (uint256 free) {
        (free,) = market.account(who);
    }

    function escrowOf(address who) internal view returns (uint256 escrow) {
        (, escrow) = market.account(who);
    }

    function stakeOf(uint24 id) internal view returns (uint256 held) {
        (,, held,,,,,) = registry.operator(id);
    }

    function unbondingOf(uint24 id) internal view returns (uint256 amount) {
        (,,,, amount,,,) = registry.operator(id);
    }

    function potsAndTreasury() internal view returns (uint256 pots, uint256 treasury) {
        (pots,, treasury) = registry.ledgers();
    }

    function treasuryOf() internal view returns (uint256 treasury) {
        (,, treasury) = registry.ledgers();
    }

    /// @dev Every wei is in exactly one ledger.
    function checkBooks() internal view {
        uint256 owed = market.bonds();
        for (uint256 i; i < holders.length; ++i) {
            (uint128 free, uint128 escrow) = market.account(holders[i]);
            owed += uint256(free) + escrow;
        }
        vm.assertEq(address(market).balance, owed, "market: balance = free + escrow + bonds");
        (uint256 pots, uint256 deposits, uint256 treasury) = registry.ledgers();
        owed = pots + deposits + treasury;
        uint24 last = registry.operatorCount();
        for (uint24 id = 1; id <= last; ++id) {
            (,, uint128 held, uint128 allocated, uint128 unbonding,,,) = registry.operator(id);
            vm.assertLe(allocated, held, "stake covers allocations");
            owed += uint256(held) + unbonding;
        }
        vm.assertEq(
            address(registry).balance, owed, "registry: balance = stake + unbonding + pots + deposits + treasury"
        );
        vm.assertEq(address(disputes).balance, 0, "disputes hold no money");
        vm.assertEq(address(challenges).balance, 0, "nor do challenges");
    }

    /// @dev Signing key and operator id of a member of a table.
    function rowOf(bytes memory rows, uint256 member) internal pure returns (address key, uint24 id) {
        uint256 word;
        assembly ("memory-safe") {
            word := mload(add(add(rows, 33), mul(member, 23)))
        }
        return (address(uint160(word >> 96)), uint24(word >> 72));
    }

    function tableOf(uint32 classId, uint16 number)
        internal
        view
        returns (ClassTable memory table, bytes memory units, bytes memory rows)
    {
        table = registry.tableAt(classId, number);
        (units, rows) = (table.units.code, table.members.code);
    }

    receive() external payable {}
}
