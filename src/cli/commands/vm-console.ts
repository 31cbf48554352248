// hostlet vm console NAME: a VM's serial console in this terminal.

import type { ErrorCode } from '../../errors.ts'
import { HostletError } from '../../errors.ts'
import type { ConsoleAttached, ConsoleEnd, ConsoleEnding } from '../../protocol/console.ts'
import { apiPath } from '../api-client.ts'
import { clientCommand, examples, type Session } from '../client-command.ts'
import { type Escape, escapeDefault, readEscape, untilEscape } from '../console/escape.ts'
import { ConsoleSocket } from '../console/socket.ts'
import { Terminal } from '../console/terminal.ts'
import type { Define } from '../define.ts'
import { untilDone } from '../follow.ts'
import { formatDuration } from '../quantities.ts'
import { plain } from '../table.ts'

interface ConsoleOptions {
  readonly readOnly?: true
  readonly takeOver?: true
  readonly escape: string
}

export const define: Define = (command, cli) => {
  command
    .argument('<vm>', 'name of the VM')
    .option('--read-only', 'watch: nothing is typed, and somebody else may write')
    .option('--take-over', 'end the session of whoever writes now')
    .option('--escape <key>', 'the key that leaves the console', escapeDefault)
  examples(
    command,
    'hostlet vm console web-1',
    'hostlet vm console web-1 --read-only > boot.log',
    'hostlet vm console web-1 --escape ^O'
  )
  command.addHelpText(
    'after',
    `
Ctrl-] leaves, and the session ends; the VM takes no notice. A serial line tells no guest the size of the window:
"stty rows 40 cols 120" in the guest does. Who opened it and when is in the audit, what was typed and shown is not.`
  )
  clientCommand<ConsoleOptions, readonly [string]>(
    command,
    cli,
    async (session, { options, arguments: [vm] }) => {
      const { readOnly, takeOver } = options
      const path = apiPath('vms', vm, 'console')
      const body = { mode: readOnly ? 'read' : 'write', ...(takeOver && { takeOver }) }
      const { client, signal } = session
      const reply = await client.ask({ method: 'POST', path, body, signal }, 'ConsoleReply')
      await untilDone(session, reply.operation)
      const end = await attend(session, reply, readEscape(options.escape))
      tellEnd(end, vm, session)
    },
    ({ options }) => {
      readEscape(options.escape)
      if (options.readOnly && options.takeOver)
        throw new HostletError('E_BAD_REQUEST', 'who only watches takes nothing over: leave out --take-over.')
      if (!options.readOnly && !process.stdin.isTTY)
        throw new HostletError(
          'E_BAD_REQUEST',
          'a console needs a terminal to type from, and standard input is none. With --read-only it needs none.'
        )
      return false
    }
  )
}

/** Until the session has ended, or somebody ends it here; the terminal is then as it was. */
async function attend(
  { cli, client, signal }: Session,
  reply: ConstructorParameters<typeof ConsoleSocket>[1],
  key: Escape
): Promise<ConsoleEnd> {
  const { stdin: input, stdout: output } = process
  const terminal = new Terminal({ input, output, sleep: (ms) => cli.clock.sleep(ms) })
  const typing = new Typing(terminal, key)
  const socket = new ConsoleSocket(client.connection, reply, {
    attached: (console) => {
      cli.note(...welcome(console, key))
      if (input.isTTY) terminal.begin((keys) => typing.keys(keys, console.mode === 'write', socket))
    },
    show: (data, taken) => {
      terminal.note(data)
      output.write(data, taken)
    },
    room: () => typing.flush(socket)
  })
  const leave = () => socket.leave()
  signal.addEventListener('abort', leave, { once: true })
  // Else the process would end without giving the terminal back.
  process.once('SIGHUP', leave)
  try {
    const end = await socket.ended
    signal.throwIfAborted()
    return end
  } finally {
    signal.removeEventListener('abort', leave)
    process.off('SIGHUP', leave)
    await terminal.end()
  }
}

/** What was typed and waits for credit; the terminal is not read meanwhile. */
class Typing {
  readonly #terminal: Terminal
  readonly #key: Escape
  #waiting = Buffer.alloc(0)

  constructor(terminal: Terminal, key: Escape) {
    this.#terminal = terminal
    this.#key = key
  }

  keys(keys: Buffer, writes: boolean, socket: ConsoleSocket): void {
    const { typed, left } = untilEscape(keys, this.#key)
    if (writes) {
      this.#waiting = Buffer.concat([this.#waiting, typed])
      this.flush(socket)
    }
    if (left) socket.leave()
  }

  flush(socket: ConsoleSocket): void {
    const now = this.#waiting.subarray(0, socket.room)
    if (now.length > 0) socket.type(now)
    const isHeld = now.length < this.#waiting.length
    this.#waiting = this.#waiting.subarray(now.length)
    if (isHeld) this.#terminal.pause()
    else this.#terminal.resume()
  }
}

function welcome({ vm, host, mode, idleMs }: ConsoleAttached, { name }: Escape): string[] {
  const doing = mode === 'read' ? 'Watching the console' : 'On the console'
  return [
    `${doing} of VM ${vm} on host ${host}. ${name} leaves. It ends when nothing is ${mode === 'read' ? 'shown' : 'typed'} for ${formatDuration(idleMs)}.`,
    ...(mode === 'write' ? ['Press Enter where nothing shows.'] : [])
  ]
}

/** What the caller's program makes of an end that nobody here wished for. */
const codes: Readonly<Partial<Record<ConsoleEnding, ErrorCode>>> = {
  idle: 'E_TIMEOUT',
  longest: 'E_TIMEOUT',
  taken: 'E_CONFLICT',
  unknown: 'E_CONFLICT',
  revoked: 'E_AUTH',
  protocol: 'E_PROTOCOL'
}

/** An end that somebody wished for, here or in the guest, is no error. */
function tellEnd({ why, message }: ConsoleEnd, vm: string, { cli }: Session): void {
  // The guest left the cursor anywhere.
  cli.writeNote('\r\n')
  if (why === 'left') cli.note(plain(`Left the console of VM ${vm}.`))
  if (why === 'off') cli.note(plain(`${message}: the session ended.`))
  if (why === 'left' || why === 'off') return
  throw new HostletError(codes[why] ?? 'E_UNAVAILABLE', `the console of VM ${vm} ended: ${message}.`, {
    details: { vm, why }
  })
}
