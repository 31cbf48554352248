// hostlet logs on entries as journald gives them out: which are about a VM or an operation, how many, in which order and form.
// test/integration/local-socket.test.ts holds the same to a real journal.

import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { type Ended, hostlet } from './program.ts'

const operation = '6f1c0b1e-5f0e-4b5c-9d6e-0a4c1f0f7a11'

/** As `journalctl -o json --output-fields=MESSAGE,PRIORITY,SYSLOG_IDENTIFIER` writes one. */
function entry(
  number: number,
  message: unknown,
  of: { priority?: string; identifier?: string } = {}
): string {
  return JSON.stringify({
    _BOOT_ID: '20b07a0b38b14de5a1a5ad8d60adf21b',
    PRIORITY: of.priority ?? '6',
    __MONOTONIC_TIMESTAMP: String(1_000 + number),
    __CURSOR: `s=1;i=${number}`,
    __REALTIME_TIMESTAMP: String(1_795_845_600_000_000 + number * 1_000_000),
    SYSLOG_IDENTIFIER: of.identifier ?? 'hostlet',
    MESSAGE: message
  })
}

const journal = [
  entry(0, 'Started hostlet.service - hostlet agent.', { identifier: 'systemd' }),
  entry(1, 'agent starts version=0.1.0 host=kvm-1 event=agent-starts'),
  entry(2, `command accepted command=${operation} verb=vm.start vm=web-1 event=command-accepted`),
  entry(
    3,
    `operation failed command=${operation} verb=vm.start vm=web-1 error.message="no room: 2 GiB" event=operation-failed`,
    {
      priority: '4'
    }
  ),
  entry(4, '  TypeError: broken', { priority: '4' }),
  entry(5, '  at somewhere', { priority: '4' }),
  entry(6, 'service health changed vm=web-10 probe=db state=healthy event=service-health-changed'),
  entry(
    7,
    'VMs taken over from libvirt count=2 vms="[\\"web-1\\",\\"web-2\\"]" event=vms-taken-over-from-libvirt',
    {
      priority: '4'
    }
  ),
  entry(8, [...Buffer.from('guest says guest="\u009b2J vm=web-1" event=guest-says')])
]

describe('hostlet logs', () => {
  let directory: string

  before(() => {
    directory = mkdtempSync(join(tmpdir(), 'hostlet-logs-'))
    writeFileSync(join(directory, 'journal'), `${journal.join('\n')}\n`)
    writeFileSync(
      join(directory, 'to-come'),
      `${entry(9, 'operation done vm=web-1 event=operation-done')}\n${entry(10, 'operation done vm=web-2 event=operation-done')}\n`
    )
  })
  after(() => rmSync(directory, { recursive: true, force: true }))

  async function logs(script: string, ...words: string[]): Promise<Ended & { asked: string }> {
    const path = join(directory, 'journalctl')
    writeFileSync(path, `#!/bin/sh\necho "$@" >> ${directory}/asked\n${script}\n`)
    chmodSync(path, 0o755)
    writeFileSync(join(directory, 'asked'), '')
    const ended = await hostlet(['logs', ...words], { PATH: `${directory}:${process.env.PATH}` })
    return { ...ended, asked: readFileSync(join(directory, 'asked'), 'utf8') }
  }
  const reversed = () =>
    `case "$*" in *--follow*) cat ${directory}/to-come;; *) tac ${directory}/journal;; esac`

  it('shows everything, the oldest first, with times and without ids', async () => {
    const { status, stdout, stderr } = await logs(reversed())
    assert.equal(stderr, '')
    assert.equal(status, 0)
    const lines = stdout.trimEnd().split('\n')
    assert.equal(lines.length, journal.length)
    assert.equal(lines[0], '2026-11-28 06:00:00 INFO  systemd: Started hostlet.service - hostlet agent.')
    assert.equal(lines[1], '2026-11-28 06:00:01 INFO  agent starts  version=0.1.0 host=kvm-1')
    assert.match(
      lines[3] ?? '',
      /^2026-11-28 06:00:03 WARN {2}operation failed {2}.* error\.message="no room: 2 GiB"$/
    )
    assert.equal(lines[4], '2026-11-28 06:00:04 WARN    TypeError: broken')
    assert.equal(stdout.includes('\u009b'), false)
  })

  it('shows what is about a VM, with the stack below it, and not what merely mentions it', async () => {
    const { stdout } = await logs(reversed(), 'web-1', '-o', 'json')
    const events = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
    assert.deepEqual(
      events.map(({ event, message }) => event ?? message.trim()),
      [
        'command-accepted',
        'operation-failed',
        'TypeError: broken',
        'at somewhere',
        'vms-taken-over-from-libvirt'
      ]
    )
    assert.deepEqual(events[0], {
      at: '2026-11-28T06:00:02.000Z',
      level: 'info',
      event: 'command-accepted',
      message: 'command accepted',
      fields: { command: operation, verb: 'vm.start', vm: 'web-1' }
    })
  })

  it('shows what is about an operation, the newest so many, or of one event', async () => {
    const all = await logs(reversed(), operation)
    assert.equal(all.stdout.trimEnd().split('\n').length, 4)
    const newest = await logs(reversed(), operation, '-n', '1')
    assert.match(newest.stdout, /^\S+ \S+ WARN {2}operation failed.*\n.*TypeError.*\n.*at somewhere\n$/)
    const { stdout } = await logs(reversed(), '--event', 'agent-starts')
    assert.match(stdout, /^\S+ \S+ INFO {2}agent starts.*\n$/)
  })

  it('goes on from where it was, and says so when journalctl ends', async () => {
    const { stdout, stderr, asked, status } = await logs(reversed(), 'web-1', '-f', '-n', '1')
    assert.match(stdout, /VMs taken over.*\n.*operation done {2}vm=web-1\n$/)
    assert.match(asked, /--follow --after-cursor=s=1;i=8 --no-tail/)
    assert.equal(status, 7)
    assert.match(stderr, /journalctl ended although it was to follow/)
  })

  it('asks for the unit, the level and the time that were given', async () => {
    const { asked } = await logs(reversed(), '-u', 'hostlet-scheduler', '-p', 'error', '--since', '2h')
    assert.match(asked, /--unit=hostlet-scheduler .*--since=@\d{10} --priority=err/)
    assert.match((await logs(reversed(), '--since', 'yesterday')).asked, /--since=yesterday/)
    assert.match((await logs(reversed(), '--since', '2026-11-28 06:00')).asked, /--since=2026-11-28 06:00/)
  })

  it('says what is in the way, and where nothing was found', async () => {
    const refused = await logs(
      'echo "No journal files were opened due to insufficient permissions." >&2; exit 1'
    )
    assert.equal(refused.status, 6)
    assert.match(refused.stderr, /usermod -aG systemd-journal/)
    const none = await logs('true', 'web-1')
    assert.equal(none.status, 0)
    assert.match(none.stderr, /The journal has no line of unit hostlet/)
    assert.match((await logs(reversed(), 'web-9')).stderr, /No line about web-9 among those of unit hostlet/)
    assert.match(
      (await logs('echo "Failed to parse timestamp: x" >&2; exit 1', '--since', 'x')).stderr,
      /E_BAD_REQUEST/
    )
    assert.match((await logs('true', '-u', '$(reboot)')).stderr, /not the name of a unit/)
    const { status, stderr } = await hostlet(['logs'], { PATH: '/nonexistent' })
    assert.equal(status, 7)
    assert.match(stderr, /this machine has no journalctl/)
  })
})
