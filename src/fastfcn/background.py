"""Calls made in a thread of their own, so that one that hangs keeps nobody waiting."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


class Background:
    """Makes calls one after the other, in the order in which they are given.

    Args:
        name: Of the thread.
        on_error: Is told of an exception that a call raised, in the thread; the calls after it are made all the same.
        backlog: How many calls may wait.
    """

    def __init__(self, *, name: str, on_error: Callable[[Exception], None], backlog: int = 10_000) -> None:
        self._on_error = on_error
        self._waiting: queue.Queue[Callable[[], object]] = queue.Queue(backlog)
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], object]) -> bool:
        """Have a call made when those before it are done; within a call, at once.

        Returns:
            False where too many wait already: the call is left out.
        """
        if threading.current_thread() is self._thread:
            call()
            return True
        try:
            self._waiting.put_nowait(call)
        except queue.Full:
            return False
        return True

    def ask(self, call: Callable[[], T], *, timeout: float) -> T:
        """Have a call made as by `submit`, and wait for its result.

        Args:
            call: What it raises is raised here.
            timeout: Seconds to wait, for the calls before it too.

        Raises:
            TimeoutError: It did not come in time; the call may still be made.
        """
        result: Future[T] = Future()

        def answer() -> None:
            try:
                result.set_result(call())
            except BaseException as error:
                result.set_exception(error)

        if not self.submit(answer):
            raise TimeoutError("too many calls wait")
        return result.result(timeout)

    def _work(self) -> None:
        while True:
            call = self._waiting.get()
            try:
                call()
            except Exception as error:
                self._on_error(error)
