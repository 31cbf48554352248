// Procedures of secrets, with an ephemeral private one.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { it } from 'node:test'
import { errorCode } from '../../../src/node-libvirt/protocol/constants/errors.ts'
import {
  secretEventType,
  secretListFlag,
  secretUsageType
} from '../../../src/node-libvirt/protocol/constants/network.ts'
import { secretEvents } from '../../../src/node-libvirt/protocol/events.ts'
import type { Secret } from '../../../src/node-libvirt/protocol/objects.ts'
import * as secrets from '../../../src/node-libvirt/protocol/secret.ts'
import type { Bench } from './bench.ts'
import { assertIncludes, directory, secretUuid } from './workshop.ts'

const uuid = Buffer.from(secretUuid.replaceAll('-', ''), 'hex')
const usageId = `${directory}/secret.qcow2`
const xml = `<secret ephemeral='yes' private='yes'><uuid>${secretUuid}</uuid>
  <usage type='volume'><volume>${usageId}</volume></usage></secret>`

export function secretTests(bench: () => Bench): void {
  let secret: Secret

  it('defines a secret and finds it again', async () => {
    const { exercise, recorder } = bench()
    ;({ secret } = await exercise.ok(secrets.secretDefineXml, { xml, flags: 0 }))
    assert.deepEqual(secret, { uuid, usageType: secretUsageType.volume, usageId })
    assert.deepEqual((await exercise.ok(secrets.secretLookupByUuid, { uuid })).secret, secret)
    const usage = { usageType: secretUsageType.volume, usageId }
    assert.deepEqual((await exercise.ok(secrets.secretLookupByUsage, usage)).secret, secret)
    await recorder.seen(
      secretEvents.lifecycle,
      (event) => event.secret.uuid.equals(uuid) && event.event === secretEventType.defined
    )
  })

  it('takes a value and tells that, not what', async () => {
    const { exercise, recorder } = bench()
    await exercise.ok(secrets.secretSetValue, { secret, value: randomBytes(32), flags: 0 })
    await recorder.seen(secretEvents.valueChanged, (event) => event.secret.uuid.equals(uuid))
  })

  it('describes and lists it', async () => {
    const { exercise } = bench()
    const { xml: description } = await exercise.ok(secrets.secretGetXmlDesc, { secret, flags: 0 })
    assertIncludes(description, "ephemeral='yes'", "private='yes'", usageId)
    const filter = { needResults: true, flags: secretListFlag.ephemeral | secretListFlag.private }
    const { secrets: listed, count } = await exercise.ok(secrets.connectListAllSecrets, filter)
    assert.equal(listed.length, count)
    assert.ok(listed.some((one) => one.uuid.equals(uuid)))
    assert.ok((await exercise.ok(secrets.connectNumOfSecrets, {})).count >= 1)
  })

  it('forgets it', async () => {
    const { exercise } = bench()
    await exercise.ok(secrets.secretUndefine, { secret })
    await exercise.refused(secrets.secretLookupByUuid, { uuid }, errorCode.noSecret)
  })
}
