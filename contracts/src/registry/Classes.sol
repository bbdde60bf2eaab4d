// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IStakeRegistry} from "../interfaces/IStakeRegistry.sol";
import {Buffer, Buffers} from "../libraries/Cursor.sol";
import {DataContract} from "../libraries/DataContract.sol";
import {ClassTable} from "../types/ClassTable.sol";
import {MAX_CLASSES, MAX_MEMBERS, MAX_UNITS} from "../types/Limits.sol";
import {RegistryStorage} from "./RegistryStorage.sol";

/// @title Classes: members, eras, tables and prices
abstract contract Classes is RegistryStorage {
    using Buffers for Buffer;

    /// @dev Units of the members whose value is below a proposed median, or at most that.
    struct Tally {
        uint256 below;
        uint256 upTo;
    }

    uint256 private constant PRICE_STEP_DIVISOR = 10;
    uint256 private constant ROW_BYTES = 23;

    /// @inheritdoc IStakeRegistry
    function createClass(bytes32 profile, uint128 unitWei, uint64 price, bool judged)
        external
        payable
        returns (uint32 classId)
    {
        if (msg.value != _params.classDeposit) revert WrongValue(msg.value, _params.classDeposit);
        if (unitWei == 0 || unitWei < _params.leastUnitWei) revert InvalidArgument("unitWei");
        if (price == 0 || price > _params.maxPrice) revert InvalidArgument("price");
        _classDeposits += msg.value;
        classId = ++classCount;
        Class storage c = _classes[classId];
        (c.profile, c.unitWei, c.price, c.judged) = (profile, unitWei, price, judged);
        c.eraEnd = uint40(block.timestamp);
        emit ClassCreated(classId, profile, unitWei, price, judged);
    }

    /// @inheritdoc IStakeRegistry
    function join(uint32 classId, uint16 units, uint64 ask, uint64 capacity) external {
        uint24 id = _mine();
        Class storage c = _class(classId);
        Operator storage o = _operators[id];
        if (o.ejected) revert Ejected(id);
        if (units == 0) revert InvalidArgument("units");
        _checkAsk(ask);
        if (capacity == 0) revert InvalidArgument("capacity");
        if (c.indexOf[id] != 0) revert AlreadyMember(classId);
        if (_classesOf[id].length == MAX_CLASSES) revert LimitReached("classes");
        if (c.members.length == MAX_MEMBERS) revert LimitReached("members");
        if (uint256(c.units) + units > MAX_UNITS) revert LimitReached("units");
        uint256 asked = uint256(units) * c.unitWei;
        uint256 held = _stakeOf(id);
        if (o.allocated + asked > held) revert InsufficientStake(held - o.allocated, asked);
        o.allocated += uint96(asked); // safe: it is part of a stake
        _classesOf[id].push(classId);
        c.members.push(Membership(id, units, ask, capacity));
        c.indexOf[id] = c.members.length;
        c.units += units;
        c.dirty = true;
        emit ClassJoined(classId, id, units, ask, capacity);
    }

    /// @inheritdoc IStakeRegistry
    function leave(uint32 classId) external {
        uint24 id = _mine();
        _class(classId);
        _leave(classId, id);
    }

    /// @inheritdoc IStakeRegistry
    function setAsk(uint32 classId, uint64 ask) external {
        uint24 id = _mine();
        Class storage c = _class(classId);
        _checkAsk(ask);
        _membership(c, classId, id).ask = ask;
        c.dirty = true;
        emit AskChanged(classId, id, ask);
    }

    /// @inheritdoc IStakeRegistry
    function advanceEra(uint32 classId, uint64 medianAsk, uint64 medianCapacity) external {
        Class storage c = _class(classId);
        if (block.timestamp < c.eraEnd) revert EraNotOver(c.eraEnd);
        c.era += 1;
        c.eraEnd = uint40(block.timestamp + _params.eraPeriod);
        if (c.dirty) {
            c.dirty = false;
            c.table += 1;
            _buildTable(c, medianAsk, medianCapacity);
        }
        if (c.tables[c.table].memberCount > 0) c.price = _movedPrice(c.price, c.medianAsk);
        emit EraAdvanced(classId, c.era, c.table, c.price, c.eraEnd);
    }

    /// @dev Rows and units of all members that are not in jail, and proof of their medians.
    function _buildTable(Class storage c, uint64 medianAsk, uint64 medianCapacity) private {
        Buffer memory units = Buffers.allocate(2 * uint256(c.units));
        Buffer memory rows = Buffers.allocate(ROW_BYTES * c.members.length);
        Tally memory asks;
        Tally memory capacities;
        uint256 count;
        uint256 length = c.members.length;
        for (uint256 i; i < length; ++i) {
            Membership memory m = c.members[i];
            Operator storage o = _operators[m.operatorId];
            if (o.jailedUntil != 0) continue;
            rows.append(uint160(o.signingKey), 20);
            rows.append(m.operatorId, 3);
            units.appendTwoBytes(count++, m.units);
            _count(asks, m.ask, medianAsk, m.units);
            _count(capacities, m.capacity / m.units, medianCapacity, m.units);
        }
        c.medianAsk = count == 0 ? 0 : medianAsk;
        if (count == 0) return;
        uint256 total = units.used / 2;
        if (!_isMedian(asks, total)) revert WrongMedian("ask");
        if (!_isMedian(capacities, total)) revert WrongMedian("capacity");
        uint256 capacity = medianCapacity * total;
        ClassTable storage table = c.tables[c.table];
        (table.unitCount, table.memberCount) = (uint16(total), uint16(count));
        table.capacity = capacity > type(uint64).max ? type(uint64).max : uint64(capacity);
        table.units = DataContract.write(units.finish());
        table.members = DataContract.write(rows.finish());
    }

    function _count(Tally memory t, uint256 value, uint256 median, uint256 units) private pure {
        if (value < median) t.below += units;
        if (value <= median) t.upTo += units;
    }

    /// @dev The least value with half of the units at or below it: unique, so checking a proposal beats sorting.
    function _isMedian(Tally memory t, uint256 total) private pure returns (bool) {
        return 2 * t.below < total && 2 * t.upTo >= total;
    }

    function _checkAsk(uint64 ask) private view {
        if (ask == 0 || ask > _params.maxPrice) revert InvalidArgument("ask");
    }

    function _movedPrice(uint64 price, uint64 target) private pure returns (uint64) {
        uint64 step = price / uint64(PRICE_STEP_DIVISOR);
        if (step == 0) step = 1;
        if (target > price) return target - price > step ? price + step : target;
        return price - target > step ? price - step : target;
    }

    /// @dev Stake below its allocations: each class keeps its share of what is left.
    function _shrink(uint24 operatorId) internal {
        Operator storage o = _operators[operatorId];
        uint256 held = _stakeOf(operatorId);
        uint256 allocated = o.allocated;
        if (held >= allocated) return;
        uint32[] storage ids = _classesOf[operatorId];
        for (uint256 i = ids.length; i > 0; --i) {
            Class storage c = _classes[ids[i - 1]];
            Membership storage m = c.members[c.indexOf[operatorId] - 1];
            uint16 units = uint16(m.units * held / allocated);
            if (units == 0) {
                _leave(ids[i - 1], operatorId);
                continue;
            }
            o.allocated -= uint96((m.units - units) * c.unitWei); // safe: it was allocated
            c.units -= m.units - units;
            m.units = units;
            c.dirty = true;
        }
    }

    function _leave(uint32 classId, uint24 operatorId) internal {
        Class storage c = _classes[classId];
        Membership storage m = _membership(c, classId, operatorId);
        _operators[operatorId].allocated -= uint96(m.units * c.unitWei); // safe: it was allocated
        c.units -= m.units;
        c.dirty = true;
        uint256 index = c.indexOf[operatorId];
        Membership memory last = c.members[c.members.length - 1];
        c.members[index - 1] = last;
        c.indexOf[last.operatorId] = index;
        c.indexOf[operatorId] = 0;
        c.members.pop();
        uint32[] storage ids = _classesOf[operatorId];
        for (uint256 i; i < ids.length; ++i) {
            if (ids[i] != classId) continue;
            ids[i] = ids[ids.length - 1];
            ids.pop();
            break;
        }
        emit ClassLeft(classId, operatorId);
    }
}
