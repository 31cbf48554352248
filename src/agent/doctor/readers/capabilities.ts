// What the host can do for hostlet: programs, encrypted disks, TPM, limits.

import { randomUUID } from 'node:crypto'
import { access, constants, mkdtemp, readFile, rm } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { systemClock } from '../../../lib/clock.ts'
import { runProcess } from '../../../lib/run-process.ts'
import type { Wait } from '../../host/hypervisor.ts'
import { formatLuks, newPassphrase } from '../../host/luks-format.ts'
import type { LimitFacts, TpmFacts } from '../facts.ts'
import { namesIn, reasonOf, textOf } from './files.ts'

/** Those that the agent and libvirt start by name. */
const programs = ['qemu-img', 'nft', 'genisoimage', 'dnsmasq'] as const
/** Where services look, whatever the shell of who runs this has. */
const usualPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
const programMs = 10_000
const trialMsMax = 30_000
const trialBytes = 1024 ** 2
/** "systemd-creds has-tpm2" says what there is with + and what is not with -. */
const tpmAnswers = ['yes', 'partial', 'no'] as const

export async function missingPrograms(path = `${process.env.PATH ?? ''}:${usualPath}`): Promise<string[]> {
  const directories = path.split(delimiter).filter((directory) => directory !== '')
  const found = await Promise.all(
    programs.map(async (program) => {
      const tries = await Promise.allSettled(
        directories.map((directory) => access(join(directory, program), constants.X_OK))
      )
      return tries.some(({ status }) => status === 'fulfilled')
    })
  )
  return programs.filter((_program, index) => !found[index])
}

/** In memory, with a key that nobody has; both are gone afterwards. */
export async function luksTrial(
  wait: Wait,
  directory = '/dev/shm'
): Promise<{ tookMs: number } | { fault: string }> {
  const trial = await mkdtemp(join(directory, 'hostlet-doctor-'))
  const limit = AbortSignal.timeout(trialMsMax)
  const begun = systemClock.monotonic()
  try {
    const file = { path: join(trial, randomUUID()), passphrase: newPassphrase(), sizeBytes: trialBytes }
    await formatLuks(file, { signal: AbortSignal.any([wait.signal, limit]), clock: systemClock })
    return { tookMs: Math.round(systemClock.monotonic() - begun) }
  } catch (error) {
    wait.signal.throwIfAborted()
    return { fault: limit.aborted ? `not done after ${trialMsMax / 1_000} s` : firstLine(reasonOf(error)) }
  } finally {
    await rm(trial, { recursive: true, force: true })
  }
}

/** Throws where systemd is too old to tell (before 251), or absent. */
export async function tpmSupport(wait: Wait): Promise<TpmFacts> {
  const options = { ...wait, deadlineMs: programMs }
  const { stdout, stderr } = await runProcess('systemd-creds', ['has-tpm2'], options)
  return parseTpmSupport(stdout, stderr)
}

export function parseTpmSupport(text: string, trouble = ''): TpmFacts {
  const [first = '', ...parts] = text.trim().split('\n')
  const answer = tpmAnswers.find((word) => word === first.trim())
  if (answer === undefined)
    throw new Error(`systemd-creds cannot tell of a TPM: ${firstLine(trouble) || 'another form'}`)
  const missing = parts.filter((part) => part.startsWith('-')).map((part) => part.slice(1).trim())
  return { answer, missing }
}

export async function limits(root = '/'): Promise<LimitFacts> {
  const kernel = async (name: string) => Number((await textOf(join(root, 'proc/sys', name))) ?? 0)
  const [inUse = 0, , filesMax = 0] = (await readFile(join(root, 'proc/sys/fs/file-nr'), 'utf8'))
    .trim()
    .split(/\s+/)
    .map(Number)
  return {
    agentFiles: await unitFiles(root),
    pidMax: await kernel('kernel/pid_max'),
    aioInUse: await kernel('fs/aio-nr'),
    aioMax: await kernel('fs/aio-max-nr'),
    inotifyInstancesMax: await kernel('fs/inotify/max_user_instances'),
    filesInUse: inUse,
    filesMax
  }
}

/** `debian 12`. */
export async function distribution(root = '/'): Promise<string> {
  const text = await readFile(join(root, 'etc/os-release'), 'utf8')
  const value = (name: string) => new RegExp(`^${name}="?([^"\n]*)"?$`, 'm').exec(text)?.[1] ?? ''
  return `${value('ID')} ${value('VERSION_ID')}`.trim()
}

/** The last that unit and drop-ins set counts. */
async function unitFiles(root: string): Promise<number | undefined> {
  const directories = ['usr/lib/systemd/system', 'etc/systemd/system']
  const units = directories.map((directory) => join(root, directory, 'hostlet.service'))
  const dropIns = await Promise.all(
    directories.map(async (directory) => {
      const full = join(root, directory, 'hostlet.service.d')
      return (await namesIn(full)).toSorted().map((name) => join(full, name))
    })
  )
  const texts = await Promise.all([...units, ...dropIns.flat()].map((path) => textOf(path)))
  if (texts.slice(0, units.length).every((text) => text === undefined)) return undefined
  const set = [...texts.join('\n').matchAll(/^LimitNOFILE=(?:\d+:)?(\d+|infinity)\s*$/gm)].at(-1)?.[1]
  return set === undefined ? undefined : set === 'infinity' ? Number.POSITIVE_INFINITY : Number(set)
}

function firstLine(text: string): string {
  return text.trim().split('\n')[0] ?? ''
}
