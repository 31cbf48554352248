// A session on a VM's serial console: asked for here, opened by the VM's host, attached to over a socket of its own.

import { randomUUID } from 'node:crypto'
import { HostletError } from '../../../errors.ts'
import { Type } from '../../../lib/schema.ts'
import { ConsoleReply } from '../../../protocol/api.ts'
import { ConsoleRequest, consoleSocketPath } from '../../../protocol/console.ts'
import { strict, VmName } from '../../../protocol/names.ts'
import { type Actor, assertTier } from '../api-keys.ts'
import { ask } from '../ask.ts'
import { findHost, findVm } from '../lookup.ts'
import { defineRoute } from '../route.ts'

/** How much longer than its command a session may be attached to. */
const attachGraceMs = 300_000

export const consoleRoutes = [
  defineRoute('POST /v1/vms/{name}/console', {
    tier: 'manage',
    summary:
      'Open a session on the serial console of a VM, of the tier that the configuration asks for (`console.tier`); once the operation is done, attach to it at `socket` with the ticket',
    status: 202,
    // It grants a session besides.
    dryRun: false,
    params: Type.Object({ name: VmName }, strict),
    body: ConsoleRequest,
    reply: ConsoleReply,
    handle: async ({ params, body, actor, repeatable }, services) => {
      const { store, config, consoles } = services
      if (actor === undefined) throw new HostletError('E_INTERNAL', 'a console without an asker')
      assertTier(actor, config.console.tier)
      const mode = body.mode ?? 'write'
      using places = new DisposableStack()
      let made: { session: string; vm: string; host: string } | undefined
      const { operation } = await ask(services, repeatable, async () => {
        const { name: vm, uuid, host: id } = await findVm(store, params.name)
        const host = await findHost(store, id)
        places.use(consoles.reserve(host.id, actor.id))
        made = { session: randomUUID(), vm, host: host.id }
        const { session } = made
        return {
          verb: 'vm.console',
          host,
          about: vm,
          arguments: { ...body, vm, uuid, session, mode, by: nameOf(actor) },
          intent: { kind: 'none' }
        }
      })
      const { id: command, expiresAt } = operation
      const granted = made && { ...made, command, mode, actor, expiresAt: expiresAt + attachGraceMs }
      const { session, ticket } =
        granted === undefined
          ? consoles.grantAgain(command)
          : { session: granted.session, ticket: consoles.grant(granted) }
      return { operation, session, ticket, socket: `${consoleSocketPath}${session}` }
    }
  })
]

/** As the host tells it to others, and writes it down. */
function nameOf({ id, note }: Actor): string {
  return note === '' ? `key ${id}` : `${note.slice(0, 200)} (key ${id})`
}
