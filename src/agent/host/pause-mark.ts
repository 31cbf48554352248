// The mark of a machine that stands paused for a backup: in its live metadata, so that it is known after any restart and ends with the machine.

import {
  type Connection,
  type Domain,
  domainGetMetadata,
  domainSetMetadata,
  errorCode,
  metadataType,
  modificationImpact
} from 'node-libvirt'
import type { VmDefinition, Wait } from './hypervisor.ts'
import { attempt, isAnswer } from './libvirt-errors.ts'
import { pauseNamespace, pausePrefix } from './names.ts'
import { element, renderXml } from './xml.ts'
import { readXml } from './xml-read.ts'

const quickMs = 10_000
/** A domain that is off now, or gone, has no mark. */
const absences = [errorCode.noDomainMetadata, errorCode.operationInvalid, errorCode.noDomain]

/** What the VM was wanted to be when its machine was started for a backup; undefined for a machine that was not. */
export type PauseMark = VmDefinition['wanted']

export async function readMark(
  connection: Connection,
  domain: Domain,
  wait: Wait
): Promise<PauseMark | undefined> {
  const flags = modificationImpact.live
  const args = { domain, type: metadataType.element, uri: pauseNamespace, flags }
  return await attempt(`look at domain ${domain.name}`, async () => {
    try {
      const options = { signal: wait.signal, deadlineMs: quickMs }
      const { metadata } = await connection.call(domainGetMetadata, args, options)
      return readXml(metadata).text === 'running' ? 'running' : 'stopped'
    } catch (error) {
      if (absences.some((code) => isAnswer(error, code))) return undefined
      throw error
    }
  })
}

/** Into the definition, from which the next start takes it: there is no moment at which the machine is without it. */
export async function setMark(
  connection: Connection,
  domain: Domain,
  wanted: PauseMark,
  wait: Wait
): Promise<void> {
  const metadata = renderXml(element('paused', {}, wanted))
  await write(connection, { domain, metadata }, modificationImpact.config, wait)
}

/** From the definition, and from the machine where it runs. No effect where there is none. */
export async function clearMark(connection: Connection, domain: Domain, wait: Wait): Promise<void> {
  await write(connection, { domain, metadata: null }, modificationImpact.config, wait)
  try {
    await write(connection, { domain, metadata: null }, modificationImpact.live, wait)
  } catch (error) {
    if (!absences.some((code) => isAnswer(causeOf(error), code))) throw error
  }
}

async function write(
  connection: Connection,
  { domain, metadata }: { domain: Domain; metadata: string | null },
  flags: number,
  wait: Wait
): Promise<void> {
  const args = {
    domain,
    type: metadataType.element,
    metadata,
    key: pausePrefix,
    uri: pauseNamespace,
    flags
  }
  await attempt(`mark domain ${domain.name}`, () =>
    connection.call(domainSetMetadata, args, { signal: wait.signal, deadlineMs: quickMs })
  )
}

function causeOf(error: unknown): unknown {
  return error instanceof Error ? error.cause : undefined
}
