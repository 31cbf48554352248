// Loaded into an agent before its program: kills it with SIGKILL right before one of its effects on the world, counted from the acceptance of
// a command. Effects are writes to its journal, objects that appear in a directory repository, and calls that change something at libvirt.
// It can also be had to stand still (SIGSTOP) as soon as a backup job has begun.

import { existsSync, promises, readFileSync, rmSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { StatementSync } from 'node:sqlite'
import { isMainThread } from 'node:worker_threads'
import type { Connection } from 'node-libvirt'

const file = process.env.HOSTLET_TEST_KILL_FILE ?? ''
const holdFile = process.env.HOSTLET_TEST_HOLD_FILE ?? ''
const changing = /Begin|Abort|Create|Delete|Define|Undefine|Set|Resume|Destroy|Update|Upload|Resize|Eject/
let left = Number.POSITIVE_INFINITY

function effect(): void {
  left -= 1
  if (left === 0 && taken()) process.kill(process.pid, 'SIGKILL')
}

/** Whoever removes the file decides: this agent, which dies then, or the test, which has its result and wants it no more. */
function taken(): boolean {
  try {
    rmSync(file)
    return true
  } catch {
    return false
  }
}

/** The file is read when a command is recorded, so that one agent can recover from a kill and then be killed by the next command. */
function arm(sql: string): void {
  if (!sql.startsWith('INSERT INTO commands')) return
  left = existsSync(file) ? Number(readFileSync(file, 'utf8')) : Number.POSITIVE_INFINITY
}

function hold<Answer>(answer: Answer): Answer {
  if (existsSync(holdFile)) process.kill(process.pid, 'SIGSTOP')
  return answer
}

function killInJournal(): void {
  const { run } = StatementSync.prototype
  StatementSync.prototype.run = function (this: StatementSync, ...values: Parameters<typeof run>) {
    arm(this.sourceSQL)
    effect()
    return run.apply(this, values)
  } as typeof run
}

function killInFiles(): void {
  for (const name of ['rename', 'link', 'rm'] as const) {
    const original = promises[name] as (...args: unknown[]) => Promise<void>
    const counted = (...args: unknown[]) => {
      effect()
      return original(...args)
    }
    Object.assign(promises, { [name]: counted })
  }
  syncBuiltinESMExports()
}

async function killInLibvirt(): Promise<void> {
  const libvirt = await import('node-libvirt')
  const changes = new Set<unknown>(
    Object.entries(libvirt).flatMap(([name, value]) => (changing.test(name) ? [value] : []))
  )
  const { call, upload } = libvirt.Connection.prototype
  libvirt.Connection.prototype.call = function (this: Connection, ...args: Parameters<typeof call>) {
    if (changes.has(args[0])) effect()
    const answer = call.apply(this, args)
    return args[0] === libvirt.domainBackupBegin ? answer.then(hold) : answer
  } as typeof call
  libvirt.Connection.prototype.upload = function (this: Connection, ...args: Parameters<typeof upload>) {
    effect()
    return upload.apply(this, args)
  } as typeof upload
}

// The threads of an agent have no effects of their own.
if (isMainThread) {
  killInJournal()
  killInFiles()
  await killInLibvirt()
}
