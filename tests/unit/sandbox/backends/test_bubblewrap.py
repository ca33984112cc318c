"""The parts of the bubblewrap backend that can be looked at without running a program."""

import sys
import tempfile
import venv
from pathlib import Path

import pytest
from nad_sandbox import BubblewrapSandbox, Limits, SandboxUnavailableError, auto_sandbox
from nad_sandbox.backends.bubblewrap_args import Layout, find_interpreter
from nad_sandbox.isolation.cgroup import PREFIX, ControlGroup, ControlGroups
from nad_sandbox.ownership.owner import Owner


class TestInterpreter:
    def test_the_default_is_below_the_environment_and_brings_no_package_folder_of_it(self):
        found = find_interpreter(None)
        assert Path(found.executable).exists()
        assert not any(Path(part).is_relative_to(sys.prefix) for part in found.parts) or sys.prefix == sys.base_prefix

    def test_one_that_the_scratch_space_would_hide_is_refused(self):
        with tempfile.TemporaryDirectory(dir="/tmp") as folder:
            venv.create(folder, symlinks=True, with_pip=False)
            with pytest.raises(SandboxUnavailableError, match="lies in /tmp"):
                find_interpreter(f"{folder}/bin/python")

    def test_one_that_cannot_be_run_is_named(self):
        with pytest.raises(SandboxUnavailableError, match="/no/such/python"):
            find_interpreter("/no/such/python")


class TestLayout:
    def arguments(self, *, as_root):
        layout = Layout("bwrap", find_interpreter(None), Limits(tmpfs_mb=3), as_root=as_root, sized=True, packages={})
        return layout.command(user=layout.user(), info_fd=10, block_fd=11, account_fds={"/etc/passwd": 12})

    @pytest.mark.parametrize("as_root", [True, False])
    def test_nothing_of_the_users_is_seen(self, as_root):
        arguments = self.arguments(as_root=as_root)
        bound = [arguments[i + 1] for i, word in enumerate(arguments) if word in {"--ro-bind", "--ro-bind-try"}]
        for folder in (str(Path.home()), "/", "/etc", "/var", "/run", "/tmp", "/usr", str(Path.cwd())):
            assert folder not in bound
        assert "--bind" not in arguments
        assert "--share-net" not in arguments

    def test_a_user_needs_a_namespace_and_root_does_not(self):
        assert "--unshare-user" in self.arguments(as_root=False)
        assert "--unshare-user" not in self.arguments(as_root=True)
        assert "CAP_SETUID" not in self.arguments(as_root=False)


class TestUnavailable:
    def test_without_bubblewrap_the_error_says_how_to_get_it(self):
        with pytest.raises(SandboxUnavailableError, match="apt install bubblewrap"):
            BubblewrapSandbox(bwrap="no-such-bwrap").check_available()

    def test_what_bubblewrap_says_is_told(self, tmp_path):
        broken = tmp_path / "bwrap"
        broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
        broken.chmod(0o755)
        with pytest.raises(SandboxUnavailableError, match="No permissions to create new namespace; "):
            BubblewrapSandbox(bwrap=str(broken)).check_available()

    def test_auto_names_each_backend_and_its_remedy(self, monkeypatch, tmp_path):
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(SandboxUnavailableError) as caught:
            auto_sandbox()
        assert all(word in str(caught.value) for word in ("docker:", "DOCKER_HOST", "bubblewrap:", "apt install"))

    def test_without_the_docker_package_the_error_says_how_to_get_it(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "docker", None)
        monkeypatch.delitem(sys.modules, "nad_sandbox.backends.docker_container", raising=False)
        with pytest.raises(SandboxUnavailableError, match="pip install"):
            auto_sandbox("docker")

    def test_auto_refuses_what_it_does_not_know_and_a_choice_is_kept(self, monkeypatch, tmp_path):
        with pytest.raises(ValueError, match="'none'"):
            auto_sandbox("none")
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
        with pytest.raises(SandboxUnavailableError, match="DOCKER_HOST") as caught:
            auto_sandbox("docker")
        assert "bubblewrap:" not in str(caught.value)


class TestControlGroups:
    """Folders stand in for the kernel's, which only root may make; the hostile programs meet the real ones."""

    def groups(self, folder, version):
        (folder / "cgroup.procs").touch()
        return ControlGroups(dict.fromkeys(("memory", "pids", "cpu"), folder), version)

    def test_version_2_writes_every_limit_into_one_folder(self, tmp_path):
        group = self.groups(tmp_path, 2).make(Limits(memory_mb=5, pids=7, cpus=0.5))
        (folder,) = set(group.folders.values())
        written = {file.name: file.read_text() for file in folder.iterdir()}
        assert written == {"memory.max": str(5 << 20), "pids.max": "7", "cpu.max": "50000 100000"}

    def test_two_sandboxes_of_a_process_never_make_the_same_group(self, tmp_path):
        made = [self.groups(tmp_path, 2).make(Limits()) for _ in range(3)]
        assert len({folder for group in made for folder in group.folders.values()}) == 3

    def test_kills_are_counted_in_each_versions_words(self, tmp_path):
        (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 0\n")
        (tmp_path / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
        assert ControlGroup({"memory": tmp_path}, 2).oom_kills() == 2
        assert ControlGroup({"memory": tmp_path}, 1).oom_kills() == 1
        assert ControlGroup({"pids": tmp_path}, 2).oom_kills() == 0

    def test_only_those_of_dead_processes_are_reaped(self, tmp_path):
        living = Owner.current()
        dead = Owner(living.pid, "1", living.boot_id, living.namespace)
        for name in (f"{living}-0", f"{dead}-0", "unreadable"):
            (tmp_path / f"{PREFIX}{name}").mkdir()
        assert len(self.groups(tmp_path, 2).reap()) == 1
        assert {folder.name for folder in tmp_path.glob(f"{PREFIX}*")} == {f"{PREFIX}{living}-0", f"{PREFIX}unreadable"}
