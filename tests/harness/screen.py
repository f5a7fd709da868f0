"""What a person sees: a program at a pseudo-terminal, and the screen that a terminal makes of it."""

import pyte

from .process import PATIENCE
from .terminal import Terminal


class Screen(Terminal):
    """A program at a terminal of a size; `rows` is what stands there, `history` what was written."""

    def __init__(self, home, *args, columns=80, lines=24, **options):
        # The size is there before the program looks: `stty` sets it and becomes the program.
        command = ["sh", "-c", 'stty columns "$1" rows "$2"; shift 2; exec "$@"', "sh",
                   str(columns), str(lines), *options.pop("command")]
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.Stream(self.screen)
        self.fed = 0
        super().__init__(home, *args, command=command, **options)

    @property
    def rows(self):
        self.stream.feed(self.text[self.fed:])
        self.fed = len(self.text)
        return self.screen.display

    @property
    def shown(self):
        return "\n".join(self.rows)

    def see(self, *texts, seconds=PATIENCE):
        """Waits until all of these stand on the screen."""
        try:
            return self.wait_for(lambda: all(text in self.shown for text in texts), texts, seconds)
        except AssertionError:
            missing = [text for text in texts if text not in self.shown]
            rows = "\n".join(row.rstrip() for row in self.rows)
            raise AssertionError(f"no {missing} on this screen:\n{rows}") from None

    def resize(self, columns, rows=24):
        self.rows  # noqa: B018: what came before was meant for the old size
        self.screen.resize(rows, columns)
        return super().resize(columns, rows)
