"""MixMo: several subnetworks in one network, trained at the speed of the hardware."""

__version__ = "0.1.0"
