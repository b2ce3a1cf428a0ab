"""A step that lives in a process of its own and takes turns with those of this one.

Public code runs as it does for its users: what a trainer sets for its process, as ours does with
the memory, is not theirs as well.
"""

import multiprocessing
from collections.abc import Callable
from contextlib import nullcontext
from multiprocessing.connection import Connection
from typing import Any, Self

import torch

from pyro_dsae.memory import freed_memory_kept

Step = Callable[[], Any]


class Neighbour:
    """The step that ``make`` returns, made and taken in another process; call it for one step.

    Args:
        make: can be pickled; called in the other process, with as many threads as here.
        memory_kept: give that process our trainer's setting of memory.
        device: of the step; a call waits until it is through.
    """

    def __init__(
        self, make: Callable[[], Step], device: torch.device, memory_kept: bool = False
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        given = (theirs, torch.get_num_threads(), make, device, memory_kept)
        self._process = context.Process(target=_serve, args=given, daemon=True)
        self._process.start()
        theirs.close()  # the end of the other process is then the end of the pipe

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self._pipe.close()
        self._process.join()

    def __call__(self) -> None:
        self.ask(_take)

    def ask(self, question: Callable[[Step], Any]) -> Any:
        """The answer of ``question``, a function of a module, to the step.

        Raises what ``make`` or the question raised, and ChildProcessError where the process is
        gone.
        """
        self._pipe.send(question)
        try:
            answer = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise ChildProcessError(
                f"its process ended with {self._process.exitcode}; for want of memory, if -9"
            ) from None
        if isinstance(answer, Exception):
            raise answer
        return answer


def _take(step: Step) -> None:
    step()


def _serve(
    pipe: Connection,
    threads: int,
    make: Callable[[], Step],
    device: torch.device,
    memory_kept: bool,
) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    with freed_memory_kept() if memory_kept else nullcontext():
        step = None
        while True:
            try:
                question = pipe.recv()
            except EOFError:
                return
            try:
                step = step or make()
                answer = question(step)
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
            except Exception as error:  # it is any code
                answer = error
            pipe.send(answer)
