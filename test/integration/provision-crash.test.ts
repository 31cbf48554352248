// An agent that is killed in the middle of a provision: started again, it ends with the VM running, or nothing is left.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, describe, it } from 'node:test'
import type { Host } from '../../src/agent/host/host.ts'
import { systemClock } from '../../src/lib/clock.ts'
import type { AgentMessage } from '../../src/protocol/messages.ts'
import type { VmSpecification } from '../../src/protocol/vm.ts'
import { succeed } from '../agent/verbs/bench.ts'
import { type LibvirtFixture, openLibvirtFixture } from '../contract/libvirt-fixture.ts'
import { claimsOf, createSigner, type Signer } from '../support/signed-commands.ts'
import {
  askGuest,
  cannotProvision,
  guestSpecification,
  hostOf,
  leftoversOf,
  type ProvisionSetup,
  setupOf
} from './provision-host.ts'

const program = join(import.meta.dirname, 'provision-agent.ts')

describe('an agent killed with SIGKILL', { skip: await cannotProvision() }, () => {
  let fixture: LibvirtFixture
  let setup: ProvisionSetup
  let host: Host
  let signer: Signer
  let setupPath: string

  before(async () => {
    fixture = await openLibvirtFixture()
    setup = setupOf(fixture)
    host = await hostOf(fixture.hypervisor, setup)
    signer = await createSigner()
    await mkdir(setup.config.stateDirectory, { recursive: true })
    setupPath = join(fixture.directory, 'setup.json')
    await writeFile(setupPath, JSON.stringify({ ...setup, keys: [signer.publicKey] }))
  })
  after(async () => {
    await host?.close()
    await fixture?.dispose()
  })

  const steps = [
    'claim name, user and address',
    'fetch the image',
    'make the disks, reserve the address',
    'write the seed',
    'start',
    'wait until it is ready'
  ]
  for (const step of steps) {
    it(`in "${step}" goes on when it is started again, and the VM runs`, async () => {
      const specification = specificationOf({ seed: { hostname: 'resumed' } })
      await killedIn(step, specification)
      const end = await runAgent([setupPath])
      const result = end.find((message) => message.type === 'result')
      // Killed before the command was on disk, it was never acknowledged, and nothing may be there.
      if (result === undefined) return assert.deepEqual(await leftoversOf(host, setup), [])
      assert.equal(result.result.outcome, 'done', JSON.stringify(result))
      const address = String(result.result.value?.address)
      assert.equal((await askGuest(address)).hostname, 'resumed')
      await removed(specification)
    })
  }

  it('leaves nothing when what is left to do then fails', async () => {
    const specification = specificationOf({ rootDiskBytes: 1024 ** 2 })
    await killedIn('fetch the image', specification)
    const end = await runAgent([setupPath])
    const result = end.find((message) => message.type === 'result')
    assert.equal(result?.result.outcome ?? 'failed', 'failed')
    assert.deepEqual(await leftoversOf(host, setup), [])
  })

  function specificationOf(changes: Partial<VmSpecification>): VmSpecification {
    const uuid = randomUUID()
    return guestSpecification({
      name: `${fixture.prefix}-${uuid.slice(0, 4)}`,
      uuid,
      dataDiskBytes: 4 * 1024 ** 2,
      ...changes
    })
  }

  /** Sends the command to a new agent and kills it as soon as it is in the step. */
  async function killedIn(step: string, specification: VmSpecification): Promise<void> {
    const { name: vm, uuid } = specification
    const now = systemClock.now()
    const claims = claimsOf(now, {
      verb: 'vm.provision',
      subject: { vm, uuid, generation: 1 },
      arguments: { specification }
    })
    const commandPath = join(fixture.directory, `${uuid}.jws`)
    await writeFile(commandPath, await signer.sign(claims))
    const messages = await runAgent([setupPath, commandPath], step)
    assert.ok(
      messages.some((message) => message.type === 'progress' && message.step === step),
      JSON.stringify(messages)
    )
    assert.ok(!messages.some((message) => message.type === 'result'), 'was killed before its end')
  }

  async function removed({ name: vm, uuid }: VmSpecification): Promise<void> {
    await succeed(host, 'vm.teardown', { vm }, { subject: { vm, uuid, generation: 2 } })
    assert.deepEqual(await leftoversOf(host, setup), [])
  }
})

/** All that the agent says until it ends, by itself or by the kill. */
async function runAgent(args: string[], killIn?: string): Promise<AgentMessage[]> {
  const child = spawn(process.execPath, [program, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = new Promise((resolve) => child.once('close', resolve))
  const messages: AgentMessage[] = []
  for await (const line of createInterface(child.stdout)) {
    const message = JSON.parse(line) as AgentMessage
    messages.push(message)
    if (message.type === 'progress' && message.step === killIn) child.kill('SIGKILL')
  }
  await ended
  return messages
}
