"""A listing is believed only when it is all of a tree, and what is chosen from it can be stored and printed."""

import os
import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.git import environment

from shared.errors import SourceFailed
from shared.listing import ListingLimits, Selection, prove, select
from shared.model import BlobId, FilePath, Severity, Tree, TreeEntry, TreeId

BLOB = BlobId("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391")
OTHER = BlobId("0123456789abcdef0123456789abcdef01234567")
EMPTY_TREE = TreeId("4b825dc642cb6eb9a060e54bf8d69288fbee4904")
MIB = 1024 * 1024


def entry(path: str, mode: str = "100644", object_id: BlobId = BLOB, size: int | None = None) -> TreeEntry:
    return TreeEntry(FilePath(path), mode, object_id, size)


class GitTrees:
    """Writes real trees, also ones whose files do not exist, and lists them as Git does."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._git("init", "--quiet", "--bare")

    def of(self, *entries: TreeEntry) -> Tree:
        index = self._folder / "index-of-test"
        index.unlink(missing_ok=True)
        lines = [f"{one.mode} {one.object_id}\t".encode() + os.fsencode(one.path) + b"\0" for one in entries]
        self._git("update-index", "-z", "--index-info", stdin=b"".join(lines), GIT_INDEX_FILE=str(index))
        return self._listed(self._git("write-tree", "--missing-ok", GIT_INDEX_FILE=str(index)))

    def of_mode(self, mode: str, path: str) -> Tree:
        """One file with a mode that Git does not write any more."""
        return self._listed(self._git("mktree", "--missing", stdin=f"{mode} blob {BLOB}\t{path}\n".encode()))

    def _listed(self, tree_id: bytes) -> Tree:
        entries = []
        for line in self._git("ls-tree", "-r", "-z", "--full-tree", tree_id.decode().strip()).split(b"\0")[:-1]:
            about, _, path = line.partition(b"\t")
            mode, _, object_id = about.decode().split(" ")
            entries.append(entry(path.decode("utf-8", "surrogateescape"), mode, BlobId(object_id)))
        return Tree(TreeId(tree_id.decode().strip()), tuple(entries))

    def _git(self, *arguments: str, stdin: bytes = b"", **more: str) -> bytes:
        command = ["git", f"--git-dir={self._folder}", *arguments]
        return subprocess.run(
            command, input=stdin, env={**environment(), **more}, capture_output=True, check=True
        ).stdout


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> GitTrees:
    return GitTrees(tmp_path_factory.mktemp("git"))


# -- The proof ---------------------------------------------------------------------------------------------------------

WEIRD = [
    "a", "a-b/x", "a.b", "a0/x", "a=", "b/c", "b-/c", "b.c/d", "b0", "A", "ä/ö", "日本/語", "\udcff\udcfe", "é",
    "e\u0301", "dir\udcff/file", "with space/and more", "line\nbreak", "tab\there", 'quo"te', "back\\slash", "-dash",
    "~tilde", "🚀", ".hidden/.file", "deep/er/and/deep/er/still/x", "deep/er/x", "deep-er/x", "deep.er", "\x01",
    "x" * 200,
]  # fmt: skip


def test_a_whole_listing_is_proven(trees: GitTrees) -> None:
    prove(trees.of(entry("a/b/runtime.yaml"), entry("README.md", object_id=OTHER)))


def test_names_are_sorted_as_git_sorts_them(trees: GitTrees) -> None:
    tree = trees.of(*[entry(path) for path in WEIRD])
    assert len(tree.entries) == len(WEIRD)
    prove(tree)


def test_every_mode_counts(trees: GitTrees) -> None:
    modes = ["100644", "100755", "120000", "160000"]
    tree = trees.of(*[entry(f"file{mode}", mode) for mode in modes], *[entry(f"in/file{mode}", mode) for mode in modes])
    prove(tree)
    changed = tuple(one._replace(mode="100644") for one in tree.entries)
    with pytest.raises(SourceFailed):
        prove(Tree(tree.tree_id, changed))


def test_a_mode_that_git_wrote_long_ago_is_kept(trees: GitTrees) -> None:
    tree_id = trees.of_mode("100664", "old").tree_id
    prove(Tree(tree_id, (entry("old", "100664"),)))


def test_the_order_of_the_entries_does_not_matter(trees: GitTrees) -> None:
    tree = trees.of(*[entry(f"{number % 7}/{number % 3}/{number}") for number in range(200)])
    shuffled = list(tree.entries)
    random.Random(1).shuffle(shuffled)
    prove(Tree(tree.tree_id, tuple(shuffled)))


def test_an_empty_tree_is_proven() -> None:
    prove(Tree(EMPTY_TREE, ()))


def test_a_listing_without_entries_is_no_proof_that_everything_is_gone(trees: GitTrees) -> None:
    with pytest.raises(SourceFailed):
        prove(Tree(trees.of(entry("runtime.yaml")).tree_id, ()))


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=6).filter(
    lambda name: name not in (".", "..") and name.lower() != ".git" and "\u200c" not in name
)
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)


@settings(max_examples=25)
@given(paths=st.lists(PATHS | st.sampled_from(WEIRD), min_size=1, max_size=30, unique=True), data=st.data())
def test_any_listing_is_proven_and_any_change_of_it_is_not(
    trees: GitTrees, paths: list[str], data: st.DataObject
) -> None:
    tree = trees.of(*[entry(path) for path in paths])
    prove(tree)
    entries = list(tree.entries)
    index = data.draw(st.integers(0, len(entries) - 1))
    one = entries.pop(index)
    change = data.draw(st.sampled_from(["lost", "content", "name", "mode", "twice", "more"]))
    entries += {
        "lost": [],
        "content": [one._replace(object_id=OTHER)],
        "name": [one._replace(path=FilePath(one.path + "x"))],
        "mode": [one._replace(mode="100755")],
        "twice": [one, one],
        "more": [one, entry("one more file")],
    }[change]
    with pytest.raises(SourceFailed):
        prove(Tree(tree.tree_id, tuple(entries)))


@pytest.mark.parametrize(
    "damaged",
    [
        entry("runtime.yaml", object_id=BlobId("not hex")),
        entry("runtime.yaml", object_id=BlobId(BLOB[:-2])),
        entry("runtime\0.yaml"),
        entry("\ud800"),
        entry(""),
        entry("/runtime.yaml"),
        entry("runtime.yaml/"),
        entry("runtime.yaml", mode="100644 "),
    ],
)
def test_a_damaged_listing_fails_and_does_not_crash(trees: GitTrees, damaged: TreeEntry) -> None:
    with pytest.raises(SourceFailed, match="listing"):
        prove(Tree(trees.of(entry("runtime.yaml")).tree_id, (damaged,)))


# -- The choice --------------------------------------------------------------------------------------------------------


def chosen(
    *entries: TreeEntry, root: str = "", pattern: str = "*runtime*.yaml", limits: ListingLimits | None = None
) -> Selection:
    return select(Tree(EMPTY_TREE, entries), root, pattern, limits or ListingLimits(), MIB)


def test_files_are_chosen_by_their_name_and_not_by_their_folder() -> None:
    paths = [
        "runtime.yaml",
        "a/b/my_runtime_1.yaml",
        "runtime/other.yaml",
        "runtime.yaml/other",
        "runtime.json",
        "x.yaml",
    ]
    selection = chosen(*[entry(path) for path in paths])
    assert selection == ({path: entry(path) for path in paths[:2]}, ())


def test_executable_and_old_modes_are_files() -> None:
    assert len(chosen(entry("runtime.yaml", "100755"), entry("2runtime.yaml", "100664")).entries) == 2


def test_only_what_is_below_the_root_is_looked_at() -> None:
    paths = [
        "etl/runtime.yaml",
        "etl/x/runtime.yaml",
        "etl2/runtime.yaml",
        "etl-runtime.yaml",
        "x/etl/runtime.yaml",
        "Etl/runtime.yaml",
    ]
    selection = chosen(*[entry(path) for path in paths], root="etl")
    assert (list(selection.entries), selection.findings) == (paths[:2], ())


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*runtime*.yaml", "runtime.yml"),
        ("*runtime*.yaml", "Runtime.yaml"),
        ("*runtime*.yaml", "x_RUNTIME.YML"),
        ("*runtime*.yml", "runtime.yaml"),
        ("*.json", "x.JSON"),
        ("Config[0-9].YAML", "config1.yml"),
    ],
)
def test_a_near_miss_is_told_and_not_chosen(pattern: str, name: str) -> None:
    selection = chosen(entry(f"a/{name}"), pattern=pattern)
    assert selection.entries == {}
    assert [(one.path, one.rule, one.severity) for one in selection.findings] == [
        (f"a/{name}", "near-miss", Severity.WARNING)
    ]
    assert pattern in selection.findings[0].message


@pytest.mark.parametrize("name", ["runtime.yaml.bak", "runtime.json", "runtim.yaml", "runtime", "runtime.yamlx"])
def test_another_name_is_no_near_miss(name: str) -> None:
    assert chosen(entry(name)) == ({}, ())


@pytest.mark.parametrize(
    ("pattern", "name"), [("[ab].yaml", "a.yaml"), ("?.yaml", "é.yaml"), ("*.json", "x.json"), ("*", "any")]
)
def test_patterns_are_those_of_fnmatch(pattern: str, name: str) -> None:
    assert list(chosen(entry(name), pattern=pattern).entries) == [name]


@pytest.mark.parametrize(("mode", "word"), [("120000", "symbolic link"), ("160000", "submodule")])
def test_what_is_no_file_is_noted_and_not_chosen(mode: str, word: str) -> None:
    selection = chosen(entry("runtime.yaml", mode))
    assert selection.entries == {}
    assert [(one.rule, one.severity) for one in selection.findings] == [("not-a-file", Severity.NOTE)]
    assert word in selection.findings[0].message


@pytest.mark.parametrize(
    ("path", "rule", "shown"),
    [
        ("a/\udcff_runtime.yaml", "path-not-utf-8", "a/\\xff_runtime.yaml"),
        ("a/\ud800_runtime.yaml", "path-not-utf-8", "a/\\ud800_runtime.yaml"),
        ("a\udce4/runtime.yaml", "path-not-utf-8", "a\\xe4/runtime.yaml"),
        ("a/new\nline_runtime.yaml", "path-control-character", "a/new\\x0aline_runtime.yaml"),
        ("a/\x9b_runtime.yaml", "path-control-character", "a/\\x9b_runtime.yaml"),
        ("a/\0_runtime.yaml", "path-control-character", "a/\\x00_runtime.yaml"),
        ("ä" * 506 + "/runtime.yaml", "path-too-long", "ä" * 506 + "/runtime.yaml"),
    ],
)
def test_a_path_that_cannot_be_stored_is_an_error_that_can_be_printed(path: str, rule: str, shown: str) -> None:
    selection = chosen(entry(path))
    assert selection.entries == {}
    assert [(one.path, one.rule, one.severity) for one in selection.findings] == [(shown, rule, Severity.ERROR)]
    selection.findings[0].path.encode()


def test_a_path_of_1024_bytes_can_be_stored() -> None:
    assert chosen(entry("ä" * 505 + "/_runtime.yaml")).findings == ()


def test_a_path_that_is_listed_twice_is_an_error() -> None:
    assert [one.rule for one in chosen(entry("runtime.yaml"), entry("runtime.yaml")).findings] == ["path-listed-twice"]


def test_a_file_known_to_be_too_large_is_not_fetched() -> None:
    selection = chosen(entry("runtime.yaml", size=MIB + 1), entry("2runtime.yaml", size=MIB), entry("3runtime.yaml"))
    assert list(selection.entries) == ["2runtime.yaml", "3runtime.yaml"]
    assert [(one.path, one.rule, one.severity) for one in selection.findings] == [
        ("runtime.yaml", "file-too-large", Severity.ERROR)
    ]


def test_of_too_many_files_none_is_fetched() -> None:
    limits = ListingLimits(max_files=2)
    entries = [entry(f"{number}_runtime.yaml") for number in range(3)]
    assert len(chosen(*entries[:2], limits=limits).entries) == 2
    selection = chosen(*entries, limits=limits)
    assert selection.entries == {}
    assert [(one.rule, one.severity) for one in selection.findings] == [("too-many-files", Severity.ERROR)]


def test_of_too_many_bytes_none_is_fetched() -> None:
    limits = ListingLimits(max_total_bytes=10)
    entries = [entry("1_runtime.yaml", size=6), entry("2_runtime.yaml", size=4), entry("3_runtime.yaml", size=1)]
    assert len(chosen(*entries[:2], limits=limits).entries) == 2
    selection = chosen(*entries, limits=limits, root="")
    assert selection.entries == {}
    assert [(one.rule, one.severity) for one in selection.findings] == [("too-many-bytes", Severity.ERROR)]
