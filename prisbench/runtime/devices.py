"""Where torch computes, on how many cores, and how the memory it frees is kept.

Knows: the names of devices, threads, the C library's allocator.  Does not know: models; torch only once it is asked.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from prisbench.errors import UsageError

NATIVE_BFLOAT16 = ("avx512_bf16", "amx_bf16", "avx10_2", "bf16")
"""What torch calls the instructions of a CPU, x86-64 or ARM, that multiply in bfloat16."""


def usable_device(name: str) -> str:
    """The device asked for; "auto" is the best there is.  Raises UsageError when torch cannot use it."""
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except Exception as error:
        raise UsageError(
            f"device {name!r} cannot be used here ({str(error).splitlines()[0]}); try --device cpu"
        ) from None
    return name


def devices_for(name: str, workers: int | None) -> list[str]:
    """A device for each of several processes: the GPUs in turn where there are several, else the same one.

    ``workers`` None: one a GPU, or one for two cores of a CPU.
    """
    import torch

    if name == "cuda":
        gpus = torch.cuda.device_count()
        return [f"cuda:{n % gpus}" for n in range(gpus if workers is None else workers)]
    if workers is None:
        workers = 1 if name != "cpu" else max(1, (os.cpu_count() or 1) // 2)
    return [name] * workers


def computes_bfloat16(device: str) -> bool:
    """Whether a device has instructions for bfloat16.  Where it has none, they are made of others, and a training step
    takes ten times as long as in float32 (5.2 s against 0.4 s, the embedded backbone on two AVX2 cores).
    """
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if kind != "cpu":
        return False
    told = getattr(torch.cpu, "get_capabilities", None)  # there since torch 2.11
    if told is None:
        return any(getattr(torch.cpu, name, bool)() for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(told().get(name) for name in NATIVE_BFLOAT16)


SPINS = "10000"
"""How often a waiting thread of GNU's OpenMP looks again before it sleeps: some tens of microseconds.

Its default is 300,000.  With 10,000 a concept took 11.2 s against 11.1 s on two free cores, and 26 s against over 130 s
beside one busy process; with 1,000 it took 14.6 s on free cores (``docs/performance.md``)."""

SPIN_SETTINGS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
"""Environment by which a user decides it; read once when torch is loaded."""


def let_waiting_threads_sleep() -> None:
    """Let OpenMP's threads sleep soon while they wait, where the user's environment does not decide it.

    A thread that spins takes the core from other processes, also from those it waits for.  Call it before torch is
    imported; afterwards it has no effect.  Other OpenMP libraries than GNU's are left as they are.
    """
    if not any(name in os.environ for name in SPIN_SETTINGS):
        os.environ["GOMP_SPINCOUNT"] = SPINS


TRIM_THRESHOLD, MMAP_THRESHOLD, ARENA_MAX = -1, -3, -8
"""What glibc's mallopt(3) calls them."""


def keep_freed_memory(keep: bool = True) -> None:
    """Let the process keep what tensors on the CPU free for the next ones, instead of giving it to the system and
    having it back page by page.

    On Stable Diffusion's size the system's part of a pass is 1.8 of 10.4 seconds without, none with it; the peak is the
    same (``prisbench bench localizer``).  Of the whole process, so numbers do not depend on who computes first.
    ``keep`` False: what glibc comes to by itself after a few large tensors.  Other C libraries are left alone.
    """
    if sys.platform != "linux":
        return
    with suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_THRESHOLD, 2**30 if keep else 2**25)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1 if keep else 2**26)
        if keep:
            libc.mallopt(ARENA_MAX, 1)  # what one thread freed is another's next tensor


@contextmanager
def freed_memory_given_back() -> Iterator[None]:
    """The allocator as it comes, for as long as the body runs: what a program without ``keep_freed_memory`` has."""
    keep_freed_memory(False)
    try:
        yield
    finally:
        keep_freed_memory()


Together = Callable[[Sequence[Callable[[], Any]]], list[Any]]
"""Calls all of them and returns what they return, in order."""


@contextmanager
def side_by_side(device: str) -> Iterator[Together]:
    """For as long as the body runs: a way to call two things at once, each on half of a CPU's cores.

    An operation that torch shares among the cores ends when the slowest has done its part, and a small network has a
    thousand of them in a step.  Two halves of a batch wait for each other only once: 0.36 s against 0.40 s a step (the
    embedded backbone, batch 8, two cores: ``docs/performance.md``).  On another device, and on a single core, one thing
    is called after the other.  What they compute is the same either way.
    """
    import torch

    def in_turn(calls: Sequence[Callable[[], Any]]) -> list[Any]:
        return [call() for call in calls]

    cores = torch.get_num_threads()
    if torch.device(device).type != "cpu" or cores < 2:
        yield in_turn
        return
    both = threading.Barrier(2)

    def begin() -> None:
        torch.set_num_threads(cores // 2)
        torch.get_num_threads()  # a thread asks the process for its number once, when it is first used
        both.wait()

    with ThreadPoolExecutor(2, initializer=begin) as pool:
        for started in [pool.submit(int) for _ in range(2)]:
            started.result()
        torch.set_num_threads(cores)  # of this thread and of new ones; the two keep theirs
        yield lambda calls: list(pool.map(lambda call: call(), calls)) if len(calls) > 1 else in_turn(calls)
