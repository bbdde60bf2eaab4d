"""`quorate-node exec`: the profile of jobs on the command line, and folders of this machine under it."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import wasmtime
from tests.unit.executor.test_runner import opened, program, text

import quorate
from quorate.protocol.errors import ConfigurationError, DataError
from quorate.protocol.spec import Limits
from quorate.storage.memory import MemoryStore
from quorate_node.cli.main import app, report
from quorate_node.executor.folders import Folder, write_back
from quorate_node.executor.trial import EngineName, Trial, read_module, run_trial

HELLO = text(256, "hello") + text(240, r"\00\01\00\00\05\00\00\00")
SAY_HELLO = "(drop (call $fd_write (i32.const 1) (i32.const 240) (i32.const 1) (i32.const 248)))"


def wat(*steps: str, data: str = HELLO) -> bytes:
    return bytes(wasmtime.wat2wasm(program(*steps, data=data)))


def exit_with(code: int) -> str:
    return f"(call $proc_exit (i32.const {code}))"


def write_file(name: str, fd: int) -> str:
    """Write "hello" to a new file below a descriptor; its name lies at 512."""
    return (
        f"{opened(512, len(name), fd, 1, 64)} "
        "(drop (call $fd_write (i32.load (i32.const 0)) (i32.const 240) (i32.const 1) (i32.const 248)))"
    )


@dataclass
class Shell:
    """The command line, with a home of its own."""

    folder: Path
    capture: Any

    def __call__(self, wasm: bytes, *words: str | Path, before: tuple[str | Path, ...] = ()) -> tuple[int, str, str]:
        module = self.folder / "program.wasm"
        module.write_bytes(wasm)
        argv = ["exec", *map(str, before), str(module), *map(str, words)]
        with pytest.raises(SystemExit) as caught:
            raise SystemExit(report(lambda: app(argv, standalone_mode=True)))
        out, error = self.capture.readouterr()
        return int(caught.value.code or 0), out, error

    def json(self, wasm: bytes, *words: str | Path) -> dict[str, Any]:
        _, out, _ = self(wasm, "--output", "json", *words)
        found: dict[str, Any] = json.loads(out.splitlines()[-1])
        return found


@pytest.fixture
def shell(tmp_path: Path, capfd: Any, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return Shell(tmp_path, capfd)


def test_output_and_exit_code_are_the_programs(shell: Shell) -> None:
    assert shell(wat(SAY_HELLO)) == (0, "hello", "")
    assert shell(wat(SAY_HELLO, exit_with(7))) == (7, "hello", "")
    assert shell(wat(exit_with(256)))[0] == 255  # a shell would make 0 of it
    assert shell(wat(SAY_HELLO.replace("(i32.const 1) (i32.const 240)", "(i32.const 2) (i32.const 240)"))) == (
        0, "", "hello",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("step", "options", "code", "words"),
    [
        ("unreachable", [], 134, "trap"),
        ("(drop (i32.load (i32.const -4)))", [], 134, "out of bounds"),
        ("(loop $l (br $l))", ["--fuel", "100000"], 152, "out of fuel"),
        ("(loop $l (br $l))", ["--fuel", str(10**15), "--timeout", "0.2"], 124, "time-out"),
        (SAY_HELLO, ["--limit", "stdout_bytes=4"], 153, "stdout_bytes"),
        ("(call $_start)", [], 125, "deeper"),
    ],
)
def test_endings_have_codes_of_their_own(shell: Shell, step: str, options: list[str], code: int, words: str) -> None:
    source = program(step, data=HELLO).replace('(func (export "_start")', '(func $_start (export "_start")')
    found = shell(bytes(wasmtime.wat2wasm(source)), *options)
    assert found[0] == code
    assert words in found[2]


def test_what_the_profile_refuses_has_a_code_and_is_named(shell: Shell) -> None:
    wasm = wasmtime.wat2wasm('(module (import "env" "secret" (func)) (func (export "_start")))')
    code, out, error = shell(bytes(wasm))
    assert (code, out) == (126, "")
    assert "env.secret" in error
    assert shell(b"no module")[0] == 126
    code, _, error = shell(tarfile.TarInfo("x").tobuf())
    assert (code, "quorate-node docker exec" in error) == (126, True), "an image is tried by another command"


def test_options_stand_anywhere_and_arguments_behind_dashes(shell: Shell) -> None:
    count = (
        '(import "wasi_snapshot_preview1" "args_sizes_get" (func $args (param i32 i32) (result i32)))'
        '(import "wasi_snapshot_preview1" "environ_sizes_get" (func $env (param i32 i32) (result i32)))'
        '(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))'
    )
    wasm = bytes(
        wasmtime.wat2wasm(
            f"(module {count} (memory (export \"memory\") 1) (func (export \"_start\")"
            "(drop (call $args (i32.const 0) (i32.const 4))) (drop (call $env (i32.const 8) (i32.const 12)))"
            "(call $exit (i32.add (i32.load (i32.const 0)) (i32.mul (i32.const 10) (i32.load (i32.const 8)))))))"
        )
    )  # fmt: skip
    assert shell(wasm)[0] == 1
    assert shell(wasm, "--env", "A=1", "--", "--env", "B=2", "--")[0] == 14
    assert shell(wasm, "x", "--env", "B=2", before=("--env", "A=1"))[0] == 22
    assert shell(wasm, "--env", "nonsense")[0] == 2


def test_json_tells_the_ending_after_the_programs_own_output(shell: Shell) -> None:
    code, out, _ = shell(wat(SAY_HELLO, exit_with(3)), "--output", "json")
    assert code == 3
    assert out.startswith("hello\n{")
    found = json.loads(out.splitlines()[-1])
    assert (found["status"], found["exit_code"]) == ("FAILED", 3)
    assert found["digest"].startswith("0x")
    assert found["fuel"] > 0
    assert found["seconds"] > 0
    assert shell.json(wat("unreachable"))["exit_code"] == -1
    lost = shell.json(wat("(loop $l (br $l))"), "--timeout", "0.1", "--fuel", str(10**15))
    assert (lost["status"], lost["exit_code"], lost["digest"]) == ("TIMEOUT", None, None)


def test_both_engines_and_every_run_give_what_the_executor_gives(shell: Shell, bench: Any, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes(b"abc")
    wasm = wat(
        "(drop (call $random_get (i32.const 256) (i32.const 5)))", SAY_HELLO, write_file("f", 4),
        "(drop (call $clock_time_get (i32.const 0) (i64.const 0) (i32.const 256)))", data=HELLO + text(512, "f"),
    )  # fmt: skip
    words = ("--input", tmp_path / "in.txt", "--env", "A=1", "--", "x")
    runs = [shell.json(wasm, "--engine", engine, *words) for engine in ("cranelift", "pulley", "cranelift")]
    assert len({run["digest"] for run in runs}) == 1
    assert len({run["fuel"] for run in runs}) == 1
    source = str(bench.store.add_path(tmp_path / "in.txt"))
    executed = bench.finish(
        wasm, limits={"fuel": Limits().fuel}, input=source, input_name="in.txt", args=("x",), env={"A": "1"}
    )
    assert runs[0]["digest"] == f"0x{executed.result.leaf.hex()}"
    assert runs[0]["fuel"] == executed.fuel_used


def test_outputs_are_written_back_only_when_asked_and_when_it_ended(shell: Shell, tmp_path: Path) -> None:
    wasm = wat(write_file("f", 4), data=HELLO + text(512, "f"))
    out = tmp_path / "new" / "out"
    assert shell(wasm, "--out", out)[0] == 0
    assert (out / "f").read_bytes() == b"hello"
    (tmp_path / "empty").mkdir()
    assert shell(wasm, "--out", tmp_path / "empty")[0] == 0
    assert (tmp_path / "empty" / "f").read_bytes() == b"hello"
    trapping = wat(write_file("f", 4), "unreachable", data=HELLO + text(512, "f"))
    assert shell(trapping, "--out", tmp_path / "none")[0] == 134
    assert not (tmp_path / "none").exists()


def make_in(out: Path, make: Callable[[Path], object]) -> None:
    out.mkdir()
    make(out / "f")


PLACES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a file of before": (lambda out: make_in(out, lambda f: f.write_bytes(b"mine")), "not empty"),
    "a symbolic link": (lambda out: make_in(out, lambda f: f.symlink_to("../victim")), "not empty"),
    "a hard link": (lambda out: make_in(out, lambda f: f.hardlink_to(f.parent.parent / "victim")), "not empty"),
    "a pipe": (lambda out: make_in(out, os.mkfifo), "not empty"),
    "no folder": (lambda out: out.write_bytes(b"mine"), "no folder"),
    "a link to nothing": (lambda out: out.symlink_to("nowhere"), "no folder"),
    "a pipe itself": (os.mkfifo, "no folder"),
}


@pytest.mark.parametrize("what", list(PLACES))
def test_outputs_are_not_mixed_with_what_is_there(shell: Shell, tmp_path: Path, what: str) -> None:
    """Told before the program runs, so that it says nothing."""
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.write_bytes(b"precious")
    make, reason = PLACES[what]
    make(out)
    wasm = wat(SAY_HELLO, write_file("f", 4), data=HELLO + text(512, "f"))
    code, said, error = shell(wasm, "--out", out)
    assert (code, said) == (2, "")
    assert reason in error
    assert victim.read_bytes() == b"precious"
    assert shell(wasm, "--out", victim / "below")[0] == 2


def test_what_comes_to_stand_there_meanwhile_is_left_alone(tmp_path: Path) -> None:
    store, victim, out = MemoryStore(), tmp_path / "victim", tmp_path / "out"
    victim.write_bytes(b"precious")
    (tmp_path / "left").mkdir()
    (tmp_path / "left" / "f").write_bytes(b"hello")
    root = store.add_path(tmp_path / "left")
    for make in (lambda f: f.symlink_to(victim), lambda f: f.hardlink_to(victim), os.mkfifo):
        make_in(out, make)
        with pytest.raises(ConfigurationError, match="File exists"):
            write_back(store, root, out)
        assert victim.read_bytes() == b"precious"
        (out / "f").unlink()
        out.rmdir()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("output_files=3",), "output_files = 3"),
        (("output_bytes=9",), "output_bytes = 9"),
        (("memory_bytes=1",), "memory_bytes=1 is out of range: memory_bytes is 65536"),
        (("module_bytes=" + "9" * 5000,), "is out of range: module_bytes is 8"),
        (("fuel=9",), "by --fuel"),
        (("memory=9",), "memory_bytes, "),
    ],
)
def test_limits_are_told_as_they_are_given(shell: Shell, words: tuple[str, ...], told: str, tmp_path: Path) -> None:
    (tmp_path / "given").mkdir()
    for name in ("one", "two"):
        (tmp_path / "given" / name).write_bytes(b"some bytes of before")
    given = [word for each in words for word in ("--limit", each)]
    for fd, more in ((4, []), (3, ["--dir", f"{tmp_path}/given::/"])):
        files = [write_file(name, fd) for name in ("abcd", "abc", "ab", "a")]
        _, _, error = shell(wat(*files, data=HELLO + text(512, "abcd")), *given, *more)
        assert told in error


@pytest.mark.parametrize(
    "words", [("--timeout", "inf"), ("--timeout", "nan"), ("--timeout", "0"), ("--fuel", str(1 << 63)), ("--fuel", "0")]
)
def test_numbers_beyond_all_bounds_are_refused(shell: Shell, words: tuple[str, str]) -> None:
    code, _, error = shell(wat(SAY_HELLO), *words)
    assert code == 2
    assert f"Invalid value for '{words[0]}'" in error


def test_variables_and_arguments_that_are_no_text_are_refused(shell: Shell) -> None:
    for words in (("--env", "A=\udcff"), ("--env", "\udcff=A"), ("--", "\udcff"), ("--dir", "\udcff::/")):
        code, _, error = shell(wat(SAY_HELLO), *words)
        assert code == 2
        assert error.startswith("error: ")


def test_folders_are_copies_from_descriptor_3_on_and_nothing_else_is_there(shell: Shell, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(b"x")
    folders = ("--dir", f"{tmp_path}/one::/", "--dir", f"{tmp_path}/two::two")
    sees = wat(
        opened(512, 3, 3), opened(520, 3, 4), write_file("one", 4), data=HELLO + text(512, "one") + text(520, "two")
    )
    assert shell(sees, *folders) == (0, "", "")
    assert sorted(entry.name for entry in (tmp_path / "two").iterdir()) == ["two"]
    assert shell(wat(opened(512, 3, 5), data=text(512, "one")), *folders)[0] == 108  # BADF: there is no descriptor 5
    assert shell(wat(opened(512, 3, 4), data=text(512, "one")), *folders)[0] == 144  # NOENT


def test_a_folder_can_be_the_outputs(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "old").write_bytes(b"old")
    wasm = wat(write_file("f", 3), data=HELLO + text(512, "f"))
    assert shell(wasm, "--dir", f"{tmp_path}/work::/outputs", "--out", tmp_path / "out")[0] == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == {"f": b"hello", "old": b"old"}
    assert shell(wasm, "--dir", f"{tmp_path}/work::/work", "--out", tmp_path / "out")[0] == 2
    assert shell(wasm, "--dir", f"{tmp_path}/work::/work", "--input", tmp_path / "work")[0] == 2
    assert shell(wasm, "--dir", f"{tmp_path}/gone::/")[0] == 2


@pytest.fixture
def try_it(tmp_path: Path) -> Callable[..., Any]:
    def run(wasm: bytes, *folders: Folder, **fields: Any) -> Any:
        return run_trial(Trial(wasm, folders=folders, cache_dir=tmp_path / "cache", **fields))

    return run


def test_the_digest_covers_what_the_folders_hold(try_it: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "l").symlink_to("/nowhere")
    (tmp_path / "d" / "f").write_bytes(b"1")
    os.mkfifo(tmp_path / "d" / "pipe")
    folder, idle = Folder(tmp_path / "d", b"/"), wat()
    first = try_it(idle, folder)
    assert first.code == 0
    assert try_it(idle, folder, engine=EngineName.PULLEY).result == first.result
    (tmp_path / "d" / "f").write_bytes(b"2")
    second = try_it(idle, folder)
    (tmp_path / "d" / "l").unlink()
    assert len({run.result.leaf for run in (first, second, try_it(idle, folder))}) == 3


def test_the_digest_does_not_depend_on_the_order_of_the_folders(try_it: Callable[..., Any], tmp_path: Path) -> None:
    folders = []
    for name in (b"/b", b"/a", b"/c"):
        (tmp_path / name.decode().strip("/")).mkdir()
        folders.append(Folder(tmp_path / name.decode().strip("/"), name))
        (folders[-1].source / "f").write_bytes(name)
    runs = [try_it(wat(), *order) for order in (folders, folders[::-1], sorted(folders, key=lambda f: f.guest))]
    assert len({run.result.leaf for run in runs}) == 1
    other = [Folder(folders[0].source, b"/a"), Folder(folders[1].source, b"/b"), folders[2]]
    assert try_it(wat(), *other).result.leaf != runs[0].result.leaf


def test_links_in_folders_do_not_lead_out(try_it: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "secret").write_bytes(b"x")
    (tmp_path / "d" / "abs").symlink_to(tmp_path / "secret")
    (tmp_path / "d" / "rel").symlink_to("../secret")
    for name in ("abs", "rel"):
        outcome = try_it(wat(opened(512, 3, 3), data=text(512, name)), Folder(tmp_path / "d", b"/"))
        assert outcome.code == 163  # PERM


def test_what_was_copied_in_is_free_and_what_is_added_is_not(try_it: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "big").write_bytes(bytes(1000))
    wasm, folder = wat(write_file("f", 3), data=HELLO + text(512, "f")), Folder(tmp_path / "d", b"/")
    assert try_it(wasm, folder, limits=Limits(output_bytes=5)).code == 0
    assert try_it(wasm, folder, limits=Limits(output_bytes=4)).code == 153
    assert try_it(wasm, folder, limits=Limits(output_files=0)).code == 153


def test_names_that_no_program_can_say_are_refused(try_it: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / os.fsdecode(b"d/\xff\xfe")).write_bytes(b"x")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        try_it(wat(), Folder(tmp_path / "d", b"/"))


def test_folders_are_parsed(tmp_path: Path) -> None:
    assert Folder.parse(f"{tmp_path}::/") == Folder(tmp_path, b"/")
    assert Folder.parse(str(tmp_path)) == Folder(tmp_path, str(tmp_path).encode())
    for text_, words in (
        (f"{tmp_path}::", "1 to 4096 bytes"),
        (f"{tmp_path}::{'x' * 4097}", "1 to 4096 bytes"),
        ("/nowhere::/", "not a folder"),
        (f"{tmp_path}:/", "not a folder"),
        ("", "1 to 4096 bytes"),
        ("::/", "names no folder"),
        (f"{tmp_path}::" + os.fsdecode(b"\xff"), "UTF-8"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            Folder.parse(text_)


def test_folders_have_any_name_and_may_be_relative_or_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, try_it: Callable[..., Any]
) -> None:
    """Each is the same folder with one file, which the program cannot make anew where it is there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b::c" / "d").mkdir(parents=True)
    kept = tmp_path / "a:b::c" / "d" / "f"
    kept.write_bytes(b"kept")
    kept.chmod(0o444)
    (tmp_path / "link").symlink_to("a:b::c/d")
    step = (
        f"(if (call $path_open (i32.const 3) (i32.const 0) (i32.const 512) (i32.const 1) (i32.const 5) (i64.const 64)"
        f" (i64.const 0) (i32.const 0) (i32.const 0)) (then {exit_with(9)}))"
    )
    wasm = wat(step, data=HELLO + text(512, "f"))
    for given in ("a:b::c/d::/", "a:b::c/d/::g", "./a:b::c/d::fs.dir/", "link::/", f"{tmp_path}/link/::a:b"):
        assert try_it(wasm, Folder.parse(given)).code == 9, given
    monkeypatch.chdir(tmp_path / "link")
    assert Folder.parse(".") == Folder(Path(), b".")
    assert try_it(wasm, Folder.parse(".")).code == 9
    assert kept.read_bytes() == b"kept"
    assert try_it(wasm, Folder.parse(f"{tmp_path}::/")).code == 0


def test_node_tells_its_version(capfd: Any) -> None:
    with pytest.raises(SystemExit) as caught:
        app(["--version"], standalone_mode=True)
    assert caught.value.code == 0
    assert capfd.readouterr() == (f"{quorate.__version__}\n", "")


def test_modules_that_no_job_can_have_are_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.wasm").open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(DataError, match="strip it"):
        read_module(tmp_path / "huge.wasm")
    with pytest.raises(ConfigurationError, match="cannot read"):
        read_module(tmp_path)


def test_machine_code_is_kept_and_a_place_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    first = run_trial(Trial(wat(), cache_dir=tmp_path / "cache"))
    assert first.code == 0
    assert first.compile_seconds > 0
    assert len(list((tmp_path / "cache").glob("*.cwasm"))) == 1
    (tmp_path / "file").write_bytes(b"")
    assert run_trial(Trial(wat(), cache_dir=tmp_path / "file" / "cache")).code == 0


@pytest.mark.parametrize("command", ["exec", "inspect"])
def test_only_files_are_modules(command: str, tmp_path: Path, capfd: Any) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "pipe", tmp_path / "folder", Path("/dev/zero"), tmp_path / "absent"):
        argv = [command, str(path)]
        assert report(lambda argv=argv: app(argv, standalone_mode=True)) == 2  # type: ignore[misc]
        assert str(path) in capfd.readouterr().err
