// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IStakeRegistry} from "../../src/interfaces/IStakeRegistry.sol";
import {Crew} from "./Crew.sol";

/// @title What owners of operators do, and what anybody may do for a class
abstract contract OperatorActions is Crew {
    uint256 internal constant MOST_MEMBERS = 16; // beyond them newcomers wait until others leave or are ejected

    uint256 internal operators; // owners are numbered from 0, their operators from 1
    mapping(uint24 operatorId => uint256) internal lastUnstake;
    mapping(uint24 operatorId => bool) internal isEjected;
    mapping(uint16 table => bytes32) internal tableHashes; // as they were built

    function _someone(uint256 number) internal view returns (uint24) {
        return uint24(1 + number % operators);
    }

    function stakeMore(uint256 number, uint256 amount) external {
        uint24 id = _someone(number);
        registry.stake{value: amount % 1 ether}(id);
        ++done["stake"];
    }

    function takeOut(uint256 number, uint256 amount) external {
        uint24 id = _someone(number);
        (,, uint128 held, uint128 allocated,,,,) = registry.operator(id);
        if (held == allocated) return;
        uint256 most = held - allocated;
        vm.prank(ownerOf(id - 1));
        registry.unstake(uint128(amount % 2 == 0 ? most : 1 + amount % most)); // all of it: any fine shrinks units then
        lastUnstake[id] = vm.getBlockTimestamp();
        ++done["unstake"];
    }

    /// @dev Tries at any time: what is refused must be too early, what is paid must be due and exact.
    function withdrawStake(uint256 number) external {
        uint24 id = _someone(number);
        (,,,, uint128 unbonding,,,) = registry.operator(id);
        if (unbonding == 0) return;
        bool isDue = vm.getBlockTimestamp() >= lastUnstake[id] + rules.unbondingPeriod;
        address owner = ownerOf(id - 1);
        uint256 before = owner.balance;
        vm.prank(owner);
        try registry.withdraw() {
            require(isDue, "withdraw: not before unbonding ends");
            require(owner.balance == before + unbonding, "withdraw: exactly what unbonds");
            ++done["withdraw"];
        } catch (bytes memory reason) {
            require(!isDue && bytes4(reason) == IStakeRegistry.NotReleased.selector, "withdraw: only time refuses");
            ++done["withdraw refused"];
        }
    }

    function joinOrLeave(uint256 number, uint256 units, uint256 ask) external {
        uint24 id = _someone(number);
        (,, uint128 held, uint128 allocated,,,, bool ejected) = registry.operator(id);
        (uint16 present,,) = registry.member(CLASS, id);
        uint256 most = (held - allocated) / UNIT;
        if (present > 0 && registry.members(CLASS).length > 8) {
            vm.prank(ownerOf(id - 1));
            registry.leave(CLASS);
            ++done["leave"];
        } else if (present == 0 && !ejected && most > 0) {
            vm.prank(ownerOf(id - 1));
            registry.join(CLASS, uint16(1 + units % (most < 12 ? most : 12)), _ask(ask), uint64(CAPACITY + units % 1e6));
            ++done["join"];
        }
    }

    function _ask(uint256 seed) private pure returns (uint64) {
        return uint64(PRICE / 2 + seed % (3 * PRICE / 2));
    }

    function changeAsk(uint256 number, uint256 ask) external {
        uint24 id = _someone(number);
        (uint16 present,,) = registry.member(CLASS, id);
        if (present == 0) return;
        vm.prank(ownerOf(id - 1));
        registry.setAsk(CLASS, _ask(ask));
        ++done["ask price"];
    }

    function newcomer(uint256 units) external {
        if (registry.members(CLASS).length >= MOST_MEMBERS) return;
        addMember(operators++, uint16(3 + units % 6));
        ++done["register"];
    }

    /// @dev A new key acts from the next table on; its secret is known, so the operator goes on to sign.
    function changeKey(uint256 number, uint256 salt) external {
        uint24 id = _someone(number);
        uint256 secret = uint256(keccak256(abi.encode("key", id, salt)));
        secretOf[vm.addr(secret)] = secret;
        vm.prank(ownerOf(id - 1));
        registry.setSigningKey(vm.addr(secret));
        ++done["key"];
    }

    function judge(uint256 number) external {
        uint24 id = _someone(number);
        (uint32 era, uint32 failed,,,,,,,) = registry.faults(id);
        if (failed == 0 || era >= vm.getBlockTimestamp() / rules.eraPeriod) return;
        weigh();
        vm.recordLogs();
        registry.judge(id);
        absorb();
        ++done["judge"];
    }

    function rejoin(uint256 number) external {
        uint24 id = _someone(number);
        (,,,, uint40 until,,,,) = registry.faults(id);
        if (until == 0 || vm.getBlockTimestamp() < until) return;
        vm.prank(ownerOf(id - 1));
        registry.rejoin();
        ++done["rejoin"];
    }

    function donate(uint256 amount) external {
        registry.donate{value: 1 + amount % 1e15}();
        ++done["donate"];
    }

    function nextEra() external {
        ensureEra();
    }

    /// @dev The era that `post` needs; a new table has nobody in it that is in jail or has been ejected.
    function ensureEra() internal {
        (,,,,, uint40 eraEnd, uint16 before,,) = registry.class_(CLASS);
        if (vm.getBlockTimestamp() < eraEnd) return;
        (uint64 ask, uint64 capacity) = mediansOf(CLASS);
        registry.advanceEra(CLASS, ask, capacity);
        ++done["era"];
        (,,,,,, uint16 table,,) = registry.class_(CLASS);
        if (table == before) return;
        tableHashes[table] = hashOfTable(table);
        (Member[] memory list,,) = membersOf(table);
        for (uint256 i; i < list.length; ++i) {
            (,,,, uint40 until,,,,) = registry.faults(list[i].id);
            require(until == 0, "table: nobody in jail");
            require(!isEjected[list[i].id], "table: nobody who was ejected");
        }
    }

    function hashOfTable(uint16 table) internal view returns (bytes32) {
        (, bytes memory units, bytes memory rows) = tableOf(CLASS, table);
        return keccak256(abi.encode(units, rows));
    }
}
