"""What the bootstrap program asks before another program may come; the rest of it runs in sandboxes alone."""

import ast

import pytest
from nad_sandbox.harness import file_transfer_source, judge_source, observer_source
from nad_sandbox.isolation.bootstrap import bootstrap_source, leftovers

NONE = "sockets: used 17\nTCP: inuse 0 orphan 3 tw 0 alloc 1 mem 139\nUDP: inuse 2 mem 0\n"
NONE_6 = "TCP6: inuse 0\nUDP6: inuse 1\n"


@pytest.mark.parametrize("source", [bootstrap_source, judge_source, observer_source, file_transfer_source])
def test_a_program_that_is_sent_into_a_sandbox_needs_neither_this_package_nor_a_newer_python_than_3_8(source):
    tree = ast.parse(source(), feature_version=(3, 8))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [node.module for node in imported if node.module.startswith("nad_sandbox")]


@pytest.mark.parametrize(
    ("counts", "counts_6", "found"),
    [
        (NONE, NONE_6, False),
        (NONE, None, False),
        (NONE.replace("tw 0", "tw 1"), NONE_6, True),
        (NONE.replace("TCP: inuse 0", "TCP: inuse 1"), NONE_6, True),
        (NONE, NONE_6.replace("TCP6: inuse 0", "TCP6: inuse 1"), True),
        (None, None, True),
    ],
)
def test_a_connection_is_found_in_the_kernels_counts(monkeypatch, tmp_path, counts, counts_6, found):
    for name, text in (("sockstat", counts), ("sockstat6", counts_6)):
        if text is not None:
            (tmp_path / name).write_text(text)
    monkeypatch.setattr(leftovers, "CONNECTIONS", (str(tmp_path / "sockstat"), str(tmp_path / "sockstat6")))
    assert leftovers.has_connections() is found


def test_what_a_program_wrote_is_removed_and_what_others_own_is_seen(tmp_path):
    workdir, shared = tmp_path / "work", tmp_path / "shared"
    for folder in (workdir, workdir / "closed" / "inner", shared):
        folder.mkdir(parents=True)
    (workdir / "closed" / "inner" / "file").touch()
    (workdir / "link").symlink_to(shared)
    (workdir / "closed").chmod(0)
    settings = {"workdir": str(workdir), "landlock": [str(tmp_path / "work"), str(shared)]}
    assert not leftovers.is_empty(settings)
    leftovers.remove_content(str(workdir))
    assert not list(workdir.iterdir())
    assert leftovers.is_empty({**settings, "landlock": [str(shared)]})
    assert not workdir.exists()
