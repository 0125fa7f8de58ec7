"""All campaigns, by name, in the order in which they are run."""

from benchmarks.faults.campaign import Campaign
from benchmarks.faults.checkpoints import CheckpointBytes, CheckpointGadgets, CheckpointStructure
from benchmarks.faults.configurations import Configurations
from benchmarks.faults.killed import KillPoints
from benchmarks.faults.plans import ExtremePlans

CAMPAIGNS: dict[str, type[Campaign]] = {
    campaign.name: campaign
    for campaign in (Configurations, ExtremePlans, CheckpointBytes, CheckpointStructure, CheckpointGadgets, KillPoints)
}
