// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IStakeRegistry} from "../src/interfaces/IStakeRegistry.sol";
import {Params} from "../src/types/Params.sol";
import {System} from "./support/System.sol";

/// @title What the registry's constructor refuses, parameter by parameter, at its boundaries
contract SafeParamsTest is System {
    Params internal p;

    function setUp() public {
        p = productionParams();
    }

    function productionParams() internal pure returns (Params memory made) {
        made = localParams();
        (made.eraPeriod, made.unbondingPeriod, made.challengePeriod, made.postPeriod) = (14_400, 604_800, 600, 60);
        (made.maxCommitPeriod, made.directPeriod, made.settlePeriod, made.publishPeriod) = (3600, 60, 60, 120);
        (made.voteCommitPeriod, made.voteRevealPeriod, made.auditPeriod) = (3600, 300, 200);
        (made.faultMemory, made.beaconDelay, made.blockPeriod, made.minBlocks) = (2_592_000, 64, 2, 8);
        (made.jailEras, made.maxTaskFuel, made.maxPrice, made.maxGasPrice) = (6, 7.2e11, 1e12, 1e11);
        (made.batchBond, made.challengeBond, made.classDeposit) = (0.1 ether, 0.1 ether, 10 ether);
        made.leastUnitWei = 0.6 ether;
    }

    function create(Params memory made) public returns (address) {
        return vm.deployCode("StakeRegistry.sol:StakeRegistry", abi.encode(made, address(1), address(2), address(3)));
    }

    function accept() internal {
        vm.assertEq(abi.encode(IStakeRegistry(create(p)).params()), abi.encode(p));
    }

    function refuse(string memory name) internal {
        Params memory made = p;
        vm.expectRevert(abi.encodeWithSelector(IStakeRegistry.UnsafeParameters.selector, name));
        this.create(made);
        p = productionParams();
    }

    function test_BothPresetsAreSafe() public {
        accept();
        p = localParams();
        accept();
        (p.maxTaskFuel, p.maxPrice, p.maxGasPrice, p.leastUnitWei) = (1.2e10, 1e13, 1e9, 0.02 ether);
        accept();
    }

    function test_UnbondingOutlivesAllThatCanBeDisputed() public {
        // round 512 + 3600 + 120 + 60 = 4292; batch 60 + 6 × 4292 + 3 × 600 = 27,612; dispute 120 + 3 × 4200 = 12,720
        uint32 exposed = 14_400 + 27_612 + 600 + 12_720;
        p.unbondingPeriod = 2 * exposed;
        accept();
        p.unbondingPeriod -= 1;
        refuse("unbondingPeriod");
        (p.unbondingPeriod, p.eraPeriod) = (2 * exposed, 14_401);
        refuse("unbondingPeriod");
        (p.unbondingPeriod, p.maxRounds) = (2 * exposed, 3);
        refuse("unbondingPeriod");
        (p.unbondingPeriod, p.voteWindows) = (2 * exposed, 4);
        refuse("unbondingPeriod");
        (p.unbondingPeriod, p.voteCommitPeriod) = (2 * exposed, type(uint32).max); // no wrapping
        refuse("unbondingPeriod");
    }

    function test_AChallengeOutlivesAnAudit() public {
        p.challengePeriod = 64 * 2 + 2 * 200;
        accept();
        p.challengePeriod -= 1;
        refuse("challengePeriod");
        p.auditPeriod = type(uint32).max;
        refuse("challengePeriod");
    }

    function test_SilenceCostsMoreThanVoting() public {
        // 3 × (7.2e14 + 1e16) = 3.216e16 = 8 % of 0.402 ether
        p.leastUnitWei = 0.402 ether;
        accept();
        p.leastUnitWei -= 1;
        refuse("leastUnitWei");
        (p.leastUnitWei, p.maxTaskFuel) = (0.402 ether, 7.2e11 + 1);
        refuse("leastUnitWei");
        (p.leastUnitWei, p.maxGasPrice) = (0.402 ether, 1e11 + 1);
        refuse("leastUnitWei");
        (p.maxTaskFuel, p.maxPrice) = (type(uint64).max, type(uint64).max); // no wrapping
        refuse("leastUnitWei");
    }

    function test_CountsThatWouldDivideByZeroOrMakeNothing() public {
        p.eraPeriod = 0;
        refuse("eraPeriod");
        p.beaconDelay = 0;
        refuse("beaconDelay");
        p.blockPeriod = 0;
        refuse("blockPeriod");
        p.minBlocks = 0;
        refuse("minBlocks");
        p.auditBps = 10_001;
        refuse("auditBps");
        p.voteWindows = 0;
        refuse("voteWindows");
        p.voteWindows = 8;
        refuse("voteWindows");
        p.referenceFuelRate = 0;
        refuse("referenceFuelRate");
        p.referenceByteRate = 0;
        refuse("referenceByteRate");
        (p.auditBps, p.voteWindows) = (10_000, 7);
        accept();
    }

    function test_ParametersAreThoseOfTheDeployment() public {
        deploy(localParams());
        vm.assertEq(abi.encode(registry.params()), abi.encode(localParams()));
        vm.assertEq(abi.encode(market.params()), abi.encode(localParams()));
        vm.assertEq(abi.encode(disputes.params()), abi.encode(localParams()));
    }
}
