"""A driver's process seen from outside: told what to do, listened to, watched for progress. The lines are `protocol.md`'s."""

import signal
import subprocess
import threading
import time
from collections import deque
from pathlib import Path
from typing import Callable

NO_PROGRESS_S = 120


class Failed(Exception):
    pass


class Driver:
    """One process. `listener(event, words)` gets every event but those that this class answers itself."""

    def __init__(self, name: str, command: list, folder: Path):
        self.name = name
        self.errors_at = folder / f"{name}.{id(self)}.stderr"
        self.changed = threading.Condition()
        self.done, self.version, self.failure, self.ended = {}, None, None, False
        self.notes = deque(maxlen=8)
        self.listener = None
        try:
            with self.errors_at.open("wb") as errors:
                self.process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8"
                )
        except OSError as error:
            raise Failed(f"{name}: {error}") from error

    def start(self, listener: Callable) -> str:
        self.listener = listener
        threading.Thread(target=self.follow, daemon=True).start()
        self.wait("its start", lambda: self.version is not None, lambda: 0)
        return self.version

    def follow(self) -> None:
        for line in self.process.stdout:
            event, *words = line.split()
            with self.changed:
                if event == "ready":
                    self.version = " ".join(words)
                elif event == "ok":
                    self.done[" ".join(words)] = True
                elif event == "E":
                    self.failure = self.failure or " ".join(words)
                elif event == "N":
                    self.notes.append(" ".join(words))
                else:
                    try:
                        self.listener(event, words)
                    except Exception as error:  # shown by whoever waits
                        self.failure = self.failure or f"{type(error).__name__}: {error}"
                self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def tell(self, *words) -> None:
        try:
            self.process.stdin.write(" ".join(map(str, words)) + "\n")
            self.process.stdin.flush()
        except OSError as error:
            raise Failed(f"{self.name} takes no commands: {error}; {self.last_words()}") from error

    def begin(self, command: str, *words, progress: Callable = lambda: 0) -> Callable:
        """Tells it to; the answered function waits until it is done."""
        end = f"{command} {words[0]}" if command == "leave" else command
        self.done.pop(end, None)
        self.tell(command, *words)
        return lambda: self.wait(f"the end of {command}", lambda: end in self.done, progress)

    def do(self, command: str, *words, progress: Callable = lambda: 0) -> None:
        self.begin(command, *words, progress=progress)()

    def wait(self, what: str, done: Callable, progress: Callable) -> None:
        """Waits until `done()`; fails once `progress()` has stood still for too long."""
        last, since = None, time.monotonic()
        with self.changed:
            while not done():
                if self.failure:
                    raise Failed(f"{self.name}: {self.failure}")
                if self.ended:
                    raise Failed(f"{self.name} ended while {what} was waited for; {self.last_words()}")
                now = progress()
                if now != last:
                    last, since = now, time.monotonic()
                elif time.monotonic() - since > NO_PROGRESS_S:
                    self.ask_where_it_is()
                    raise Failed(f"{self.name}: no progress for {NO_PROGRESS_S} s while waiting for {what} (at {now}); {self.last_words()}")
                self.changed.wait(1.0)

    def ask_where_it_is(self) -> None:
        """Python and Go show their stacks on stderr; for the others it is the end, which is near anyway."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            time.sleep(1.0)

    def stop(self) -> None:
        try:
            self.process.stdin.close()
        except OSError:
            pass  # It has ended already: its exit code says how.
        try:
            code = self.process.wait(NO_PROGRESS_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} did not end within {NO_PROGRESS_S} s") from None
        if code != 0:
            raise Failed(f"{self.name} ended with {code}; {self.last_words()}")

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def last_words(self) -> str:
        notes = " | ".join(self.notes) or "none"
        return f"its last notes: {notes}; its last words: {self.errors_at.read_text(errors='replace')[-4000:]}"
