// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IStakeRegistry} from "../interfaces/IStakeRegistry.sol";
import {RegistryStorage} from "./RegistryStorage.sol";

/// @title What owners do with their operator and its stake
abstract contract Operators is RegistryStorage {
    uint256 private constant MAX_ENDPOINT_BYTES = 256;

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
        _touchClasses(id);
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
        o.unbonding += uint96(amount); // safe: it was part of a stake
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
}
