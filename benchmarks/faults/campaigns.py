"""All campaigns, by name, in the order in which they are run."""

from benchmarks.faults.archives import HostileArchives
from benchmarks.faults.campaign import Campaign
from benchmarks.faults.data_sets import DamagedDataSets
from benchmarks.faults.plans import ExtremePlans

CAMPAIGNS: dict[str, type[Campaign]] = {
    campaign.name: campaign for campaign in (ExtremePlans, HostileArchives, DamagedDataSets)
}
