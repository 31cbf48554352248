// XML out and in: what is written is read back as it was, and nothing in a value becomes markup.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { element, renderXml } from '../../../src/agent/host/xml.ts'
import {
  find,
  readXml,
  xmlCharactersMax,
  xmlDepthMax,
  xmlElementsMax
} from '../../../src/agent/host/xml-read.ts'
import { HostletError } from '../../../src/errors.ts'

const hostile = ['<script/>', '&amp;', '"', "'", ']]>', '<!--', '<?x?>', '\t\n\r ', 'é😀', '&#0;']

describe('writing XML', () => {
  it('carries every value that XML can, in attributes and in text', () => {
    fc.assert(
      fc.property(fc.oneof(fc.constantFrom(...hostile), fc.string({ unit: 'grapheme' })), (value) => {
        if (!sayable(value)) return
        const root = readXml(renderXml(element('a', { b: value }, element('c', {}, value))))
        assert.equal(root.attributes.b, value)
        assert.equal(find(root, 'c')?.text, value)
        assert.equal(root.children.length, 1)
      })
    )
  })

  it('refuses characters that XML forbids, naming them', () => {
    for (const value of ['\u0000', '\u0008', '\u001f', '\ufffe', '\ud800', 'a\u0000b']) {
      assert.throws(() => renderXml(element('a', {}, value)), {
        code: 'E_BAD_REQUEST',
        message: /U\+[0-9A-F]{4}/
      })
      assert.throws(() => renderXml(element('a', { b: value })), { code: 'E_BAD_REQUEST' })
    }
  })

  it('refuses names that would be markup', () => {
    for (const name of ['a b', '', 'a>', '1a', 'a"'])
      assert.throws(() => renderXml(element(name)), { code: 'E_INTERNAL' })
    assert.throws(() => renderXml(element('a', { 'b="1" c': 'd' })), { code: 'E_INTERNAL' })
  })
})

describe('reading XML', () => {
  it('refuses what is malformed, with the place', () => {
    for (const text of ['', '<a>', '<a></b>', '<a b=c/>', '<a/><b/>', 'text', '<a>&unknown;</a>'])
      assert.throws(
        () => readXml(text),
        (error) => error instanceof HostletError && error.code === 'E_PROTOCOL',
        text
      )
    assert.throws(() => readXml('<a>\n<b></c>'), /2:/)
  })

  it('refuses entities that grow', () => {
    const bomb = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>'
    assert.throws(() => readXml(bomb), { code: 'E_PROTOCOL' })
  })

  it('is bounded in size, depth and number of elements', () => {
    assert.throws(() => readXml(`<a>${' '.repeat(xmlCharactersMax)}</a>`), { code: 'E_PROTOCOL' })
    const deep = xmlDepthMax + 1
    assert.throws(() => readXml('<a>'.repeat(deep) + '</a>'.repeat(deep)), { code: 'E_PROTOCOL' })
    assert.throws(() => readXml(`<a>${'<b/>'.repeat(xmlElementsMax)}</a>`), { code: 'E_PROTOCOL' })
  })
})

function sayable(value: string): boolean {
  return /^[\t\n\r\u0020-\uD7FF\uE000-\uFFFD\u{10000}-\u{10FFFF}]*$/u.test(value)
}
