"""A whole Quorate on one machine: Anvil, the contracts, operators' nodes and a requester."""

from quorate.devnet.devnet import Devnet, NodeFailed
from quorate.devnet.options import DevnetOptions
from quorate.devnet.state import DevnetNode, DevnetState, load_state, stop_devnet

__all__ = ["Devnet", "DevnetNode", "DevnetOptions", "DevnetState", "NodeFailed", "load_state", "stop_devnet"]
