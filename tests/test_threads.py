"""How many threads: the limits of containers count, in both versions of control groups."""

import os

import psutil
import pytest

from ddpm import threads
from ddpm.threads import cpu_quota, physical_cores

V2 = "29 23 0:26 {top} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 {top} /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct"
OTHER = "36 31 0:33 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n23 1 0:5 / /proc rw - proc proc rw\n"


def machine(root, groups, mount, limits):
    """A made-up folder of proc/ and sys/. `limits` are quota and period by folder."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(groups + "\n")
    (root / "proc/self/mountinfo").write_text(OTHER + mount + "\n")
    for folder, limit in limits.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        if mount.startswith("29"):
            (root / folder / "cpu.max").write_text(f"{limit}\n")
        else:
            quota, period = limit.split()
            (root / folder / "cpu.cfs_quota_us").write_text(f"{quota}\n")
            (root / folder / "cpu.cfs_period_us").write_text(f"{period}\n")
    return root


TWO, ONE = "sys/fs/cgroup", "sys/fs/cgroup/cpu,cpuacct"


@pytest.mark.parametrize(
    ("groups", "mount", "limits", "cores"),
    [
        ("0::/", V2.format(top="/"), {TWO: "150000 100000"}, 1.5),  # a container with its own name space
        ("0::/", V2.format(top="/"), {TWO: "max 100000"}, float("inf")),
        ("0::/", V2.format(top="/"), {}, float("inf")),  # the root of a machine has no such file
        ("0::/a.slice/b.scope", V2.format(top="/"), {f"{TWO}/a.slice/b.scope": "300000 100000"}, 3),  # systemd-run
        ("0::/a/b", V2.format(top="/"), {f"{TWO}/a/b": "max 100000", f"{TWO}/a": "50000 100000"}, 0.5),  # above it
        ("0::/docker/1/x", V2.format(top="/docker/1"), {f"{TWO}/x": "max 1000", TWO: "2000 1000"}, 2),
        ("0::/../../other", V2.format(top="/"), {TWO: "100000 50000"}, 2),  # outside of the name space
        ("0::/pod", V2.format(top="/pod"), {TWO: "nonsense"}, float("inf")),
        ("4:cpu,cpuacct:/\n0::/", V1.format(top="/"), {ONE: "100000 100000"}, 1),
        ("4:cpu,cpuacct:/\n0::/", V1.format(top="/"), {ONE: "-1 100000"}, float("inf")),
        ("4:cpuacct,cpu:/kube/pod", V1.format(top="/kube/pod"), {ONE: "400000 100000"}, 4),  # the host's path
        ("4:cpu,cpuacct:/s/t", V1.format(top="/"), {f"{ONE}/s": "250000 100000", f"{ONE}/s/t": "-1 100000"}, 2.5),
        ("4:cpu,cpuacct:/s", V1.format(top="/"), {f"{ONE}/s": "100000 0"}, float("inf")),
    ],
)
def test_the_limit_of_a_container_is_found(tmp_path, groups, mount, limits, cores):
    assert cpu_quota(machine(tmp_path, groups, mount, limits)) == cores


def test_a_system_without_control_groups_has_no_limit(tmp_path):
    assert cpu_quota(tmp_path) == float("inf")


def test_a_mount_with_a_space_in_its_name(tmp_path):
    mount = r"29 23 0:26 / /c\040g rw - cgroup2 none rw"
    assert cpu_quota(machine(tmp_path, "0::/", mount, {"c g": "100000 100000"})) == 1


@pytest.mark.parametrize(
    ("quota", "cores"), [(0.3, 1), (1.0, 1), (1.9, 1), (2.0, 2), (3.5, 3), (64, 6), (float("inf"), 6)]
)
def test_threads_are_the_whole_cores_of_the_limit(monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)))
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 12 if logical else 6)
    monkeypatch.setattr(threads, "cpu_quota", lambda: quota)
    assert physical_cores() == cores
