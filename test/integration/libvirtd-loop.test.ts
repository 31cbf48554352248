// A libvirtd that is killed, stopped and begun again and again while commands flow: every command has one answer, which is true.

import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { it } from 'node:test'
import { portName } from '../../src/agent/host/names.ts'
import { type ErrorReport, errorCodes } from '../../src/errors.ts'
import { systemClock } from '../../src/lib/clock.ts'
import type { CommandSubject } from '../../src/protocol/command.ts'
import { eventually } from './isolation/eventually.ts'
import { LibvirtdHost } from './libvirtd-host.ts'
import { askGuest, cannotProvision, guestSpecification } from './provision-host.ts'

const skip = await cannotProvision()
/** Of a command that libvirtd's end spoils, over and over. */
const triesMax = 20
const stopMs = 10_000
/** Between two ends of libvirtd so many messages of commands come, and then a moment passes: a slow machine gets on as well. */
const messages = { least: 2, most: 12 }
/** After so many libvirtd stays, and what is left to do is done in peace. */
const endsMax = 16
const momentMs = 1_500
const retried: ReadonlySet<string> = new Set(['retry', 'look'])

it('a libvirtd that ends and begins while commands flow', { skip, timeout: 600_000 }, async (t) => {
  await using host = await LibvirtdHost.start()
  const still = [new Vm(host, 'still-1'), new Vm(host, 'still-2')]
  await Promise.all(still.map((vm) => vm.insist('vm.provision')))
  const before = await Promise.all(still.map((vm) => vm.identity()))
  for (const { uuid } of still) host.rules.watch(portName(uuid))

  const busy = [new Vm(host, 'busy-1'), new Vm(host, 'busy-2'), new Vm(host, 'busy-3')]
  const over = new AbortController()
  const loop = restarts(host, over.signal)
  try {
    await Promise.all(busy.map((vm, index) => live(vm, { returns: index === 0 })))
  } finally {
    over.abort()
    const counts = await loop
    const failed = host.scheduler.of('result').filter(({ result }) => result.outcome === 'failed').length
    const refused = host.scheduler.of('refusal').length
    t.diagnostic(
      `${counts.killed} times killed, ${counts.stopped} times stopped, ${host.sent.length} commands, ${refused} refused, ${failed} failed, ${host.rules.transactions} changes of rules`
    )
    for (const line of host.errors) t.diagnostic(line.slice(0, 400))
  }

  for (const id of host.sent) {
    const refused = host.refused(id)
    assert.equal(host.acknowledged(id), !refused, `${id} is neither accepted nor refused, or both`)
    assert.equal(host.resultsOf(id).length, refused ? 0 : 1, `results of ${id}`)
  }
  assert.equal(host.scheduler.connections, 1)
  for (const vm of busy) await vm.holds()
  const after = await Promise.all(still.map((vm) => vm.identity()))
  assert.deepEqual(after, before, 'a machine that no command touched was started anew')
  host.rules.check()
  assert.deepEqual(host.rules.gaps, [])

  for (const vm of [...still, ...busy].filter(({ state }) => state !== 'absent'))
    await vm.insist('vm.teardown')
  assert.deepEqual(await host.secrets(), [])
  assert.equal((await host.virsh('list', '--all', '--name')).trim(), '')
})

/** A VM's whole life; where it returns, another one of its name is left running. */
async function live(vm: Vm, { returns }: { returns: boolean }): Promise<void> {
  await vm.insist('vm.provision')
  await vm.insist('vm.reboot', { force: true })
  await vm.insist('vm.stop', { force: true })
  await vm.insist('vm.start')
  await vm.insist('vm.stop', { graceMs: 1_000 })
  await vm.insist('vm.start')
  await vm.insist('vm.teardown')
  if (!returns) return
  vm.renew()
  await vm.insist('vm.provision')
}

/** Until it is told to end: then libvirtd is there. */
async function restarts(
  { daemon, scheduler }: LibvirtdHost,
  signal: AbortSignal
): Promise<{ killed: number; stopped: number }> {
  const counts = { killed: 0, stopped: 0 }
  const heard = () =>
    scheduler.of('ack').length + scheduler.of('progress').length + scheduler.of('result').length
  while (counts.killed + counts.stopped < endsMax) {
    const enough = heard() + messages.least + Math.floor(Math.random() * (messages.most - messages.least))
    await scheduler.until(() => heard() >= enough || signal.aborted)
    await systemClock.sleep(Math.random() * momentMs, signal).catch(() => undefined)
    if (signal.aborted) return counts
    const kind = Math.random() < 0.7 ? 'killed' : 'stopped'
    await (kind === 'killed' ? daemon.kill() : daemon.stop(stopMs))
    counts[kind]++
    daemon.restart()
    await (await daemon.connect()).close()
  }
  return counts
}

type VmState = 'absent' | 'running' | 'shut off'
const ends: Readonly<Record<string, VmState>> = {
  'vm.provision': 'running',
  'vm.start': 'running',
  'vm.reboot': 'running',
  'vm.stop': 'shut off',
  'vm.teardown': 'absent'
}

class Vm {
  state: VmState = 'absent'
  uuid = randomUUID() as string
  readonly #host: LibvirtdHost
  readonly #name: string
  #generation = 0

  constructor(host: LibvirtdHost, name: string) {
    this.#host = host
    this.#name = `${host.name}-${name}`
  }

  /** Another VM of the name. */
  renew(): void {
    this.uuid = randomUUID()
    this.#generation = 0
  }

  /** Asks until it is done. What does not come about says so, with what to do, and after each answer libvirt is as it says. */
  async insist(verb: string, args: Record<string, unknown> = {}): Promise<void> {
    for (let tries = 1; ; tries++) {
      const subject = { ...this.#subject, generation: ++this.#generation }
      const specification = guestSpecification({ name: subject.vm, uuid: this.uuid, seed: {} })
      const answer = await this.#host.command(
        verb,
        subject,
        verb === 'vm.provision' ? { specification } : { vm: subject.vm, ...args }
      )
      if ('result' in answer && answer.result.outcome === 'done') {
        this.state = ends[verb] ?? this.state
        return await this.holds()
      }
      const error = 'refusal' in answer ? answer.refusal : answer.result.error
      assert.ok(error)
      requireClear(verb, error)
      // A stop or a start that failed says: look.
      if ('refusal' in answer || verb === 'vm.provision' || verb === 'vm.reboot') await this.holds()
      assert.ok(tries < triesMax, `${verb} failed ${tries} times: ${error.message}`)
      if ('refusal' in answer) await systemClock.sleep(500, new AbortController().signal)
    }
  }

  /** Libvirt, its files and the kernel have of the VM what the last answer said. */
  async holds(): Promise<void> {
    const { vm, uuid } = this.#subject
    const port = portName(uuid)
    let [state, remains] = ['', [] as string[]]
    const isTrue = async () => {
      state = await this.#host.stateOf(vm)
      remains = await this.#host.remainsOf({ vm, uuid })
      if (state !== this.state) return false
      const { rules } = this.#host
      return state === 'absent' ? remains.length === 0 && !rules.knows(port) : rules.stand(port)
    }
    await eventually(isTrue, () => `${vm} to be ${this.state}: it is ${state}, with ${remains.join(', ')}`)
  }

  /** Another one after each start of the machine, and of its guest. */
  async identity(): Promise<unknown> {
    const { vm } = this.#subject
    const { bootId } = await askGuest(await this.#address())
    return { vm, pid: await this.#host.pidOf(vm), bootId }
  }

  get #subject(): Omit<CommandSubject, 'generation'> {
    return { vm: this.#name, uuid: this.uuid }
  }

  async #address(): Promise<string> {
    const xml = await this.#host.virsh('net-dumpxml', this.#host.name)
    const found = new RegExp(`name='${this.#name}' ip='([0-9.]+)'`).exec(xml)?.[1]
    assert.ok(found, xml)
    return found
  }
}

function requireClear(verb: string, { code, message }: ErrorReport): void {
  assert.ok(retried.has(errorCodes[code].advice), `${verb}: ${code}: ${message}`)
  assert.ok(message.length > 0)
}
