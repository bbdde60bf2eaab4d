// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IStakeRegistry} from "../interfaces/IStakeRegistry.sol";
import {ClassTable} from "../types/ClassTable.sol";
import {Params} from "../types/Params.sol";

/// @title The registry's state, and how it is looked up
abstract contract RegistryStorage is IStakeRegistry {
    struct Operator {
        address owner;
        uint40 releaseAt;
        uint8 loneWrong;
        bool ejected;
        // second word: all that a table needs of a member
        address signingKey;
        uint40 jailedUntil;
        // third word
        uint96 allocated;
        uint96 unbonding;
        FaultRecord faults;
    }

    /// @dev One word. `era`, `failed`, `unrevealed` and `done` are of the era that is not judged yet.
    struct FaultRecord {
        uint32 era;
        uint32 failed;
        uint32 unrevealed;
        uint32 done; // seats of that era which the stake word keeps no more
        uint32 offenceEra; // the last faulty era with something unrevealed
        uint8 offences; // how many in a row, up to 3
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

    uint256 internal constant FAULTY = 1 << 31;
    uint256 internal constant MAX_SEATS = (1 << 23) - 1;

    address public immutable MARKET;
    address public immutable DISPUTES;
    address public immutable CHALLENGES;

    Params internal _params;
    mapping(uint24 operatorId => Operator) internal _operators;
    /// @dev Two operators a slot, `stake u96 ‖ faulty u1 ‖ seats u23 ‖ era u8` each: settling pays many of them in one
    /// page. `faulty` tells that a fault record waits, so that nobody else's is looked at.
    mapping(uint256 pair => uint256 packed) internal _stakes;
    mapping(uint24 operatorId => uint32[]) internal _classesOf;
    mapping(uint32 classId => Class) internal _classes;
    uint256 internal _pots;
    uint256 internal _classDeposits;
    uint256 internal _treasury;

    /// @inheritdoc IStakeRegistry
    mapping(address owner => uint24 operatorId) public operatorOf;
    /// @inheritdoc IStakeRegistry
    uint24 public operatorCount;
    /// @inheritdoc IStakeRegistry
    uint32 public classCount;

    constructor(Params memory params_, address market, address disputes, address challenges) {
        _params = params_;
        MARKET = market;
        DISPUTES = disputes;
        CHALLENGES = challenges;
    }

    modifier onlyProtocol() {
        if (msg.sender != MARKET && msg.sender != DISPUTES && msg.sender != CHALLENGES) revert Unauthorized();
        _;
    }

    function _mine() internal view returns (uint24 id) {
        id = operatorOf[msg.sender];
        if (id == 0) revert OperatorUnknown();
    }

    function _class(uint32 classId) internal view returns (Class storage c) {
        if (classId == 0 || classId > classCount) revert ClassUnknown(classId);
        c = _classes[classId];
    }

    function _membership(Class storage c, uint32 classId, uint24 id) internal view returns (Membership storage) {
        uint256 index = c.indexOf[id];
        if (index == 0) revert NotMember(classId);
        return c.members[index - 1];
    }

    /// @dev The era of faults, the same for all classes.
    function _faultEra() internal view returns (uint32) {
        return uint32(block.timestamp / _params.eraPeriod);
    }

    /// @dev An operator's half of its word.
    function _accountOf(uint24 id) internal view returns (uint256) {
        return uint128(_stakes[id >> 1] >> _shift(id));
    }

    function _stakeOf(uint24 id) internal view returns (uint256) {
        return _accountOf(id) >> 32;
    }

    function _setStake(uint24 id, uint256 amount) internal {
        if (amount > type(uint96).max) revert InvalidArgument("amount");
        uint256 packed = _stakes[id >> 1];
        uint256 shift = _shift(id);
        _stakes[id >> 1] = packed & ~(uint256(type(uint96).max) << (32 + shift)) | amount << (32 + shift);
    }

    /// @dev Seats in an operator's half of its word.
    function _seatsIn(uint256 account) internal pure returns (uint256) {
        return (account >> 8) & MAX_SEATS;
    }

    function _shift(uint256 id) internal pure returns (uint256) {
        return (id & 1) << 7;
    }

    /// @dev What an operator's classes know of it changes with their next table.
    function _touchClasses(uint24 id) internal {
        uint32[] storage ids = _classesOf[id];
        for (uint256 i; i < ids.length; ++i) {
            _classes[ids[i]].dirty = true;
        }
    }
}
