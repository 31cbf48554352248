// Figure: the statistics of 1,000 domains, as one call, as calls domain by domain, and as a virsh process.

import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { connect, connectGetAllDomainStats } from 'node-libvirt'
import { type Contender, type Figure, interleave, NotRun, ratioRow, timeMs } from '../harness.ts'
import { openPeer, type PeerHypervisor } from '../support/peer.ts'
import { testHost } from '../support/test-host.ts'

const DOMAINS = 1_000
/** Our side of a pair is the mean of so many calls: one takes a hundredth of what the other side takes. */
const CALLS_PER_SAMPLE = 10
const VIRSH_OUTPUT_BYTES_MAX = 16 * 1_048_576
const run = promisify(execFile)

export const figure: Figure = {
  id: 'domain-statistics',
  title: 'Statistics of 1,000 domains',
  run: async ({ quick }) => {
    using host = testHost(DOMAINS)
    await using connection = await connect(host.uri)
    await using peer = await openPeer(host.daemonUri)
    const call = async () => {
      const { statistics } = await connection.call(connectGetAllDomainStats, {
        domains: [],
        groups: 0,
        flags: 0
      })
      expectAll(statistics.length)
    }
    const ours: Contender = async () =>
      (await timeMs(() => repeat(CALLS_PER_SAMPLE, call))) / CALLS_PER_SAMPLE
    const race = (contender: Contender, pairs: number) =>
      interleave({ ours, peer: contender, pairs: quick ? 3 : pairs, warmUps: quick ? 2 : 10 })
    const inTurn = await race(() => timeMs(() => oneByOne(peer)), 20)
    const atOnce = await race(() => timeMs(() => allAtOnce(peer)), 20)
    const virsh = await race(() => timeMs(() => virshProcess(host.daemonUri, 'domstats')), 20)
    const embedded = await race(() => timeMs(() => virshProcess(host.uri, 'domstats')), 20)
    const opening = await race(() => timeMs(() => virshProcess(host.daemonUri, 'uri')), 10)
    const row = (what: string, samples: { ours: number[]; peer: number[] }, atLeast?: number) =>
      ratioRow({
        what,
        first: ['other', samples.peer],
        second: ['node-libvirt', samples.ours],
        unit: 'ms',
        ...(atLeast !== undefined && { target: { atLeast } })
      })
    return {
      rows: [
        row('faster than the N-API package, domain after domain', inTurn, 15),
        row('faster than the N-API package, all domains at once', atOnce),
        row('faster than a `virsh domstats` process', virsh, 60),
        row('the same, with the test driver inside virsh', embedded),
        row('of that process, starting and connecting (`virsh uri`)', opening)
      ],
      how: [
        `libvirtd with its test driver and 1,000 running domains, of which that driver reports state and reason. node-libvirt asks in one call (virConnectGetAllDomainStats) on an open connection; a sample is the mean of ${CALLS_PER_SAMPLE} calls. The N-API package, which has no such call, lists the domains and asks for the info of each, on an open connection too.`,
        'A process of virsh opens a connection of its own, for which libvirtd first reads the description of the 1,000 domains; the last row tells how much of its time that is.'
      ]
    }
  }
}

async function repeat(times: number, call: () => Promise<void>): Promise<void> {
  for (let count = 0; count < times; count++) await call()
}

async function oneByOne(peer: PeerHypervisor): Promise<void> {
  const domains = await peer.connectListAllDomains()
  expectAll(domains.length)
  for (const domain of domains) await peer.domainGetInfo(domain)
}

async function allAtOnce(peer: PeerHypervisor): Promise<void> {
  const domains = await peer.connectListAllDomains()
  expectAll(domains.length)
  await Promise.all(domains.map((domain) => peer.domainGetInfo(domain)))
}

async function virshProcess(uri: string, command: 'domstats' | 'uri'): Promise<void> {
  try {
    const { stdout } = await run('virsh', ['-c', uri, command], { maxBuffer: VIRSH_OUTPUT_BYTES_MAX })
    if (command === 'domstats') expectAll(stdout.match(/^Domain: /gm)?.length ?? 0)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') throw new NotRun('virsh is not installed')
    throw cause
  }
}

function expectAll(found: number): void {
  if (found !== DOMAINS) throw new Error(`expected ${DOMAINS} domains, found ${found}`)
}
