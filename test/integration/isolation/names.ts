// What a guest learns of others by asking: for names, for addresses, for a lease.

import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { Attacker } from './attacker.ts'
import type { Cast } from './attacks.ts'
import { dnsQuestion, icmpv6, icmpv6Types, linkLocal, udp } from './frames.ts'
import { ip } from './outside.ts'

export function names(cast: () => Cast): void {
  it('learns in a sweep of PTR names of nobody', async () => {
    const { world, mallory, neighbour, stranger } = cast()
    const { address, mac, gateway } = mallory
    const link = { from: mac, to: gateway.mac }
    const net = address.split('.').slice(0, 3)
    const [a, b, c] = net
    const sweep = (server: string) =>
      Array.from({ length: 254 }, (_, index) => {
        const question = dnsQuestion(`${index + 1}.${c}.${b}.${a}.in-addr.arpa`, 'PTR')
        return udp(link, { from: address, to: server, toPort: 53 }, question)
      })
    const listen = 'socat -u INTERFACE:eth0 OPEN:/tmp/swept,creat,trunc & sleep 1'
    const send = [gateway.address, world.outside.resolver]
      .map((server) => mallory.sending(sweep(server)))
      .join('; ')
    const { output } = await mallory.run(`${listen}; ${send}; sleep 2; kill %1; strings -n 4 /tmp/swept`)
    // The control: the questions went out and were heard again, the last of them too.
    assert.match(output, /in-addr/)
    for (const name of [neighbour.vm, stranger.vm, stranger.address]) assert.ok(!output.includes(name), name)
    assert.ok(!output.includes(world.agent.fixture.prefix), 'a name of this host')
  })

  it('learns by DHCP its own address and nothing of others, and its own name is not kept', async () => {
    const { world, mallory, neighbour, stranger } = cast()
    const ask = [
      "printf '#!/bin/sh\\nset >>/tmp/lease.txt\\n' >/tmp/lease; chmod 755 /tmp/lease; rm -f /tmp/lease.txt",
      'udhcpc -f -q -n -i eth0 -s /tmp/lease -x hostname:gateway -F gateway -V hostlet -O dns -O hostname -O domain -O search',
      'cat /tmp/lease.txt'
    ]
    const { output } = await mallory.run(ask.join('; '))
    assert.match(output, new RegExp(`ip='${mallory.address.replaceAll('.', '\\.')}'`))
    // Whole words: 10.83.24.2 is no part of a broadcast address that ends in .255.
    for (const name of [neighbour.vm, stranger.vm, neighbour.address, stranger.address])
      assert.doesNotMatch(output, new RegExp(`\\b${name.replaceAll('.', '\\.')}\\b`), name)
    const leases = await world.agent.fixture.virsh('net-dhcp-leases', world.agent.fixture.network.name)
    assert.match(leases, new RegExp(mallory.mac))
    assert.doesNotMatch(leases, / gateway /)
  })

  it('is told no resolver where its profile has no DNS', async () => {
    const { stranger, mallory, world } = cast()
    const resolvers = async (guest: Attacker) => (await guest.run('cat /etc/resolv.conf')).output.trim()
    assert.equal(await resolvers(mallory), `nameserver ${world.outside.resolver}`)
    assert.equal(await resolvers(stranger), '')
  })

  it('hears no IPv6 of the host, whose bridges have none', async () => {
    const { world, mallory, neighbour } = cast()
    const addresses = await ip('-6', 'address', 'show', 'dev', mallory.bridge)
    assert.equal(addresses, '')
    const words = world.words()
    const link = { from: mallory.gateway.mac, to: '33:33:00:00:00:01' }
    const at = { from: linkLocal(mallory.gateway.mac), to: 'ff02::1', type: icmpv6Types.routerAdvertisement }
    await world.sendFromHost(mallory.bridge, icmpv6(link, at, words))
    // This comes after it, on the same way.
    const call = world.words()
    await neighbour.call(call)
    const heard = await neighbour.heard()
    assert.deepEqual([heard.has(call), heard.has(words)], [true, false])
  })
}
