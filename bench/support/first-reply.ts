// Gets one reply of the stand-in server in a fresh process and prints the longest turn of its event loop in milliseconds.

import { connect } from 'node-libvirt'
import { longestTurnMs, statisticsCall } from './event-loop.ts'

await using connection = await connect(process.argv[2] ?? '', { keepAlive: false })
console.log(await longestTurnMs(() => statisticsCall(connection)))
