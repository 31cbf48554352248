// Ports of the host that lead to a guest: for the sources that may, and for nobody else.

import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { Cast } from './attacks.ts'
import type { World } from './world.ts'

/** Of the host, from the first one of the range: what leads where. */
export const mapped = { open: 0, closed: 1, datagrams: 2 } as const

/** The mappings of the neighbour: its web server for everybody and for one client, its echo for one client. */
export function mappingsOf(world: World) {
  const { firstPort, outside } = world
  const sources = [`${outside.client}/32`]
  return [
    { transport: 'tcp' as const, hostPort: firstPort + mapped.open, vmPort: 80 },
    { transport: 'tcp' as const, hostPort: firstPort + mapped.closed, vmPort: 80, sources },
    { transport: 'udp' as const, hostPort: firstPort + mapped.datagrams, vmPort: 7000, sources }
  ]
}

export function mappedPorts(cast: () => Cast): void {
  const ask = async (source: string, port: number, transport: 'TCP' | 'UDP') => {
    const { world } = cast()
    const { outside, firstPort } = world
    const limit = transport === 'TCP' ? ',connect-timeout=3' : ''
    const target = `${transport}:${outside.hostAddress}:${firstPort + port},bind=${source}${limit}`
    const script = `printf 'GET / HTTP/1.0\\r\\n\\r\\n' | socat -t 3 -T 3 - ${target} 2>/dev/null || true`
    return (await outside.exec('sh', '-c', script)).includes(transport === 'TCP' ? '"hostname"' : 'GET')
  }

  it('is reached at its mapped port by everybody, or by the sources that may', async () => {
    const { world, neighbour } = cast()
    await neighbour.run('setsid socat UDP-RECVFROM:7000,fork EXEC:/bin/cat >/dev/null 2>&1 &')
    const { client, otherClient } = world.outside
    assert.ok(await ask(client, mapped.open, 'TCP'), 'open to all, one client')
    assert.ok(await ask(otherClient, mapped.open, 'TCP'), 'open to all, the other')
    assert.ok(await ask(client, mapped.closed, 'TCP'), 'open to one')
    assert.equal(await ask(otherClient, mapped.closed, 'TCP'), false)
    assert.ok(await ask(client, mapped.datagrams, 'UDP'), 'datagrams, open to one')
    assert.equal(await ask(otherClient, mapped.datagrams, 'UDP'), false)
    assert.equal(await ask(client, mapped.datagrams, 'TCP'), false)
  })

  it('is not reached by its own address from outside, at a mapped port or another', async () => {
    const { world, neighbour } = cast()
    const { outside } = world
    for (const port of [80, 22]) {
      const target = `TCP:${neighbour.address}:${port},bind=${outside.client},connect-timeout=2`
      const script = `printf 'GET / HTTP/1.0\\r\\n\\r\\n' | socat -t 2 -T 2 - ${target} 2>/dev/null || true`
      assert.equal(await outside.exec('sh', '-c', script), '')
    }
  })

  it('is not reached through the host by another guest, at its mapped port', async () => {
    const { world, mallory } = cast()
    for (const address of [world.outside.hostAddress, mallory.gateway.address]) {
      const target = `TCP:${address}:${world.firstPort + mapped.open},connect-timeout=2`
      const { output } = await mallory.run(
        `printf 'GET / HTTP/1.0\\r\\n\\r\\n' | socat -t 2 -T 2 - ${target}`
      )
      assert.doesNotMatch(output, /"hostname"/)
    }
  })

  it('is told which VM has a port that another one asks for', async () => {
    const { world, neighbour } = cast()
    const [open] = mappingsOf(world)
    const { code, message } = await world.refusal('eve', 'shared', { ports: open ? [open] : [] })
    assert.equal(code, 'E_CONFLICT')
    assert.ok(message.includes(neighbour.vm), message)
  })
}
