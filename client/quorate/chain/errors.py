"""Revert data → ProtocolViolation, for the custom errors of all contracts."""

from __future__ import annotations

from functools import cache

from eth_abi.abi import decode
from eth_abi.exceptions import DecodingError

from quorate.chain.abi import Contract, Entry, load_interface
from quorate.chain.rpc import RpcError
from quorate.protocol.errors import ProtocolViolation, QuorateError

ERROR_STRING = bytes.fromhex("08c379a0")
PANIC = bytes.fromhex("4e487b71")

HINTS = {
    "Unauthorized": "this key may not do that; use the owner's, or the contract that is meant to call",
    "OperatorExists": "the owner has an operator already; use it, or another owner key",
    "OperatorUnknown": "register the operator first (`quorate-node stake`)",
    "ClassUnknown": "no such class on this deployment; look at its id",
    "InvalidArgument": "the named argument is zero or out of range",
    "WrongValue": "send exactly the wei asked for",
    "InsufficientStake": "the operator has less free stake: ask for less, stake more, or `unstake AMOUNT --leave`",
    "AlreadyMember": "the operator is in the class; change its ask, or leave first",
    "NotMember": "join the class first",
    "LimitReached": "the class or operator is full; use another class",
    "Ejected": "the operator was slashed in full and cannot come back",
    "NotReleased": "wait until the time given (unix seconds)",
    "NothingToWithdraw": "there is no balance to withdraw",
    "TransferFailed": "the receiver refused the money",
    "EraNotOver": "wait until the time given (unix seconds)",
    "WrongMedian": "the members changed; compute the median from those that can be drawn again",
    "EndpointTooLong": "give a URL of at most 256 bytes",
    "UnsafeParameters": "the named parameter breaks a rule of section 2 of contracts/README.md",
    "Jailed": "too many seats failed; `rejoin` from the time given (unix seconds) on",
    "NothingToJudge": "there is no fault of an era that is over, and no jail",
    "NotCollator": "only the collator that opened the batch may do that",
    "BatchUnknown": "no such batch; it may belong to another deployment",
    "WrongStatus": "the batch has moved on; read its state again",
    "WindowPast": "the time for this has passed",
    "WindowOpen": "too early; wait for the window to end",
    "MalformedPage": "the page does not parse; encode it with quorate.protocol.encoding",
    "HashMismatch": "what was sent is not what the chain has the hash of; rebuild it from the events",
    "InvalidTerms": "the named term is out of range for the class or the deployment",
    "EraOverdue": "call advanceEra for the class first",
    "InsufficientDeposit": "the free deposit is less; deposit more (`quorate account deposit AMOUNT`), or ask for less",
    "TooEarly": "not everybody has acted and the window is still open",
    "DataNotStored": "the table's data contract was not created; give the transaction more gas",
    "DisputeUnknown": "no such dispute; it may be settled",
    "MoreGas": "give the transaction more gas: a requester's contract wallet must be asked with 50,000",
    "NotExtendable": "only bundles that ended void with votes, or whose committee was convicted, get more rounds",
    "AlreadyDrawn": "the auditors of this batch are drawn",
    "NotJudged": "the class does not judge its programs deterministic: nobody votes on them",
    "NotAccepted": "the bundle's acceptance does not stand in the outcomes that were shown, or counts no more",
    "AlreadyChallenged": "the same leaf was claimed for the task before",
    "NotDrawn": "no audit of the bundle, or not by this auditor",
    "AlreadyAudited": "the bundle's auditor has answered",
    "SeatOmitted": "a seat that committed, or a vote that was revealed, is missing: send its opening along",
    "AlreadyPublished": "the leaves of this root are on the chain",
    "UnknownRoot": "nobody voted for the root of these leaves",
    "BeaconUnavailable": "the block is not mined yet, or older than 256 blocks",
    "BeaconMismatch": "that is not the header of the block",
} | {
    # the contracts of a Filecoin network
    "InsufficientBalance": "the account has fewer tokens than the third figure: send it more, or ask for less",
    "InsufficientAllowance": "the token's owner has allowed the spender less: approve more",
    "InvalidReceiver": "nobody has the address 0",
    "AuthorizationNotYetValid": "wait until the time given (unix seconds)",
    "AuthorizationExpired": "it was valid until the time given (unix seconds): ask for another signature",
    "AuthorizationUsedOrCanceled": "this payment was made, or cancelled, before: look at the receipts",
    "InvalidSignature": "the payer did not sign this for this chain and token",
    "RailInactiveOrSettled": "the rail is over, or never was: open another",
    "OnlyRailOperatorAllowed": "only the contract that made the rail may do that",
    "RailAlreadyTerminated": "the rail was closed before: redeem until its end, then settle it",
    "ZeroAddressNotAllowed": "name an account",
    "OneTimePaymentExceedsLockup": "less is locked on the rail: its payer can top it up",
    "NotAuthorizedToTerminateRail": "only the rail's payer, when it is not behind, and its operator may do that",
    "NativeTokenNotAccepted": "send no FIL with a deposit of tokens",
    "NativeTokenNotSupported": "name the token's contract; FIL itself is not taken here",
    "InsufficientUnlockedFunds": "less is free than asked for: settle rails that have ended, or ask for less",
    "OperatorNotApproved": "approve the operator first (`filecoin wallet allow AMOUNT`)",
    "CommissionRateTooHigh": "a commission is at most 10,000 basis points",
    "MissingServiceFeeRecipient": "name who gets the commission",
    "InvalidTerminatedRailModification": "a closed rail can only be unlocked: open another",
    "LockupPeriodExceedsOperatorMaximum": "approve the operator anew, for the lockup period given last",
    "CannotModifyTerminatedRailBeyondEndEpoch": "the rail has ended, and its vouchers with it: settle it",
    "RateChangeNotAllowedOnTerminatedRail": "the rail was closed",
    "CannotSettleFutureEpochs": "settle up to the newest block at most",
    "OperatorLockupAllowanceExceeded": "the allowance of the operator is less: raise it, or lock less",
    "NotOnADevnet": "the local stand-in for Filecoin Pay has no validators and no rates",
    "ReentrancyGuardReentrantCall": "the token called back while it was moved: use another token",
    "SafeERC20FailedOperation": "the token did not move: is it a token, and does it let its owner send?",
    "RailUnknown": "no such rail of this operator contract: look at its number and the network",
    "NothingToLock": "lock at least 1",
    "WrongSigner": "the rail's payer did not sign this for this chain, operator contract, rail, sum and terms",
    "StaleVoucher": "that sum (the second figure) is not above what was paid (the third): show a later voucher",
    "LockupSpent": "nothing is locked on the rail any more: its payer can top it up",
    "OnlyPayer": "only the rail's payer may do that",
    "OnlyPayerOrPayee": "only the rail's payer and payee may do that",
    "PayerBehind": "deposit what the account lacks for its other rails, then close; or let the payee close it",
}


@cache
def error_table() -> dict[bytes, Entry]:
    """Custom errors of all contracts by selector; contracts share some."""
    table: dict[bytes, Entry] = {}
    for contract in Contract:
        table |= load_interface(contract).errors
    return table


def decode_revert(data: bytes) -> ProtocolViolation:
    """What a contract meant by its revert data; unknown data becomes `Reverted(0x…)`."""
    selector, body = data[:4], data[4:]
    try:
        if selector == ERROR_STRING:
            return ProtocolViolation("Error", *decode(["string"], body))
        if selector == PANIC:
            return ProtocolViolation("Panic", *decode(["uint256"], body), hint="an arithmetic or memory fault")
        entry = error_table().get(selector)
        if entry is not None:
            args = (f"0x{arg.hex()}" if isinstance(arg, bytes) else arg for arg in decode(entry.inputs, body))
            return ProtocolViolation(entry.name, *args, hint=HINTS.get(entry.name, ""))
    except DecodingError:
        pass
    hint = "no reason was given" if not data else "an error of another contract"
    return ProtocolViolation("Reverted", f"0x{data.hex()}", hint=hint)


def find_revert_data(error: RpcError) -> bytes | None:
    """Revert data inside an error answer, wherever the node's software puts it; None when it is not a revert."""
    data = error.data
    while isinstance(data, dict):
        data = data.get("data", data.get("result"))
    is_hex = isinstance(data, str) and data.startswith("0x")
    if is_hex and isinstance(data, str):
        return bytes.fromhex(data[2:])
    return b"" if "revert" in error.reason.lower() else None


def translate(error: RpcError) -> QuorateError:
    """The ProtocolViolation behind an error answer, or the answer itself when no contract refused anything."""
    data = find_revert_data(error)
    return error if data is None else decode_revert(data)
