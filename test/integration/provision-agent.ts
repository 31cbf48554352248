// An agent without a scheduler, for tests that kill it: the real dispatcher, journal and hypervisor in a process of its own.
//
//   node provision-agent.ts SETUP.json [COMMAND.jws]   prints one JSON message a line; ends when its operations have

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { CommandVerifier } from '../../src/agent/operations/command-verifier.ts'
import { Dispatcher } from '../../src/agent/operations/dispatch.ts'
import { Journal } from '../../src/agent/operations/journal.ts'
import { verbs } from '../../src/agent/verbs/registry.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import type { CommandKey } from '../../src/protocol/enrollment.ts'
import { connected } from '../contract/libvirt-fixture.ts'
import { hostId } from '../support/signed-commands.ts'
import { hostOf, hypervisorOf, type ProvisionSetup } from './provision-host.ts'

const [setupPath = '', commandPath] = process.argv.slice(2)
const setup = JSON.parse(readFileSync(setupPath, 'utf8')) as ProvisionSetup & { keys: CommandKey[] }
const hypervisor = hypervisorOf(setup)
await connected(hypervisor)
const host = await hostOf(hypervisor, setup)
const clock = systemClock
const journal = new Journal(join(setup.config.stateDirectory, 'agent.db'), { clock })
const over = Promise.withResolvers<void>()
const dispatcher = new Dispatcher({
  host,
  verbs,
  journal,
  verifier: new CommandVerifier({ hostId, keys: () => setup.keys, clock }),
  readiness: { isReady: () => true, untilReady: () => Promise.resolve() },
  generationOf: async ({ uuid }, signal) =>
    (await hypervisor.listVms({ signal })).find((vm) => vm.specification.uuid === uuid)?.generation ?? 0,
  emit: (message) => {
    process.stdout.write(`${JSON.stringify(message)}\n`)
    if (message.type === 'result' || message.type === 'refusal') over.resolve()
  },
  clock,
  log: silentLogger,
  concurrencyMax: 4,
  waitingMax: 16
})
if (journal.unfinished().length === 0 && commandPath === undefined) over.resolve()
dispatcher.resume()
if (commandPath !== undefined) await dispatcher.receive(readFileSync(commandPath, 'utf8'))
await over.promise
await dispatcher.stop(1_000)
journal[Symbol.dispose]()
await host.close()
await hypervisor.close()
