"""Two hosts on one machine for tests: each with its network, name, processes and memory."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import pytest
from clusters import ROOT, attempt, succeeded

ADDRESSES = ("10.203.0.1", "10.203.0.2")
"""Of the two hosts; nobody else sees their network."""

NAMESPACES = ("--net", "--uts", "--ipc", "--mount")
PROCESSES = ("--pid",)

UNSHARE = ("setpriv", "--pdeathsig", "KILL", "unshare")
"""A host ends with the tests, however they end."""

INIT = """\
set -e
name=$1 new=$2
shift 2
hostname "$name"
ip link set lo up
mount -t tmpfs run /run
mount -t tmpfs memory /dev/shm
# A /tmp of its own, in which only the shared folders are those of the machine.
mkdir -p "$new"
mount -t tmpfs tmp "$new"
chmod 1777 "$new"
for shared; do
    case $shared in /tmp/*)
        mkdir -p "$new/${shared#/tmp/}"
        mount --bind "$shared" "$new/${shared#/tmp/}"
    esac
done
mount --move "$new" /tmp
echo ready
while :; do sleep 3600 & wait; done
"""
"""The first process of a host: it reaps those who lost their parent, and all end with it."""


class Host:
    """One host.

    Args:
        alone: whether it sees its own processes alone, all of which end with it. One that sees
            those of the machine can run commands on other hosts.

    Attributes:
        address: in the network of the two.
        process: the machine's number of the host's first process.
    """

    def __init__(
        self, name: str, address: str, mounts: Path, shared: list[Path], *, alone: bool = True
    ) -> None:
        self.address = address
        init = ("bash", "-c", INIT, "init", name, mounts / name, *shared)
        processes = (*PROCESSES, "--mount-proc") if alone else ()
        self._namespaces = [*NAMESPACES, *(PROCESSES if alone else ())]
        self._holder = subprocess.Popen(
            [*UNSHARE, *NAMESPACES, *processes, "--fork", "--kill-child", *map(str, init)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._holder.stdout is not None
        said = self._holder.stdout.readline()
        if said != "ready\n":
            self.kill()
            pytest.skip(f"no host of its own could be made: {said.strip()}")
        holder = self._holder.pid
        self.process = int(Path(f"/proc/{holder}/task/{holder}/children").read_text())

    def command(self, *command: object, cwd: Path = ROOT) -> list[str]:
        """A command that runs another on this host."""
        enter = ["nsenter", f"--target={self.process}", *self._namespaces]
        return [*enter, "env", f"--chdir={cwd}", *map(str, command)]

    def run(self, *command: object, environment: Mapping[str, str], cwd: Path = ROOT) -> str:
        """What a command says that must succeed, standard output and error together."""
        return succeeded(self.attempt(*command, environment=environment, cwd=cwd))

    def attempt(
        self, *command: object, environment: Mapping[str, str], cwd: Path = ROOT
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that may fail."""
        return attempt(self.command(*command, cwd=cwd), environment, ROOT)

    def kill(self) -> None:
        """Let the host lose its power: all its processes end, and its network goes."""
        self._holder.kill()
        self._holder.wait()
        assert self._holder.stdout is not None
        self._holder.stdout.close()


class TwoHosts:
    """Two hosts and the cable between them; the test is skipped where they cannot be made.

    Args:
        folder: a folder of the test's, which both see.
        shared: more such, beside the checkout and Python.
        reaching: whether a process on the first host can run commands on the other.
    """

    def __init__(self, folder: Path, *shared: Path, reaching: bool = False) -> None:
        if os.geteuid() != 0 or not all(map(shutil.which, ("setpriv", "unshare", "nsenter", "ip"))):
            pytest.skip("hosts of their own need root, and Linux with util-linux and iproute2")
        self.hosts: list[Host] = []
        self._reaching = reaching
        self._mounts = folder / "mounts"
        self._shared = [ROOT, Path(sys.prefix), Path(sys.base_prefix), folder, *shared]

    def __enter__(self) -> Self:
        try:
            for number, address in enumerate(ADDRESSES):
                alone = number > 0 or not self._reaching
                self.hosts.append(
                    Host(f"host-{number}", address, self._mounts, self._shared, alone=alone)
                )
            self._connect()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _connect(self) -> None:
        one, other = self.hosts
        ends = ["cable", "netns", one.process, "type", "veth", "peer", "cable", "netns"]
        command = ["ip", "link", "add", *map(str, ends), str(other.process)]
        subprocess.run(command, check=True)
        for host in self.hosts:
            for setting in (
                f"address add {host.address}/32 dev lo",  # stays when the cable goes
                f"address add {host.address}/24 dev cable",
                "link set cable up",
                f"route add default dev cable src {host.address}",
            ):
                host.run("ip", *setting.split(), environment=os.environ)

    def start_ray(self, environment: Mapping[str, str]) -> str:
        """Start Ray on both; its address to join, from one of them."""
        head, other = self.hosts
        head.run("ray", "start", "--head", "--port=6379", "--num-cpus=1", environment=environment)
        address = f"{head.address}:6379"
        other.run(
            *("ray", "start", f"--address={address}", "--num-cpus=1"), environment=environment
        )
        return address

    def __exit__(self, *error: object) -> None:
        for host in self.hosts:
            host.kill()
