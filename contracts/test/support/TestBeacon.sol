// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IBeacon} from "../../src/interfaces/IBeacon.sol";

/// @title A beacon without headers: a hash of the block's number, with the reach that `blockhash` has
contract TestBeacon is IBeacon {
    function read(uint256 blockNumber, bytes calldata proof) external view returns (bytes32) {
        if (block.number <= blockNumber || block.number > blockNumber + 256) revert BeaconUnavailable(blockNumber);
        if (proof.length > 0) revert BeaconMismatch(blockNumber);
        return keccak256(abi.encode("beacon", blockNumber));
    }
}
