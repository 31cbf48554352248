// The schema of a VM's file: the keys that a person may write, in units that people use.

import { type Static, Type } from '../../lib/schema.ts'
import { RepositoryName, Retention } from '../../protocol/backup.ts'
import { HostId, ProfileName, strict, VmName } from '../../protocol/names.ts'
import { ImageReference, imageFormats, VmSpecification } from '../../protocol/vm.ts'

const Size = Type.Union([Type.String({ maxLength: 64 }), Type.Integer({ minimum: 0 })], {
  description: 'a size such as 512MiB or 10GiB'
})
const Duration = Type.String({ maxLength: 64, description: 'a duration such as 90s, 5m or 6h' })
const Word = Type.String({ minLength: 1, maxLength: 1_024 })
const None = Type.Literal('none')
const listMax = 64

export const Manifest = Type.Object(
  {
    vm: VmName,
    host: Type.Optional(HostId),
    profile: Type.Optional(ProfileName),
    image: Type.Optional(ImageReference.properties.url),
    sha256: Type.Optional(Word),
    format: Type.Optional(Type.Enum([...imageFormats])),
    cpus: Type.Optional(VmSpecification.properties.cpus),
    /** In percent of one core. */
    cpuLimit: Type.Optional(
      Type.Union([Type.Integer({ minimum: 5, maximum: 25_600 }), None], {
        description: 'a percentage of one core from 5 to 25600, or none'
      })
    ),
    memory: Type.Optional(Size),
    disk: Type.Optional(Size),
    dataDisk: Type.Optional(Size),
    diskLimits: Type.Optional(
      Type.Object(
        {
          rate: Type.Optional(Size),
          iops: Type.Optional(Type.Integer({ minimum: 10, maximum: 10_000_000 }))
        },
        strict
      )
    ),
    /** False: no cloud-init seed at all. */
    seed: Type.Optional(Type.Literal(false)),
    hostname: Type.Optional(VmName),
    sshKeys: Type.Optional(Type.Array(Word, { maxItems: 32 })),
    sshKeyFiles: Type.Optional(Type.Array(Word, { maxItems: 32 })),
    userDataFile: Type.Optional(Word),
    hardened: Type.Optional(Type.Boolean()),
    ready: Type.Optional(
      Type.Object(
        {
          port: Type.Optional(Type.Integer({ minimum: 1, maximum: 65_535 })),
          http: Type.Optional(Type.String({ description: 'a port and a path, such as 80/health' })),
          timeout: Type.Optional(Duration)
        },
        strict
      )
    ),
    egress: Type.Optional(
      Type.Union([Word, Type.Array(Word, { minItems: 1, maxItems: listMax })], {
        description: 'none, web, all, or a list such as [tcp:203.0.113.0/24:443]'
      })
    ),
    dns: Type.Optional(Type.Boolean()),
    ports: Type.Optional(Type.Array(Word, { maxItems: listMax })),
    receiveLimit: Type.Optional(Size),
    transmitLimit: Type.Optional(Size),
    health: Type.Optional(Type.Array(Word, { maxItems: 16 })),
    consoleLog: Type.Optional(Type.Boolean()),
    backup: Type.Optional(
      Type.Union(
        [
          None,
          Type.Object(
            {
              target: RepositoryName,
              every: Type.Optional(Duration),
              cron: Type.Optional(Word),
              timeZone: Type.Optional(Word),
              jitter: Type.Optional(Duration),
              quiesce: Type.Optional(Type.Enum(['none', 'freeze'])),
              limit: Type.Optional(Size),
              keep: Type.Optional(Retention)
            },
            strict
          )
        ],
        { description: 'none, or target with every or cron, and of its own keys only' }
      )
    ),
    wanted: Type.Optional(Type.Enum(['running', 'stopped']))
  },
  strict
)
export type Manifest = Static<typeof Manifest>
