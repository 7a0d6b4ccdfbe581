# SPDX-License-Identifier: GPL-3.0-or-later
"""cloud-init's own source of Linode's metadata, told where a lab host has its DMI data.

cloud-init asks the DMI whether it is on Linode and which instance it is. In a container it does not look, as the DMI
would be the machine's; a lab host has one of its own, from lab-init.
"""

from cloudinit import dmi
from cloudinit.sources import DEP_FILESYSTEM, DEP_NETWORK, list_from_depends
from cloudinit.sources import DataSourceAkamai as linode

dmi.is_container = lambda: False
dmi.DMI_SYS_PATH = "/run/dmi"


class DataSourceAkamai(linode.DataSourceAkamai):
    """A class of this file, so that cloud-init, which keeps its source from boot to boot, loads the file with it."""


def get_datasource_list(depends):
    """Return the source for the stage in which the network is up."""
    return list_from_depends(depends, [(DataSourceAkamai, (DEP_FILESYSTEM, DEP_NETWORK))])
