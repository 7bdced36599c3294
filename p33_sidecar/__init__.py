"""P3.3, the Position State Brain: the live side. The gate between a plan and its order."""

__version__ = "0.1.0"
