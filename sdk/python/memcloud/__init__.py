"""MemCloud: the idle RAM of the machines on a LAN, as blocks, keys and streams.

This client needs nothing but the standard library and a ``memnode`` that runs on this machine.
"""

from ._encoding import Encoding
from .client import MemCloud, ObjectInfo, default_socket_path
from .errors import MemCloudError

__all__ = ["Encoding", "MemCloud", "MemCloudError", "ObjectInfo", "default_socket_path"]
__version__ = "0.1.0"
