// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Actors} from "./handlers/Actors.sol";
import {Vm} from "./support/Vm.sol";

/// @title The statements of the design's section 9 after random sequences of actions
/// @notice The actors do only what the rules allow, so an action that reverts is a failure too. Moves of batches, bundles
/// and disputes, slashes, draws and withdrawals are judged within each action, all the rest after it.
contract InvariantsTest {
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    struct FuzzInterface {
        address addr;
        string[] artifacts;
    }

    Vm internal constant vm = Vm(0x7109709ECfa91a80626fF3989D68f67F5b1DD12D);

    Actors internal actors;
    bytes4[] internal actions;

    function setUp() public {
        actors = Actors(_placeActors());
        vm.deal(address(actors), 100_000 ether);
        actors.start();
        _offer(actors.postOrders.selector, 6);
        _offer(actors.proveBeacon.selector, 6);
        _offer(actors.commitSeats.selector, 7);
        _offer(actors.revealSeats.selector, 2);
        _offer(actors.settleEarly.selector, 4);
        _offer(actors.settleLate.selector, 4);
        _offer(actors.settleVoided.selector, 2);
        _offer(actors.publishLeaves.selector, 3);
        _offer(actors.askClass.selector, 3);
        _offer(actors.commitClassVotes.selector, 5);
        _offer(actors.revealClassVotes.selector, 1);
        _offer(actors.settleClassVotes.selector, 4);
        _offer(actors.punishRows.selector, 3);
        _offer(actors.extendBundle.selector, 3);
        _offer(actors.challengeResult.selector, 2);
        _offer(actors.drawAudit.selector, 2);
        _offer(actors.auditBundle.selector, 2);
        _offer(actors.newcomer.selector, 3);
        _offer(actors.takeOut.selector, 3);
        _offer(actors.withdrawStake.selector, 2);
        _offerRest();
    }

    /// @dev Without the optimizer their code is too long to be paid for with the gas of a block: it is put in place.
    function _placeActors() private returns (address payable place) {
        place = payable(address(uint160(uint256(keccak256("actors")))));
        vm.etch(place, vm.getCode("Actors.sol:Actors"));
        (bool isDone, bytes memory code) = place.call(""); // the constructor
        vm.assertTrue(isDone, "the actors are there");
        vm.etch(place, code);
    }

    function _offerRest() private {
        bytes4[13] memory once = [
            actors.expirePosting.selector,
            actors.loseBeacon.selector,
            actors.endEverything.selector,
            actors.stakeMore.selector,
            actors.joinOrLeave.selector,
            actors.changeAsk.selector,
            actors.changeKey.selector,
            actors.judge.selector,
            actors.rejoin.selector,
            actors.nextEra.selector,
            actors.donate.selector,
            actors.moveDeposit.selector,
            actors.letTimePass.selector
        ];
        for (uint256 i; i < once.length; ++i) {
            _offer(once[i], 1);
        }
    }

    function _offer(bytes4 selector, uint256 times) private {
        for (; times > 0; --times) {
            actions.push(selector);
        }
    }

    function targetContracts() public view returns (address[] memory list) {
        list = new address[](1);
        list[0] = address(actors);
    }

    /// @dev Forge knows by itself only what was created.
    function targetInterfaces() public view returns (FuzzInterface[] memory list) {
        list = new FuzzInterface[](1);
        list[0] = FuzzInterface(address(actors), new string[](1));
        list[0].artifacts[0] = "Actors";
    }

    function targetSelectors() public view returns (FuzzSelector[] memory list) {
        list = new FuzzSelector[](1);
        list[0] = FuzzSelector(address(actors), actions);
    }

    /// @dev One campaign for all statements: each of several would play the same sequence, since the seed is the same.
    function invariant_Section9() public view {
        actors.checkMoney();
        actors.checkStakes();
        actors.checkBatches();
        actors.checkEnds();
    }

    /// @dev Where a sequence ends, time and a stranger end everything.
    function afterInvariant() public {
        vm.pauseGasMetering(); // many transactions in one
        actors.checkExit();
    }

    /// @notice The positive control: one long walk with fixed seeds does each kind of thing at least once.
    function test_TheActorsDoEachKindOfThing() public {
        for (uint256 i; i < 8000; ++i) {
            vm.pauseGasMetering(); // many transactions in one; actions may resume it
            uint256 h = uint256(keccak256(abi.encode("walk", i)));
            bytes4 selector = actions[h % actions.length];
            (bool isDone, bytes memory reason) =
                address(actors).call(abi.encodeWithSelector(selector, h >> 16, h >> 32, h >> 48));
            if (!isDone) {
                assembly ("memory-safe") {
                    revert(add(reason, 32), mload(reason))
                }
            }
            if (i % 16 == 0) invariant_Section9();
        }
        actors.checkExit();
        string[40] memory kinds = [
            "open",
            "post",
            "skip",
            "reuse",
            "prove",
            "expire",
            "commit",
            "commit direct",
            "reveal",
            "settle",
            "accept",
            "void",
            "carry",
            "dispute",
            "round",
            "end",
            "conflict",
            "publish",
            "ask",
            "ask whole",
            "class commit",
            "vote shown",
            "window",
            "winner",
            "no winner",
            "slash",
            "ejected",
            "punish",
            "dispute over",
            "challenge",
            "reverse",
            "audit drawn",
            "audit",
            "dissent",
            "extend void",
            "jailed",
            "judge",
            "withdraw",
            "withdraw refused",
            "exit"
        ];
        for (uint256 i; i < kinds.length; ++i) {
            vm.assertTrue(actors.done(kinds[i]) > 0, kinds[i]);
        }
    }
}
