// Isolation while things change: rules made anew under traffic, rules deleted by somebody, the agent killed, guests that begin.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { it } from 'node:test'
import { promisify } from 'node:util'
import type { Attacker } from './attacker.ts'
import { type Attack, allAttacks, attackGroups, type Cast } from './attacks.ts'
import { Battle } from './battle.ts'
import { eventually } from './eventually.ts'
import { ip } from './outside.ts'

const run = promisify(execFile)
const reloads = 10
const deletions = 3
/** Of an emulated guest on a busy machine. */
const bootMs = 400_000

export function upheaval(cast: () => Cast): void {
  const battle = () => new Battle(cast())

  it('lets nothing through and drops no connection while rules are made anew under traffic', async (t) => {
    const { world, mallory } = cast()
    const flood = await startFlood(cast(), allAttacks(cast()))
    const flow = await startFlow(cast())
    let made = 0
    try {
      for (let round = 0; round < reloads; round++) {
        const before = await tableHandles(world.prefix)
        if (round % 2 === 0) await plugStranger(mallory)
        else await unplugStranger()
        await redefine(cast())
        await eventually(
          async () => (await tableHandles(world.prefix)) !== before,
          'the rules to be made anew'
        )
        made++
      }
    } finally {
      await unplugStranger().catch(() => undefined)
    }
    const lines = await flow.stop()
    await flood.stop()
    await battle().allowed()
    assert.deepEqual(await battle().heardOf(flood.words), [])
    assert.ok(lines > reloads, `the allowed connection passed ${lines} lines`)
    assert.equal(flow.connections(), 1)
    t.diagnostic(`rules made anew ${made} times; ${lines} lines passed on one connection of ${mallory.vm}`)
  })

  it('keeps guests from each other when somebody deletes the rules, and puts them back', async (t) => {
    const { world } = cast()
    const attacks = toNeighbours(allAttacks(cast()))
    const flood = await startFlood(cast(), attacks)
    const tookMs: number[] = []
    for (let round = 0; round < deletions; round++) {
      const before = performance.now()
      await world.deleteTables()
      await eventually(() => world.areRulesInForce(), 'the rules to come back')
      tookMs.push(Math.round(performance.now() - before))
    }
    t.diagnostic(`rules came back after ${tookMs.join(', ')} ms`)
    await flood.stop()
    await battle().allowed()
    const heard = await battle().heardOf(flood.words)
    assert.deepEqual(
      heard.filter(({ place }) => place === 'neighbour'),
      []
    )
    Battle.assertNone(await battle().breaches(allAttacks(cast())))
    await world.agent.said('network rules were changed by somebody else and stand again')
  })

  it('holds its rules and lets connections live when the agent is killed', async () => {
    const { world } = cast()
    const flow = await startFlow(cast())
    await world.agent.kill()
    Battle.assertNone(await battle().breaches(allAttacks(cast())))
    await battle().allowed()
    assert.ok((await flow.stop()) > 0)
    assert.equal(flow.connections(), 1)
  })

  it('is not alone: without rules its neighbours are still out of reach by the isolation of ports', async () => {
    const { world } = cast()
    await world.deleteTables()
    const attacks = toNeighbours(allAttacks(cast()))
    const words = await battle().wage(attacks)
    await battle().allowed()
    const heard = await battle().heardOf(words)
    assert.deepEqual(
      heard.filter(({ place }) => place === 'neighbour'),
      []
    )
  })

  it('would succeed with each of these attacks without rules and isolation, which is the control', async (t) => {
    for (const guest of guestsOf(cast())) await openPort(guest)
    for (const [name, attacks] of Object.entries(attackGroups)) {
      await t.test(name, async () => {
        // A lease that was asked for has the DHCP server set the host's ARP.
        for (const guest of guestsOf(cast())) await pin(guest)
        await battle().expectArrivals(attacks(cast()))
      })
    }
    for (const guest of guestsOf(cast())) await closePort(guest)
  })

  it('is closed again when the agent comes back', async () => {
    const { world } = cast()
    await world.agent.spawn()
    await eventually(() => world.areRulesInForce(), 'the rules to come back')
    Battle.assertNone(await battle().breaches(allAttacks(cast())))
  })

  it('sends nothing forbidden from its first moment on, also when its rules did not stand before', async () => {
    const { world, mallory } = cast()
    const attacks = allAttacks(cast()).filter(({ frames }) => frames)
    const words = new Map(attacks.map((attack) => [attack, world.words()]))
    const script = mallory.sending(framesOf(words))
    const file = '/mnt/root/hostlet/at-boot'
    await mallory.run(`cat >${file} <<'END'\n#!/bin/sh\nwhile :; do\n${script}\ndone\nEND\nsync`)
    const about = { vm: mallory.vm, uuid: mallory.uuid }
    await world.agent.do('vm.stop', { vm: mallory.vm, force: true }, about)
    const bridge = await world.captureBridge(mallory.bridge)
    bridge.forget()
    await world.deleteTables()
    await world.agent.do('vm.start', { vm: mallory.vm }, about)
    await eventually(() => answers(mallory), 'the guest to be up again', bootMs)
    await battle().allowed()
    assert.deepEqual(await battle().heardOf(words), [])
    assert.equal(bridge.saw('hostlet-attacker-first-frame'), false)
    assert.match((await mallory.run('ps')).output, /at-boot/, 'it sends nothing at all')
  })
}

async function answers(guest: Attacker): Promise<boolean> {
  return await guest.run('true').then(
    () => true,
    () => false
  )
}

function toNeighbours(attacks: readonly Attack[]): Attack[] {
  return attacks.filter(
    (attack) => attack.frames && attack.arrivesAt.includes('neighbour') && !attack.throughHost
  )
}

function framesOf(words: ReadonlyMap<Attack, string>): Buffer[] {
  return [...words].flatMap(([attack, each]) => attack.frames?.(each) ?? [])
}

function guestsOf({ mallory, neighbour, stranger }: Cast): Attacker[] {
  return [mallory, neighbour, stranger]
}

async function openPort({ tap }: Attacker): Promise<void> {
  await run('bridge', ['link', 'set', 'dev', tap, 'isolated', 'off'])
}

async function closePort({ tap }: Attacker): Promise<void> {
  await run('bridge', ['link', 'set', 'dev', tap, 'isolated', 'on'])
}

/** So that the test's own way to its guests outlives what they say of each other. */
async function pin(guest: Attacker): Promise<void> {
  const { address, mac, tap, bridge, gateway } = guest
  await run('bridge', ['fdb', 'replace', mac, 'dev', tap, 'master', 'static', 'sticky'])
  await ip('neighbour', 'replace', address, 'lladdr', mac, 'dev', bridge, 'nud', 'permanent')
  await guest.run(`arp -s ${gateway.address} ${gateway.mac}`)
}

interface Flood {
  readonly words: ReadonlyMap<Attack, string>
  stop(): Promise<void>
}

/** Sends all of them again and again in the background. */
async function startFlood({ world, mallory }: Cast, attacks: readonly Attack[]): Promise<Flood> {
  const words = new Map(attacks.filter(({ frames }) => frames).map((attack) => [attack, world.words()]))
  const script = mallory.sending(framesOf(words))
  const loop = `: >/tmp/flooding\nwhile [ -e /tmp/flooding ]; do\n${script}\necho >>/tmp/rounds\ndone`
  await mallory.run(
    `rm -f /tmp/rounds; cat >/tmp/flood <<'END'\n${loop}\nEND\nsetsid sh /tmp/flood >/dev/null 2>&1 &`
  )
  const rounds = async () => Number((await mallory.run('cat /tmp/rounds 2>/dev/null | wc -l')).output)
  await eventually(async () => (await rounds()) > 0, 'the flood to begin')
  return {
    words,
    stop: async () => {
      await mallory.run('rm /tmp/flooding')
    }
  }
}

/** An allowed connection that goes on; its lines come back from outside. */
async function startFlow({ world, mallory }: Cast) {
  const words = world.words()
  const target = `TCP:${world.outside.server}:5000`
  const speak = `: >/tmp/flowing; n=0; while [ -e /tmp/flowing ]; do n=$((n+1)); echo "${words} $n"; sleep 0.1; done`
  await mallory.run(
    `cat >/tmp/flow <<'END'\n{ ${speak}; } | socat - ${target} >/tmp/flowed\nEND\nsetsid sh /tmp/flow >/dev/null 2>&1 &`
  )
  const lines = async () => Number((await mallory.run('wc -l </tmp/flowed')).output)
  await eventually(async () => (await lines()) > 0, 'the allowed connection to begin')
  const of = () =>
    world.outside.arrivals.filter(({ transport, text }) => transport === 'tcp' && text.includes(words))
  return {
    connections: () => new Set(of().map(({ fromPort }) => fromPort)).size,
    stop: async () => {
      const before = await lines()
      await eventually(async () => (await lines()) > before, 'the allowed connection to go on')
      await mallory.run('rm /tmp/flowing')
      return await lines()
    }
  }
}

/** They grow with each table that is made. */
async function tableHandles(table: string): Promise<string> {
  const { stdout } = await run('nft', ['-j', 'list', 'tables'])
  const { nftables } = JSON.parse(stdout) as { nftables: { table?: { name: string; handle: number } }[] }
  return nftables.flatMap((each) => (each.table?.name === table ? [each.table.handle] : [])).join()
}

const strangerPort = 'hltstranger'

/** A port on a bridge of ours that is no VM's: the rules are others with it, and without it again. */
async function plugStranger({ bridge }: Attacker): Promise<void> {
  await ip('link', 'add', strangerPort, 'type', 'veth', 'peer', 'name', `${strangerPort}2`)
  await ip('link', 'set', strangerPort, 'master', bridge, 'up')
}

async function unplugStranger(): Promise<void> {
  await ip('link', 'del', strangerPort)
}

/** Has the agent look anew: tells it of a change of a VM, which is none. */
async function redefine({ world, stranger }: Cast): Promise<void> {
  const { fixture, directory } = world.agent
  const path = join(directory, 'redefined.xml')
  await writeFile(path, await fixture.virsh('dumpxml', '--inactive', stranger.vm))
  await fixture.virsh('define', path)
}
