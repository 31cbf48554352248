// The OpenAPI 3.1 document, made of the routes themselves: what it says is what the server checks.

import type { TSchema } from '../../lib/schema.ts'
import * as api from '../../protocol/api.ts'
import { EnrollmentReply, EnrollmentRequest } from '../../protocol/enrollment.ts'
import { queryOf } from './planning.ts'
import type { Route } from './route.ts'

type Json = Record<string, unknown>

/** Schemas that have a name in the document; all others stand where they are used. */
const named: ReadonlyMap<unknown, string> = new Map(
  Object.entries({ ...api, EnrollmentReply, EnrollmentRequest }).flatMap(([name, value]) =>
    typeof value === 'object' && 'properties' in value ? [[value as unknown, name] as const] : []
  )
)

export function createOpenApi(routes: readonly Route[], version: string): Json {
  const used = routes.flatMap(({ body, reply }) => [body, reply])
  return {
    openapi: '3.1.0',
    info: {
      title: 'hostlet scheduler',
      version,
      description: 'Hosts, VMs and operations of a fleet. Every failure is answered with ApiError.'
    },
    paths: pathsOf(routes),
    components: {
      schemas: Object.fromEntries(
        [...named]
          .filter(([schema]) => schema === api.ApiError || used.includes(schema as TSchema))
          .map(([schema, name]) => [name, schema])
      ),
      securitySchemes: {
        apiKey: {
          type: 'http',
          scheme: 'bearer',
          description: 'An API key of tier read, manage or admin, or the token of a session.'
        },
        session: {
          type: 'apiKey',
          in: 'cookie',
          name: api.sessionCookie,
          description: `A session of a browser. All but GET also need the header "${api.requestHeader}: 1".`
        }
      }
    }
  }
}

function pathsOf(routes: readonly Route[]): Json {
  const paths: Record<string, Json> = {}
  for (const route of routes) {
    const path = paths[route.path] ?? {}
    path[route.method.toLowerCase()] = operationOf(route)
    paths[route.path] = path
  }
  return paths
}

function operationOf(route: Route): Json {
  const { tier, summary, status, body, reply } = route
  return {
    summary: tier === 'open' ? summary : `${summary} (${tier === 'own' ? 'any key' : `tier ${tier}`})`,
    operationId: operationId(route),
    security: tier === 'open' ? [] : [{ apiKey: [] }, { session: [] }],
    parameters: parametersOf(route),
    ...(body === undefined ? {} : { requestBody: { required: hasRequired(body), content: json(body) } }),
    responses: {
      [status]: { description: summary, content: json(reply) },
      default: { description: 'It failed; the code says what to do.', content: json(api.ApiError) }
    }
  }
}

function parametersOf(route: Route): Json[] {
  const { method, status, params } = route
  const repeatable = {
    name: 'Idempotency-Key',
    in: 'header',
    required: false,
    description: 'The same key and request answer with the same operation.',
    schema: { type: 'string', minLength: 1, maxLength: 128 }
  }
  return [
    ...fieldsOf(params).map(([name, schema]) => ({ name, in: 'path', required: true, schema })),
    ...fieldsOf(queryOf(route)).map(([name, schema]) => ({ name, in: 'query', required: false, schema })),
    ...(method !== 'GET' && status === 202 ? [repeatable] : [])
  ]
}

function fieldsOf(schema: TSchema | undefined): [string, unknown][] {
  return Object.entries((schema as { properties?: Json } | undefined)?.properties ?? {})
}

function hasRequired(schema: TSchema): boolean {
  return ((schema as { required?: unknown[] }).required ?? []).length > 0
}

function json(schema: TSchema): Json {
  const name = named.get(schema)
  return {
    'application/json': { schema: name === undefined ? schema : { $ref: `#/components/schemas/${name}` } }
  }
}

/** `GET /v1/hosts/{id}/metrics` becomes getHostsIdMetrics. */
function operationId({ method, path }: Route): string {
  const words = path.split(/[^a-zA-Z0-9]+/).filter((word) => word !== '' && word !== 'v1')
  return method.toLowerCase() + words.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join('')
}
