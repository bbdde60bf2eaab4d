// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFilecoinPay} from "./IFilecoinPay.sol";
import {IRetrievalOperator} from "./IRetrievalOperator.sol";
import {Signatures} from "./Signatures.sol";

/// @title Rails for retrieval: whoever reads data pays by vouchers that count up, and whoever holds one redeems it
/// @notice An operator of Filecoin Pay with no owner and no money of its own. A payer approves it there, with a lockup
/// allowance: so much can all its rails ever cost, for what is paid is taken from that allowance for good. A voucher is
/// EIP-712 `RetrievalVoucher(uint256 railId,uint256 cumulative,bytes32 termsHash)` signed by the rail's payer, and says
/// what the rail has cost so far in all; only the latest one matters, and it needs to be redeemed only once. What the
/// terms are is between the two parties. The scheme is Quorate's own, no standard.
contract RetrievalOperator is IRetrievalOperator {
    struct Rail {
        address payer;
        address payee;
        address token;
        /// @dev what was paid, before Filecoin Pay's fee; never more than its payer has signed
        uint256 redeemed;
    }

    bytes32 private constant VOUCHER_TYPEHASH =
        keccak256("RetrievalVoucher(uint256 railId,uint256 cumulative,bytes32 termsHash)");

    /// @inheritdoc IRetrievalOperator
    IFilecoinPay public immutable PAY;
    /// @inheritdoc IRetrievalOperator
    uint256 public immutable LOCKUP_PERIOD;

    /// @inheritdoc IRetrievalOperator
    mapping(uint256 railId => Rail) public rails;

    constructor(IFilecoinPay pay, uint256 lockupPeriod) {
        (PAY, LOCKUP_PERIOD) = (pay, lockupPeriod);
    }

    /// @inheritdoc IRetrievalOperator
    function openRail(address token, address payee, uint256 lockupFixed) external returns (uint256 railId) {
        if (lockupFixed == 0) revert NothingToLock();
        railId = PAY.createRail(token, msg.sender, payee, address(0), 0, address(0));
        rails[railId] = Rail(msg.sender, payee, token, 0);
        emit RailOpened(railId, msg.sender, payee, token, lockupFixed);
        PAY.modifyRailLockup(railId, LOCKUP_PERIOD, lockupFixed);
    }

    /// @inheritdoc IRetrievalOperator
    function topUp(uint256 railId, uint256 amount) external {
        Rail storage rail = _rail(railId);
        if (msg.sender != rail.payer) revert OnlyPayer(railId, rail.payer);
        if (amount == 0) revert NothingToLock();
        uint256 lockup = PAY.getRail(railId).lockupFixed + amount;
        emit RailToppedUp(railId, lockup);
        PAY.modifyRailLockup(railId, LOCKUP_PERIOD, lockup);
    }

    /// @inheritdoc IRetrievalOperator
    function redeem(uint256 railId, uint256 cumulative, bytes32 termsHash, bytes calldata signature)
        external
        returns (uint256 amount)
    {
        Rail storage rail = _rail(railId);
        (address payer, uint256 before) = (rail.payer, rail.redeemed);
        address signer = Signatures.recover(hashVoucher(railId, cumulative, termsHash), signature);
        if (signer == address(0) || signer != payer) revert WrongSigner(railId);
        if (cumulative <= before) revert StaleVoucher(railId, cumulative, before);
        uint256 locked = PAY.getRail(railId).lockupFixed;
        if (locked == 0) revert LockupSpent(railId);
        amount = cumulative - before;
        if (amount > locked) amount = locked;
        rail.redeemed = before + amount; // before the payment: who comes in between finds a stale voucher
        emit VoucherRedeemed(railId, payer, rail.payee, amount, before + amount, cumulative, termsHash);
        PAY.modifyRailPayment(railId, 0, amount);
    }

    /// @inheritdoc IRetrievalOperator
    function close(uint256 railId) external {
        Rail storage rail = _rail(railId);
        bool isPayee = msg.sender == rail.payee;
        if (!isPayee && msg.sender != rail.payer) revert OnlyPayerOrPayee(railId);
        IFilecoinPay.RailView memory found = PAY.getRail(railId);
        if (found.endEpoch == 0 || !isPayee) PAY.terminateRail(railId); // which refuses to do it twice
        uint256 endEpoch = PAY.getRail(railId).endEpoch;
        // Filecoin Pay lets an operator do this for a payer that is behind, for whom the end lies in the past
        if (!isPayee && endEpoch < block.number + LOCKUP_PERIOD) revert PayerBehind(railId, endEpoch);
        if (isPayee && found.lockupFixed > 0) PAY.modifyRailLockup(railId, LOCKUP_PERIOD, 0);
        emit RailClosed(railId, msg.sender, endEpoch);
    }

    /// @inheritdoc IRetrievalOperator
    function hashVoucher(uint256 railId, uint256 cumulative, bytes32 termsHash) public view returns (bytes32) {
        bytes32 body = keccak256(abi.encode(VOUCHER_TYPEHASH, railId, cumulative, termsHash));
        return Signatures.digest(domainSeparator(), body);
    }

    /// @inheritdoc IRetrievalOperator
    function domainSeparator() public view returns (bytes32) {
        return Signatures.domain("Quorate Retrieval", "1");
    }

    function _rail(uint256 railId) private view returns (Rail storage rail) {
        rail = rails[railId];
        if (rail.payer == address(0)) revert RailUnknown(railId);
    }
}
