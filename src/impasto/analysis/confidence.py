"""How sure a share is: the interval in which it lies."""

from math import isnan, nan, sqrt

from impasto.error import UserError

Z_95 = 1.959963984540054


def wilson_interval(right: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Return Wilson's score interval of a share: 95 % unless another z is given.

    Unlike share ± z · standard error it stays within 0 and 1 and is not empty at either end.
    Raises UserError unless 0 <= right <= n and n > 0.
    """
    if n <= 0 or not 0 <= right <= n:
        raise UserError(f"{right} right of {n} is not a share")
    share = right / n
    centre = share + z**2 / (2 * n)
    spread = z * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def value_interval(value: float, stderr: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a table's value: over other questions of the kind.

    Where so many of n questions were right it is Wilson's; else value ± z · standard error, which
    for a share may reach beyond 0 and 1. Not a number where the value or its error is not known.
    """
    right = round(value * n) if not isnan(value) else -1
    if 0 <= right <= n and n > 0 and abs(value * n - right) < 1e-6:
        return wilson_interval(right, n)
    return (value - Z_95 * stderr, value + Z_95 * stderr) if stderr == stderr else (nan, nan)
