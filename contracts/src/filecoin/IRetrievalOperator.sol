// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IFilecoinPay} from "./IFilecoinPay.sol";

/// @title Rails for retrieval, redeemed by vouchers that count up
interface IRetrievalOperator {
    event RailOpened(
        uint256 indexed railId, address indexed payer, address indexed payee, address token, uint256 lockupFixed
    );
    event RailToppedUp(uint256 indexed railId, uint256 lockupFixed);
    /// @param amount paid by this voucher, before the fee
    /// @param redeemed paid on the rail in all; less than `cumulative` where too little was locked
    event VoucherRedeemed(
        uint256 indexed railId,
        address indexed payer,
        address indexed payee,
        uint256 amount,
        uint256 redeemed,
        uint256 cumulative,
        bytes32 termsHash
    );
    event RailClosed(uint256 indexed railId, address indexed by, uint256 endEpoch);

    error RailUnknown(uint256 railId);
    error NothingToLock();
    /// @notice Not the signature of the rail's payer for this chain, contract, rail, sum and terms.
    error WrongSigner(uint256 railId);
    /// @notice The voucher is not above what was redeemed.
    error StaleVoucher(uint256 railId, uint256 cumulative, uint256 redeemed);
    /// @notice Nothing is locked any more; the payer can top it up.
    error LockupSpent(uint256 railId);
    error OnlyPayer(uint256 railId, address payer);
    error OnlyPayerOrPayee(uint256 railId);
    /// @notice The payer is behind with other rails, so this one would end at once; its payee can redeem and close it.
    error PayerBehind(uint256 railId, uint256 endEpoch);

    /// @notice Open a rail to a payee and lock what the sender may spend on it.
    function openRail(address token, address payee, uint256 lockupFixed) external returns (uint256 railId);
    /// @notice Lock more on a rail. For its payer alone, whose free money anybody else could tie up.
    function topUp(uint256 railId, uint256 amount) external;
    /// @notice Pay the payee what a voucher adds to what was redeemed; as much of it as is locked, the rest once the
    /// payer tops it up. Anybody may send it. It works after an approval was withdrawn, and on a closed rail to its end.
    /// @param signature 65 bytes r ‖ s ‖ v
    function redeem(uint256 railId, uint256 cumulative, bytes32 termsHash, bytes calldata signature)
        external
        returns (uint256 amount);
    /// @notice End a rail: by its payer after LOCKUP_PERIOD epochs, in which it can be redeemed from; by its payee, who
    /// gives up what it has not redeemed, with what is locked back at once.
    function close(uint256 railId) external;

    /// @notice Filecoin Pay.
    function PAY() external view returns (IFilecoinPay);
    /// @notice Epochs for which a closed rail can still be redeemed from; an approval has to allow as much.
    function LOCKUP_PERIOD() external view returns (uint256);
    /// @param redeemed what was paid, before Filecoin Pay's fee; never more than the payer has signed
    function rails(uint256 railId) external view returns (address payer, address payee, address token, uint256 redeemed);
    /// @notice What a payer signs.
    function hashVoucher(uint256 railId, uint256 cumulative, bytes32 termsHash) external view returns (bytes32);
    /// @notice EIP-712 domain "Quorate Retrieval", version "1", of this chain and this contract.
    function domainSeparator() external view returns (bytes32);
}
