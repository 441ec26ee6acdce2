import dataclasses
import os
import stat

import pytest

from components.shared import storage
from tests.fast.conftest import files_below

GROUP_READ_WRITE = stat.S_IRGRP | stat.S_IWGRP


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_published_folder_is_complete_and_leaves_nothing_beside_it(tmp_path):
    final = tmp_path / "models" / "commit"
    with storage.publish_folder(final) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "weights").write_bytes(b"123")
        (folder / "config.json").write_text("{}")
        assert not final.exists()
    assert files_below(tmp_path) == ["models/commit/config.json", "models/commit/sub/weights"]
    assert [path.name for path in final.parent.iterdir()] == ["commit"]


def test_nothing_stands_under_the_final_name_when_the_block_raises(tmp_path):
    def fill():
        with storage.publish_folder(tmp_path / "commit") as folder:
            (folder / "weights").write_bytes(b"12")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_of_two_publishers_the_first_stays_and_the_second_does_not_fail(tmp_path):
    final = tmp_path / "commit"
    with storage.publish_folder(final) as slow:
        (slow / "by").write_text("slow")
        with storage.publish_folder(final) as fast:
            (fast / "by").write_text("fast")
    assert (final / "by").read_text() == "fast"
    assert [path.name for path in tmp_path.iterdir()] == ["commit"]


def test_file_in_the_way_is_an_error_and_is_kept(tmp_path):
    (tmp_path / "commit").write_text("mine")

    def fill():
        with storage.publish_folder(tmp_path / "commit") as folder:
            (folder / "weights").write_bytes(b"1")

    with pytest.raises(NotADirectoryError):
        fill()
    assert (tmp_path / "commit").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["commit"]


def test_whole_folder_appears_under_its_final_name_and_is_gone_from_the_old_one(tmp_path):
    (tmp_path / "ready").mkdir()
    (tmp_path / "ready" / "weights").write_bytes(b"1")
    storage.publish_whole(tmp_path / "ready", tmp_path / "adapted" / "key")
    assert files_below(tmp_path) == ["adapted/key/weights"]
    assert mode(tmp_path / "adapted") == storage.FOLDER_MODE
    assert [path.name for path in tmp_path.iterdir()] == ["adapted"]


def test_whole_folder_gives_way_to_one_that_was_published_before(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "by").write_text(name)
        storage.publish_whole(tmp_path / name, tmp_path / "final")
    assert files_below(tmp_path) == ["final/by"]
    assert (tmp_path / "final" / "by").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_group_may_read_and_write_all_that_is_published(tmp_path):
    final = tmp_path / "commit"
    with storage.publish_folder(final) as folder:
        (folder / "sub").mkdir(mode=0o700)
        (folder / "sub" / "weights").write_bytes(b"1")
        (folder / "sub" / "weights").chmod(0o600)  # as safetensors does
    assert mode(final) == mode(final / "sub") == storage.FOLDER_MODE
    assert mode(final / "sub" / "weights") == storage.FILE_MODE
    assert storage.FILE_MODE & GROUP_READ_WRITE == storage.FOLDER_MODE & GROUP_READ_WRITE == GROUP_READ_WRITE


def test_group_may_write_to_folders_made_on_the_way(tmp_path):
    """The next pod, another user of the group, puts the next commit beside this one."""
    with storage.publish_folder(tmp_path / "models" / "org--name" / "commit"):
        pass
    storage.write_json(tmp_path / "runs" / "key" / "summary.json", {})
    made = [path for path in tmp_path.rglob("*") if path.is_dir()]
    assert {str(path.relative_to(tmp_path)) for path in made if not mode(path) & stat.S_IWGRP} == set()
    assert len(made) == 5


@pytest.mark.parametrize(
    "value", [{"loss": float("nan")}, [float("inf")], {"path": object()}, {1: 1, "a": {2, 3}}, {"text": "\ud800"}]
)
def test_old_file_stays_when_the_value_cannot_be_written(tmp_path, value):
    target = tmp_path / "summary.json"
    storage.write_json(target, {"loss": 1.5})
    with pytest.raises((ValueError, TypeError)):
        storage.write_json(target, value)
    assert storage.read_json(target) == {"loss": 1.5}
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]


@pytest.mark.parametrize("value", [{}, [], {"ä": ["\n\r\u2028", 1, 1.5, None, True]}, "text"])
def test_json_comes_back_as_it_was_written(tmp_path, value):
    storage.write_json(tmp_path / "new" / "value.json", value)
    assert storage.read_json(tmp_path / "new" / "value.json") == value
    storage.write_jsonl(tmp_path / "values.jsonl", [value, value])
    assert storage.read_jsonl(tmp_path / "values.jsonl") == [value, value]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"x": {"a": [1, {"c": 3, "d": 4}], "b": 2}}, {"x": {"b": 2, "a": [1, {"d": 4, "c": 3}]}}),
        ((1, 2), [1, 2]),
    ],
)
def test_digest_does_not_depend_on_the_order_of_keys(one, other):
    assert storage.sha256_of_json(one) == storage.sha256_of_json(other)


@pytest.mark.parametrize(
    ("one", "other"), [([1, 2], [2, 1]), ({"a": 1}, {"a": "1"}), ({"a": None}, {}), ("a", "ä"), ("a", "a ")]
)
def test_digest_changes_with_the_value(one, other):
    assert storage.sha256_of_json(one) != storage.sha256_of_json(other)


def test_digest_of_json_is_the_sha256_of_its_canonical_text(tmp_path):
    (tmp_path / "text").write_bytes('{"a":"ä","b":[1,2]}'.encode())
    assert storage.sha256_of_json({"b": [1, 2], "a": "ä"}) == storage.sha256_of_file(tmp_path / "text")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kept:
    name: str
    came_later: int = 7


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"name": "a", "came_later": 1}, Kept(name="a", came_later=1)),
        ({"name": "a", "of_another_release": [1]}, Kept(name="a")),
    ],
)
def test_record_of_another_release_is_read(values, expected):
    assert storage.from_dict(Kept, values) == expected


def test_record_without_a_field_that_was_always_there_is_not_guessed():
    with pytest.raises(ValueError, match="name: field required"):
        storage.from_dict(Kept, {"came_later": 1})


@pytest.mark.parametrize("content", ["[" * 100_000, '{"size": ' + "9" * 5000 + "}", "{", "x" * 2000, None])
def test_json_that_nobody_here_wrote_is_one_error(tmp_path, monkeypatch, content):
    monkeypatch.setattr(storage, "MAX_JSON_BYTES", 1000 if content and content[0] == "x" else 1 << 20)
    if content is None:
        os.mkfifo(tmp_path / "value.json")
    else:
        (tmp_path / "value.json").write_text(content, encoding="utf-8")

    with pytest.raises(ValueError, match=r"nested|digits|property name|bytes|no file"):
        storage.read_json(tmp_path / "value.json")
