// The scheduler as its unit runs it: ready, watched, reloaded, stopped. A program in the PATH stands for systemd-notify.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { runUntilSignal } from '../../src/cli/daemon.ts'
import { HostletError } from '../../src/errors.ts'
import { environment, mainPath } from './program.ts'

const directory = mkdtempSync('/tmp/hostlet-daemon-')
const told = join(directory, 'told')
const config = join(directory, 'scheduler.yaml')
const deadlineMs = 60_000
after(() => rmSync(directory, { recursive: true }))

function writeConfig(level: string): void {
  const text = `stateDirectory: ${directory}/state\nlisten: {address: 127.0.0.1, port: 0}\nnames: [localhost]\n`
  writeFileSync(config, `${text}log: {level: ${level}, format: json}\n`)
}

function start() {
  writeFileSync(told, '')
  writeFileSync(join(directory, 'systemd-notify'), `#!/bin/sh\necho "$*" >> ${told}\n`)
  chmodSync(join(directory, 'systemd-notify'), 0o755)
  const child = spawn(process.execPath, [mainPath, 'scheduler', '--config', config], {
    env: environment({
      PATH: `${directory}:${process.env.PATH}`,
      NOTIFY_SOCKET: join(directory, 'socket'),
      WATCHDOG_USEC: '400000'
    }),
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: deadlineMs
  })
  let log = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    log += text
  })
  return {
    child,
    logs: async (text: string) => {
      while (!log.includes(text)) await once(child.stdout, 'data')
    }
  }
}

/** Until the service manager has been told. */
async function isTold(text: string): Promise<void> {
  const deadline = performance.now() + deadlineMs
  while (!readFileSync(told, 'utf8').includes(text)) {
    assert.ok(performance.now() < deadline, `never told ${text}: ${readFileSync(told, 'utf8')}`)
    await sleep(20)
  }
}

describe('scheduler as a service', () => {
  it('says that it is ready, is alive while it answers, takes over its log level, and stops in order', async () => {
    writeConfig('info')
    const { child, logs } = start()
    await isTold('READY=1 STATUS=Serving at https://localhost:')
    await isTold('WATCHDOG=1')
    writeConfig('chatty')
    child.kill('SIGHUP')
    await logs('configuration not taken over')
    writeConfig('debug')
    child.kill('SIGHUP')
    await logs('"logLevel":"debug"')
    child.kill('SIGTERM')
    assert.deepEqual(await once(child, 'exit'), [0, null])
    assert.match(readFileSync(told, 'utf8'), /STOPPING=1/)
  })
})

describe('a service that cannot go on', () => {
  it('is stopped, and the program ends with why, so that its unit starts it again', async () => {
    const stopped: string[] = []
    const failure = new HostletError('E_UNAVAILABLE', 'the disk of the state directory failed')
    const service = { failed: Promise.resolve(failure), stop: async () => void stopped.push('stopped') }
    await assert.rejects(runUntilSignal({ start: async () => service }), failure)
    assert.deepEqual(stopped, ['stopped'])
  })
})
