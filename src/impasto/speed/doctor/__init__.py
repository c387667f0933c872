"""What a new machine makes of a model: devices, rates and memory, and whether answers are right.

``diagnosis`` puts together what is found, and ``faults`` says what of it is wrong; ``machine`` asks
devices, caches and packages, ``answers`` compares the engine's with those worked ``by_hand``,
``attended`` says by which kernels it attends.
"""

from impasto.speed.doctor.diagnosis import Diagnosis, diagnosed, examined
from impasto.speed.doctor.machine import Fault

__all__ = ["Diagnosis", "Fault", "diagnosed", "examined"]
