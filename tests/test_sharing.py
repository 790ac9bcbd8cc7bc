"""benchmark.pack and benchmark.merge: runs of two results folders become one table, and nothing is at risk."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd
import pytest
from factories.records import make_record, make_run, put

from benchmark import merge, pack
from benchmark.plan import code
from benchmark.store import archive, leases
from benchmark.store.encoding import encode
from benchmark.store.provenance import REPOSITORY
from benchmark.store.record import Record
from benchmark.store.store import Store
from tests.tools import gpu

PREDICTED = np.array([0, 1, 2, 1]), np.array([0.5, 0.25, 0.125, 1.0])


def from_elsewhere(record: Record, **more: object) -> Record:
    """The same numbers, measured on another machine at another time."""
    told = {"device": "Some GPU", "seconds": 0.5, "finished": "2026-02-03T04:05:06Z", "torch": "2.15.0", **more}
    return msgspec.structs.replace(record, provenance=msgspec.structs.replace(record.provenance, **told))


def other_numbers(record: Record) -> Record:
    """One right answer more, in the second epoch."""
    test = record.answers.test.copy()
    test[1, 1] += 1
    return msgspec.structs.replace(record, answers=msgspec.structs.replace(record.answers, test=test))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def command(name: str, checkout: Path, *arguments: str) -> tuple[int, str]:
    """Exit code and output of a command, given where ``results`` is the folder of a checkout."""
    checkout.mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-m", f"benchmark.{name}", *arguments],
        cwd=checkout, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def replaced(path: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change the bytes of a member in the archive, behind the back of its checksum."""
    with zipfile.ZipFile(path) as packed:
        member = packed.getinfo(name)
        start = member.header_offset + 30 + len(name.encode())
    content = bytearray(path.read_bytes())
    content[start : start + member.compress_size] = change(bytes(content[start : start + member.compress_size]))
    path.write_bytes(content)


def flipped(content: bytes) -> bytes:
    return content[:100] + bytes([content[100] ^ 0xFF]) + content[101:]


def test_the_runs_of_two_checkouts_become_one_table(tmp_path: Path) -> None:
    """Seed 0 has the same numbers in both, seed 1 is here, 2 there; 3 differs, and 4 is damaged on its way."""
    here, there, sent = tmp_path / "here", tmp_path / "there", tmp_path / "there.zip"
    runs = [make_run(seed=seed) for seed in range(5)]
    shares = (0.4, 0.5, 0.6, 0.7, 0.8)
    records = [make_record(run, share) for run, share in zip(runs, shares, strict=True)]
    for record in (records[0], records[1], records[3]):
        put(here / "results", record)
    for record in (records[0], records[2], other_numbers(records[3]), records[4]):
        put(there / "results", from_elsewhere(record))
    before = contents(here)

    assert command("pack", there, "--output", str(sent))[0] == 0
    replaced(sent, f"runs/{runs[4].id}.json", flipped)
    exit_code, said = command("merge", here, str(sent))
    assert exit_code == 1
    lines = {line.split()[1]: line for line in said.splitlines() if line.startswith("  ")}
    assert lines.keys() == {runs[2].id, runs[3].id, runs[4].id}, "identical ones are only counted"
    assert lines[runs[2].id].split()[0] == "new"
    assert "answers.test[1][1] is 70 here and 71 there" in lines[runs[3].id]
    assert "device CPU (invented) here, Some GPU there" in lines[runs[3].id]
    assert lines[runs[4].id].split()[0] == "damaged"
    assert f"{sent}: 1 new, 1 identical, 1 refused, 0 running, 1 damaged" in said

    after = contents(here)
    assert {name: after[name] for name in before} == before, "nothing that was here has changed"
    new = f"results/runs/{runs[2].id}.json"
    assert after.keys() - before.keys() == {new}
    assert after[new] == contents(there)[new]

    assert command("run", here, "--tasks", "cmnist_99", "--methods", "vanilla", "--render-only")[0] == 0
    (table,) = (here / "results" / "tables").glob("*cmnist_99-vanilla.csv")
    assert {*pd.read_csv(table)["n"].dropna()} == {4}


def test_what_has_come_in_is_left_as_it_is_the_second_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here, there, sent = tmp_path / "here", tmp_path / "there", tmp_path / "there.zip"
    put(there, make_record(make_run()))
    for name in (sent, tmp_path / "again.zip"):
        assert pack.main(["--results", str(there), "--output", str(name)]) == 0
    assert sent.read_bytes() == (tmp_path / "again.zip").read_bytes(), "the same runs are the same archive"
    assert merge.main([str(sent), "--results", str(here)]) == 0
    before = contents(here)
    assert merge.main([str(sent), str(tmp_path / "again.zip"), "--results", str(here)]) == 0
    assert contents(here) == before
    assert capsys.readouterr().out.count("0 new, 1 identical") == 2


def test_predictions_come_with_their_record_and_to_one_that_lacks_them(tmp_path: Path) -> None:
    here, there, sent = tmp_path / "here", tmp_path / "there", tmp_path / "there.zip"
    for seed in (0, 1):
        assert Store(there).save(make_record(make_run(seed=seed)), PREDICTED)
    stored = list(Store(there).everything())
    assert Store(here).add(from_elsewhere(stored[0]), {}), "as git brings it, without predictions"
    assert pack.main(["--results", str(there), "--output", str(sent)]) == 0
    assert merge.main([str(sent), "--results", str(here)]) == 0
    for record in Store(here).everything():
        found = Store(here).predictions(record)
        assert found
        assert [each.tolist() for each in found] == [each.tolist() for each in PREDICTED]
    assert Store(here).load(make_run()).provenance.device == "Some GPU"  # type: ignore[union-attr]


def test_damaged_predictions_are_named_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    assert Store(there).save(make_record(make_run()), PREDICTED)
    (record,) = Store(there).everything()
    path = Store(there).predictions_path(record)
    name = path.relative_to(there).as_posix()
    sent = tmp_path / "sent.zip"
    files = contents(there)
    archive.write(sent, [*(files | {name: b"something else"}).items()])
    assert merge.main([str(sent), "--results", str(here)]) == 1
    said = capsys.readouterr().out
    assert f"damaged   {name}" in said
    assert "1 new, 0 identical, 0 refused, 0 running, 1 damaged" in said
    assert contents(here).keys() == files.keys() - {name}

    path.write_bytes(b"something else")
    assert pack.main(["--results", str(there), "--output", str(tmp_path / "packed.zip")]) == 0
    assert f"{path} is damaged and left out" in capsys.readouterr().out
    with zipfile.ZipFile(tmp_path / "packed.zip") as packed:
        assert packed.namelist() == [f"runs/{record.run.id}.json"]


def test_a_run_that_is_being_trained_here_is_left_to_its_owner(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there, sent = tmp_path / "here", tmp_path / "there", tmp_path / "there.zip"
    run = make_run()
    put(there, make_record(run))
    assert pack.main(["--results", str(there), "--output", str(sent)]) == 0
    lease = leases.acquire(Store(here).record_path(run))
    assert lease
    assert merge.main([str(sent), "--results", str(here)]) == 1
    assert f"running   {run.id}  " in capsys.readouterr().out
    assert not lease.lost
    assert Store(here).load(run) is None
    lease.release()
    assert merge.main([str(sent), "--results", str(here)]) == 0
    assert Store(here).load(run)


def test_only_records_and_what_belongs_to_them_are_carried(tmp_path: Path) -> None:
    """Neither failures nor what serves a training; a note of a failure here goes once the record comes."""
    here, there, sent = tmp_path / "here", tmp_path / "there", tmp_path / "there.zip"
    run, failed = make_run(), make_run(method="lff")
    put(there, make_record(run))
    Store(there).save_failure(failed, "no memory", "trace")
    Store(there).checkpoint_path(failed).write_bytes(b"checkpoint")
    Store(here).save_failure(run, "no memory", "trace")
    assert pack.main(["--results", str(there), "--output", str(sent)]) == 0
    assert merge.main([str(sent), "--results", str(here)]) == 0
    assert contents(here).keys() == {f"runs/{run.id}.json"}


def test_records_of_other_code_and_of_other_data_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here, there, sent = tmp_path / "here", tmp_path / "there", tmp_path / "there.zip"
    put(here, make_record(make_run(seed=9)))
    put(there, from_elsewhere(make_record(make_run()), loop_version=code.LOOP + 1))
    put(there, from_elsewhere(make_record(make_run(seed=1)), data="other"))
    put(there, make_record(make_run(seed=2)))
    put(there, from_elsewhere(make_record(make_run("cmnist_98")), data="a task's own"))
    assert pack.main(["--results", str(there), "--output", str(sent)]) == 0
    stale = f"version {code.LOOP + 1} of the common loop, which is now {code.LOOP}"
    assert f"1 of these runs is stale ({stale})" in capsys.readouterr().out
    assert merge.main([str(sent), "--results", str(here)]) == 0
    told = {line.split()[1][-1]: line for line in capsys.readouterr().out.splitlines() if "new       cmnist_99" in line}
    assert f"stale ({stale})" in told["0"]
    assert "fingerprint other, here 0123456789abcdef" in told["1"]
    assert told["2"].endswith(make_run(seed=2).id)


def test_runs_of_code_that_is_not_here_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here, there, sent = tmp_path / "here", tmp_path / "there", tmp_path / "there.zip"
    for seed, changes in enumerate(({"method": "rdw"}, {"network": "tiny_cnn"}, {})):
        made = make_record(make_run(seed=seed))
        own = msgspec.structs.replace(made, settings=made.settings | changes, method=changes.get("method", made.method))
        put(there, own)
    assert pack.main(["--results", str(there), "--output", str(sent)]) == 0
    capsys.readouterr()
    assert merge.main([str(sent), "--results", str(here)]) == 0
    told = {line.split()[1][-1]: line for line in capsys.readouterr().out.splitlines() if line.startswith("  new")}
    assert "no table shows it, since the method rdw is not here: put its file into methods/" in told["0"]
    assert "no table shows it, since the network tiny_cnn is not here: put its file into networks/" in told["1"]
    assert "no table" not in told["2"]


def test_what_is_no_record_but_has_its_name_stops_no_other_run(tmp_path: Path) -> None:
    here, there, sent = tmp_path / "here", tmp_path / "there", tmp_path / "there.zip"
    for seed in (0, 1):
        put(there, make_record(make_run(seed=seed)))
    Store(here).record_path(make_run()).mkdir(parents=True)
    assert pack.main(["--results", str(there), "--output", str(sent)]) == 0
    assert merge.main([str(sent), "--results", str(here)]) == 1
    assert Store(here).load(make_run(seed=1))


def member(name: str, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    found = zipfile.ZipInfo(name)
    found.compress_type, found.external_attr = zipfile.ZIP_DEFLATED, mode << 16
    return found


RUN = make_run().id
NEWER = encode(make_record(make_run())).replace('"schema": 3', '"schema": 4')
HOSTILE: dict[str, tuple[list[tuple[zipfile.ZipInfo, str | bytes]], str]] = {
    "outside": ([(member("runs/../../elsewhere.json"), "{}")], "lies outside"),
    "absolute": ([(member("/etc/passwd"), "")], "lies outside"),
    "backslashes": ([(member("runs\\..\\..\\x.json"), "{}")], "lies outside"),
    "link": ([(member(f"runs/{RUN}.json", stat.S_IFLNK | 0o777), "/etc/passwd")], "is a link"),
    "huge": ([(member(f"runs/{RUN}.json"), bytes(archive.LARGEST_RECORD + 1))], "more than 67,108,864"),
    "schema": ([(member(f"runs/{RUN}.json"), NEWER)], "schema 4, and 3 is the newest"),
    "twice": ([(member(f"runs/{RUN}.json"), "{}"), (member(f"runs/{RUN}.json"), "{}")], "two members of one name"),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_that_nobody_packed_is_refused_before_anything_is_done(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    members, sentence = HOSTILE[kind]
    good, bad = tmp_path / "good.zip", tmp_path / "bad.zip"
    put(tmp_path / "there", make_record(make_run(seed=1)))
    assert pack.main(["--results", str(tmp_path / "there"), "--output", str(good)]) == 0
    with zipfile.ZipFile(bad, "w") as packed:
        for name, content in members:
            packed.writestr(name, content)
    assert merge.main([str(good), str(bad), "--results", str(tmp_path / "here")]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not (tmp_path / "here").exists(), "the good one has not come in either"


@pytest.mark.parametrize("kind", ["broken off", "no zip", "absent", "a folder", "a pipe"])
def test_a_file_that_is_no_archive_is_one_sentence(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path / "there", make_record(make_run()))
    sent = tmp_path / "sent.zip"
    if kind == "broken off":
        assert pack.main(["--results", str(tmp_path / "there"), "--output", str(sent)]) == 0
        sent.write_bytes(sent.read_bytes()[:-50])
    elif kind == "no zip":
        sent.write_text("Dear colleague")
    elif kind == "a folder":
        sent.mkdir()
    elif kind == "a pipe":
        os.mkfifo(sent)
    assert merge.main([str(sent), "--results", str(tmp_path / "here")]) == 2
    said = capsys.readouterr().err
    assert str(sent) in said
    assert said.count("\n") == 1


def test_the_archive_of_a_gpu_session_comes_in_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = tmp_path / "gpu"
    put(there, make_record(make_run()))
    (there / "logs").mkdir()
    (there / "logs" / "tests.txt").write_text("ok")
    gpu.pack(there, ["tests: done, 3 s"], tmp_path / "gpu.zip")
    assert merge.main([str(tmp_path / "gpu.zip"), "--results", str(tmp_path / "here")]) == 0
    assert "1 new" in (said := capsys.readouterr().out)
    assert "2 files that belong to none of them stay in it" in said
    assert contents(tmp_path / "here").keys() == {f"runs/{RUN}.json"}


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    for run in (make_run(), make_run(method="lff"), make_run("cmnist_98"), make_run("dogs_cats", preset="reduced")):
        put(folder, make_record(run))
    return folder


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {"cmnist_99/vanilla", "cmnist_99/lff", "cmnist_98/vanilla", "dogs_cats/vanilla"}),
        (["--tasks", "cmnist_99"], {"cmnist_99/vanilla", "cmnist_99/lff"}),
        (["--tasks", "cmnist_99", "cmnist_98", "--methods", "vanilla"], {"cmnist_99/vanilla", "cmnist_98/vanilla"}),
        (["--preset", "reduced"], {"dogs_cats/vanilla"}),
    ],
)
def test_runs_are_chosen_by_task_method_and_preset(
    options: list[str], expected: set[str], stored: Path, tmp_path: Path
) -> None:
    sent = tmp_path / "sent.zip"
    assert pack.main([*options, "--results", str(stored), "--output", str(sent)]) == 0
    assert {each.rpartition("/")[0] for each in archive.Archive(sent).ids} == expected


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--tasks", "waterbirds"],
            "No stored run is of the task 'waterbirds'; there are cmnist_98, cmnist_99, dogs_cats",
        ),
        (["--methods", "lf"], "No stored run is of the method 'lf'; there are lff, vanilla"),
        (["--tasks", "cmnist_98", "--methods", "lff"], "No stored run is of these tasks and methods"),
        (["--tasks", "cmnist_98", "--preset", "reduced"], "in the preset 'reduced'; there are paper"),
    ],
)
def test_a_choice_that_leaves_nothing_writes_nothing(
    options: list[str], sentence: str, stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pack.main([*options, "--results", str(stored), "--output", str(tmp_path / "sent.zip")]) == 2
    assert sentence in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"results"}


def test_an_archive_takes_the_place_of_no_other_file(
    stored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = tmp_path / "sent.zip"
    sent.write_text("mine")
    assert pack.main(["--results", str(stored), "--output", str(sent)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert sent.read_text() == "mine"
