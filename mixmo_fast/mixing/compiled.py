"""How numba compiles the loops of this program: without Python's lock, and kept on disk for the next start.

Nothing is allowed that changes bits: no `fastmath`, which reorders sums and fuses products into them. A kernel and all
that it calls stand in one file, because numba compiles anew when that file changes, and looks at no other.
"""

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles at the first call; the machine code is kept where numba finds a folder it may write to.

    A quotient by 0 is what it is for numpy's arrays, infinite or no number: checks would keep loops from the
    processor's vector units.
    """
    try:
        return numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # no such folder: a read-only installation of somebody without a home
        return numba.njit(nogil=True, error_model="numpy")(function)
