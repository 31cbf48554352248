// Steps of a set-up on a machine of files, whose programs are written down instead of run.

import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { loadAgentConfig } from '../../../src/agent/config.ts'
import { hostSteps } from '../../../src/cli/init/host-steps.ts'
import { Machine } from '../../../src/cli/init/machine.ts'
import { carryOut, stepsToDo } from '../../../src/cli/init/steps.ts'
import { HostletError } from '../../../src/errors.ts'
import { systemClock } from '../../../src/lib/clock.ts'
import type { JoinToken } from '../../../src/protocol/join-token.ts'

const join1: JoinToken = {
  version: 1,
  urls: ['https://sched-1:7443'],
  caHash: `sha256:${'5f'.repeat(32)}`,
  token: `hlt_${'s'.repeat(43)}`
}
const isRoot = process.getuid?.() === 0

describe('steps that make a host', { skip: isRoot ? false : 'files get owners, which takes root' }, () => {
  let root: string
  let ran: string[]
  let inputs: string[]
  let answers: Record<string, () => { exitCode?: number; stdout?: string; stderr?: string }>
  let machine: Machine

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'hostlet-init-'))
    ran = []
    inputs = []
    put('/etc/passwd', 'root:x:0:0::/root:/bin/sh\n')
    put('/usr/lib/sysusers.d/hostlet.conf', '')
    put('/proc/sys/net/ipv4/ip_forward', '0\n')
    answers = {
      'systemd-sysusers': () => {
        put('/etc/passwd', 'root:x:0:0::/root:/bin/sh\nhostlet:x:995:994::/:/bin/false\n')
        return {}
      },
      sysctl: () => {
        put('/proc/sys/net/ipv4/ip_forward', '1\n')
        return {}
      },
      runuser: () => {
        put('/var/lib/hostlet/identity.json', '{}')
        return { stdout: 'This host has joined as kvm-1. Start the agent.\n' }
      },
      'systemctl is-enabled': () => ({ stdout: 'enabled\n' }),
      'systemctl is-active': () => ({ stdout: 'active\n' }),
      'systemctl show': () => ({ stdout: 'Connected to sched-1; 0 VMs; 0 operations\n' })
    }
    machine = new Machine({
      root,
      clock: systemClock,
      signal: new AbortController().signal,
      run: async (program, args, { input }) => {
        ran.push([program, ...args].join(' '))
        if (input !== undefined) inputs.push(input)
        const {
          exitCode = 0,
          stdout = '',
          stderr = ''
        } = (answers[`${program} ${args[0]}`] ?? answers[program])?.() ?? {}
        return { exitCode, stdout, stderr }
      }
    })
  })
  afterEach(() => rmSync(root, { recursive: true, force: true }))

  function put(path: string, text: string): void {
    mkdirSync(dirname(join(root, path)), { recursive: true })
    writeFileSync(join(root, path), text)
  }

  function plan(text = 'accelerator: tcg\n') {
    const config = loadAgentConfig('config/agent.yaml', {})
    return hostSteps(machine, { config, file: { path: '/etc/hostlet/agent.yaml', text }, join: join1 })
  }

  async function carryAllOut(): Promise<string[]> {
    const told: string[] = []
    await carryOut(await stepsToDo(plan()), (line) => told.push(line))
    return told
  }

  it('make it without systemd, and are done the second time', async () => {
    const told = await carryAllOut()
    assert.equal(told.length, 6)
    assert.deepEqual(await stepsToDo(plan()), [])
    const { mode, uid } = statSync(join(root, 'var/lib/hostlet'))
    assert.deepEqual([mode & 0o777, uid], [0o700, 995])
    assert.equal(statSync(join(root, 'etc/hostlet/agent.yaml')).mode & 0o777, 0o640)
    assert.equal(statSync(join(root, 'etc/hostlet/agent.yaml')).gid, 994)
  })

  it('let the unit write to a pool elsewhere, also to one whose name begins as the usual one does', () => {
    const wanted = (path: string) => {
      put('/etc/hostlet/agent.yaml', `pool: {path: ${path}}\n`)
      const config = loadAgentConfig(join(root, 'etc/hostlet/agent.yaml'), {})
      const file = { path: '/etc/hostlet/agent.yaml', text: '' }
      return hostSteps(machine, { config, file, join: join1 }).some(
        ({ what }) => /may write|drop-in|ReadWrite|unit/.test(what) && what.includes(path)
      )
    }
    assert.deepEqual(
      ['/var/lib/libvirt/images/hostlet', '/var/lib/libvirt/images/hostlet-ssd', '/srv/vms'].map(wanted),
      [false, true, true]
    )
  })

  it('give the token on standard input alone', async () => {
    await carryAllOut()
    assert.match(inputs.join(), /^hlj_/)
    assert.equal(
      ran.some((line) => line.includes('hlj_') || line.includes('hlt_')),
      false
    )
  })

  it('go on where they ended when one failed, and say how far they came', async () => {
    const { runuser } = answers
    answers.runuser = () => ({ exitCode: 7, stderr: 'error E_UNAVAILABLE: nothing listens there.\n' })
    await assert.rejects(carryAllOut(), (error) => {
      assert.ok(error instanceof HostletError)
      assert.match(
        error.message,
        /no further than to join the scheduler at https:\/\/sched-1:7443: .*nothing listens/
      )
      assert.match(error.message, /5 steps are done and stay; 0 after it are not\. Run the same line again/)
      return true
    })
    if (runuser !== undefined) answers.runuser = runuser
    assert.deepEqual(
      (await stepsToDo(plan())).map(({ what }) => what),
      ['join the scheduler at https://sched-1:7443']
    )
    assert.equal((await carryAllOut()).length, 1)
  })

  it('pass on the code of what the enrolment was refused with', async () => {
    answers.runuser = () => ({ exitCode: 6, stderr: 'error E_AUTH: the join token was used. Was it you?\n' })
    await assert.rejects(carryAllOut(), {
      code: 'E_AUTH',
      message:
        /^it came no further than to join [^:]*:\/\/[^:]*:7443: the join token was used\. Was it you\?\n/
    })
  })

  it('join anew where that is asked for, though the machine has an identity', async () => {
    await carryAllOut()
    const config = loadAgentConfig('config/agent.yaml', {})
    const file = { path: '/etc/hostlet/agent.yaml', text: 'accelerator: tcg\n' }
    const steps = await stepsToDo(hostSteps(machine, { config, file, join: join1, rejoin: true }))
    assert.deepEqual(
      steps.map(({ what }) => what),
      ['join the scheduler at https://sched-1:7443']
    )
    await carryOut(steps, () => undefined)
    assert.match(ran.at(-1) ?? '', /enroll --force --token-file -$/)
  })

  it('keep a configuration that was another one', async () => {
    put('/etc/hostlet/agent.yaml', '# Mine.\n')
    await carryAllOut()
    const kept = readdirSync(join(root, 'etc/hostlet')).filter((name) => name.endsWith('.bak'))
    assert.equal(kept.length, 1)
    assert.equal(readFileSync(join(root, 'etc/hostlet', kept[0] ?? ''), 'utf8'), '# Mine.\n')
  })

  it('leave forwarding alone where somebody else set it', async () => {
    put('/etc/sysctl.d/99-router.conf', 'net.ipv4.ip_forward=1\n')
    put('/proc/sys/net/ipv4/ip_forward', '1\n')
    await carryAllOut()
    assert.equal(machine.exists('/etc/sysctl.d/60-hostlet.conf'), false)
    assert.equal(
      ran.some((line) => line.startsWith('sysctl')),
      false
    )
  })

  it('enable, start and wait under systemd; start anew what runs with an older configuration', async () => {
    put('/run/systemd/system/x', '')
    put('/proc/mounts', 'tmpfs /var/log/libvirt/qemu tmpfs rw 0 0\n')
    put('/etc/systemd/system/local-fs.target.wants/var-log-libvirt-qemu.mount', '')
    await carryAllOut()
    const started = ran.filter((line) => /^systemctl (enable|start|restart)/.test(line))
    assert.deepEqual(started, ['systemctl enable hostlet', 'systemctl restart hostlet'])
  })

  it('only enable the mount of the logs while VMs run', async () => {
    put('/run/systemd/system/x', '')
    put('/proc/mounts', '')
    put('/proc/4711/comm', 'qemu-system-x86\n')
    await carryAllOut()
    assert.ok(ran.includes('systemctl enable var-log-libvirt-qemu.mount'))
  })

  it('say that the unit fails, instead of waiting for it', async () => {
    put('/run/systemd/system/x', '')
    put('/proc/mounts', '')
    answers['systemctl is-active'] = () => ({ exitCode: 3, stdout: 'failed\n' })
    answers['systemctl show'] = () => ({})
    await assert.rejects(carryAllOut(), /hostlet.service does not stay up.\njournalctl -u hostlet -p warning/)
  })

  it('want the package where there are no users to make', async () => {
    rmSync(join(root, 'usr/lib/sysusers.d/hostlet.conf'))
    await assert.rejects(carryAllOut(), { code: 'E_NOT_FOUND', message: /install the package first/ })
  })
})
