// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title States, events and errors of the market
/// @notice Apart from the methods, since the settling module shares these and not those.
interface IMarketEvents {
    enum BatchStatus {
        NONE,
        POSTING,
        AWAITING,
        ASSIGNED,
        VOIDED,
        SETTLED
    }

    enum Verdict {
        NONE,
        ACCEPTED,
        DISPUTED,
        CARRIED,
        VOID
    }

    event Deposited(address indexed account, uint256 amount);
    event Withdrawn(address indexed account, uint256 amount);
    event BatchOpened(
        uint64 indexed batchId,
        address indexed collator,
        uint32 classId,
        uint16 table,
        uint8 seats,
        uint8 rounds,
        uint32 commitPeriod,
        uint64 feeWei
    );
    /// @param page the orders as posted
    /// @param skips (order index u16, reason u8) of each order left out
    event PagePosted(uint64 indexed batchId, uint16 firstBundle, bytes page, bytes skips);
    event BatchClosed(uint64 indexed batchId, uint16 bundles, uint48 beaconBlock);
    event RoundStarted(uint64 indexed batchId, uint8 round, bytes32 beacon);
    /// @param lists the commitments as sent
    /// @param skips (list index u16, reason u8) of each list left out
    event CommitPage(uint64 indexed batchId, uint8 round, bytes lists, bytes skips);
    /// @param votes count u8 and votes, ascending, that the openings number
    /// @param openings commit pages with what is opened in them: a later `settle` must open it too
    event OpeningsRevealed(uint64 indexed batchId, uint8 round, bytes votes, bytes openings);
    /// @param outcomes (bundle u16, verdict u8, vote 32, opened u16, voters u8, voters × member u16) of each bundle
    event BundlesSettled(uint64 indexed batchId, uint8 round, bytes outcomes);
    /// @param page bundles that go on to a fresh round
    event BundlesCarried(uint64 indexed batchId, uint8 round, bytes page);
    /// @param beaconBlock block whose header decides the next round's committees
    event RoundAwaited(uint64 indexed batchId, uint8 round, uint48 beaconBlock);
    /// @param rounds highest round that the batch may come to
    event BatchExtended(uint64 indexed batchId, address indexed collator, uint8 rounds);
    /// @param beacon what the auditors of the batch's accepted bundles are drawn by
    event AuditDrawn(uint64 indexed batchId, bytes32 beacon);
    event BatchVoided(uint64 indexed batchId);
    event BatchSettled(uint64 indexed batchId, uint40 finalAt);

    error Unauthorized();
    error NotCollator(address collator);
    error BatchUnknown(uint64 batchId);
    error WrongStatus(uint64 batchId, BatchStatus status);
    error WindowPast(string window);
    error WindowOpen(string window);
    error MalformedPage();
    error HashMismatch(string what);
    error InvalidTerms(string name);
    error EraOverdue(uint32 classId);
    error InsufficientDeposit(uint256 available, uint256 asked);
    error NothingToWithdraw();
    error TransferFailed();
    error NotExtendable(uint16 bundle);
    error AlreadyDrawn();
    error TooEarly(uint16 bundle);
    error SeatOmitted(uint16 bundle, uint8 seat);
}
