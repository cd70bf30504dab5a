from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from prisbench.errors import DataError, WriteError
from prisbench.runtime.files import (
    cache_folder,
    new_folder,
    read_json,
    replacing,
    sha256_file,
    sha256_json,
    write_bytes,
    write_json,
    write_text,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_with_its_parent_folders_and_nothing_else(tmp_path: Path) -> None:
    path = write_text(tmp_path / "a" / "b" / "note.txt", "größer\n")
    assert path.read_bytes() == "größer\n".encode()
    assert names(tmp_path / "a" / "b") == ["note.txt"]


def test_json_bytes_follow_from_the_value_alone(tmp_path: Path) -> None:
    one = write_json(tmp_path / "one.json", {"b": 1, "a": ["ü", None]}).read_bytes()
    two = write_json(tmp_path / "two.json", {"a": ["ü", None], "b": 1}).read_bytes()
    assert one == two == '{\n  "a": [\n    "ü",\n    null\n  ],\n  "b": 1\n}\n'.encode()
    assert read_json(tmp_path / "one.json") == {"a": ["ü", None], "b": 1}


def test_not_a_number_never_reaches_the_disk(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "run.json", {"iou": float("nan")})
    assert names(tmp_path) == []


def test_an_interrupted_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = write_text(tmp_path / "run.json", "old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temp:
        temp.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert names(tmp_path) == ["run.json"]


def test_a_killed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_text(tmp_path / "run.json", "old")
    child = (
        "import os, sys\nfrom prisbench.runtime.files import replacing\n"
        "with replacing(sys.argv[1]) as temp:\n    temp.write_text('half'); os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", child, str(path)], check=False).returncode == 9
    assert path.read_text() == "old"


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_text(tmp_path / "run.json", "old")
    child = (
        "import resource, sys\nfrom prisbench.runtime.files import write_bytes\n"
        "from prisbench.errors import WriteError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n    write_bytes(sys.argv[1], bytes(100_000))\nexcept WriteError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", child, str(path)], check=True, capture_output=True, text=True)
    assert done.stdout == f"cannot write {path}: the disk is full; free some space or choose another place\n"
    assert path.read_text() == "old"
    assert names(tmp_path) == ["run.json"]


@pytest.mark.usefixtures("without_root")
def test_a_read_only_folder_is_one_line() -> None:
    with pytest.raises(WriteError, match=r"cannot write /etc/prisbench\.json: no permission; choose a place"):
        write_bytes("/etc/prisbench.json", b"x")


def test_a_folder_or_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="a folder has that name"):
        write_bytes(tmp_path, b"x")
    write_bytes(tmp_path / "file", b"x")
    with pytest.raises(WriteError, match="a file stands where a folder is wanted"):
        write_bytes(tmp_path / "file" / "inner.json", b"x")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real = write_text(tmp_path / "real.txt", "old")
    (tmp_path / "link.txt").symlink_to(real)
    write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert real.read_text() == "new"


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with new_folder(tmp_path / "set") as temp:
        (temp / "a.txt").write_text("a")
        assert not (tmp_path / "set").exists()
    assert names(tmp_path / "set") == ["a.txt"]
    assert names(tmp_path) == ["set"]


def test_an_interrupted_folder_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), new_folder(tmp_path / "set") as temp:
        (temp / "a.txt").write_text("a")
        raise KeyboardInterrupt
    assert names(tmp_path) == []


def test_an_existing_folder_is_replaced_only_when_asked_and_of_its_kind(tmp_path: Path) -> None:
    target = tmp_path / "set"
    write_text(target / "dataset.json", "old")
    with (
        pytest.raises(WriteError, match="set already exists; choose another"),
        new_folder(target, marker="dataset.json"),
    ):
        pass
    with new_folder(target, overwrite=True, marker="dataset.json") as temp:
        (temp / "dataset.json").write_text("new")
    assert (target / "dataset.json").read_text() == "new"
    elsewhere = new_folder(target, overwrite=True, marker="other.json")
    with pytest.raises(WriteError, match=r"holds something else \(no other.json in it\), so it is not"), elsewhere:
        pass
    assert names(tmp_path) == ["set"]


def test_when_the_last_step_fails_the_old_folder_is_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "set"
    write_text(target / "dataset.json", "old")
    rename = os.rename
    calls: list[str] = []

    def second_fails(source: Path, to: Path) -> None:
        calls.append(str(to))
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(source, to)

    monkeypatch.setattr(os, "rename", second_fails)
    replacement = new_folder(target, overwrite=True, marker="dataset.json")
    with pytest.raises(WriteError, match="the disk is full"), replacement as temp:
        (temp / "dataset.json").write_text("new")
    assert (target / "dataset.json").read_text() == "old"
    assert names(tmp_path) == ["set"]


def test_an_empty_folder_may_be_taken_and_a_file_not(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty") as temp:
        (temp / "a.txt").write_text("a")
    assert names(tmp_path / "empty") == ["a.txt"]
    write_text(tmp_path / "file", "x")
    with pytest.raises(WriteError, match="a file has that name"), new_folder(tmp_path / "file", overwrite=True):
        pass


def test_an_error_inside_a_folder_keeps_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), new_folder(tmp_path / "set"):
        raise PermissionError("of something else")


def test_reading_says_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json does not exist"):
        read_json(tmp_path / "none.json")
    with pytest.raises(DataError, match="is a folder; a file is wanted"):
        read_json(tmp_path)
    write_bytes(tmp_path / "cut.json", b'{"a": ')
    with pytest.raises(DataError, match=r"cut\.json is not JSON .* it was cut short or edited"):
        read_json(tmp_path / "cut.json")
    write_bytes(tmp_path / "latin.json", b'"\xe4"')
    with pytest.raises(DataError, match=r"latin\.json is not JSON"):
        read_json(tmp_path / "latin.json")


def test_hashes_are_sha256_and_key_order_does_not_count(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "x", b"x" * 1_000_000)
    assert sha256_file(path) == hashlib.sha256(b"x" * 1_000_000).hexdigest()
    assert sha256_json({"a": 1, "b": 2}) == sha256_json({"b": 2, "a": 1})
    assert sha256_json({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()


def test_the_cache_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRISBENCH_HOME", "~/elsewhere")
    assert cache_folder() == Path.home() / "elsewhere"
    monkeypatch.delenv("PRISBENCH_HOME")
    assert cache_folder() == Path.home() / ".cache" / "prisbench"
