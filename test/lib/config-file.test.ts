// Configuration files: bounds, positions, and faults that name no values.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { Type } from 'typebox'
import {
  configFaultsMax,
  configFileBytesMax,
  loadConfigFile,
  parseConfigText
} from '../../src/lib/config-file.ts'

const strict = { additionalProperties: false }
const schema = Type.Object(
  {
    name: Type.String(),
    port: Type.Integer({ default: 80, minimum: 1 }),
    list: Type.Array(Type.Object({ key: Type.String() }, strict), { default: [] }),
    either: Type.Optional(
      Type.Union([Type.Integer(), Type.Boolean()], { description: 'a number or a switch' })
    )
  },
  strict
)

function faults(text: string): string[] {
  try {
    parseConfigText(text, 'f.yaml', schema)
  } catch (error) {
    assert.equal((error as { code?: string }).code, 'E_BAD_REQUEST')
    return (error as Error).message.split('\n')
  }
  return []
}

describe('parseConfigText', () => {
  it('returns the value with defaults', () => {
    assert.deepEqual(parseConfigText('name: x', 'f.yaml', schema), { name: 'x', port: 80, list: [] })
  })
  it('names a missing key at the map that lacks it', () => {
    assert.deepEqual(faults('port: 1'), ['f.yaml:1:1: expected the key "name", which is missing'])
    assert.deepEqual(faults(''), ['f.yaml:1:1: expected the key "name", which is missing'])
  })
  it('points into lists', () => {
    assert.deepEqual(faults('name: x\nlist:\n  - key: a\n  - kye: b\n'), [
      'f.yaml:4:5: expected the key "key", which is missing',
      'f.yaml:4:5: expected a known key, not "kye" (did you mean "key"?)'
    ])
  })
  it('says once what a union wants', () => {
    assert.deepEqual(faults('name: x\neither: word'), ['f.yaml:2:9: expected a number or a switch, not text'])
  })
  it('never repeats a value', () => {
    assert.ok(!faults('name: [hunter2]\nport: hunter2').join().includes('hunter2'))
  })
  it('refuses broken YAML with the place', () => {
    assert.match(faults('name: x\nlist: [a,\n').at(0) ?? '', /^f\.yaml:\d+:\d+: expected valid YAML: /)
  })
  it('refuses a key that stands twice', () => {
    assert.match(faults('name: x\nname: y').at(0) ?? '', /^f\.yaml:2:1: expected valid YAML: /)
  })
  it('refuses an alias bomb', () => {
    const bomb = [
      'a: &a [x,x,x,x,x,x,x,x,x]',
      'b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]',
      'c: [*b,*b,*b,*b,*b,*b,*b,*b,*b]'
    ]
    assert.match(faults(bomb.join('\n')).at(0) ?? '', /at most 64 uses of YAML aliases/)
  })
  it('does not take __proto__ for anything but an unknown key', () => {
    assert.deepEqual(faults('name: x\n__proto__: { port: 1 }'), [
      'f.yaml:2:1: expected a known key, not "__proto__"'
    ])
  })
  it('bounds the number of faults that it lists', () => {
    const lines = Array.from({ length: configFaultsMax + 5 }, (_, index) => `unknown${index}: 1`)
    const listed = faults(['name: x', ...lines].join('\n'))
    assert.equal(listed.length, configFaultsMax + 1)
    assert.equal(listed.at(-1), 'f.yaml: and 5 more')
  })
  it('reports the faults of rules at their keys', () => {
    const rules = () => [{ at: ['port'], text: 'expected an odd number' }]
    assert.throws(() => parseConfigText('name: x\nport: 2', 'f.yaml', schema, rules), {
      code: 'E_BAD_REQUEST',
      message: 'f.yaml:2:7: expected an odd number'
    })
  })
})

describe('loadConfigFile', () => {
  it('says which file is missing, is a directory, or is too long', () => {
    const directory = mkdtempSync(join(tmpdir(), 'hostlet-config-'))
    try {
      assert.throws(() => loadConfigFile(join(directory, 'none.yaml'), schema), { code: 'E_NOT_FOUND' })
      assert.throws(() => loadConfigFile(directory, schema), {
        code: 'E_BAD_REQUEST',
        message: /cannot be read/
      })
      const long = join(directory, 'long.yaml')
      writeFileSync(long, '#'.repeat(configFileBytesMax + 1))
      assert.throws(() => loadConfigFile(long, schema), { code: 'E_BAD_REQUEST', message: /at most 1048576/ })
    } finally {
      rmSync(directory, { recursive: true })
    }
  })
})
