"""The bill of materials of a release says the project's version, and which package asks for which."""

from importlib.metadata import version

from tests.unit.docs_scripts import dependencies


def test_what_numpy_asks_for_is_not_what_the_project_brings():
    assert dependencies.dependencies("numpy", frozenset()) == {"numpy": set()}


def test_every_distribution_is_found_from_the_project():
    graph = dependencies.dependencies()
    assert {"torch", "transformers", "numpy", "typer"} <= graph["nad-agents"]
    assert "huggingface-hub" in graph["transformers"]
    reached, todo = set(), ["nad-agents"]
    while todo:
        name = todo.pop()
        reached.add(name)
        todo += graph[name] - reached
    assert reached == set(graph)


def test_a_bill_gets_the_version_and_the_graph():
    names = dependencies.dependencies().keys() - {"nad-agents"}
    bill = {
        "metadata": {"component": {"name": "nad-agents", "bom-ref": "root"}},
        "components": [{"name": name, "bom-ref": f"line-{name}"} for name in names],
    }
    dependencies.complete(bill)
    assert bill["metadata"]["component"]["version"] == version("nad-agents")
    edges = {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}
    assert edges.keys() == {"root"} | {f"line-{name}" for name in names}
    assert "line-numpy" in edges["root"]
    assert edges["line-numpy"] == []
