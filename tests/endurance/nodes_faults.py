"""How NATS and the nodes are harmed."""

import asyncio
import signal
import time

#: Faults that may take messages out of the stream; a killed server writes its last ones late.
HARMS_STREAM = {"server_kill", "server_forgets", "stream_deleted", "stream_purged"}


class Faults:
    """All of a run; each `fault_NAME` is one."""

    async def fault_server_kill(self, rng):
        await asyncio.to_thread(self.nats.kill)
        await asyncio.sleep(rng.choice([0, 0.3, 1, 3]))
        await asyncio.to_thread(self.nats.start)

    async def fault_server_restart(self, rng):
        await asyncio.to_thread(self.nats.stop)
        await asyncio.sleep(rng.choice([0, 1]))
        await asyncio.to_thread(self.nats.start)

    async def fault_server_forgets(self, rng):
        await asyncio.to_thread(self.nats.kill)
        self.nats.forget()
        await asyncio.sleep(rng.choice([0, 0.5, 2]))
        await asyncio.to_thread(self.nats.start)

    async def fault_server_stop(self, rng):
        self.nats.pause()
        await asyncio.sleep(rng.choice([0.2, 1, 2, 4, 7]))
        self.nats.go_on()

    async def fault_server_slow(self, rng):
        until = time.monotonic() + rng.uniform(1, 4)
        while time.monotonic() < until:
            self.nats.pause()
            await asyncio.sleep(rng.uniform(0.02, 0.15))
            self.nats.go_on()
            await asyncio.sleep(rng.uniform(0.005, 0.03))

    async def fault_stream_deleted(self, _rng):
        await asyncio.to_thread(self.nats.delete_stream, "chat")

    async def fault_stream_purged(self, _rng):
        await asyncio.to_thread(self.nats.purge_stream, "chat")

    async def fault_node_kill(self, rng):
        node = rng.choice(self.nodes)
        await node.kill()
        await asyncio.sleep(rng.choice([0, 1, 4]))
        await asyncio.to_thread(node.start)
        await node.ready()

    async def fault_node_stop(self, rng):
        node = rng.choice(self.nodes)
        node.server.proc.send_signal(signal.SIGSTOP)
        await asyncio.sleep(rng.choice([0.3, 1, 2, 4, 6, 20]))
        node.server.proc.send_signal(signal.SIGCONT)

    async def fault_node_cut(self, rng):
        if not self.own_network:
            return
        node = rng.choice(self.nodes)
        node.cut()
        await asyncio.sleep(rng.choice([0.3, 1, 2, 4, 8]))
        node.heal()

    async def fault_followers_move(self, rng):
        movers = [one for one in self.followers if one.home is None]
        for follower in rng.sample(movers, 2):
            if follower.client and not follower.client.over:
                follower.client.reset()
