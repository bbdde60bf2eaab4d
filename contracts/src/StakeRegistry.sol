// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IStakeRegistry} from "./interfaces/IStakeRegistry.sol";
import {Funds} from "./registry/Funds.sol";
import {Operators} from "./registry/Operators.sol";
import {ParamsCheck} from "./registry/ParamsCheck.sol";
import {RegistryStorage} from "./registry/RegistryStorage.sol";
import {ClassTable} from "./types/ClassTable.sol";
import {Params} from "./types/Params.sol";

/// @title Operators, stake, classes, eras and faults
/// @notice Owners, classes, faults and money each have a file of their own in `registry/`; README.md, section 3, says
/// what they do. Here are construction and look-ups.
contract StakeRegistry is Operators, Funds {
    constructor(Params memory params_, address market, address disputes, address challenges)
        RegistryStorage(params_, market, disputes, challenges)
    {
        ParamsCheck.check(params_);
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
    function faults(uint24 operatorId)
        external
        view
        returns (
            uint32 era,
            uint32 failed,
            uint32 unrevealed,
            uint32 done,
            uint40 jailedUntil,
            uint32 offenceEra,
            uint8 offences,
            uint24 seats,
            uint8 seatsEra
        )
    {
        Operator storage o = _operators[operatorId];
        FaultRecord storage f = o.faults;
        (era, failed, unrevealed, done) = (f.era, f.failed, f.unrevealed, f.done);
        (jailedUntil, offenceEra, offences) = (o.jailedUntil, f.offenceEra, f.offences);
        uint256 account = _accountOf(operatorId);
        (seats, seatsEra) = (uint24(_seatsIn(account)), uint8(account));
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
    function drawable(uint32 classId) external view returns (uint24[] memory operatorIds) {
        Membership[] storage list = _class(classId).members;
        operatorIds = new uint24[](list.length);
        uint256 count;
        for (uint256 i; i < list.length; ++i) {
            uint24 id = list[i].operatorId;
            if (_operators[id].jailedUntil == 0) operatorIds[count++] = id;
        }
        // what is left over at the end is cut off
        assembly ("memory-safe") {
            mstore(operatorIds, count)
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
