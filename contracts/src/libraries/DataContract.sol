// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Tables kept as the code of contracts
/// @dev Reading a table of 1000 members this way costs a tenth of reading it from storage.
library DataContract {
    error DataNotStored();

    /// @notice Store `data` as the code of a new contract, behind a STOP so that nobody can call it.
    function write(bytes memory data) internal returns (address where) {
        // PUSH2 length, DUP1, PUSH1 10, RETURNDATASIZE (0), CODECOPY, RETURNDATASIZE, RETURN; then STOP and data
        bytes memory creation = abi.encodePacked(hex"61", uint16(data.length + 1), hex"80600a3d393df3", hex"00", data);
        assembly ("memory-safe") {
            where := create(0, add(creation, 32), mload(creation))
        }
        if (where == address(0)) revert DataNotStored();
    }

    /// @notice All of the data.
    /// @dev Assembly: room that is filled at once need not be cleared before.
    function read(address where) internal view returns (bytes memory data) {
        uint256 size = where.code.length - 1;
        assembly ("memory-safe") {
            data := mload(0x40)
            mstore(data, size)
            extcodecopy(where, add(data, 32), 1, size)
            mstore(0x40, and(add(add(data, size), 63), not(31)))
        }
    }
}
