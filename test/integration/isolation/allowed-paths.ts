// What each guest may do and what it may not, by its profile and its command: the way out, names, mapped ports, bandwidth.

import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { Attacker } from './attacker.ts'
import type { Cast } from './attacks.ts'
import { dnsQuestion } from './frames.ts'
import type { World } from './world.ts'

interface Try {
  readonly transport: 'TCP' | 'UDP'
  readonly address: string
  readonly port: number
}

/** Which of them an answer came back from: all at once, each with words of its own. */
async function answered(
  world: World,
  guest: Attacker,
  tries: Readonly<Record<string, Try>>
): Promise<string[]> {
  const lines = Object.entries(tries).map(([name, { transport, address, port }]) => {
    const words = world.words()
    const [web, udp] = [`nc -w 4 ${address} ${port}`, `socat -t 4 -T 4 - UDP:${address}:${port}`]
    // "GET" of what is no web server is echoed like anything else.
    const ask = `printf 'GET /${words} HTTP/1.0\\r\\n\\r\\n' | ${transport === 'TCP' ? web : udp}`
    return `( ${ask} 2>/dev/null | grep -qE 'outside|${words}' && echo '${name}' ) &`
  })
  const { output } = await guest.run(`${lines.join('\n')}\nwait`)
  return output.split('\n').filter(Boolean).sort()
}

function triesOf({ outside }: World): Record<string, Try> {
  const { server, otherServer } = outside
  return {
    'web, plain': { transport: 'TCP', address: server, port: 80 },
    'web, encrypted': { transport: 'TCP', address: otherServer, port: 443 },
    'TCP 8080 here': { transport: 'TCP', address: server, port: 8080 },
    'TCP 8080 there': { transport: 'TCP', address: otherServer, port: 8080 },
    'TCP 22': { transport: 'TCP', address: server, port: 22 },
    'UDP 443': { transport: 'UDP', address: server, port: 443 },
    'UDP 123': { transport: 'UDP', address: server, port: 123 },
    mail: { transport: 'TCP', address: server, port: 25 }
  }
}

async function pings(guest: Attacker, address: string): Promise<boolean> {
  return (await guest.run(`ping -c 1 -W 3 ${address}`)).code === 0
}

/** The code of DNS's answer to a question for an address, undefined where none came. */
async function resolves(guest: Attacker, server: string, transport: 'tcp' | 'udp' = 'udp'): Promise<boolean> {
  const question = dnsQuestion('www.example', 'A')
  const length = Buffer.from([0, question.length])
  const bytes = transport === 'tcp' ? Buffer.concat([length, question]) : question
  const target = transport === 'tcp' ? `TCP:${server}:53,connect-timeout=3` : `UDP:${server}:53`
  const ask = `echo ${bytes.toString('base64')} | base64 -d | socat -t 3 -T 3 - ${target}`
  // 198.51.100.200, which the servers outside say of every name.
  return (await guest.run(`${ask} | xxd -p | tr -d '\\n' | grep -q c63364c8`)).code === 0
}

export interface Customers extends Cast {
  /** May reach one port of one address, and no names. */
  readonly listed: Attacker
}

export function allowedPaths(cast: () => Customers): void {
  it('reaches with egress "all" the internet but for mail, and is answered by our resolver', async () => {
    const { world, mallory } = cast()
    const { mail: _closed, ...open } = triesOf(world)
    assert.deepEqual(await answered(world, mallory, triesOf(world)), Object.keys(open).sort())
    assert.ok(await pings(mallory, world.outside.server))
    assert.ok(await resolves(mallory, world.outside.resolver))
    assert.ok(await resolves(mallory, world.outside.resolver, 'tcp'))
    assert.equal(await resolves(mallory, world.outside.foreignResolver), false)
  })

  it('reaches, tightened to egress "web", web servers and our resolver only', async () => {
    const { world, neighbour } = cast()
    assert.deepEqual(await answered(world, neighbour, triesOf(world)), ['web, encrypted', 'web, plain'])
    assert.equal(await pings(neighbour, world.outside.server), false)
    assert.ok(await resolves(neighbour, world.outside.resolver))
    assert.equal(await resolves(neighbour, world.outside.foreignResolver), false)
  })

  it('reaches with egress "list" what is on the list', async () => {
    const { world, listed } = cast()
    assert.deepEqual(await answered(world, listed, triesOf(world)), ['TCP 8080 here'])
    assert.equal(await resolves(listed, world.outside.resolver), false)
    assert.equal(await resolves(listed, world.outside.resolver, 'tcp'), false)
  })

  it('reaches with egress "none" and without DNS nothing at all', async () => {
    const { world, stranger } = cast()
    assert.deepEqual(await answered(world, stranger, triesOf(world)), [])
    assert.equal(await pings(stranger, world.outside.server), false)
    assert.equal(await resolves(stranger, world.outside.resolver), false)
    assert.equal(await resolves(stranger, world.outside.resolver, 'tcp'), false)
    assert.equal(await resolves(stranger, stranger.gateway.address), false)
  })

  it('is refused where its command asks for more than its profile allows', async () => {
    const { world } = cast()
    const { code } = await world.refusal('eve', 'listed', { egress: { mode: 'all' } })
    assert.equal(code, 'E_BAD_REQUEST')
    assert.equal((await world.refusal('eve', 'sealed', { dns: true })).code, 'E_BAD_REQUEST')
  })

  it('moves with a bandwidth limit far fewer bytes than without, both ways', async (t) => {
    const { world, mallory, listed } = cast()
    const target = `TCP:${world.outside.server}:8080`
    const fetched = async (guest: Attacker) => {
      const ask = `{ printf 'GET /endless HTTP/1.0\\r\\n\\r\\n'; sleep 9; } | timeout 4 socat - ${target}`
      return Number((await guest.run(`${ask} | wc -c`)).output)
    }
    const sent = async (guest: Attacker) => {
      const before = await world.outside.receivedBytes()
      await guest.run(`timeout 4 socat -u OPEN:/dev/zero ${target}`)
      return (await world.outside.receivedBytes()) - before
    }
    const down = { limited: await fetched(listed), free: await fetched(mallory) }
    const up = { limited: await sent(listed), free: await sent(mallory) }
    t.diagnostic(`bytes in 4 s, to the guest: ${JSON.stringify(down)}; from it: ${JSON.stringify(up)}`)
    world.outside.forget()
    for (const { limited, free } of [down, up]) {
      assert.ok(limited > 0, 'nothing moved at all')
      assert.ok(free > 3 * limited, `${free} bytes without a limit, ${limited} with one`)
    }
  })
}
