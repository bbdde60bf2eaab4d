// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ClassTable} from "../types/ClassTable.sol";
import {FineKind} from "../types/FineKind.sol";
import {Params} from "../types/Params.sol";

/// @title Operators, their stake, and the classes that committees are drawn from
/// @notice README.md, section 3, gives requirements and effects of each method.
interface IStakeRegistry {
    event OperatorRegistered(uint24 indexed operatorId, address indexed owner, address signingKey);
    event Staked(uint24 indexed operatorId, uint256 amount);
    event SigningKeyChanged(uint24 indexed operatorId, address signingKey);
    event EndpointAnnounced(uint24 indexed operatorId, string url);
    event ClassCreated(uint32 indexed classId, bytes32 profile, uint128 unitWei, uint64 price, bool judged);
    event ClassJoined(uint32 indexed classId, uint24 indexed operatorId, uint16 units, uint64 ask, uint64 capacity);
    event ClassLeft(uint32 indexed classId, uint24 indexed operatorId);
    event AskChanged(uint32 indexed classId, uint24 indexed operatorId, uint64 ask);
    event Unstaked(uint24 indexed operatorId, uint256 amount, uint40 releaseAt);
    event Withdrawn(uint24 indexed operatorId, uint256 amount);
    event EraAdvanced(uint32 indexed classId, uint32 era, uint16 table, uint64 price, uint40 eraEnd);
    /// @param entries (operator id << 128 | seats << 96 | amount) for each account
    event Credited(uint256[] entries);
    event OperatorFined(uint24 indexed operatorId, uint256 amount, FineKind kind);
    event OperatorSlashed(uint24 indexed operatorId, uint256 amount, bool ejected);
    /// @param until when the operator may ask to be drawn again
    event OperatorJailed(uint24 indexed operatorId, uint40 until);
    event OperatorReleased(uint24 indexed operatorId);
    event TreasuryGrew(uint256 amount);
    event TreasuryPaid(uint256 amount);

    error Unauthorized();
    error OperatorExists(uint24 operatorId);
    error OperatorUnknown();
    error ClassUnknown(uint32 classId);
    error InvalidArgument(string name);
    error WrongValue(uint256 sent, uint256 asked);
    error InsufficientStake(uint256 available, uint256 asked);
    error AlreadyMember(uint32 classId);
    error NotMember(uint32 classId);
    error LimitReached(string what);
    error Ejected(uint24 operatorId);
    error NotReleased(uint40 releaseAt);
    error NothingToWithdraw();
    error TransferFailed();
    error EraNotOver(uint40 eraEnd);
    error WrongMedian(string what);
    error EndpointTooLong(uint256 length);
    error Jailed(uint40 until);
    error NothingToJudge();
    error UnsafeParameters(string name);

    function register(address signingKey) external payable returns (uint24 operatorId);
    function stake(uint24 operatorId) external payable;
    function setSigningKey(address signingKey) external;
    function announceEndpoint(string calldata url) external;
    /// @param judged its members judge its programs deterministic: a conflict goes to a class vote, else it is void
    function createClass(bytes32 profile, uint128 unitWei, uint64 price, bool judged)
        external
        payable
        returns (uint32 classId);
    function join(uint32 classId, uint16 units, uint64 ask, uint64 capacity) external;
    function leave(uint32 classId) external;
    function setAsk(uint32 classId, uint64 ask) external;
    function unstake(uint128 amount) external;
    function withdraw() external;
    function advanceEra(uint32 classId, uint64 medianAsk, uint64 medianCapacity) external;

    /// @notice Judge the seats that an operator failed in an era that is over: too many mean jail, and unrevealed ones
    /// a slash. Anyone may ask.
    function judge(uint24 operatorId) external;
    /// @notice Be drawn again from the next tables on, after a jail.
    function rejoin() external;

    /// @notice Earnings of operators; only market, disputes and challenges, like all below but `slash` and `donate`.
    /// @param entries (operator id << 128 | seats << 96 | amount), ascending by operator id
    function credit(uint256[] calldata entries, uint256 fromPot) external payable;
    /// @notice Take from an operator that did not do its duty into the pots.
    function fine(uint24 operatorId, uint256 amount, FineKind kind) external returns (uint256 taken);
    /// @notice Take from an operator whose vote was wrong into the pots; only disputes.
    function slash(uint24 operatorId, bool wrongTogether) external returns (uint256 taken);
    /// @notice Give what is left of a pot to the treasury.
    function releasePot(uint256 amount) external;
    /// @notice Move what the treasury has of `amount` into the pots.
    function drawTreasury(uint256 amount) external returns (uint256 taken);
    /// @notice Move from the pots into an account's free deposit in the market.
    function payOut(address account, uint256 amount) external;
    /// @notice Value becomes a pot.
    function depositPot() external payable;
    /// @notice Give to the treasury.
    function donate() external payable;

    function params() external view returns (Params memory);
    function operatorOf(address owner) external view returns (uint24 operatorId);
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
        );
    /// @notice Faults that are not judged yet, and what came of earlier ones.
    /// @return era of the faults that are counted
    /// @return failed seats of that era
    /// @return unrevealed how many of those had committed
    /// @return done seats filled in that era, once `seats` counts those of another
    /// @return jailedUntil end of the jail, 0 outside
    /// @return offenceEra the last faulty era with something unrevealed
    /// @return offences such eras, each soon after the one before; at most 3
    /// @return seats filled in the era with the number `seatsEra` modulo 256
    /// @return seatsEra see `seats`
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
        );
    function operatorClasses(uint24 operatorId) external view returns (uint32[] memory classIds);
    function member(uint32 classId, uint24 operatorId) external view returns (uint16 units, uint64 ask, uint64 capacity);
    function members(uint32 classId) external view returns (uint24[] memory operatorIds);
    /// @notice Those of the members that the next table is built from: who is not in jail.
    function drawable(uint32 classId) external view returns (uint24[] memory operatorIds);
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
        );
    function tableAt(uint32 classId, uint16 table) external view returns (ClassTable memory);
    /// @notice What `post` needs of a class in one call.
    function currentTable(uint32 classId)
        external
        view
        returns (ClassTable memory table, uint16 tableNumber, uint32 era, uint40 eraEnd, uint64 price, bool judged);
    function ledgers() external view returns (uint256 pots, uint256 classDeposits, uint256 treasury);
    function operatorCount() external view returns (uint24);
    function classCount() external view returns (uint32);
}
