// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeMarket} from "./interfaces/IComputeMarket.sol";
import {Accounts} from "./market/Accounts.sol";
import {Committing} from "./market/Committing.sol";
import {MarketStorage} from "./market/MarketStorage.sol";
import {Posting} from "./market/Posting.sol";
import {Settler} from "./market/Settler.sol";
import {Extension} from "./types/Extension.sol";
import {Params} from "./types/Params.sol";
import {Settlement} from "./types/Settlement.sol";

/// @title The market: orders, committees, verdicts and payment
/// @notice Post, commit and settle each have a file of their own in `market/`; README.md, section 4, says what they do.
contract ComputeMarket is Accounts, Posting, Committing {
    /// @notice The code behind `settle` and `reveal`, made by this contract and fixed for good.
    address public immutable SETTLER;
    /// @notice Likewise the code behind `extend` and `proveAudit`; made beside, since a creation's code is limited too.
    address public immutable EXTENDER;

    constructor(Params memory params_, address registry, address disputes, address beacon, address extender)
        MarketStorage(params_, registry, disputes, beacon)
    {
        SETTLER = address(new Settler(params_, registry, disputes, beacon));
        EXTENDER = extender;
    }

    /// @inheritdoc IComputeMarket
    function reveal(uint64, bytes32[] calldata, bytes calldata, bytes calldata) external {
        _delegate(SETTLER);
    }

    /// @inheritdoc IComputeMarket
    function settle(uint64, Settlement calldata) external {
        _delegate(SETTLER);
    }

    /// @inheritdoc IComputeMarket
    function extend(uint64, Extension calldata) external {
        _delegate(EXTENDER);
    }

    /// @inheritdoc IComputeMarket
    function proveAudit(uint64, bytes calldata) external {
        _delegate(EXTENDER);
    }

    /// @inheritdoc IComputeMarket
    function reverse(uint64 batchId, uint16 bundle, uint8 round) external returns (bool first) {
        _onlyDisputes();
        Batch storage b = _batch(batchId);
        first = round >= _struckBelow(b, bundle);
        if (first) _strike(b, bundle, round);
    }

    /// @dev Ends the call with what the module answers to the same calldata.
    function _delegate(address module) private {
        assembly ("memory-safe") {
            let free := mload(0x40)
            calldatacopy(free, 0, calldatasize())
            let done := delegatecall(gas(), module, free, calldatasize(), 0, 0)
            returndatacopy(free, 0, returndatasize())
            if iszero(done) { revert(free, returndatasize()) }
            return(free, returndatasize())
        }
    }

    /// @inheritdoc IComputeMarket
    function resolve(
        uint64 batchId,
        address requester,
        uint256 escrow,
        address collator,
        uint256 fee,
        uint256 auditFee,
        uint256[] calldata entries,
        bytes calldata row
    ) external {
        _onlyDisputes();
        uint256 earned;
        for (uint256 i; i < entries.length; ++i) {
            earned += uint96(entries[i]);
        }
        _release(requester, escrow, escrow - fee - auditFee - earned);
        if (fee > 0) _accounts[collator].free += uint128(fee);
        if (row.length > 0) {
            Batch storage b = _batch(batchId);
            b.outcomeHash = keccak256(abi.encodePacked(b.outcomeHash, keccak256(abi.encodePacked(b.round, row))));
            emit BundlesSettled(batchId, b.round, row);
        }
        if (entries.length > 0) REGISTRY.credit{value: earned}(entries, 0);
        if (auditFee > 0) REGISTRY.donate{value: auditFee}();
    }

    /// @inheritdoc IComputeMarket
    function disputeOpened(uint64 batchId) external {
        _onlyDisputes();
        _batch(batchId).openDisputes += 1;
    }

    /// @inheritdoc IComputeMarket
    function disputeClosed(uint64 batchId) external {
        _onlyDisputes();
        _batch(batchId).openDisputes -= 1;
    }

    function _onlyDisputes() private view {
        if (msg.sender != address(DISPUTES)) revert Unauthorized();
    }
}
