"""Which user a sandbox runs as."""

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


def test_each_container_and_its_scratch_space_belong_to_one_user():
    recipe = ContainerRecipe("image", "python3", Limits(), None, range(7, 8))
    request = recipe.create_request(["/data", "/tmp"])
    assert request["User"] == "7:65534"
    assert "uid=7,gid=65534" in request["HostConfig"]["Tmpfs"]["/tmp"]
    assert request["HostConfig"]["Tmpfs"]["/data"].startswith("ro,noexec")
