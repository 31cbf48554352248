// Carries attacks out and tells where each of them was heard.

import assert from 'node:assert/strict'
import type { Attacker } from './attacker.ts'
import { type Attack, type Cast, datagram, type Place, places } from './attacks.ts'
import { eventually } from './eventually.ts'

/** What a tool says of its failure has the words. */
const quietly = (script: string) => `( ${script} ) >/dev/null 2>&1`

export class Battle {
  readonly #cast: Cast

  constructor(cast: Cast) {
    this.#cast = cast
  }

  /** Attacks one after the other where one changes what the others need, all at once otherwise. Returns their words. */
  async wage(attacks: readonly Attack[]): Promise<ReadonlyMap<Attack, string>> {
    const { world, mallory } = this.#cast
    const words = new Map(attacks.map((attack) => [attack, world.words()]))
    const of = (attack: Attack) => words.get(attack) ?? ''
    const scripts = (alone: boolean) =>
      attacks.flatMap((attack) =>
        (attack.alone ?? false) === alone ? (attack.script?.(of(attack)) ?? []) : []
      )
    const frames = attacks.flatMap((attack) => attack.frames?.(of(attack)) ?? [])
    const sent = frames.length === 0 ? [] : [mallory.sending(frames)]
    await mallory.run(`${[...sent, ...scripts(false)].map(quietly).join(' &\n')} &\nwait`)
    for (const script of scripts(true)) await mallory.run(quietly(script))
    return words
  }

  /**
   * Where each attack was heard that may not be heard anywhere. What was sent before the last, allowed datagram, by the
   * same card and through the same bridge, has arrived before it if it has at all.
   */
  async breaches(attacks: readonly Attack[]): Promise<string[]> {
    const words = await this.wage(attacks)
    await this.allowed()
    return (await this.heardOf(words)).map(({ attack, place }) => `${attack}: heard at the ${place}`)
  }

  /** Where these words were heard that may not be heard there. */
  async heardOf(words: ReadonlyMap<Attack, string>): Promise<{ attack: string; place: Place }[]> {
    const heard = await this.#everywhere()
    return [...words].flatMap(([attack, each]) =>
      places
        .filter((place) => !attack.maySee?.includes(place) && heard(place, each))
        .map((place) => ({ attack: attack.name, place }))
    )
  }

  /** Waits until each attack has arrived where it does when nothing hinders it. */
  async expectArrivals(attacks: readonly Attack[]): Promise<void> {
    const words = await this.wage(attacks)
    let missing: string[] = []
    await eventually(
      async () => {
        const heard = await this.#everywhere()
        missing = attacks.flatMap((attack) =>
          attack.arrivesAt
            .filter((place) => !heard(place, words.get(attack) ?? ''))
            .map((place) => `${attack.name}, at the ${place}`)
        )
        return missing.length === 0
      },
      () => `attacks that must arrive without rules: ${missing.join('; ')}`
    )
  }

  /** A datagram that this attacker may send. */
  async allowed(): Promise<void> {
    const { world, mallory } = this.#cast
    const words = world.words()
    await mallory.send(...datagram(this.#cast, world.outside.server, 5000)(words))
    await eventually(() => world.outside.heard(words), 'an allowed datagram')
  }

  async #everywhere(): Promise<(place: Place, words: string) => boolean> {
    const { world, mallory, neighbour, stranger } = this.#cast
    const [near, far] = await Promise.all([neighbour, stranger].map((guest) => this.#heardBy(guest)))
    const bridge = await world.captureBridge(mallory.bridge)
    const at: Readonly<Record<Place, (words: string) => boolean>> = {
      neighbour: (words) => near?.has(words) ?? true,
      stranger: (words) => far?.has(words) ?? true,
      bridge: (words) => bridge.saw(words),
      host: (words) => world.hostPorts.heard(words),
      outside: (words) => world.outside.heard(words)
    }
    return (place, words) => at[place](words)
  }

  async #heardBy(guest: Attacker): Promise<Set<string>> {
    const call = this.#cast.world.words()
    await guest.call(call)
    const heard = await guest.heard()
    assert.ok(heard.has(call), `${guest.vm} does not hear what it is told`)
    return heard
  }

  static assertNone(breaches: readonly string[]): void {
    assert.deepEqual(breaches, [])
  }
}
