// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Proof} from "./Proof.sol";

/// @notice Arguments of `extend` (README.md, section 4.8).
/// @param rounds how many more rounds the requester buys
/// @param bundles ascending, of one requester
/// @param proof page and outcomes that all bundles stand in
/// @param signature the requester's, or anything when it calls itself
struct Extension {
    uint8 rounds;
    uint16[] bundles;
    Proof proof;
    bytes signature;
}
