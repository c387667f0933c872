"""How sure a share is: the interval in which it lies."""

from math import sqrt

Z_95 = 1.959963984540054


def wilson_interval(right: int, n: int, z: float = Z_95) -> tuple[float, float]:
    """Return Wilson's score interval of a share: 95 % unless another z is given.

    Unlike share ± z · standard error it stays within 0 and 1 and is not empty at either end.
    Raises ValueError unless 0 <= right <= n and n > 0.
    """
    if n <= 0 or not 0 <= right <= n:
        raise ValueError(f"{right} right of {n} is not a share")
    share = right / n
    centre = share + z**2 / (2 * n)
    spread = z * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
