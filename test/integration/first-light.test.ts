// First light as a newcomer runs it: once, on a terminal until Ctrl-C, and after a run that was killed.

import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { stripVTControlCharacters } from 'node:util'

const root = join(import.meta.dirname, '../..')
const script = join(root, 'scripts/first-light.ts')
const name = `fl-${randomBytes(3).toString('hex')}`
const deadlineMs = 240_000

const missing = [
  process.getuid?.() === 0 ? undefined : 'it needs root',
  existsSync('/run/libvirt/libvirt-sock') ? undefined : 'libvirtd does not run',
  existsSync(join(root, '.cache/guest/hostlet-guest.qcow2.sha256'))
    ? undefined
    : 'the guest image is not built',
  spawnSync('script', ['--version']).status === 0 ? undefined : 'there is no "script" to make a terminal'
].find((reason) => reason !== undefined)

const runs: Run[] = []

class Run {
  readonly child: ChildProcess
  text = ''

  constructor(program: string, words: readonly string[]) {
    const env = { PATH: process.env.PATH ?? '', HOME: '/root', TERM: 'xterm', LC_ALL: 'C.UTF-8' }
    this.child = spawn(program, words, { cwd: root, env, stdio: ['pipe', 'pipe', 'pipe'] })
    runs.push(this)
    const timer = setTimeout(() => this.child.kill('SIGTERM'), deadlineMs)
    this.child.once('exit', () => clearTimeout(timer))
    for (const stream of [this.child.stdout, this.child.stderr])
      stream?.setEncoding('utf8').on('data', (part: string) => {
        this.text += part
      })
  }

  async says(text: string): Promise<void> {
    while (!this.text.includes(text)) {
      assert.equal(this.child.exitCode, null, `ended without saying "${text}":\n${this.text}`)
      // Whichever did not happen is listened for no longer: there are many parts.
      const over = new AbortController()
      const { signal } = over
      const said = once(this.child.stdout ?? this.child, 'data', { signal })
      await Promise.race([said, once(this.child, 'exit', { signal })])
      over.abort()
    }
  }

  async status(): Promise<number | null> {
    if (this.child.exitCode === null && this.child.signalCode === null) await once(this.child, 'close')
    return this.child.exitCode
  }
}

const firstLight = (...words: readonly string[]) =>
  new Run(process.execPath, [script, '--name', name, ...words])

/** Each step printed as done, in this order. */
function assertSteps(text: string, steps: readonly string[]): void {
  const done = [...stripVTControlCharacters(text).matchAll(/^ok {2}(\S+(?: \S+)*?) {2,}\S/gm)]
  assert.deepEqual(
    done.map((match) => match[1]),
    steps,
    text
  )
}

function virshNames(...words: readonly string[]): readonly string[] {
  return spawnSync('virsh', ['-q', '-c', 'qemu:///system', ...words], { encoding: 'utf8' }).stdout.split(
    /\s+/
  )
}

function assertNothingOfOurs(): void {
  assert.equal(virshNames('list', '--all', '--name').includes(name), false)
  assert.equal(virshNames('net-list', '--all', '--name').includes(`hostlet-${name}`), false)
  assert.equal(virshNames('pool-list', '--all', '--name').includes(`hostlet-${name}`), false)
  for (const path of ['/var/lib', '/run', '/var/lib/libvirt/images'])
    assert.equal(existsSync(join(path, `hostlet-${name}`)), false, path)
}

const beginning = [
  ...['scheduler', 'enroll', 'agent', 'provision', 'guest answers', 'metrics', 'isolation'],
  ...['full backup', 'changes only', 'verify', 'restore']
]
const end = ['teardown', 'nothing left']

describe('first light', { skip: missing ?? false }, () => {
  after(async () => {
    for (const run of runs) {
      // "script" passes on what is typed, not signals.
      if (run.child.exitCode === null) run.child.stdin?.write('\x03')
      run.child.kill('SIGINT')
      await run.status()
    }
    // Whatever a failed test left: a run that is told to end at once removes it first.
    if (!existsSync(`/var/lib/hostlet-${name}`)) return
    const run = firstLight('--once')
    await run.says('scheduler')
    run.child.kill('SIGINT')
    await run.status()
  })

  it('walks the life of a VM once, and leaves nothing', async () => {
    const run = firstLight('--once')
    assert.equal(await run.status(), 0, run.text)
    assertSteps(run.text, [...beginning, 'stop', 'start', 'remove', ...end])
    assert.match(run.text, /all done in /)
    assertNothingOfOurs()
  })

  it('stays on a terminal with a live table until Ctrl-C, commanded from another shell meanwhile', async () => {
    // exec: the shell between would be interrupted too, and answer for both.
    const command = `exec "${process.execPath}" "${script}" --name ${name}`
    const run = new Run('script', ['-qefc', command, '/dev/null'])
    await run.says('Ctrl-C takes everything down.')
    assert.match(stripVTControlCharacters(run.text), /running .* 10\.119\./)
    const shell = spawnSync('sh', ['-c', `. /var/lib/hostlet-${name}/env && hostlet vm ls`], {
      encoding: 'utf8'
    })
    assert.match(shell.stdout, new RegExp(`^${name} .* running `, 'm'), shell.stderr)
    const second = firstLight('--once')
    assert.equal(await second.status(), 1)
    assert.match(second.text, /another first light runs as process \d+: end it first/)
    run.child.stdin?.write('\x03')
    assert.equal(await run.status(), 0, run.text)
    assert.match(run.text, /Taking down what was made/)
    assert.match(run.text, /nothing left/)
    assertNothingOfOurs()
  })

  it('tells in one line what is wrong, with status 1', async () => {
    const run = new Run(process.execPath, [script, '--once', '--name', 'Not A Name'])
    assert.equal(await run.status(), 1)
    assert.match(run.text, /^failed {2}--name takes up to 12 small letters.*\n$/)
  })

  it('removes first what a killed run left', async () => {
    const killed = firstLight('--stay')
    await killed.says('Ctrl-C takes everything down.')
    killed.child.kill('SIGKILL')
    await killed.status()
    assert.ok(virshNames('list', '--name').includes(name), 'its VM should run on')
    const run = firstLight('--once')
    await run.says('removed what an earlier run left')
    for (const what of [`domain ${name}`, `network hostlet-${name}`, `firewall table inet hostlet-${name}`])
      assert.ok(run.text.includes(`${what},`), run.text)
    assert.match(run.text, new RegExp(`pool hostlet-${name},`))
    await run.says('enroll')
    run.child.kill('SIGINT')
    assert.equal(await run.status(), 130, run.text)
    assertNothingOfOurs()
  })
})
