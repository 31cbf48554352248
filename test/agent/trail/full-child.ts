// A process that fills the small disk of its trail, starts again on it as if it had been killed, and gets room at last.

import { appendFileSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { missedRetryMs, Trail } from '../../../src/agent/trail/trail.ts'
import { verifyTrail } from '../../../src/agent/trail/verify-trail.ts'
import { asHostletError } from '../../../src/errors.ts'
import { silentLogger } from '../../../src/lib/log.ts'
import { FakeClock } from '../../support/fake-clock.ts'
import { claimsOf } from '../../support/signed-commands.ts'

const stateDirectory = process.argv[2] ?? ''
const directory = join(stateDirectory, 'audit')
const clock = new FakeClock()
const options = {
  ...{ stateDirectory, clock, log: silentLogger },
  identity: () => ({ hostId: 'host-1', commandKeys: [] })
}

async function noted(trail: Trail): Promise<string> {
  const signed = { claims: claimsOf(1), digest: 'd'.repeat(64), signer: 'key-1', approvals: [] }
  try {
    await trail.note({ kind: 'accepted', command: signed })
    return 'done'
  } catch (error) {
    return asHostletError(error).code
  }
}

const first = await Trail.open(options)
writeFileSync(join(stateDirectory, 'filler'), Buffer.alloc(200_000))
let acknowledged = 0
let refused = await noted(first)
for (; refused === 'done'; refused = await noted(first)) acknowledged++
const told = first.fault()
// What a SIGKILL in the middle of a write leaves, as far as the disk still takes it.
const [name = ''] = readdirSync(directory).filter((file) => file.endsWith('.jsonl'))
try {
  appendFileSync(join(directory, name), '{"seq":9999,"half')
} catch {
  // Not even that fits: the write before it has left its half.
}
const second = await Trail.open(options)
const stillRefused = await noted(second)
rmSync(join(stateDirectory, 'filler'))
await clock.advance(missedRetryMs)
const text = () => readFileSync(join(directory, name), 'utf8')
while (!text().includes('"late":true')) await turn()
const after = await noted(second)
await second[Symbol.asyncDispose]()
const { fault } = await verifyTrail({ directory, keys: [] })
const accepted = text().split('"kind":"command.accepted"').length - 1
const torn = text().includes('"kind":"trail.torn"')
const result = { acknowledged, refused, told, stillRefused, after, accepted, torn, fault: fault ?? null }
process.stdout.write(JSON.stringify(result))
