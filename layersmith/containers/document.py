"""All that is known of a container as one JSON value, with the members of `docker inspect`. In: a `Container`."""

from __future__ import annotations

from typing import Any

from layersmith.containers.container import Container
from layersmith.containers.status import RUNNING
from layersmith.linux.mounts import Bind
from layersmith.oci.timestamp import rfc3339


def document(container: Container) -> dict[str, Any]:
    """``container`` as JSON. ``GraphDriver.Data`` tells where its changes lie; times are RFC 3339 or ``""``."""
    config, status = container.config, container.status()
    running = status.state == RUNNING
    return {
        "Id": config.id,
        "Name": config.name,
        "Created": _time(config.created),
        "Path": config.process.args[0] if config.process.args else "",
        "Args": list(config.process.args[1:]),
        "State": {
            "Status": status.state,
            "Running": running,
            "Pid": status.pid,
            "ExitCode": status.code,
            "Error": status.error,
            "StartedAt": _time(status.at if running else status.started),
            "FinishedAt": "" if running or not status.started else _time(status.at),
        },
        "Image": config.manifest.digest,
        "Config": {
            "Image": config.image,
            "Hostname": config.hostname,
            "User": config.process.user,
            "Env": [f"{name}={value}" for name, value in config.process.env],
            "Cmd": list(config.cmd),
            "Entrypoint": list(config.entrypoint),
            "WorkingDir": config.process.cwd,
            "Labels": dict(config.labels),
            "Tty": config.tty,
            "OpenStdin": config.open_stdin,
            "StopSignal": config.stop_signal,
            "StopTimeout": config.stop_timeout,
        },
        "HostConfig": {
            "NetworkMode": config.network,
            "AutoRemove": config.auto_remove,
            "Privileged": config.insecure,
            "ReadonlyRootfs": config.readonly,
            "Init": config.init,
            "CapEff": list(config.capabilities),
            "Dns": list(config.dns),
            "ExtraHosts": list(config.add_hosts),
            "ShmSize": config.shm_size,
            "Memory": config.limits.memory,
            "NanoCpus": int(config.limits.cpus * 1_000_000_000),
            "PidsLimit": config.limits.pids,
        },
        "Mounts": [
            {
                "Type": "bind" if isinstance(mount, Bind) else "tmpfs",
                "Source": mount.source if isinstance(mount, Bind) else "",
                "Destination": mount.target,
                "RW": not mount.readonly,
            }
            for mount in config.mounts
        ],
        "LogPath": str(container.log),
        "GraphDriver": {
            "Name": "overlay",
            "Data": {"UpperDir": str(container.upper), "WorkDir": str(container.work)},
        },
    }


def _time(seconds: float) -> str:
    """In UTC, whole seconds; nothing for a time that never was."""
    return rfc3339(seconds) if seconds else ""
