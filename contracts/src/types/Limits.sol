// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @dev Constants of the protocol (README.md, section 2); the same names stand in quorate/protocol/params.py.
uint256 constant MAX_BUNDLES = 4096;
uint256 constant MAX_PAGE_BUNDLES = 1024;
uint256 constant MAX_PAGE_SEATS = 16_384;
uint256 constant BUNDLE_TASKS = 256;
uint256 constant MAX_TASKS = 1 << 20;
uint256 constant MAX_MEMBERS = 1024;
uint256 constant MAX_UNITS = 10_240;
uint256 constant MAX_CLASSES = 4;
uint256 constant FUEL_UNIT = 1e9;
uint256 constant MAX_DRAW_ATTEMPTS = 32;
uint256 constant MAX_VOTERS = 255;
uint256 constant TASK_ALL = 0xffffffff;
uint256 constant BPS = 10_000;
uint256 constant BEACON_REACH = 256;
uint256 constant VOTE_GAS = 100_000;
uint256 constant WALLET_GAS = 50_000;
