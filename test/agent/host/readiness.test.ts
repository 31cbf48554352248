// When a VM counts as ready, and what is said when it does not get there.

import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { describe, it } from 'node:test'
import type { Lease } from '../../../src/agent/host/hypervisor.ts'
import { awaitReady, systemProbes } from '../../../src/agent/host/readiness.ts'
import { HostletError } from '../../../src/errors.ts'
import type { Readiness, VmState } from '../../../src/protocol/vm.ts'
import { FakeClock } from '../../support/fake-clock.ts'

const lease = { macAddress: '52:00:00:00:00:01', address: '10.90.0.2' }

describe('a VM', () => {
  it('is ready when it has its address and what was asked for answers, in this order', async () => {
    const asked: string[] = []
    const guest = guestWith({ leases: [lease], asked })
    await guest.ready({ tcpPort: 22, http: { port: 80, path: '/healthz' } })
    assert.deepEqual(asked, ['tcp 10.90.0.2:22', 'http 10.90.0.2:80/healthz'])
  })

  it('is not ready by the lease of another MAC, or another address of its own', async () => {
    for (const other of [
      { ...lease, macAddress: '52:00:00:00:00:02' },
      { ...lease, address: '10.90.0.3' }
    ]) {
      const error = await failure(guestWith({ leases: [other] }))
      assert.equal(error.code, 'E_UNAVAILABLE')
      assert.match(error.message, /address 10\.90\.0\.2/)
    }
  })

  it('is waited for until it answers', async () => {
    const guest = guestWith({ leases: [lease], answersAfter: 3 })
    await guest.ready({ tcpPort: 22 })
    assert.equal(guest.asked.length, 4)
  })

  it('that does not answer in time is named with what is missing', async () => {
    const error = await failure(guestWith({ leases: [lease], answersAfter: Number.POSITIVE_INFINITY }), {
      tcpPort: 22
    })
    assert.equal(error.code, 'E_UNAVAILABLE')
    assert.equal(error.details.missing, 'port 22')
  })

  it('that went off or is gone is not waited for', async () => {
    assert.equal((await failure(guestWith({ state: 'crashed' }))).code, 'E_CONFLICT')
    assert.equal((await failure(guestWith({ state: undefined }))).code, 'E_NOT_FOUND')
  })

  it('is left when the operation is given up', async () => {
    const reason = new HostletError('E_CANCELLED', 'given up')
    const guest = guestWith({ leases: [] })
    await assert.rejects(guest.ready({}, AbortSignal.abort(reason)), reason)
  })
})

describe('probes', () => {
  it('tell an answer from an error, a closed port and a broken server', async () => {
    const server = createServer((request, response) => {
      if (request.url === '/broken') return response.destroy()
      response.writeHead(Number(request.url?.slice(1))).end()
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const target = { address: '127.0.0.1', port: (server.address() as AddressInfo).port }
    const wait = { signal: AbortSignal.timeout(10_000) }
    try {
      for (const [path, works] of [
        ['/200', true],
        ['/302', true],
        ['/404', false],
        ['/503', false],
        ['/broken', false]
      ] as const)
        assert.equal(await systemProbes.http({ ...target, path }, wait), works, path)
      assert.equal(await systemProbes.tcp(target, wait), true)
    } finally {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    }
    assert.equal(await systemProbes.tcp(target, wait), false)
    assert.equal(await systemProbes.http({ ...target, path: '/' }, wait), false)
  })
})

interface Guest {
  readonly asked: string[]
  ready(readiness: Readiness, signal?: AbortSignal): Promise<void>
}

function guestWith(facts: {
  leases?: readonly Lease[]
  answersAfter?: number
  asked?: string[]
  state?: VmState | undefined
}): Guest {
  const { leases = [], answersAfter = 0, asked = [] } = facts
  const state = 'state' in facts ? facts.state : 'running'
  const clock = new FakeClock()
  const answer = async (what: string) => asked.push(what) > answersAfter
  const hypervisor = {
    listLeases: async () => leases,
    findVm: async () => (state === undefined ? undefined : { state, reason: 'test' }) as never
  }
  const probes = {
    tcp: ({ address, port }: { address: string; port: number }) => answer(`tcp ${address}:${port}`),
    http: ({ address, port, path }: { address: string; port: number; path: string }) =>
      answer(`http ${address}:${port}${path}`)
  }
  return {
    asked,
    ready: async (ready, signal = new AbortController().signal) => {
      const vm = { specification: { name: 'web-1', ready }, placement: { ...lease, network: 'n' } } as never
      const waiting = awaitReady(vm, { hypervisor, clock, probes }, { signal, timeoutMs: 10_000 })
      let over = false
      waiting.then(
        () => (over = true),
        () => (over = true)
      )
      for (let steps = 0; !over && steps < 1_000; steps++) await clock.advance(250)
      await waiting
    }
  }
}

async function failure(guest: Guest, ready: Readiness = {}): Promise<HostletError> {
  const error = await guest.ready(ready).catch((thrown: unknown) => thrown)
  assert.ok(error instanceof HostletError, String(error))
  return error
}
