// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IERC20} from "./IERC20.sol";
import {IFilecoinPay} from "./IFilecoinPay.sol";
import {Tokens} from "./Tokens.sol";

/// @title What stands in for Filecoin Pay on a local chain
/// @notice The part that retrieval uses, with the contract's own selectors, events, errors and fee, so that whoever
/// works with this one works with that. Left out: rates (a payment for each epoch), validators, native tokens and the
/// auction of fees; asked for these it reverts. It is for chains without value.
contract DevnetPay is IFilecoinPay {
    struct Account {
        uint256 funds;
        uint256 lockupCurrent;
        uint256 lockupRate; // always 0: there are no rates
        uint256 lockupLastSettledAt;
    }

    struct Approval {
        bool isApproved;
        uint256 rateAllowance;
        uint256 lockupAllowance;
        uint256 rateUsage; // always 0
        uint256 lockupUsage;
        uint256 maxLockupPeriod;
    }

    /// @notice Rates and validators are Filecoin's alone.
    error NotOnADevnet(string what);
    error ReentrancyGuardReentrantCall();

    uint256 public constant COMMISSION_MAX_BPS = 10_000;
    uint256 public constant NETWORK_FEE_NUMERATOR = 1;
    uint256 public constant NETWORK_FEE_DENOMINATOR = 200;

    /// @inheritdoc IFilecoinPay
    mapping(address token => mapping(address owner => Account)) public accounts;
    /// @inheritdoc IFilecoinPay
    mapping(address token => mapping(address client => mapping(address operator => Approval))) public operatorApprovals;

    mapping(uint256 railId => RailView) private _rails;
    mapping(address token => mapping(address payer => uint256[])) private _railsOfPayer;
    mapping(address token => mapping(address payee => uint256[])) private _railsOfPayee;
    uint256 private _lastRailId;
    bool private transient _isEntered;

    modifier nonReentrant() {
        if (_isEntered) revert ReentrancyGuardReentrantCall();
        _isEntered = true;
        _;
        _isEntered = false;
    }

    modifier notZero(address given, string memory what) {
        if (given == address(0)) revert ZeroAddressNotAllowed(what);
        _;
    }

    // money in and out ------------------------------------------------------------------------------------------------

    /// @inheritdoc IFilecoinPay
    function deposit(address token, address to, uint256 amount) external payable nonReentrant notZero(to, "to") {
        if (token == address(0)) revert NativeTokenNotSupported();
        if (msg.value != 0) revert NativeTokenNotAccepted(msg.value);
        _settleAccount(token, to);
        uint256 received = Tokens.pull(IERC20(token), msg.sender, amount);
        accounts[token][to].funds += received;
        emit DepositRecorded(token, msg.sender, to, received);
    }

    /// @inheritdoc IFilecoinPay
    function withdraw(address token, uint256 amount) external nonReentrant {
        _withdraw(token, msg.sender, amount);
    }

    /// @inheritdoc IFilecoinPay
    function withdrawTo(address token, address to, uint256 amount) external nonReentrant notZero(to, "to") {
        _withdraw(token, to, amount);
    }

    function _withdraw(address token, address to, uint256 amount) private {
        Account storage account = _settleAccount(token, msg.sender);
        uint256 free = account.funds - account.lockupCurrent;
        if (amount > free) revert InsufficientUnlockedFunds(free, amount);
        account.funds -= amount;
        Tokens.push(IERC20(token), to, amount);
        emit WithdrawRecorded(token, msg.sender, to, amount);
    }

    // approvals -------------------------------------------------------------------------------------------------------

    /// @inheritdoc IFilecoinPay
    function setOperatorApproval(
        address token,
        address operator,
        bool approved,
        uint256 rateAllowance,
        uint256 lockupAllowance,
        uint256 maxLockupPeriod
    ) external nonReentrant notZero(operator, "operator") {
        Approval storage approval = operatorApprovals[token][msg.sender][operator];
        (approval.isApproved, approval.maxLockupPeriod) = (approved, maxLockupPeriod);
        (approval.rateAllowance, approval.lockupAllowance) = (rateAllowance, lockupAllowance);
        _tellApproval(token, operator, approval);
    }

    /// @inheritdoc IFilecoinPay
    function increaseOperatorApproval(
        address token,
        address operator,
        uint256 rateAllowanceIncrease,
        uint256 lockupAllowanceIncrease
    ) external nonReentrant notZero(operator, "operator") {
        Approval storage approval = operatorApprovals[token][msg.sender][operator];
        if (!approval.isApproved) revert OperatorNotApproved(msg.sender, operator);
        approval.rateAllowance += rateAllowanceIncrease;
        approval.lockupAllowance += lockupAllowanceIncrease;
        _tellApproval(token, operator, approval);
    }

    function _tellApproval(address token, address operator, Approval storage a) private {
        (uint256 rate, uint256 lockup, uint256 period) = (a.rateAllowance, a.lockupAllowance, a.maxLockupPeriod);
        emit OperatorApprovalUpdated(token, msg.sender, operator, a.isApproved, rate, lockup, period);
    }

    // rails -----------------------------------------------------------------------------------------------------------

    /// @inheritdoc IFilecoinPay
    function createRail(
        address token,
        address from,
        address to,
        address validator,
        uint256 commissionRateBps,
        address serviceFeeRecipient
    ) external nonReentrant notZero(from, "from") notZero(to, "to") returns (uint256 railId) {
        if (!operatorApprovals[token][from][msg.sender].isApproved) revert OperatorNotApproved(from, msg.sender);
        if (commissionRateBps > COMMISSION_MAX_BPS) {
            revert CommissionRateTooHigh(COMMISSION_MAX_BPS, commissionRateBps);
        }
        if (commissionRateBps != 0 && serviceFeeRecipient == address(0)) revert MissingServiceFeeRecipient();
        if (validator != address(0)) revert NotOnADevnet("validator");
        railId = ++_lastRailId;
        RailView storage rail = _rails[railId];
        (rail.token, rail.from, rail.to, rail.operator) = (token, from, to, msg.sender);
        (rail.commissionRateBps, rail.serviceFeeRecipient) = (commissionRateBps, serviceFeeRecipient);
        rail.settledUpTo = block.number;
        _railsOfPayer[token][from].push(railId);
        _railsOfPayee[token][to].push(railId);
        emit RailCreated(railId, from, to, token, msg.sender, validator, serviceFeeRecipient, commissionRateBps);
    }

    /// @inheritdoc IFilecoinPay
    function modifyRailLockup(uint256 railId, uint256 period, uint256 lockupFixed) external nonReentrant {
        RailView storage rail = _operated(railId);
        Account storage payer = _settleAccount(rail.token, rail.from);
        Approval storage approval = operatorApprovals[rail.token][rail.from][rail.operator];
        (uint256 oldPeriod, uint256 old) = (rail.lockupPeriod, rail.lockupFixed);
        if (rail.endEpoch != 0 && (period != oldPeriod || lockupFixed > old)) {
            revert InvalidTerminatedRailModification(oldPeriod, old, period, lockupFixed);
        }
        if (period > oldPeriod && period > approval.maxLockupPeriod) {
            revert LockupPeriodExceedsOperatorMaximum(rail.token, rail.operator, approval.maxLockupPeriod, period);
        }
        _useLockup(approval, old, lockupFixed);
        payer.lockupCurrent = payer.lockupCurrent - old + lockupFixed;
        // Filecoin Pay has no error of its own for it either
        require(payer.funds >= payer.lockupCurrent, "the payer's funds do not cover what is to be locked");
        (rail.lockupPeriod, rail.lockupFixed) = (period, lockupFixed);
        emit RailLockupModified(railId, oldPeriod, period, old, lockupFixed);
    }

    /// @inheritdoc IFilecoinPay
    function modifyRailPayment(uint256 railId, uint256 newRate, uint256 oneTimePayment) external nonReentrant {
        RailView storage rail = _operated(railId);
        if (rail.lockupFixed < oneTimePayment) {
            revert OneTimePaymentExceedsLockup(railId, rail.lockupFixed, oneTimePayment);
        }
        if (rail.endEpoch != 0) {
            if (block.number >= rail.endEpoch) {
                revert CannotModifyTerminatedRailBeyondEndEpoch(railId, rail.endEpoch, block.number);
            }
            if (newRate > 0) revert RateChangeNotAllowedOnTerminatedRail(railId);
        }
        if (newRate > 0) revert NotOnADevnet("rate");
        Account storage payer = _settleAccount(rail.token, rail.from);
        Approval storage approval = operatorApprovals[rail.token][rail.from][rail.operator];
        rail.lockupFixed -= oneTimePayment;
        payer.lockupCurrent -= oneTimePayment;
        approval.lockupUsage -= oneTimePayment;
        uint256 allowed = approval.lockupAllowance; // less than is paid, where it was lowered since
        approval.lockupAllowance = allowed > oneTimePayment ? allowed - oneTimePayment : 0;
        emit RailRateModified(railId, 0, 0);
        if (oneTimePayment > 0) _pay(railId, rail, payer, oneTimePayment);
    }

    /// @dev The fee is rounded up and stays on this contract's own account; the operator's commission is of the rest.
    function _pay(uint256 railId, RailView storage rail, Account storage payer, uint256 amount) private {
        uint256 fee = (amount * NETWORK_FEE_NUMERATOR + NETWORK_FEE_DENOMINATOR - 1) / NETWORK_FEE_DENOMINATOR;
        uint256 commission = (amount - fee) * rail.commissionRateBps / COMMISSION_MAX_BPS;
        uint256 net = amount - fee - commission;
        payer.funds -= amount;
        mapping(address => Account) storage held = accounts[rail.token];
        held[address(this)].funds += fee;
        if (commission > 0) held[rail.serviceFeeRecipient].funds += commission;
        held[rail.to].funds += net;
        emit RailOneTimePaymentProcessed(railId, net, commission, fee);
    }

    /// @inheritdoc IFilecoinPay
    function terminateRail(uint256 railId) external nonReentrant {
        RailView storage rail = _active(railId);
        if (rail.endEpoch != 0) revert RailAlreadyTerminated(railId);
        if (msg.sender != rail.from && msg.sender != rail.operator) {
            revert NotAuthorizedToTerminateRail(railId, rail.from, rail.operator, msg.sender);
        }
        rail.endEpoch = _settleAccount(rail.token, rail.from).lockupLastSettledAt + rail.lockupPeriod;
        emit RailTerminated(railId, msg.sender, rail.endEpoch);
    }

    /// @inheritdoc IFilecoinPay
    function settleRail(uint256 railId, uint256 untilEpoch)
        external
        nonReentrant
        returns (uint256, uint256, uint256, uint256, uint256 finalSettledEpoch, string memory note)
    {
        RailView storage rail = _active(railId);
        if (untilEpoch > block.number) revert CannotSettleFutureEpochs(railId, untilEpoch, block.number);
        _settleAccount(rail.token, rail.from);
        uint256 end = rail.endEpoch;
        finalSettledEpoch = rail.settledUpTo;
        uint256 reached = end != 0 && end < untilEpoch ? end : untilEpoch;
        if (reached > finalSettledEpoch) {
            rail.settledUpTo = finalSettledEpoch = reached;
            emit RailSettled(railId, 0, 0, 0, 0, reached);
            note = "no rate";
        } else {
            note = "settled before";
        }
        if (end != 0 && finalSettledEpoch >= end) {
            _finalize(railId, rail);
            note = "final";
        }
        return (0, 0, 0, 0, finalSettledEpoch, note);
    }

    /// @dev What is still locked is the payer's again, and the rail is no more.
    function _finalize(uint256 railId, RailView storage rail) private {
        accounts[rail.token][rail.from].lockupCurrent -= rail.lockupFixed;
        _useLockup(operatorApprovals[rail.token][rail.from][rail.operator], rail.lockupFixed, 0);
        delete _rails[railId];
        emit RailFinalized(railId);
    }

    // looking ---------------------------------------------------------------------------------------------------------

    /// @inheritdoc IFilecoinPay
    function getRail(uint256 railId) external view returns (RailView memory) {
        return _active(railId);
    }

    /// @inheritdoc IFilecoinPay
    function getAccountInfoIfSettled(address token, address owner)
        external
        view
        returns (uint256 fundedUntilEpoch, uint256 currentFunds, uint256 availableFunds, uint256 currentLockupRate)
    {
        Account storage account = accounts[token][owner];
        return (type(uint256).max, account.funds, account.funds - account.lockupCurrent, 0);
    }

    /// @inheritdoc IFilecoinPay
    function getRailsForPayerAndToken(address payer, address token, uint256 offset, uint256 limit)
        external
        view
        returns (RailInfo[] memory, uint256, uint256)
    {
        return _page(_railsOfPayer[token][payer], offset, limit);
    }

    /// @inheritdoc IFilecoinPay
    function getRailsForPayeeAndToken(address payee, address token, uint256 offset, uint256 limit)
        external
        view
        returns (RailInfo[] memory, uint256, uint256)
    {
        return _page(_railsOfPayee[token][payee], offset, limit);
    }

    /// @dev Rails that are no more are left out, so a page can be shorter than was asked for.
    function _page(uint256[] storage ids, uint256 offset, uint256 limit)
        private
        view
        returns (RailInfo[] memory results, uint256 next, uint256 total)
    {
        total = ids.length;
        if (offset > total) offset = total;
        next = limit == 0 || limit > total - offset ? total : offset + limit;
        results = new RailInfo[](next - offset);
        uint256 count;
        for (uint256 i = offset; i < next; ++i) {
            RailView storage rail = _rails[ids[i]];
            if (rail.from != address(0)) results[count++] = RailInfo(ids[i], rail.endEpoch > 0, rail.endEpoch);
        }
        // what is left over at the end is cut off
        assembly ("memory-safe") {
            mstore(results, count)
        }
    }

    // parts -----------------------------------------------------------------------------------------------------------

    function _active(uint256 railId) private view returns (RailView storage rail) {
        rail = _rails[railId];
        if (rail.from == address(0)) revert RailInactiveOrSettled(railId);
    }

    function _operated(uint256 railId) private view returns (RailView storage rail) {
        rail = _active(railId);
        if (rail.operator != msg.sender) revert OnlyRailOperatorAllowed(rail.operator, msg.sender);
    }

    /// @dev Without rates an account is never behind.
    function _settleAccount(address token, address owner) private returns (Account storage account) {
        account = accounts[token][owner];
        if (account.lockupLastSettledAt != block.number) {
            account.lockupLastSettledAt = block.number;
            emit AccountLockupSettled(token, owner, account.lockupCurrent, 0, block.number);
        }
    }

    function _useLockup(Approval storage approval, uint256 old, uint256 lockup) private {
        uint256 usage = approval.lockupUsage;
        if (lockup > old) {
            usage += lockup - old;
            if (usage > approval.lockupAllowance) {
                revert OperatorLockupAllowanceExceeded(approval.lockupAllowance, usage);
            }
        } else {
            usage -= old - lockup;
        }
        approval.lockupUsage = usage;
    }
}
