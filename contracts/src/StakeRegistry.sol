// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeMarket} from "./interfaces/IComputeMarket.sol";
import {IStakeRegistry} from "./interfaces/IStakeRegistry.sol";
import {Buffer, Buffers} from "./libraries/Cursor.sol";
import {DataContract} from "./libraries/DataContract.sol";
import {ClassTable} from "./types/ClassTable.sol";
import {FineKind} from "./types/FineKind.sol";
import {BPS, MAX_CLASSES, MAX_MEMBERS, MAX_UNITS} from "./types/Limits.sol";
import {Params} from "./types/Params.sol";

/// @title Operators, stake, classes and eras
contract StakeRegistry is IStakeRegistry {
    using Buffers for Buffer;

    struct Operator {
        address owner;
        uint40 releaseAt;
        uint8 loneWrong;
        bool ejected;
        address signingKey;
        uint128 allocated;
        uint128 unbonding;
    }

    struct Membership {
        uint24 operatorId;
        uint16 units;
        uint64 ask;
        uint64 capacity;
    }

    struct Class {
        bytes32 profile;
        uint128 unitWei;
        uint64 price;
        uint64 medianAsk;
        uint32 era;
        uint40 eraEnd;
        uint16 table;
        bool dirty;
        uint16 units;
        bool judged;
        Membership[] members;
        mapping(uint24 operatorId => uint256 indexPlusOne) indexOf;
        mapping(uint16 number => ClassTable) tables;
    }

    /// @dev Units of the members whose value is below a proposed median, or at most that.
    struct Tally {
        uint256 below;
        uint256 upTo;
    }

    uint256 private constant MAX_ENDPOINT_BYTES = 256;
    uint256 private constant PRICE_STEP_DIVISOR = 10;

    address public immutable MARKET;
    address public immutable DISPUTES;
    address public immutable CHALLENGES;

    Params private _params;
    mapping(uint24 operatorId => Operator) private _operators;
    /// @dev Two operators a slot: settling pays many of them in one page.
    mapping(uint256 pair => uint256 packed) private _stakes;
    mapping(uint24 operatorId => uint32[]) private _classesOf;
    mapping(uint32 classId => Class) private _classes;
    uint256 private _pots;
    uint256 private _classDeposits;
    uint256 private _treasury;

    /// @inheritdoc IStakeRegistry
    mapping(address owner => uint24 operatorId) public operatorOf;
    /// @inheritdoc IStakeRegistry
    uint24 public operatorCount;
    /// @inheritdoc IStakeRegistry
    uint32 public classCount;

    constructor(Params memory params_, address market, address disputes, address challenges) {
        uint256 windows = uint256(params_.maxCommitPeriod) + 2 * uint256(params_.directPeriod) + params_.settlePeriod;
        uint256 life = params_.postPeriod + (1 + uint256(params_.maxRounds)) * windows;
        uint256 exposed = params_.eraPeriod + life + params_.challengePeriod + params_.voteCommitPeriod
            + uint256(params_.voteRevealPeriod);
        if (params_.unbondingPeriod < 2 * exposed) revert UnsafeParameters();
        _params = params_;
        MARKET = market;
        DISPUTES = disputes;
        CHALLENGES = challenges;
    }

    modifier onlyProtocol() {
        if (msg.sender != MARKET && msg.sender != DISPUTES && msg.sender != CHALLENGES) revert Unauthorized();
        _;
    }

    // Operators ---------------------------------------------------------------------------------------------------

    /// @inheritdoc IStakeRegistry
    function register(address signingKey) external payable returns (uint24 operatorId) {
        if (operatorOf[msg.sender] != 0) revert OperatorExists(operatorOf[msg.sender]);
        if (signingKey == address(0)) revert InvalidArgument("signingKey");
        operatorId = ++operatorCount;
        operatorOf[msg.sender] = operatorId;
        Operator storage o = _operators[operatorId];
        o.owner = msg.sender;
        o.signingKey = signingKey;
        _setStake(operatorId, msg.value);
        emit OperatorRegistered(operatorId, msg.sender, signingKey);
        emit Staked(operatorId, msg.value);
    }

    /// @inheritdoc IStakeRegistry
    function stake(uint24 operatorId) external payable {
        if (_operators[operatorId].owner == address(0)) revert OperatorUnknown();
        _setStake(operatorId, _stakeOf(operatorId) + msg.value);
        emit Staked(operatorId, msg.value);
    }

    /// @inheritdoc IStakeRegistry
    function setSigningKey(address signingKey) external {
        uint24 id = _mine();
        if (signingKey == address(0)) revert InvalidArgument("signingKey");
        _operators[id].signingKey = signingKey;
        uint32[] storage ids = _classesOf[id];
        for (uint256 i; i < ids.length; ++i) {
            _classes[ids[i]].dirty = true;
        }
        emit SigningKeyChanged(id, signingKey);
    }

    /// @inheritdoc IStakeRegistry
    function announceEndpoint(string calldata url) external {
        uint24 id = _mine();
        if (bytes(url).length > MAX_ENDPOINT_BYTES) revert EndpointTooLong(bytes(url).length);
        emit EndpointAnnounced(id, url);
    }

    /// @inheritdoc IStakeRegistry
    function unstake(uint128 amount) external {
        uint24 id = _mine();
        Operator storage o = _operators[id];
        uint256 held = _stakeOf(id);
        if (amount == 0) revert InvalidArgument("amount");
        if (amount > held - o.allocated) revert InsufficientStake(held - o.allocated, amount);
        _setStake(id, held - amount);
        o.unbonding += amount;
        o.releaseAt = uint40(block.timestamp + _params.unbondingPeriod);
        emit Unstaked(id, amount, o.releaseAt);
    }

    /// @inheritdoc IStakeRegistry
    function withdraw() external {
        uint24 id = _mine();
        Operator storage o = _operators[id];
        uint256 amount = o.unbonding;
        if (amount == 0) revert NothingToWithdraw();
        if (block.timestamp < o.releaseAt) revert NotReleased(o.releaseAt);
        o.unbonding = 0;
        emit Withdrawn(id, amount);
        (bool sent,) = msg.sender.call{value: amount}("");
        if (!sent) revert TransferFailed();
    }

    // Classes -----------------------------------------------------------------------------------------------------

    /// @inheritdoc IStakeRegistry
    function createClass(bytes32 profile, uint128 unitWei, uint64 price, bool judged)
        external
        payable
        returns (uint32 classId)
    {
        if (msg.value != _params.classDeposit) revert WrongValue(msg.value, _params.classDeposit);
        if (unitWei == 0) revert InvalidArgument("unitWei");
        if (price == 0) revert InvalidArgument("price");
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
        if (ask == 0) revert InvalidArgument("ask");
        if (capacity == 0) revert InvalidArgument("capacity");
        if (c.indexOf[id] != 0) revert AlreadyMember(classId);
        if (_classesOf[id].length == MAX_CLASSES) revert LimitReached("classes");
        if (c.members.length == MAX_MEMBERS) revert LimitReached("members");
        if (uint256(c.units) + units > MAX_UNITS) revert LimitReached("units");
        uint256 asked = uint256(units) * c.unitWei;
        uint256 held = _stakeOf(id);
        if (o.allocated + asked > held) revert InsufficientStake(held - o.allocated, asked);
        o.allocated += uint128(asked);
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
        if (ask == 0) revert InvalidArgument("ask");
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
        if (c.units > 0) c.price = _movedPrice(c.price, c.medianAsk);
        emit EraAdvanced(classId, c.era, c.table, c.price, c.eraEnd);
    }

    function _buildTable(Class storage c, uint64 medianAsk, uint64 medianCapacity) private {
        uint256 count = c.members.length;
        uint256 total = c.units;
        ClassTable storage table = c.tables[c.table];
        c.medianAsk = count == 0 ? 0 : medianAsk;
        if (count == 0) return;
        Buffer memory units = Buffers.allocate(2 * total);
        Buffer memory rows = Buffers.allocate(23 * count);
        Tally memory asks;
        Tally memory capacities;
        for (uint256 i; i < count; ++i) {
            Membership memory m = c.members[i];
            units.appendTwoBytes(i, m.units);
            rows.append(uint160(_operators[m.operatorId].signingKey), 20);
            rows.append(m.operatorId, 3);
            _count(asks, m.ask, medianAsk, m.units);
            _count(capacities, m.capacity / m.units, medianCapacity, m.units);
        }
        if (!_isMedian(asks, total)) revert WrongMedian("ask");
        if (!_isMedian(capacities, total)) revert WrongMedian("capacity");
        uint256 capacity = medianCapacity * total;
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

    function _movedPrice(uint64 price, uint64 target) private pure returns (uint64) {
        uint64 step = price / uint64(PRICE_STEP_DIVISOR);
        if (step == 0) step = 1;
        if (target > price) return target - price > step ? price + step : target;
        return price - target > step ? price - step : target;
    }

    // The protocol's money ----------------------------------------------------------------------------------------

    /// @inheritdoc IStakeRegistry
    function credit(uint256[] calldata entries, uint256 fromPot) external payable onlyProtocol {
        uint256 total;
        for (uint256 i; i < entries.length; ++i) {
            uint256 amount = uint96(entries[i]);
            uint24 id = uint24(entries[i] >> 128);
            total += amount;
            _setStake(id, _stakeOf(id) + amount);
        }
        if (total != msg.value + fromPot) revert WrongValue(msg.value + fromPot, total);
        _pots -= fromPot;
        emit Credited(entries);
    }

    /// @inheritdoc IStakeRegistry
    function fine(uint24 operatorId, uint256 amount, FineKind kind) external onlyProtocol returns (uint256 taken) {
        taken = _take(operatorId, amount);
        _shrink(operatorId);
        emit OperatorFined(operatorId, taken, kind);
    }

    /// @inheritdoc IStakeRegistry
    function slash(uint24 operatorId, bool wrongTogether) external returns (uint256 taken) {
        if (msg.sender != DISPUTES) revert Unauthorized();
        Operator storage o = _operators[operatorId];
        uint256 bps = wrongTogether ? BPS : _loneWrongBps(o.loneWrong);
        if (!wrongTogether && o.loneWrong < type(uint8).max) o.loneWrong += 1;
        taken = _take(operatorId, (_stakeOf(operatorId) + o.unbonding) * bps / BPS);
        if (bps == BPS) {
            o.ejected = true;
            uint32[] storage ids = _classesOf[operatorId];
            while (ids.length > 0) {
                _leave(ids[ids.length - 1], operatorId);
            }
        } else {
            _shrink(operatorId);
        }
        emit OperatorSlashed(operatorId, taken, o.ejected);
    }

    /// @inheritdoc IStakeRegistry
    function releasePot(uint256 amount) external onlyProtocol {
        _pots -= amount;
        _treasury += amount;
        emit TreasuryGrew(amount);
    }

    /// @inheritdoc IStakeRegistry
    function drawTreasury(uint256 amount) external onlyProtocol returns (uint256 taken) {
        taken = amount < _treasury ? amount : _treasury;
        _treasury -= taken;
        _pots += taken;
        emit TreasuryPaid(taken);
    }

    /// @inheritdoc IStakeRegistry
    function payOut(address account, uint256 amount) external onlyProtocol {
        _pots -= amount;
        IComputeMarket(MARKET).depositFor{value: amount}(account);
    }

    /// @inheritdoc IStakeRegistry
    function depositPot() external payable onlyProtocol {
        _pots += msg.value;
    }

    /// @inheritdoc IStakeRegistry
    function donate() external payable {
        _treasury += msg.value;
        emit TreasuryGrew(msg.value);
    }

    function _loneWrongBps(uint8 before) private pure returns (uint256) {
        if (before == 0) return 2000;
        return before == 1 ? 4000 : BPS;
    }

    /// @dev Moves up to `amount` into the pots: stake first, then what is unbonding.
    function _take(uint24 operatorId, uint256 amount) private returns (uint256 taken) {
        Operator storage o = _operators[operatorId];
        uint256 held = _stakeOf(operatorId);
        uint256 fromStake = amount < held ? amount : held;
        uint256 rest = amount - fromStake;
        uint256 fromUnbonding = rest < o.unbonding ? rest : o.unbonding;
        _setStake(operatorId, held - fromStake);
        if (fromUnbonding > 0) o.unbonding -= uint128(fromUnbonding);
        taken = fromStake + fromUnbonding;
        _pots += taken;
    }

    /// @dev Stake below its allocations: each class keeps its share of what is left.
    function _shrink(uint24 operatorId) private {
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
            o.allocated -= uint128((m.units - units) * c.unitWei);
            c.units -= m.units - units;
            m.units = units;
            c.dirty = true;
        }
    }

    function _leave(uint32 classId, uint24 operatorId) private {
        Class storage c = _classes[classId];
        Membership storage m = _membership(c, classId, operatorId);
        _operators[operatorId].allocated -= uint128(m.units * c.unitWei);
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

    // Look-ups ----------------------------------------------------------------------------------------------------

    function _mine() private view returns (uint24 id) {
        id = operatorOf[msg.sender];
        if (id == 0) revert OperatorUnknown();
    }

    function _class(uint32 classId) private view returns (Class storage c) {
        if (classId == 0 || classId > classCount) revert ClassUnknown(classId);
        c = _classes[classId];
    }

    function _membership(Class storage c, uint32 classId, uint24 id) private view returns (Membership storage) {
        uint256 index = c.indexOf[id];
        if (index == 0) revert NotMember(classId);
        return c.members[index - 1];
    }

    function _stakeOf(uint24 id) private view returns (uint256) {
        uint256 packed = _stakes[id >> 1];
        return id & 1 == 0 ? uint128(packed) : packed >> 128;
    }

    function _setStake(uint24 id, uint256 amount) private {
        if (amount > type(uint128).max) revert InvalidArgument("amount");
        uint256 packed = _stakes[id >> 1];
        _stakes[id >> 1] = id & 1 == 0 ? (packed >> 128 << 128) | amount : uint256(uint128(packed)) | (amount << 128);
    }

    /// @inheritdoc IStakeRegistry
    function params() external view returns (Params memory) {
        return _params;
    }

    /// @inheritdoc IStakeRegistry
    function operator(uint24 operatorId)
        external
        view
        returns (
            address owner,
            address signingKey,
            uint128 stake_,
            uint128 allocated,
            uint128 unbonding,
            uint40 releaseAt,
            uint8 loneWrong,
            bool ejected
        )
    {
        Operator storage o = _operators[operatorId];
        uint128 held = uint128(_stakeOf(operatorId));
        return (o.owner, o.signingKey, held, o.allocated, o.unbonding, o.releaseAt, o.loneWrong, o.ejected);
    }

    /// @inheritdoc IStakeRegistry
    function operatorClasses(uint24 operatorId) external view returns (uint32[] memory classIds) {
        return _classesOf[operatorId];
    }

    /// @inheritdoc IStakeRegistry
    function member(uint32 classId, uint24 operatorId)
        external
        view
        returns (uint16 units, uint64 ask, uint64 capacity)
    {
        Class storage c = _class(classId);
        if (c.indexOf[operatorId] == 0) return (0, 0, 0);
        Membership storage m = c.members[c.indexOf[operatorId] - 1];
        return (m.units, m.ask, m.capacity);
    }

    /// @inheritdoc IStakeRegistry
    function members(uint32 classId) external view returns (uint24[] memory operatorIds) {
        Class storage c = _class(classId);
        operatorIds = new uint24[](c.members.length);
        for (uint256 i; i < operatorIds.length; ++i) {
            operatorIds[i] = c.members[i].operatorId;
        }
    }

    /// @inheritdoc IStakeRegistry
    function class_(uint32 classId)
        external
        view
        returns (
            bytes32 profile,
            uint128 unitWei,
            uint64 price,
            uint64 medianAsk,
            uint32 era,
            uint40 eraEnd,
            uint16 table,
            bool dirty,
            bool judged
        )
    {
        Class storage c = _class(classId);
        return (c.profile, c.unitWei, c.price, c.medianAsk, c.era, c.eraEnd, c.table, c.dirty, c.judged);
    }

    /// @inheritdoc IStakeRegistry
    function tableAt(uint32 classId, uint16 table) external view returns (ClassTable memory) {
        return _class(classId).tables[table];
    }

    /// @inheritdoc IStakeRegistry
    function currentTable(uint32 classId)
        external
        view
        returns (ClassTable memory table, uint16 tableNumber, uint32 era, uint40 eraEnd, uint64 price, bool judged)
    {
        Class storage c = _class(classId);
        return (c.tables[c.table], c.table, c.era, c.eraEnd, c.price, c.judged);
    }

    /// @inheritdoc IStakeRegistry
    function ledgers() external view returns (uint256 pots, uint256 classDeposits, uint256 treasury) {
        return (_pots, _classDeposits, _treasury);
    }
}
