/** The runner of qemu-nbd: it answers or says why not, hides the passphrase, and leaves no process behind, whatever happens to us. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { startQemuNbd } from '../../../src/backup/nbd/qemu-nbd.ts'
import { makeLuks, makeQcow2, mebibyte, temporaryDirectory } from './images.ts'

const wait = { signal: new AbortController().signal }
const runner = join(import.meta.dirname, '../../../src/backup/nbd/qemu-nbd.ts')

/** Processes that live and name the text in their arguments. Those that nobody has reaped yet have none. */
function processesNaming(text: string): { pid: number; commandLine: string; environment: string }[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((name) => {
      try {
        const commandLine = readFileSync(`/proc/${name}/cmdline`, 'utf8')
        if (!commandLine.includes(text)) return []
        return [
          { pid: Number(name), commandLine, environment: readFileSync(`/proc/${name}/environ`, 'utf8') }
        ]
      } catch {
        // It has ended meanwhile.
        return []
      }
    })
}

async function untilNoneNames(text: string): Promise<void> {
  while (processesNaming(text).length > 0) await sleep(10)
}

describe('qemu-nbd of our own', { timeout: 60_000 }, () => {
  it('keeps the passphrase out of arguments, environment and files', async () => {
    using directory = temporaryDirectory()
    const file = join(directory.path, 'disk')
    const passphrase = 'canary-4711'
    makeLuks(file, mebibyte, passphrase)
    const options = { file, format: 'qcow2', passphrase, directory: directory.path } as const
    const server = await startQemuNbd({ ...options, ...wait })
    const [running, ...more] = processesNaming(file)
    assert.ok(running !== undefined && more.length === 0)
    assert.ok(!`${running.commandLine}${running.environment}`.includes(passphrase))
    const own = readdirSync(directory.path).find((name) => name.startsWith('hostlet-nbd-')) ?? ''
    assert.deepEqual(readdirSync(join(directory.path, own)), ['nbd.socket'])
    await server.stop()
    await server.stop()
    assert.deepEqual(processesNaming(file), [])
    assert.deepEqual(readdirSync(directory.path).sort(), ['disk', 'disk.passphrase'])
  })

  it('says why it does not serve an image, and leaves nothing', async () => {
    using directory = temporaryDirectory()
    const file = join(directory.path, 'disk,"with=odd name')
    makeLuks(join(directory.path, 'disk'), mebibyte, 'right')
    const encrypted = { file: join(directory.path, 'disk'), format: 'qcow2', passphrase: 'wrong' } as const
    for (const [options, words] of [
      [{ file, format: 'raw' }, /No such file/],
      [encrypted, /Invalid password/]
    ] as const) {
      const started = startQemuNbd({ ...options, directory: directory.path, ...wait })
      await assert.rejects(started, { code: 'E_UNAVAILABLE', message: words })
    }
    makeQcow2(file, mebibyte)
    const server = await startQemuNbd({ file, format: 'qcow2', directory: directory.path, ...wait })
    await server.stop()
    assert.ok(!readdirSync(directory.path).some((name) => name.startsWith('hostlet-nbd-')))
  })

  it('does not start what is aborted', async () => {
    using directory = temporaryDirectory()
    const file = join(directory.path, 'disk')
    makeQcow2(file, mebibyte)
    const controller = new AbortController()
    const options = { file, format: 'qcow2', directory: directory.path, signal: controller.signal } as const
    const outcome = assert.rejects(startQemuNbd(options), { message: 'enough' })
    controller.abort(new Error('enough'))
    await outcome
    await assert.rejects(startQemuNbd(options), { message: 'enough' })
    assert.deepEqual(processesNaming(file), [])
    assert.ok(!readdirSync(directory.path).some((name) => name.startsWith('hostlet-nbd-')))
  })

  it('ends when the process that started it is killed', async () => {
    using directory = temporaryDirectory()
    const file = join(directory.path, 'disk')
    makeQcow2(file, mebibyte)
    const script = `
      import { startQemuNbd } from ${JSON.stringify(runner)}
      await startQemuNbd({ file: ${JSON.stringify(file)}, format: 'qcow2', directory: ${JSON.stringify(directory.path)},
        signal: new AbortController().signal })
      console.log('ready')
      setInterval(() => undefined, 1000)`
    const parent = spawn(process.execPath, ['--input-type=module-typescript', '--eval', script], {
      stdio: ['ignore', 'pipe', 'inherit']
    })
    await once(parent.stdout, 'data')
    assert.equal(
      processesNaming('qemu-nbd').some(({ commandLine }) => commandLine.includes(file)),
      true
    )
    parent.kill('SIGKILL')
    await once(parent, 'exit')
    await untilNoneNames(file)
    assert.deepEqual(processesNaming(file), [])
  })
})
