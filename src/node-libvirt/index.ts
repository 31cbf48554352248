/** node-libvirt: everything that this package offers. */
export {
  CALLS_IN_FLIGHT_MAX,
  type CallInFlight,
  type CallOptions,
  LOW_PRIORITY_IN_FLIGHT_MAX
} from './calls.ts'
export type { KeepAlive } from './channel.ts'
export { type Clock, systemClock } from './clock.ts'
export {
  Connection,
  type ConnectOptions,
  connect,
  type StreamCallOptions,
  type UploadSource
} from './connection.ts'
export { ConnectionError, type ConnectionErrorCode, LibvirtError } from './errors.ts'
export type { EventDeclaration } from './event-kinds.ts'
export type { SubscribeOptions, Subscription } from './events.ts'
export type { FeatureName, ServerFacts } from './handshake.ts'
export * from './protocol/backup.ts'
export * from './protocol/checkpoint.ts'
export * from './protocol/connect.ts'
export * from './protocol/console.ts'
export * from './protocol/constants/blocks.ts'
export * from './protocol/constants/domain.ts'
export * from './protocol/constants/domain-events.ts'
export * from './protocol/constants/errors.ts'
export * from './protocol/constants/guest.ts'
export * from './protocol/constants/host.ts'
export * from './protocol/constants/network.ts'
export * from './protocol/constants/parameters.ts'
export * from './protocol/constants/storage.ts'
export * from './protocol/domain.ts'
export * from './protocol/domain-devices.ts'
export * from './protocol/domain-metadata.ts'
export * from './protocol/domain-tuning.ts'
export * from './protocol/events.ts'
export * from './protocol/guest-agent.ts'
export * from './protocol/job.ts'
export * from './protocol/network.ts'
export * from './protocol/node.ts'
export * from './protocol/nwfilter.ts'
export * from './protocol/objects.ts'
export * from './protocol/procedure.ts'
export * from './protocol/secret.ts'
export * from './protocol/snapshot.ts'
export * from './protocol/statistics.ts'
export * from './protocol/storage.ts'
export type { Hole, LibvirtStream } from './stream.ts'
export * from './xdr/schema.ts'
