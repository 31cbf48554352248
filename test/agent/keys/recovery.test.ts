// Recovery wrappings: any of the recovery keys opens them, no other key does, and none is taken for another disk's.

import assert from 'node:assert/strict'
import { randomBytes, randomUUID } from 'node:crypto'
import { describe, it } from 'node:test'
import { createPrivateKey, publicHalf } from '../../../src/agent/keys/jwk.ts'
import { openRecovery, wrapForRecovery } from '../../../src/agent/keys/recovery.ts'
import { GeneralJwe } from '../../../src/protocol/keys.ts'
import { compile } from '../../../src/protocol/validate.ts'

const onTheWire = compile(GeneralJwe, 'wrapping')

function content() {
  return {
    id: randomUUID(),
    uuid: randomUUID(),
    volume: 'web-1-root.qcow2',
    passphrases: [randomBytes(32).toString('base64')]
  }
}

describe('the recovery wrapping of a disk’s key', () => {
  it('is opened by each of its recovery keys, and fits the wire', async () => {
    const [first, second] = [await createPrivateKey(), await createPrivateKey()]
    for (const keys of [[first], [first, second]]) {
      const key = content()
      const jwe = await wrapForRecovery(key, keys.map(publicHalf))
      assert.deepEqual(onTheWire(JSON.parse(JSON.stringify(jwe))), jwe)
      for (const one of keys) assert.deepEqual(await openRecovery(jwe, [one], key), key)
      assert.equal(JSON.stringify(jwe).includes(key.passphrases[0] ?? ''), false)
    }
  })

  it('is not opened by another key, nor after a bit of it changed', async () => {
    const mine = await createPrivateKey()
    const key = content()
    const jwe = await wrapForRecovery(key, [publicHalf(mine)])
    assert.equal(await openRecovery(jwe, [await createPrivateKey()], key), undefined)
    const tag = Buffer.from(jwe.tag, 'base64url')
    tag[0] = (tag[0] ?? 0) ^ 1
    assert.equal(await openRecovery({ ...jwe, tag: tag.toString('base64url') }, [mine], key), undefined)
  })

  it('says whose it is: that of another disk is refused', async () => {
    const mine = await createPrivateKey()
    const key = content()
    const jwe = await wrapForRecovery(key, [publicHalf(mine)])
    await assert.rejects(openRecovery(jwe, [mine], { ...key, id: randomUUID() }), (error: Error) => {
      assert.match(error.message, /holds key/)
      assert.equal(error.message.includes(key.passphrases[0] ?? ''), false)
      return true
    })
  })

  it('needs a recovery key', async () => {
    await assert.rejects(wrapForRecovery(content(), []), { code: 'E_BAD_REQUEST' })
  })
})
