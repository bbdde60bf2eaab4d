// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IComputeMarket} from "./interfaces/IComputeMarket.sol";
import {Accounts} from "./market/Accounts.sol";
import {Committing} from "./market/Committing.sol";
import {MarketStorage} from "./market/MarketStorage.sol";
import {Posting} from "./market/Posting.sol";
import {Settler} from "./market/Settler.sol";
import {Params} from "./types/Params.sol";
import {Settlement} from "./types/Settlement.sol";

/// @title The market: orders, committees, verdicts and payment
/// @notice Post, commit and settle each have a file of their own in `market/`; README.md, section 4, says what they do.
contract ComputeMarket is Accounts, Posting, Committing {
    /// @notice The code behind `settle`, made by this contract and fixed for good.
    address public immutable SETTLER;

    constructor(Params memory params_, address registry, address disputes, address beacon)
        MarketStorage(params_, registry, disputes, beacon)
    {
        SETTLER = address(new Settler(params_, registry, disputes, beacon));
    }

    /// @inheritdoc IComputeMarket
    function settle(uint64, Settlement calldata) external {
        address settler = SETTLER;
        assembly {
            calldatacopy(0, 0, calldatasize())
            let done := delegatecall(gas(), settler, 0, calldatasize(), 0, 0)
            returndatacopy(0, 0, returndatasize())
            if iszero(done) { revert(0, returndatasize()) }
            return(0, returndatasize())
        }
    }

    /// @inheritdoc IComputeMarket
    function resolve(address requester, uint256 escrow, address collator, uint256 fee, uint256[] calldata entries)
        external
    {
        if (msg.sender != address(DISPUTES)) revert Unauthorized();
        uint256 earned;
        for (uint256 i; i < entries.length; ++i) {
            earned += uint128(entries[i]);
        }
        _release(requester, escrow, escrow - fee - earned);
        _accounts[collator].free += uint128(fee);
        if (entries.length > 0) REGISTRY.credit{value: earned}(entries, 0);
    }
}
