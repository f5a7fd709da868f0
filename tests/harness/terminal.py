"""Programs at a pseudo-terminal: what one types, and what one sees."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

from .process import PATIENCE, WSGW, private_env


class Terminal:
    """A program at a pseudo-terminal of its own; `wsgw connect` if no other command is given.

    `text` is all that was written to the terminal so far; `read`, `wait` and `exit` add to it.
    """

    def __init__(self, home, *args, command=(WSGW, "connect"), cwd=None, **env):
        command = [*command, *[str(arg) for arg in args]]
        env = {**private_env(home), "TERM": "xterm", "NO_COLOR": "1", **env}
        self.text = ""
        self.status = None
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            with contextlib.suppress(BaseException):
                if cwd:
                    os.chdir(cwd)
                os.execvpe(command[0], command, env)
            os._exit(127)

    def read(self, seconds=0.05):
        """Takes what is there; false once the program's side is closed."""
        if select.select([self.fd], [], [], seconds)[0]:
            try:
                data = os.read(self.fd, 65536)
            except OSError:
                return False
            self.text += data.decode(errors="replace")
        return True

    def wait(self, text, seconds=PATIENCE):
        """Reads until that text was seen."""
        return self.wait_for(lambda: text in self.plain, repr(text), seconds)

    def wait_for(self, check, what="it", seconds=PATIENCE):
        """Reads until `check` is true."""
        deadline = time.monotonic() + seconds
        while not check():
            assert self.read() or check(), f"ended without {what}: {self.text!r}"
            assert time.monotonic() < deadline, f"no {what} in {self.text!r}"
        return self

    @property
    def plain(self):
        """What was written, without escape sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.text)

    def type(self, text):
        os.write(self.fd, text.encode())
        return self

    def resize(self, columns, rows=24):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        return self

    def attributes(self):
        """The settings of the terminal's line, as `termios` has them."""
        return termios.tcgetattr(self.fd)

    def exit(self, seconds=PATIENCE):
        """Waits for the program's end; its exit code, negative for a signal."""
        deadline = time.monotonic() + seconds
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                while select.select([self.fd], [], [], 0)[0] and self.read(0):
                    pass
                self.status = os.waitstatus_to_exitcode(status)
                break
            self.read()
            assert time.monotonic() < deadline, f"still there: {self.text!r}"
        self.kill()
        return self.status

    def kill(self):
        """Whatever happened, it does not outlive the test."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
