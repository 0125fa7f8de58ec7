"""All campaigns, by name, in the order in which they are run."""

from benchmarks.faults.archives import HostileArchives
from benchmarks.faults.campaign import Campaign
from benchmarks.faults.checkpoints import CheckpointBytes, CheckpointGadgets, CheckpointStructure
from benchmarks.faults.configurations import Configurations
from benchmarks.faults.data_sets import DamagedDataSets
from benchmarks.faults.disks import SmallDisks
from benchmarks.faults.killed import KillPoints
from benchmarks.faults.pages import HostileNames
from benchmarks.faults.plans import ExtremePlans
from benchmarks.faults.signals import Signals

_ALL: tuple[type[Campaign], ...] = (
    *(Configurations, ExtremePlans, CheckpointBytes, CheckpointStructure, CheckpointGadgets),
    *(DamagedDataSets, HostileArchives, HostileNames, KillPoints, Signals, SmallDisks),
)
CAMPAIGNS = {campaign.name: campaign for campaign in _ALL}
