"""What the user is told of slow steps."""

from nad_agents.models.logging import announce


def test_announcements_are_seen_once(caplog):
    caplog.set_level("INFO", logger="nad_agents")
    lines: list[str] = []
    announce("one", lines.append)
    announce("two", None)
    assert lines == ["one"]
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "one"),
        ("WARNING", "two"),
    ]
