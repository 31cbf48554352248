// What a group of tests works with: an open connection, the recorder of its events, and calls that are counted.

import { after, before } from 'node:test'
import { type Connection, connect } from '../../../src/node-libvirt/connection.ts'
import {
  domainEvents,
  networkEvents,
  secretEvents,
  storagePoolEvents
} from '../../../src/node-libvirt/protocol/events.ts'
import { type Coverage, Exercise } from './coverage.ts'
import { Recorder } from './recorder.ts'

const { nicMacChange: _newer, ...domainEventsOf9 } = domainEvents

export class Bench {
  readonly connection: Connection
  readonly exercise: Exercise
  readonly recorder: Recorder

  private constructor(connection: Connection, coverage: Coverage) {
    this.connection = connection
    this.exercise = new Exercise(connection, coverage)
    this.recorder = new Recorder(coverage)
  }

  /** Opens before the tests of the suite around it and closes after them. */
  static around(uri: () => Promise<string>, coverage: Coverage): () => Bench {
    let bench: Bench | undefined
    before(async () => {
      bench = new Bench(await connect(await uri()), coverage)
    })
    after(async () => {
      await bench?.connection.close()
    })
    return () => {
      if (!bench) throw new Error('the connection is not open yet')
      return bench
    }
  }

  /** Records what libvirt 9.0 can tell of domains, networks, pools and secrets. */
  async listenToAll(): Promise<void> {
    await this.recorder.listen(this.connection, domainEventsOf9)
    await this.recorder.listen(this.connection, { lifecycle: networkEvents.lifecycle })
    await this.recorder.listen(this.connection, storagePoolEvents)
    await this.recorder.listen(this.connection, secretEvents)
  }
}
