"""A copy of this machine's root in which a test may install, change and run anything."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

from .process import tool

#: Makes the copy: only what changes is stored, in memory. It has a network and processes of its own.
ENTER = r"""
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/merged"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/merged"
mount -t proc proc "$1/merged/proc"
mount --rbind /dev "$1/merged/dev"
mount -t tmpfs tmpfs "$1/merged/tmp"
mkdir "$1/merged/bring"
mount --bind "$2" "$1/merged/bring"
ip link set lo up
# The listing of files that a package leaves out in a small image, such as man pages.
rm -f "$1/merged/etc/dpkg/dpkg.cfg.d/docker" "$1/merged/etc/dpkg/dpkg.cfg.d/excludes"
echo ready
exec sleep infinity
"""


class Scratch:
    """The copy, while the context lasts. Only root can make one."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.keeper = None

    def __enter__(self):
        assert os.geteuid() == 0, "only root may make a copy of the root directory"
        outside = self.directory / "outside"
        mount = self.directory / "mount"
        for path in (outside, mount):
            path.mkdir(parents=True)
        tool("ip")
        self.keeper = subprocess.Popen(
            [tool("unshare"), "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER,
             "sh", mount, outside], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        ready = self.keeper.stdout.readline()
        assert ready == "ready\n", ready + self.keeper.communicate()[0]
        # Process 1 of the copy.
        children = Path(f"/proc/{self.keeper.pid}/task/{self.keeper.pid}/children").read_text()
        self.within = [tool("nsenter"), f"--target={children.split()[0]}", "--mount", "--net", "--pid",
                       "chroot", mount / "merged"]
        return self

    def __exit__(self, *_):
        self.keeper.kill()
        self.keeper.wait()
        self.keeper.stdout.close()

    def bring(self, file):
        """Puts a file into the copy; its path there."""
        shutil.copy(file, self.directory / "outside")
        return f"/bring/{Path(file).name}"

    def start(self, *command, **options):
        """Starts a command in the copy, in an environment as at a login."""
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
               "HOME": "/root", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        return subprocess.Popen([*self.within, *map(str, command)], stdin=subprocess.DEVNULL,
                                text=True, env=env, **options)

    @staticmethod
    def stop(process):
        """SIGTERM to a command that was started; its exit code."""
        (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(child), signal.SIGTERM)
        return process.wait(30)

    def execute(self, *command):
        """Runs a command; what it wrote, and its exit code."""
        process = self.start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def run(self, *command):
        """Runs a command that must succeed; its output."""
        done = self.execute(*command)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def has(self, path):
        return self.execute("test", "-e", path).returncode == 0
