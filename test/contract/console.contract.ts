// What every hypervisor's serial console must do: bytes both ways, one who has it, and an end with the machine.

import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { type Duplex, Readable } from 'node:stream'
import { after, before, describe, it } from 'node:test'
import type { VmDefinition } from '../../src/agent/host/hypervisor.ts'
import { baseVolumeName } from '../../src/agent/host/names.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { definitionOf, type HypervisorSubject, rejectsWith, removeVm, wait } from './hypervisor.contract.ts'

type ConsoleSubject = Pick<
  HypervisorSubject,
  'hypervisor' | 'prefix' | 'network' | 'uid' | 'addForeign' | 'removeForeign' | 'dispose'
>

/** Between two keys of somebody who waits for an answer. */
const keyMs = 200

/** A boot sector that sends back whatever comes in on COM1: reads the line status until a byte is there. */
function echoingDisk(): Buffer {
  const disk = Buffer.alloc(1024 * 1024)
  disk.write('bafd03eca80174fbbaf803eceeebf1', 'hex')
  disk.writeUInt16LE(0xaa55, 510)
  return disk
}

const content = echoingDisk()
const image = {
  url: 'https://images.test/echo.img',
  sha256: createHash('sha256').update(content).digest('hex'),
  format: 'raw'
} as const
const base = baseVolumeName(image)

export function describeConsoles(
  title: string,
  options: { skip?: string | false; open: () => Promise<ConsoleSubject> }
): void {
  describe(`contract of consoles: ${title}`, { skip: options.skip, timeout: 300_000 }, () => {
    let subject: ConsoleSubject
    let definition: VmDefinition
    let name: string
    const open = (force = false) => subject.hypervisor.openConsole(name, { force }, wait())

    before(async () => {
      subject = await options.open()
      const { hypervisor, network } = subject
      await hypervisor.ensureNetwork(network, wait())
      const volume = { name: base, format: 'raw', sizeBytes: content.length } as const
      await hypervisor.uploadBase(volume, Readable.from([content]), wait())
      const usual = definitionOf(subject, 'echo')
      definition = { ...usual, specification: { ...usual.specification, image } }
      name = definition.specification.name
      const root = { name: definition.placement.rootVolume, base, baseFormat: 'raw' } as const
      await hypervisor.createOverlay({ ...root, capacityBytes: 8 * 1024 ** 2 }, wait())
      await hypervisor.define(definition, wait())
    })
    after(async () => {
      if (definition !== undefined) await removeVm(subject.hypervisor, definition)
      await subject?.dispose()
    })

    it('is there for no VM that is off, that does not exist, or that is not ours', async () => {
      const { hypervisor, prefix } = subject
      const none = hypervisor.openConsole(`${prefix}-none`, { force: false }, wait())
      await rejectsWith('E_NOT_FOUND', none)
      await rejectsWith('E_CONFLICT', open())
      await subject.addForeign(`${prefix}-foreign`)
      const foreign = hypervisor.openConsole(`${prefix}-foreign`, { force: true }, wait())
      await rejectsWith('E_CONFLICT', foreign)
      await subject.removeForeign(`${prefix}-foreign`)
      await hypervisor.start(name, wait())
    })

    it('carries bytes both ways, over a reset of the machine too', async () => {
      const { stream, released } = await open()
      await answers(stream, 'x')
      await subject.hypervisor.reset(name, wait())
      await answers(stream, 'y')
      stream.destroy()
      await released
    })

    it('is for one: another is refused, or asks for it by force, and the first one ends', async () => {
      const first = await open()
      await rejectsWith('E_CONFLICT', open())
      const thrownOut: unknown[] = []
      first.stream.on('error', (error) => thrownOut.push(error))
      first.stream.resume()
      const over = new Promise((resolve) => first.stream.once('close', resolve))
      const second = await open(true)
      await over
      await first.released
      assert.equal(thrownOut.length, 1)
      await answers(second.stream, 'z')
      second.stream.destroy()
      await second.released
    })

    it('is free for the next one once it was let go of', async () => {
      for (let round = 0; round < 5; round++) {
        const { stream, released } = await open()
        stream.destroy()
        await released
      }
    })

    it('ends, without an error, when the machine goes off', async () => {
      const { stream, released } = await open()
      const errors: unknown[] = []
      stream.on('error', (error) => errors.push(error))
      stream.resume()
      const over = once(stream, 'close')
      await subject.hypervisor.cutPower(name, wait())
      await over
      await released
      assert.deepEqual(errors, [])
    })
  })
}

/** Types a key until it comes back: a machine that is just booting hears nothing. */
async function answers(stream: Duplex, key: string): Promise<void> {
  const { signal } = wait()
  let heard = ''
  const listen = (chunk: Buffer) => {
    heard += chunk.toString('latin1')
  }
  stream.on('data', listen)
  while (!heard.includes(key)) {
    stream.write(key)
    await systemClock.sleep(keyMs, signal)
  }
  stream.off('data', listen)
}
