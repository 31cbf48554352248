// What a reader needs to know of the machine and the software that were measured; never its name.

import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'
import { join } from 'node:path'
import type { Machine } from '../report.ts'

const root = join(import.meta.dirname, '../..')

export function describeMachine(): Machine {
  const processors = cpus()
  return {
    processor: processors[0]?.model.trim() ?? 'unknown processor',
    cores: processors.length,
    memoryGib: Math.round(totalmem() / 2 ** 30),
    kernel: release().replace(/^(\d+\.\d+).*/, '$1')
  }
}

export function describeVersions(): Record<string, string> {
  return {
    hostlet: packageVersion('package.json') ?? 'unknown',
    Node: process.versions.node,
    libvirt: firstMatch('virsh', ['--version'], /^(\S+)/),
    QEMU: firstMatch('qemu-img', ['--version'], /version (\d[\d.]*)/),
    virtnbdbackup: firstMatch('virtnbdbackup', ['-V'], /^(\S+)/),
    restic: firstMatch('restic', ['version'], /^restic (\S+)/),
    libnbd: firstMatch('nbdcopy', ['--version'], /^nbdcopy (\S+)/),
    '@unraid/libvirt': packageVersion('bench/node_modules/@unraid/libvirt/package.json') ?? 'not installed'
  }
}

function packageVersion(path: string): string | undefined {
  const file = join(root, path)
  return existsSync(file)
    ? (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
    : undefined
}

function firstMatch(command: string, args: readonly string[], pattern: RegExp): string {
  try {
    return pattern.exec(execFileSync(command, args, { encoding: 'utf8' }))?.[1] ?? 'unknown'
  } catch {
    // Absent is an answer here: the figures that need it say so themselves.
    return 'not installed'
  }
}
