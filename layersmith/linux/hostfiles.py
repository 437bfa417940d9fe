"""The two files that a container shares with its host in spirit: resolv.conf and hosts. Pure but for reading them."""

from __future__ import annotations


def resolv_conf(dns: tuple[str, ...] = (), *, private_network: bool = False) -> bytes:
    """The resolv.conf to bind in: the host's, or the upstream one where the host's points at a local stub
    (127.0.0.53) that a private network can't reach; ``dns`` replaces its nameservers (``--dns``)."""
    raise NotImplementedError


def hosts(hostname: str, add_hosts: tuple[str, ...] = ()) -> bytes:
    """An /etc/hosts with localhost, ``hostname`` and each ``name:address`` of ``--add-host``. Raises UsageError."""
    raise NotImplementedError
