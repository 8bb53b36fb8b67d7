"""An organisation of Azure DevOps on this machine, over real bare repositories, as unkind as the real one.

The real SDK talks to it unchanged, and people clone and push with Git. It needs the standard library and Git.
"""

from emulators.azure_devops.delivery import PROBES, REPEATS, Delivery
from emulators.azure_devops.emulator import Emulator
from emulators.azure_devops.exchange import EMULATOR_AUTHORIZATION, Call
from emulators.azure_devops.faults import Fault
from emulators.azure_devops.hosted import HostedRepository
from emulators.azure_devops.receivers import Subscription

__all__ = [
    "EMULATOR_AUTHORIZATION",
    "PROBES",
    "REPEATS",
    "Call",
    "Delivery",
    "Emulator",
    "Fault",
    "HostedRepository",
    "Subscription",
]
