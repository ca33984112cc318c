"""What the bootstrap program asks before another program may come; the rest of it runs in sandboxes alone."""

import pytest
from nad_sandbox.backends.launcher import bootstrap_source

NONE = "sockets: used 17\nTCP: inuse 0 orphan 3 tw 0 alloc 1 mem 139\nUDP: inuse 2 mem 0\n"
NONE_6 = "TCP6: inuse 0\nUDP6: inuse 1\n"


@pytest.fixture
def bootstrap():
    source = bootstrap_source()
    assert source.endswith("\nmain()\n")
    scope = {}
    exec(source.removesuffix("main()\n"), scope)
    return scope


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
def test_a_connection_is_found_in_the_kernels_counts(bootstrap, tmp_path, counts, counts_6, found):
    for name, text in (("sockstat", counts), ("sockstat6", counts_6)):
        if text is not None:
            (tmp_path / name).write_text(text)
    bootstrap["CONNECTIONS"] = str(tmp_path / "sockstat"), str(tmp_path / "sockstat6")
    assert bootstrap["has_connections"]() is found


def test_what_a_program_wrote_is_removed_and_what_others_own_is_seen(bootstrap, tmp_path):
    workdir, shared = tmp_path / "work", tmp_path / "shared"
    for folder in (workdir, workdir / "closed" / "inner", shared):
        folder.mkdir(parents=True)
    (workdir / "closed" / "inner" / "file").touch()
    (workdir / "link").symlink_to(shared)
    (workdir / "closed").chmod(0)
    settings = {"workdir": str(workdir), "landlock": [str(tmp_path / "work"), str(shared)]}
    assert not bootstrap["is_empty"](settings)
    bootstrap["remove_content"](str(workdir))
    assert not list(workdir.iterdir())
    assert bootstrap["is_empty"]({**settings, "landlock": [str(shared)]})
    assert not workdir.exists()
