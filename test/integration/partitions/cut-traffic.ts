// Commands for every host without end: resets of a VM that stays, where none waits for the one before, and VMs that come, stop, start and go.

import assert from 'node:assert/strict'
import { systemClock } from '../../../src/lib/clock.ts'
import type { OperationView } from '../../../src/protocol/api.ts'
import { eventually } from '../isolation/eventually.ts'
import type { CutFleet, CutHost } from './cut-fleet.ts'

const pauseMs = 100
/** Of a host, not ended: enough to fill a partition, and few enough to catch up with. */
const openMax = 40
const patienceMs = 180_000

interface Flow {
  readonly host: CutHost
  /** How often the hypervisor has to have been asked for what. */
  readonly wanted: Map<string, number>
  readonly ids: string[]
  readonly ended: OperationView[]
  readonly running: Promise<unknown>[]
}

export class CutTraffic {
  readonly #fleet: CutFleet
  readonly #flows: ReadonlyMap<CutHost, Flow>
  #isOn = true

  constructor(fleet: CutFleet) {
    this.#fleet = fleet
    this.#flows = new Map(fleet.hosts.map((host) => [host, this.#begin(host)]))
  }

  endedOf(host: CutHost): number {
    return this.#flows.get(host)?.ended.length ?? 0
  }

  /** Resolves once each of the hosts has ended so many more. */
  async more(count: number, hosts: readonly CutHost[] = this.#fleet.hosts): Promise<void> {
    for (const [host, before] of hosts.map((host) => [host, this.endedOf(host)] as const))
      await eventually(
        () => this.endedOf(host) >= before + count,
        () => `${count} more commands on ${host.name}, which has ended ${this.endedOf(host) - before}`,
        patienceMs
      )
  }

  /** Resolves once all that was asked for has ended: with the ids, by host. Everything was done, and once. */
  async finish(): Promise<ReadonlyMap<CutHost, readonly string[]>> {
    this.#isOn = false
    for (const { host, running, ids, ended, wanted } of this.#flows.values()) {
      // Others join while these go on.
      for (let count = 0; count < running.length; count++) await running[count]
      assert.equal(ended.length, ids.length)
      for (const { state, verb, id, error } of ended)
        assert.equal(state, 'done', `${host.name}: ${verb} ${id}: ${JSON.stringify(error)}`)
      const calls = await host.calls()
      for (const [call, count] of wanted)
        assert.equal(calls.filter((made) => made === call).length, count, `${host.name}: ${call}`)
    }
    return new Map([...this.#flows.values()].map(({ host, ids }) => [host, ids]))
  }

  #begin(host: CutHost): Flow {
    const flow: Flow = { host, wanted: new Map(), ids: [], ended: [], running: [] }
    own(flow, this.#resets(flow))
    own(flow, this.#passing(flow))
    return flow
  }

  async #resets(flow: Flow): Promise<void> {
    const { name } = flow.host
    while (this.#isOn) {
      count(flow, `reset ${name}`)
      const id = await this.#fleet.ask('POST', `/v1/vms/${name}/reboot`, { force: true })
      own(flow, this.#follow(flow, id))
      await systemClock.sleep(pauseMs)
      while (this.#isOn && flow.ids.length - flow.ended.length >= openMax) await systemClock.sleep(pauseMs)
    }
  }

  async #passing(flow: Flow): Promise<void> {
    for (let number = 1; this.#isOn; number++) {
      const vm = `${flow.host.name}-${number}`
      const path = `/v1/vms/${vm}`
      for (const call of [`start ${vm}`, `pressPowerButton ${vm}`, `start ${vm}`, `undefine ${vm}`])
        count(flow, call)
      await this.#follow(flow, await this.#fleet.provision(flow.host, vm))
      await this.#follow(flow, await this.#fleet.ask('POST', `${path}/stop`, {}))
      await this.#follow(flow, await this.#fleet.ask('POST', `${path}/start`, {}))
      await this.#follow(flow, await this.#fleet.ask('DELETE', path, undefined))
    }
  }

  async #follow(flow: Flow, id: string): Promise<void> {
    flow.ids.push(id)
    flow.ended.push(await this.#fleet.ended(id))
  }
}

function count({ wanted }: Flow, call: string): void {
  wanted.set(call, (wanted.get(call) ?? 0) + 1)
}

/** Awaited by `finish`; where a test fails before that, the fleet goes away under it. */
function own({ running }: Flow, work: Promise<unknown>): void {
  work.catch(() => undefined)
  running.push(work)
}
