"""A tenant's session through proxmoxer. Reads how to connect from standard input, prints what it saw; both as JSON."""

import json
import sys
import time

from proxmoxer import ProxmoxAPI
from proxmoxer.core import ResourceException

given = json.load(sys.stdin)
api = ProxmoxAPI(given["host"], user=given["user"], verify_ssl=False, timeout=30, **given["secret"])
node = api.nodes("n1")
seen = {}


def finish(upid):
    """Polls a task until it has ended; its exit status."""
    for _ in range(600):
        status = node.tasks(upid).status.get()
        if status["status"] == "stopped":
            return status["exitstatus"]
        time.sleep(0.05)
    raise TimeoutError(upid)


def refused(act):
    """The error that a call raises."""
    try:
        return {"not refused": act()}
    except ResourceException as error:
        return {"status": error.status_code, "text": str(error)}


def life(kind, make, drive):
    """A guest from creation to deletion, with a copy of it."""
    guests = getattr(node, kind)
    vmid = int(api.cluster.nextid.get())
    steps = {"create": finish(guests.post(vmid=vmid, pool=given["pool"], cores=2, memory=1024, **make))}
    guest = guests(vmid)
    guest.config.put(cores=3, memory=2048)
    config = guest.config.get()
    steps["configured"] = [int(config["cores"]), int(config["memory"])]
    grown = guest.resize.put(disk=drive, size="+2G")
    if grown is not None:
        finish(grown)
    steps["size"] = [part for part in guest.config.get()[drive].split(",") if part.startswith("size=")]
    steps["snapshot"] = finish(guest.snapshot.post(snapname="before"))
    copy = int(api.cluster.nextid.get())
    named = "name" if kind == "qemu" else "hostname"
    steps["clone"] = finish(guest.clone.post(newid=copy, full=1, pool=given["pool"], **{named: "copy"}))
    steps["start"] = finish(guest.status.start.post())
    steps["running"] = guest.status.current.get()["status"]
    steps["listed"] = sorted(int(row["vmid"]) for row in api.cluster.resources.get(type="vm"))
    steps["over quota"] = refused(lambda: guest.config.put(cores=64))
    steps["new one over quota"] = refused(lambda: guests.post(vmid=copy + 1, pool=given["pool"], cores=64, memory=512, **make))
    steps["stop"] = finish(guest.status.stop.post())
    steps["delete"] = [finish(guests(one).delete()) for one in (vmid, copy)]
    steps["vmids"] = [vmid, copy]
    return steps


seen["version"] = api.version.get()["version"]
seen["nodes"] = sorted(row["node"] for row in api.nodes.get())
seen["qemu"] = life("qemu", {"name": "web", "scsi0": "ceph:8", "net0": "virtio,bridge=vmbr0,rate=10"}, "scsi0")
template = "shared:vztmpl/debian-13-standard_13.1-1_amd64.tar.zst"
container = {"hostname": "db", "ostemplate": template, "rootfs": "ceph:8", "swap": 512, "password": "a-long-password"}
seen["lxc"] = life("lxc", container, "rootfs")
json.dump(seen, sys.stdout)
