// The locked room, held as a test: what can be said to a guest's agent is a closed list in one file, and nothing else reaches into a guest.

import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { guestCommands } from '../src/agent/host/guest-commands.ts'
import * as consoles from '../src/node-libvirt/protocol/console.ts'
import * as agent from '../src/node-libvirt/protocol/guest-agent.ts'

const root = join(import.meta.dirname, '..')
const onlyFile = 'src/agent/host/guest-commands.ts'
/** Opens the serial port, and is asked to by one file, which asks for the grant of a signed command. */
const consoleFile = 'src/agent/host/serial-console.ts'
const sessionsFile = 'src/agent/console/consoles.ts'
const sources = globSync('src/**/*.ts', { cwd: root })
  .filter((path) => !path.startsWith('src/node-libvirt/') && !path.includes('node_modules'))
  .sort()
const textOf = (path: string) => readFileSync(join(root, path), 'utf8')

/** Of the guest's agent, what the one file may use: two commands, and how long libvirt waits for an answer. */
const agentProcedures = ['domainFsFreeze', 'domainFsThaw', 'domainAgentSetResponseTimeout']
/** Besides those: what shows or changes a guest from inside, its screen, its memory, or its disks behind its back. */
const reachingIn =
  /^domain\w*(?:QemuAgent|MonitorCommand|GuestVcpus|GetHostname|GetTime|SetTime|GetMessages|Screenshot|SendKey|SendProcessSignal|Password|AuthorizedSsh|MemoryPeek|BlockPeek|CoreDump|OpenGraphics|ManagedSave$|Save\b|Migrate|FsTrim|FsInfo|GuestInfo)/
/** Flags with which an innocent call goes through the agent. */
const throughAgent =
  /\b(?:\w+Flag\.guestAgent|addressSource\.agent|domainHostnameSource|(?:create|snapshot|checkpoint)\w*Flag\.quiesce)\b/i

function imported(path: string): string[] {
  const lists = [...textOf(path).matchAll(/import\s*(?:type\s*)?\{([^}]*)\}\s*from\s*'node-libvirt'/g)]
  return lists.flatMap(([, names = '']) =>
    names
      .split(',')
      .map(
        (name) =>
          name
            .replace(/\btype\b/, '')
            .split(/\bas\b/)[0]
            ?.trim() ?? ''
      )
      .filter((name) => name !== '')
  )
}

const agentNames = Object.keys(agent)
const consoleNames = Object.keys(consoles)

describe('the locked room', () => {
  it('knows the procedures that it forbids', () => {
    for (const name of [...agentProcedures, 'domainQemuAgentCommand', 'domainInterfaceAddresses'])
      assert.ok(agentNames.includes(name), name)
    assert.deepEqual(consoleNames.sort(), ['domainOpenChannel', 'domainOpenConsole'])
    assert.deepEqual(imported('src/agent/host/domains.ts').includes('domainShutdownFlags'), true)
  })

  it('has the file systems of a guest frozen and thawed, and sends its agent no other command', () => {
    assert.deepEqual([...guestCommands], ['guest-fsfreeze-freeze', 'guest-fsfreeze-thaw'])
    assert.deepEqual(
      imported(onlyFile)
        .filter((name) => agentNames.includes(name))
        .sort(),
      agentProcedures.toSorted()
    )
  })

  it('speaks with the agent in one file only', () => {
    const others = sources
      .filter((path) => path !== onlyFile)
      .flatMap((path) => imported(path).map((name) => ({ path, name })))
      .filter(({ name }) => agentNames.includes(name))
    assert.deepEqual(others, [])
  })

  it('takes no screenshot, and reads neither memory nor files of a guest', () => {
    const found = sources
      .flatMap((path) => imported(path).map((name) => ({ path, name })))
      .filter(({ name }) => reachingIn.test(name))
    assert.deepEqual(found, [])
  })

  it('opens a serial console in one place, asked to by vm.console alone, and no other channel', () => {
    const opening = sources
      .flatMap((path) => imported(path).map((name) => ({ path, name })))
      .filter(({ name }) => consoleNames.includes(name))
    assert.deepEqual(opening, [{ path: consoleFile, name: 'domainOpenConsole' }])
    const callers = (call: RegExp) => sources.filter((path) => call.test(textOf(path)))
    assert.deepEqual(callers(/hypervisor\.openConsole\(/), [sessionsFile])
    assert.deepEqual(callers(/consoleSessions\.open\(/), ['src/agent/verbs/vm-console.ts'])
  })

  it('has no way around: no procedure by its number, no call through the agent by a flag, no words of its protocol', () => {
    const ways = sources.flatMap((path) => {
      const text = textOf(path)
      const libvirt = text.includes("from 'node-libvirt'")
      return [
        ...(/import\s*\*\s*as[^'"]*'node-libvirt|import\(\s*'node-libvirt/.test(text)
          ? [`${path}: all of node-libvirt`]
          : []),
        ...(libvirt && imported(path).some((name) => ['procedure', 'struct'].includes(name))
          ? [`${path}: declares a procedure`]
          : []),
        ...(throughAgent.test(text) ? [`${path}: a flag that asks the agent`] : []),
        ...(path !== onlyFile && /['"`{]guest-(?!agent)[a-z]+-?[a-z]*/.test(text)
          ? [`${path}: words of the agent's protocol`]
          : []),
        ...(/\bvirsh\b[^.\n]*['"`]\s*,\s*\[|qemu-agent-command|qemu-monitor-command/.test(text)
          ? [`${path}: virsh`]
          : [])
      ]
    })
    assert.deepEqual(ways, [])
  })
})
