// A guest that does what a test says: it runs scripts as root, sends frames of any kind, and keeps what it hears.

import assert from 'node:assert/strict'
import { frameBytes, padded } from './frames.ts'

const answerMs = 120_000
/** Words that stand in the tests' frames, and in nothing else. */
export const wordsPattern = 'hlt-[0-9a-f]{6}-[0-9]+_'

export interface AttackerOptions {
  readonly vm: string
  readonly uuid: string
  readonly address: string
  readonly mac: string
  /** Of its bridge: the host's address and card. */
  readonly gateway: { readonly address: string; readonly mac: string }
  readonly bridge: string
  readonly tap: string
}

export class Attacker {
  readonly vm: string
  readonly uuid: string
  readonly address: string
  readonly mac: string
  readonly gateway: AttackerOptions['gateway']
  readonly bridge: string
  readonly tap: string

  constructor(options: AttackerOptions) {
    this.vm = options.vm
    this.uuid = options.uuid
    this.address = options.address
    this.mac = options.mac
    this.gateway = options.gateway
    this.bridge = options.bridge
    this.tap = options.tap
  }

  /** What the script wrote, and how it ended. Its words are not to be heard on its way to the guest. */
  async run(script: string): Promise<{ output: string; code: number }> {
    const hidden = Buffer.from(script).toString('base64')
    const body = `echo ${hidden} | base64 -d >/tmp/script.$$; sh /tmp/script.$$; code=$?; rm /tmp/script.$$; exit $code`
    const signal = AbortSignal.timeout(answerMs)
    const answer = await fetch(`http://${this.address}/cgi-bin/run`, { method: 'POST', body, signal })
    const text = await answer.text()
    const [, output = '', code] = /^([\s\S]*)\nexit (\d+)\n$/.exec(text) ?? []
    assert.ok(code !== undefined, `${this.vm} answered ${JSON.stringify(text.slice(-256))}`)
    return { output, code: Number(code) }
  }

  /** As a script, so that it may be part of one: one frame after the other, as fast as the guest can. */
  sending(frames: readonly Buffer[]): string {
    const bytes = Buffer.concat(frames.map(padded)).toString('base64')
    const send = `socat -u -b ${frameBytes} OPEN:$file INTERFACE:eth0`
    return `file=$(mktemp); echo ${bytes} | base64 -d >$file; ${send}; rm $file`
  }

  async send(...frames: readonly Buffer[]): Promise<void> {
    const { output, code } = await this.run(this.sending(frames))
    assert.equal(code, 0, output)
  }

  /** Keeps, from now on, what passes its card. */
  async listen(): Promise<void> {
    const capture = 'socat -u INTERFACE:eth0 OPEN:/tmp/heard,creat,append'
    await this.run(
      `[ ! -e /tmp/listening ] || exit 0; : >/tmp/listening; setsid ${capture} >/dev/null 2>&1 &`
    )
  }

  async stopListening(): Promise<void> {
    await this.run('killall socat; rm -f /tmp/listening /tmp/heard')
  }

  /** Has it hear something, which shows that it does. */
  async call(words: string): Promise<void> {
    await fetch(`http://${this.address}/${words}`, { signal: AbortSignal.timeout(answerMs) })
  }

  /** The tests' words among it. The question has none of them, so that it is not heard itself. */
  async heard(): Promise<Set<string>> {
    // busybox's grep ends a line at a zero, and its tr knows no class of printable characters.
    const { output } = await this.run(
      `tr -c 'a-z0-9_-' '\\n' </tmp/heard | grep -oE '${wordsPattern}' | sort -u`
    )
    return new Set(output.split('\n').filter(Boolean))
  }
}
