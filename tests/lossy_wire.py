"""A game over a wire that loses, delays and cuts: ``unshare -rn python lossy_wire.py JSON``.

The SuperLink and the table are in the network namespace that this process was started in, the
agents in a second one. Between the two is one wire, a pair of TUN devices and this process, which
carries each packet later, or never. Nothing outside the two namespaces is touched.
"""

import ctypes
import fcntl
import heapq
import json
import os
import random
import select
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

from live_deployments import Live, eventually, game, missed

TABLE, AGENTS = "10.9.0.1", "10.9.0.2"
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_NEWNET = 0x40000000


class Wire:
    """A wire between this network namespace and a second one.

    Args:
        loss: Share of the packets that are lost, each way.
        delay: Seconds that a packet takes.
        jitter: Seconds that it may take more or less; packets overtake each other.
        seed: Of what is lost.
    """

    def __init__(self, loss, delay, jitter, seed):
        self._loss, self._delay, self._jitter = loss, delay, jitter
        self._draw = random.Random(seed)  # noqa: S311
        self.cut, self.carried, self.lost = False, 0, 0
        self._there = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])
        here = Path("/proc/self/ns/net").stat().st_ino
        net = Path(f"/proc/{self._there.pid}/ns/net")
        eventually(lambda: net.stat().st_ino != here)
        self.prefix = ["nsenter", "-t", str(self._there.pid), "-n"]
        self._ends = [tun(), elsewhere(net, tun)]
        for prefix, address in (([], TABLE), (self.prefix, AGENTS)):
            for command in (
                ["ip", "link", "set", "lo", "up"],
                ["ip", "addr", "add", f"{address}/24", "dev", "wire"],
                ["ip", "link", "set", "wire", "up"],
            ):
                subprocess.run([*prefix, *command], check=True)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()

    def _carry(self):
        waiting, count = [], 0
        while not self._over.is_set():
            now = time.monotonic()
            pause = max(0.0, min(0.1, waiting[0][0] - now)) if waiting else 0.1
            for end in select.select(self._ends, [], [], pause)[0]:
                packet, other = os.read(end, 2**16), self._ends[end == self._ends[0]]
                if self.cut or self._draw.random() < self._loss:
                    self.lost += 1
                    continue
                late = self._delay + self._jitter * self._draw.uniform(-1, 1)
                count += 1
                heapq.heappush(waiting, (time.monotonic() + late, count, other, packet))
            while waiting and waiting[0][0] <= time.monotonic():
                _, _, end, packet = heapq.heappop(waiting)
                if not self.cut:
                    os.write(end, packet)
                    self.carried += 1

    def close(self):
        self._over.set()
        self._thread.join()
        for end in self._ends:
            os.close(end)
        self._there.kill()
        self._there.wait()


def tun():
    """Make the device `wire` in the namespace of this thread; return its handle."""
    handle = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(handle, _TUNSETIFF, struct.pack("16sH", b"wire", _IFF_TUN | _IFF_NO_PI))
    return handle


def elsewhere(net, function):
    """Call a function in another network namespace; return what it returns."""
    found = []

    def enter():
        with net.open("rb") as file:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(file.fileno(), _NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        found.append(function())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return found[0]


def main(told):
    """Play the game that the JSON text describes; print what came of it."""
    after, seconds = told["partition"]
    wire = Wire(told["loss"], told["delay"], told["jitter"], 33)
    try:
        live = Live(Path(told["folder"]), hosts=[TABLE], fleet_host=TABLE)
        try:
            for name in ("alice", "bob", "mallory"):
                live.launch(name, prefix=wire.prefix)
            for agent in live.agents.values():
                agent.says("is connected to")

            def heal():
                time.sleep(seconds)
                wire.cut = False

            def cut(event):
                if event.phase == "round" and event.done == after:
                    wire.cut = True
                    threading.Thread(target=heal).start()

            began = time.monotonic()
            changes = {"deadline": told["deadline"], "federation": told["federation"]}
            played = live.play(game(told["rounds"], **changes), cut)
            answer = {
                "folder": str(played.folder),
                "missed": {name: sorted(rounds) for name, rounds in missed(played).items()},
                "seconds": time.monotonic() - began,
                "carried": wire.carried,
                "lost": wire.lost,
                "connected": [a.count("is connected to") for a in live.agents.values()],
            }
            print("ANSWER " + json.dumps(answer), flush=True)
        finally:
            wire.cut = False
            live.close()
    finally:
        wire.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
