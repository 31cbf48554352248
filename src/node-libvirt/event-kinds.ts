/** Which kinds of events libvirt has, how each is registered, and which kind a message belongs to. */
import {
  connectDomainEventCallbackDeregisterAny,
  connectDomainEventCallbackRegisterAny,
  connectNetworkEventDeregisterAny,
  connectNetworkEventRegisterAny,
  connectNodeDeviceEventDeregisterAny,
  connectNodeDeviceEventRegisterAny,
  connectSecretEventDeregisterAny,
  connectSecretEventRegisterAny,
  connectStoragePoolEventDeregisterAny,
  connectStoragePoolEventRegisterAny,
  domainEvents,
  networkEvents,
  nodeDeviceEvents,
  secretEvents,
  storagePoolEvents
} from './protocol/events.ts'
import type { LibvirtEvent, Procedure } from './protocol/procedure.ts'
import type { AnyType, Type } from './xdr/schema.ts'

/** One entry of `domainEvents`, `networkEvents` and their siblings. */
export interface EventDeclaration<Payload extends AnyType = AnyType> {
  readonly id: number
  readonly message: LibvirtEvent<Payload>
}

/** Callback ids are counted for each kind apart, so only kind and id together name a callback. */
export interface EventKind {
  readonly name: string
  readonly register: Procedure<Type<unknown, Record<string, unknown>>, Type<{ callbackId: number }>>
  readonly deregister: Procedure<Type<unknown, { readonly callbackId: number }>, AnyType>
  /** The register procedure's argument that narrows the events to one object. */
  readonly objectArgument: string
  readonly messageNumbers: ReadonlySet<number>
}

const kinds: readonly EventKind[] = [
  kind(
    'domain',
    connectDomainEventCallbackRegisterAny,
    connectDomainEventCallbackDeregisterAny,
    'domain',
    domainEvents
  ),
  kind('network', connectNetworkEventRegisterAny, connectNetworkEventDeregisterAny, 'network', networkEvents),
  kind(
    'storage pool',
    connectStoragePoolEventRegisterAny,
    connectStoragePoolEventDeregisterAny,
    'pool',
    storagePoolEvents
  ),
  kind(
    'node device',
    connectNodeDeviceEventRegisterAny,
    connectNodeDeviceEventDeregisterAny,
    'device',
    nodeDeviceEvents
  ),
  kind('secret', connectSecretEventRegisterAny, connectSecretEventDeregisterAny, 'secret', secretEvents)
]

/** Undefined for a message that no registration of ours can bring. */
export function kindOfMessage(number: number): EventKind | undefined {
  return kinds.find((kind) => kind.messageNumbers.has(number))
}

function kind<Argument extends string>(
  name: string,
  register: Procedure<Type<unknown, { readonly [K in Argument | 'eventId']: never }>, AnyType>,
  deregister: EventKind['deregister'],
  objectArgument: Argument,
  events: Readonly<Record<string, EventDeclaration>>
): EventKind {
  return {
    name,
    register: register as unknown as EventKind['register'],
    deregister,
    objectArgument,
    messageNumbers: new Set(Object.values(events).map((event) => event.message.number))
  }
}
