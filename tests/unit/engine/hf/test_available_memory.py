"""What is left on made-up machines, with control groups of both versions, and on this one."""

import pytest
import torch

from nad_agents.engine.hf.available_memory import available_device_memory, available_host_memory, return_free_memory


class TestAvailable:
    def machine(self, tmp_path, cgroup="", available="8000 kB"):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/meminfo").write_text(f"MemTotal: 9000 kB\nMemAvailable: {available}\n")
        (tmp_path / "proc/self/cgroup").write_text(cgroup)
        return tmp_path / "proc", tmp_path / "groups"

    def group(self, folder, names, limit, usage, inactive):
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in zip(names, (limit, usage), strict=True):
            (folder / name).write_text(f"{value}\n")
        (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\ntotal_inactive_file {inactive}\n")

    def test_the_machines(self, tmp_path):
        assert available_host_memory(*self.machine(tmp_path)) == 8000 * 1024

    def test_a_group_above_may_be_tighter(self, tmp_path):
        proc, groups = self.machine(tmp_path, "0::/service/worker\n")
        names = ("memory.max", "memory.current")
        self.group(groups / "service/worker", names, "max", 700, 0)
        self.group(groups / "service", names, 5000, 1000, 300)
        assert available_host_memory(proc, groups) == 4300

    def test_version_1_and_a_path_of_the_host(self, tmp_path):
        proc, groups = self.machine(tmp_path, "5:cpu:/x\n4:memory:/host/only\n")
        self.group(groups / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes"), 6000, 2000, 100)
        assert available_host_memory(proc, groups) == 4100

    def test_an_unreadable_or_full_group(self, tmp_path):
        proc, groups = self.machine(tmp_path, "0::/a\n")
        assert available_host_memory(proc, groups) == 8000 * 1024
        self.group(groups / "a", ("memory.max", "memory.current"), 1000, 3000, 0)
        assert available_host_memory(proc, groups) == 0

    def test_devices(self):
        assert available_device_memory(torch.device("cpu")) == pytest.approx(available_host_memory(), rel=0.2)
        assert available_device_memory(torch.device("meta")) is None
        return_free_memory()
