// Decodes one reply in a fresh process and prints the milliseconds of CPU time that its main thread spent on it.

import { readFileSync } from 'node:fs'
import { connectGetAllDomainStats, decodeAll } from 'node-libvirt'

const reply = readFileSync(process.argv[2] ?? '')
const before = process.threadCpuUsage()
decodeAll(connectGetAllDomainStats.result, reply)
const { user, system } = process.threadCpuUsage(before)
console.log((user + system) / 1_000)
