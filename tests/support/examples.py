"""How many examples a property is tried with: few in `make check`, all of them in `make test`."""

import os


def examples(number: int) -> int:
    return max(5, number // 10) if os.environ.get("FEW_EXAMPLES") else number
