"""Which user a sandbox runs as."""

import json

from nad_sandbox.backends.container_recipe import ContainerRecipe
from nad_sandbox.base import Limits
from nad_sandbox.isolation.sandbox_user import REMAPPED_USERS, UNUSED_USERS, fresh_user, users_of_engine


def test_no_two_sandboxes_have_the_same_user_and_none_has_one_of_the_hosts():
    users = [fresh_user() for _ in range(200)]
    assert len(set(users)) == 200
    assert all(1_879_048_191 < user < 2**31 - 1 for user in users)
    assert UNUSED_USERS.stop < 2**31


def test_an_engine_in_a_user_namespace_has_fewer_users():
    assert users_of_engine(["name=seccomp,profile=default", "name=rootless"]) == REMAPPED_USERS
    assert users_of_engine(["name=userns"]) == REMAPPED_USERS
    assert users_of_engine(["name=seccomp,profile=default"]) == UNUSED_USERS
    assert REMAPPED_USERS.stop < 65536


def test_the_programs_of_a_container_are_one_user_and_its_bootstrap_program_is_out_of_their_reach():
    recipe = ContainerRecipe("image", "python3", Limits(), None, range(7, 8))
    request = recipe.create_request(["/data", "/tmp"])
    assert request["User"] == "0:0"
    assert json.loads(request["Entrypoint"][-1])["user"] == [7, 65534]
    assert request["HostConfig"]["CapDrop"] == ["ALL"]
    assert set(request["HostConfig"]["CapAdd"]) == {"KILL", "SETGID", "SETPCAP", "SETUID"}
    assert "no-new-privileges:true" in request["HostConfig"]["SecurityOpt"]
    assert request["HostConfig"]["Tmpfs"]["/data"].startswith("ro,noexec")
