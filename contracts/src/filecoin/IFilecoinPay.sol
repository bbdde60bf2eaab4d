// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Filecoin Pay (FilecoinPayV1), as far as retrieval uses it
/// @notice Names, types and orders of fields are those of the contract on Filecoin: its selectors, topics and errors.
/// An epoch is a block. A rail's fixed lockup is set aside from the payer's funds; its operator pays from it, once at a
/// time. What an operator may set aside for a payer's rails is its lockup allowance, which such payments use up for good.
interface IFilecoinPay {
    /// @param from the payer
    /// @param to the payee
    /// @param lockupPeriod epochs that the rail can still be paid from after it was terminated
    /// @param lockupFixed what is set aside
    /// @param endEpoch when it ends; 0 while it is not terminated
    struct RailView {
        address token;
        address from;
        address to;
        address operator;
        address validator;
        uint256 paymentRate;
        uint256 lockupPeriod;
        uint256 lockupFixed;
        uint256 settledUpTo;
        uint256 endEpoch;
        uint256 commissionRateBps;
        address serviceFeeRecipient;
    }

    struct RailInfo {
        uint256 railId;
        bool isTerminated;
        uint256 endEpoch;
    }

    event AccountLockupSettled(
        address indexed token,
        address indexed owner,
        uint256 lockupCurrent,
        uint256 lockupRate,
        uint256 lockupLastSettledAt
    );
    event OperatorApprovalUpdated(
        address indexed token,
        address indexed client,
        address indexed operator,
        bool approved,
        uint256 rateAllowance,
        uint256 lockupAllowance,
        uint256 maxLockupPeriod
    );
    event RailCreated(
        uint256 indexed railId,
        address indexed payer,
        address indexed payee,
        address token,
        address operator,
        address validator,
        address serviceFeeRecipient,
        uint256 commissionRateBps
    );
    event RailLockupModified(
        uint256 indexed railId,
        uint256 oldLockupPeriod,
        uint256 newLockupPeriod,
        uint256 oldLockupFixed,
        uint256 newLockupFixed
    );
    event RailOneTimePaymentProcessed(
        uint256 indexed railId, uint256 netPayeeAmount, uint256 operatorCommission, uint256 networkFee
    );
    event RailRateModified(uint256 indexed railId, uint256 oldRate, uint256 newRate);
    event RailSettled(
        uint256 indexed railId,
        uint256 totalSettledAmount,
        uint256 totalNetPayeeAmount,
        uint256 operatorCommission,
        uint256 networkFee,
        uint256 settledUpTo
    );
    event RailTerminated(uint256 indexed railId, address indexed by, uint256 endEpoch);
    event RailFinalized(uint256 indexed railId);
    event DepositRecorded(address indexed token, address indexed from, address indexed to, uint256 amount);
    event WithdrawRecorded(address indexed token, address indexed from, address indexed to, uint256 amount);

    error RailInactiveOrSettled(uint256 railId);
    error OnlyRailOperatorAllowed(address expected, address caller);
    error RailAlreadyTerminated(uint256 railId);
    error ZeroAddressNotAllowed(string varName);
    error OneTimePaymentExceedsLockup(uint256 railId, uint256 available, uint256 required);
    error NotAuthorizedToTerminateRail(uint256 railId, address allowedClient, address allowedOperator, address caller);
    error NativeTokenNotAccepted(uint256 sent);
    error NativeTokenNotSupported();
    error InsufficientUnlockedFunds(uint256 available, uint256 requested);
    error OperatorNotApproved(address from, address operator);
    error CommissionRateTooHigh(uint256 maxAllowed, uint256 actual);
    error MissingServiceFeeRecipient();
    error InvalidTerminatedRailModification(
        uint256 actualPeriod, uint256 actualLockupFixed, uint256 attemptedPeriod, uint256 attemptedLockupFixed
    );
    error LockupPeriodExceedsOperatorMaximum(
        address token, address operator, uint256 maxAllowedPeriod, uint256 requestedPeriod
    );
    error CannotModifyTerminatedRailBeyondEndEpoch(uint256 railId, uint256 maxSettlementEpoch, uint256 blockNumber);
    error RateChangeNotAllowedOnTerminatedRail(uint256 railId);
    error CannotSettleFutureEpochs(uint256 railId, uint256 maxAllowedEpoch, uint256 attemptedEpoch);
    error OperatorLockupAllowanceExceeded(uint256 allowed, uint256 attemptedUsage);

    /// @notice Move the sender's tokens, for which this contract has their allowance, to the account of `to`.
    function deposit(address token, address to, uint256 amount) external payable;
    /// @notice Take back what is not locked.
    function withdraw(address token, uint256 amount) external;
    function withdrawTo(address token, address to, uint256 amount) external;
    /// @notice Let an operator make rails that the sender pays. It replaces what was allowed before; rails go on.
    function setOperatorApproval(
        address token,
        address operator,
        bool approved,
        uint256 rateAllowance,
        uint256 lockupAllowance,
        uint256 maxLockupPeriod
    ) external;
    function increaseOperatorApproval(
        address token,
        address operator,
        uint256 rateAllowanceIncrease,
        uint256 lockupAllowanceIncrease
    ) external;
    /// @notice Open a rail; the sender is its operator, which `from` has approved.
    function createRail(
        address token,
        address from,
        address to,
        address validator,
        uint256 commissionRateBps,
        address serviceFeeRecipient
    ) external returns (uint256 railId);
    /// @notice Change what a rail has locked; once it is terminated, only to less.
    function modifyRailLockup(uint256 railId, uint256 period, uint256 lockupFixed) external;
    /// @notice Pay `oneTimePayment` from the rail's lockup: also when the approval was withdrawn, and, after the rail
    /// was terminated, before its end.
    function modifyRailPayment(uint256 railId, uint256 newRate, uint256 oneTimePayment) external;
    /// @notice End a rail `lockupPeriod` epochs from now; for its payer and its operator.
    function terminateRail(uint256 railId) external;
    /// @notice Settle a rail; a terminated one that has reached its end gives back what it has locked.
    function settleRail(uint256 railId, uint256 untilEpoch)
        external
        returns (
            uint256 totalSettledAmount,
            uint256 totalNetPayeeAmount,
            uint256 totalOperatorCommission,
            uint256 totalNetworkFee,
            uint256 finalSettledEpoch,
            string memory note
        );

    function getRail(uint256 railId) external view returns (RailView memory);
    function accounts(address token, address owner)
        external
        view
        returns (uint256 funds, uint256 lockupCurrent, uint256 lockupRate, uint256 lockupLastSettledAt);
    function operatorApprovals(address token, address client, address operator)
        external
        view
        returns (
            bool isApproved,
            uint256 rateAllowance,
            uint256 lockupAllowance,
            uint256 rateUsage,
            uint256 lockupUsage,
            uint256 maxLockupPeriod
        );
    function getAccountInfoIfSettled(address token, address owner)
        external
        view
        returns (uint256 fundedUntilEpoch, uint256 currentFunds, uint256 availableFunds, uint256 currentLockupRate);
    /// @param limit 0 means all
    function getRailsForPayerAndToken(address payer, address token, uint256 offset, uint256 limit)
        external
        view
        returns (RailInfo[] memory results, uint256 nextOffset, uint256 total);
    function getRailsForPayeeAndToken(address payee, address token, uint256 offset, uint256 limit)
        external
        view
        returns (RailInfo[] memory results, uint256 nextOffset, uint256 total);
}
