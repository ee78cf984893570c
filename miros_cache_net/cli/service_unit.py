"""The systemd units of a node: one for a machine, one for a user."""

from __future__ import annotations

from typing import Final

#: Its name, and that of the user and group that it runs as.
NAME: Final = "miros-cache-net"
#: Where root keeps what the service is given.
SETTINGS: Final = f"/etc/{NAME}"

#: How it is run, the same for both.  It is ready once it serves the file: a broker that comes later is no failed start.
_RUN: Final = """\
Type=notify
NotifyAccess=main
ExecStart={command} node
Restart=always
RestartSec=2
WatchdogSec=60
TimeoutStopSec=15
StateDirectory=miros-cache-net
WorkingDirectory=%S/miros-cache-net
Environment=MIROS_CACHE_FILE=%S/miros-cache-net/cache.json
Environment=MIROS_CACHE_KEYS_FILE=%d/keys
Environment=RABBIT_PASSWORD_FILE=%d/rabbit-password
EnvironmentFile=-{settings}/environment
LoadCredential=keys:{settings}/keys
LoadCredential=rabbit-password:{settings}/rabbit-password
# RabbitMQ's own, for a broker on this machine: where there is no file with another.
SetCredential=rabbit-password:guest
"""

#: What either kind of manager can enforce.
_CLOSED: Final = """\
NoNewPrivileges=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@resources @setuid @keyring
SystemCallErrorNumber=EPERM
MemoryMax=256M
TasksMax=200
"""

_SYSTEM: Final = f"""\
# Made by `miros-cache-net install-service`; a change of yours goes into `systemctl edit miros-cache-net`.
[Unit]
Description=Keeps this machine's cache file in step with the fleet's
Documentation=https://github.com/aleph2c/miros-cache-net
Wants=network-online.target
After=network-online.target time-sync.target

[Service]
{_RUN}
# Programs of this group share the file: they may read and write in its directory.
User={NAME}
Group={NAME}
UMask=0007
StateDirectoryMode=2770

{_CLOSED}\
CapabilityBoundingSet=
AmbientCapabilities=
DevicePolicy=closed
KeyringMode=private
PrivateDevices=yes
PrivateTmp=yes
PrivateUsers=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RemoveIPC=yes

[Install]
WantedBy=multi-user.target
"""

_USER: Final = f"""\
# Made by `miros-cache-net install-service --user`; a change of yours goes into `systemctl --user edit miros-cache-net`.
[Unit]
Description=Keeps this user's cache file in step with the fleet's
Documentation=https://github.com/aleph2c/miros-cache-net

[Service]
{_RUN}
UMask=0077

{_CLOSED}
[Install]
WantedBy=default.target
"""


def unit(command: str, *, of_user: bool = False) -> str:
    """The unit's text; `command` starts `miros-cache-net`, in the form of ExecStart."""
    settings = f"%h/.config/{NAME}" if of_user else SETTINGS
    return (_USER if of_user else _SYSTEM).format(command=command, settings=settings)
