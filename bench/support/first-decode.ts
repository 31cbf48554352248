// Decodes one reply in a fresh process and prints the milliseconds.

import { readFileSync } from 'node:fs'
import { connectGetAllDomainStats, decodeAll } from 'node-libvirt'

const reply = readFileSync(process.argv[2] ?? '')
const start = performance.now()
decodeAll(connectGetAllDomainStats.result, reply)
console.log(performance.now() - start)
