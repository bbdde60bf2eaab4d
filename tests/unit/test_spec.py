"""The spec and the result: one spelling for one meaning, strict parsing, and proofs under a vote."""

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from quorate.protocol.errors import ValidationError
from quorate.protocol.result import (
    EXIT_OUT_OF_FUEL,
    EXIT_TRAP,
    TaskResult,
    TaskStatus,
    compute_merkle_proof,
    compute_merkle_root,
    compute_task_id,
    verify_merkle_proof,
)
from quorate.protocol.spec import CEILINGS, JobSpec, Limits, Partition, canonical_json, compute_raw_cid

MODULE = compute_raw_cid(hashlib.sha256(b"module").digest())
INPUT = compute_raw_cid(hashlib.sha256(b"input").digest())
SPEC = JobSpec(MODULE, INPUT, args=("-v", "ü"), env={"B": "2", "A": "1"})


def test_spec_survives_its_own_bytes() -> None:
    assert JobSpec.from_bytes(SPEC.to_bytes()) == SPEC
    assert SPEC.cid == compute_raw_cid(hashlib.sha256(SPEC.to_bytes()).digest())


def test_raw_cid_of_known_content() -> None:
    empty = hashlib.sha256(b"").digest()
    assert compute_raw_cid(empty) == "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"


def test_order_of_variables_does_not_change_the_digest() -> None:
    assert replace(SPEC, env={"A": "1", "B": "2"}).digest == SPEC.digest
    assert b'"args":["-v","\xc3\xbc"],"env":{"A":"1","B":"2"}' in SPEC.to_bytes()


def changed(**fields: object) -> bytes:
    return canonical_json(json.loads(SPEC.to_bytes()) | fields)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b"[" * 60_000, "not JSON"),
        (b" " + SPEC.to_bytes(), "canonical"),
        (SPEC.to_bytes().replace(b"\xc3\xbc", b"\\u00fc"), "canonical"),
        (SPEC.to_bytes().replace(b'"version":1', b'"version":1.0'), "integer"),
        (SPEC.to_bytes().replace(b'"version":1', b'"version":NaN'), "integer"),
        (SPEC.to_bytes().replace(b'"version":1', b'"version":0,"version":1'), "canonical"),
        (changed(gpu=1), "unknown fields: gpu"),
        (canonical_json({"version": 1}), "lacks fields"),
        (changed(version=2), "version 2"),
        (changed(version=True), "version True"),
        (changed(profile="quorate-wasm-2"), "profile"),
        (changed(module="QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"), "module must be a CIDv1"),
        (changed(module=MODULE.upper()), "module must be a CIDv1"),
        (changed(module=MODULE[:-1]), "module must be a CIDv1"),
        (changed(module=MODULE.replace("i", "ı", 1)), "module must be a CIDv1"),  # whose capital is I
        (changed(module=MODULE[:-1] + "_"), "module must be a CIDv1"),
        (changed(module=MODULE[:-1] + chr(ord(MODULE[-1]) + 1)), "module must be a CIDv1"),  # the bits after the digest
        (changed(module=None), "module must be a string"),
        (changed(input=7), "input must be a string"),
        (changed(input_name="../x"), "plain file name"),
        (changed(args="x"), "args must be an array"),
        (changed(args=[1]), "args\\[0\\] must be a string"),
        (changed(args=["a\0b"]), "no NUL"),
        (changed(args=["x" * 5000]), "at most 4096"),
        (changed(args=["x"] * 300), "at most 256"),
        (changed(env={"A=B": "x"}), "'='"),
        (changed(env={"A": 1}), "must be a string"),
        (changed(limits={"fuel": 1}), "limits lacks"),
        (changed(partition={"pattern": "[", "batch_size": 1}), "without its"),
        (changed(partition={"pattern": 7, "batch_size": 1}), "must be a string"),
        (changed(partition={"pattern": "*", "batch_size": 0}), "batch_size 0"),
        (changed(partition={"pattern": "*", "batch_size": True}), "batch_size True"),
        (changed(partition={"pattern": "*", "batch_size": 5000}), "batch_size 5000"),
        (changed(partition={"pattern": None, "batch_size": 2}), "give one"),
        (changed(partition={"pattern": "*", "batch_size": 1}, input=None), "needs an input"),
        (b'{"args":"' + b"x" * 70_000 + b'"}', "over 65536"),
    ],
)
def test_bad_specs_are_refused_with_a_reason(data: bytes, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        JobSpec.from_bytes(data)


@pytest.mark.parametrize("name", list(CEILINGS))
def test_limits_have_ceilings(name: str) -> None:
    least, most = CEILINGS[name]
    replace(Limits(), **{name: least})
    replace(Limits(), **{name: most})
    for bad in (least - 1, most + 1, 1.5, "1", True):
        changes: dict[str, Any] = {name: bad}
        with pytest.raises(ValidationError, match=f"limits.{name}"):
            replace(Limits(), **changes)


def test_a_partition_is_a_part_of_the_spec() -> None:
    divided = replace(SPEC, input=INPUT, partition=Partition("*.tif", 7))
    assert JobSpec.from_bytes(divided.to_bytes()) == divided
    assert divided.digest != replace(divided, partition=Partition("*.tif", 8)).digest


RESULT = TaskResult(SPEC.cid, 0, TaskStatus.FAILED, 10, INPUT, MODULE)


def test_result_is_the_block_at_its_own_cid() -> None:
    assert TaskResult.from_bytes(RESULT.to_bytes()) == RESULT
    assert RESULT.cid == compute_raw_cid(RESULT.leaf)
    assert RESULT.leaf == hashlib.sha256(RESULT.to_bytes()).digest()


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (TaskStatus.OK, 1),
        (TaskStatus.FAILED, 0),
        (TaskStatus.FAILED, EXIT_OUT_OF_FUEL),
        (TaskStatus.FAILED, 1 << 32),
        (TaskStatus.OUT_OF_FUEL, EXIT_TRAP),
        (TaskStatus.FAILED, True),
    ],
)
def test_status_and_exit_code_must_agree(status: TaskStatus, code: int) -> None:
    with pytest.raises(ValidationError, match="cannot come with"):
        replace(RESULT, status=status, exit_code=code)


def test_result_refuses_what_is_no_result() -> None:
    for field, value in (("status", "LATE"), ("spec", "x"), ("task_index", -1), ("profile", "docker"), ("spec", 3)):
        with pytest.raises(ValidationError):
            TaskResult.from_bytes(canonical_json(json.loads(RESULT.to_bytes()) | {field: value}))


def test_task_ids_differ_by_task_and_job() -> None:
    ids = {compute_task_id(bytes([n]) * 32, index) for n in range(3) for index in range(3)}
    assert len(ids) == 9
    with pytest.raises(ValidationError):
        compute_task_id(b"short", 0)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 8, 13, 255, 256])
def test_every_leaf_is_provable_and_no_other(count: int) -> None:
    leaves = [hashlib.sha256(bytes([n])).digest() for n in range(count)]
    root = compute_merkle_root(leaves)
    for index in (*range(min(count, 13)), count - 1):
        proof = compute_merkle_proof(leaves, index)
        assert verify_merkle_proof(root, leaves[index], index, count, proof)
        assert not verify_merkle_proof(root, bytes(32), index, count, proof)
        assert not verify_merkle_proof(root, leaves[index], index, count, [*proof, bytes(32)])
        assert not verify_merkle_proof(root, leaves[index], (index + 1) % count, count, proof) or count == 1
        assert not verify_merkle_proof(root, leaves[index], count, count, proof)


def test_a_subtree_cannot_pass_for_a_leaf() -> None:
    leaves = [hashlib.sha256(bytes([n])).digest() for n in range(4)]
    assert compute_merkle_root(leaves) != compute_merkle_root([compute_merkle_root(leaves[:2]), *leaves[2:]])
    assert compute_merkle_root(leaves[:1]) != leaves[0]
    with pytest.raises(ValidationError):
        compute_merkle_root([])
