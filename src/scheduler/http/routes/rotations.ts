// Rotation of the fleet's CA and command key, step by step, and what hosts believe meanwhile.

import { Type } from '../../../lib/schema.ts'
import {
  RotationReply,
  RotationRequest,
  rotationActions,
  rotationSubjects,
  TrustView
} from '../../../protocol/api.ts'
import { strict } from '../../../protocol/names.ts'
import { rotationView } from '../../trust/views.ts'
import { defineRoute } from '../route.ts'

const historyMax = 100
const StepParams = Type.Object(
  { subject: Type.Enum([...rotationSubjects]), action: Type.Enum([...rotationActions]) },
  strict
)

export const rotationRoutes = [
  defineRoute('GET /v1/trust', {
    tier: 'read',
    summary: 'Which CAs and command keys hosts believe, where rotations are, and which hosts lag behind',
    reply: TrustView,
    handle: async (_call, { store, clock, trust }) => {
      const hosts = await store.trust.hosts()
      const seen = { state: trust.state, hosts, now: clock.now() }
      return {
        serial: trust.serial,
        caHash: trust.authority.caHash,
        caBundle: trust.bundle,
        retired: [...trust.state.retired],
        rotations: rotationSubjects.map((subject) => rotationView({ ...seen, subject })),
        history: [...(await store.trust.history(historyMax))]
      }
    }
  }),

  defineRoute('POST /v1/rotations/{subject}/{action}', {
    tier: 'admin',
    summary: 'Take a step of the rotation of the CA or of the command key',
    params: StepParams,
    body: RotationRequest,
    reply: RotationReply,
    handle: async ({ params: { subject, action }, body, actor }, { trust, agents }) => {
      const { force = false, renewWithinSeconds } = body
      const reply = await trust.step({
        ...{ subject, action, force, by: actor?.id ?? 'unknown' },
        renewWithinMs: renewWithinSeconds === undefined ? undefined : renewWithinSeconds * 1_000
      })
      for (const host of reply.cutOff) agents.disconnect(host, 'its certificate is of a CA that was dropped')
      const { rotation, warnings } = reply
      return { rotation, warnings }
    }
  })
]
