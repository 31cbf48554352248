// The reference of the HTTP API: the OpenAPI document, which is made of what the server checks by, as a page for people.

import type { TSchema } from 'typebox'
import { createOpenApi } from '../../src/scheduler/http/openapi.ts'
import { routes } from '../../src/scheduler/http/routes.ts'
import { cell, sections, table } from './markdown.ts'
import { bounds, fields, type SchemaFacts, typeOf } from './schema-table.ts'

interface Parameter {
  readonly name: string
  readonly in: string
  readonly required: boolean
  readonly description?: string
  readonly schema: SchemaFacts
}
interface Content {
  readonly 'application/json': { readonly schema: TSchema & { readonly $ref?: string } }
}
interface Described {
  readonly summary: string
  readonly parameters: readonly Parameter[]
  readonly requestBody?: { readonly content: Content }
  readonly responses: Readonly<Record<string, { readonly content: Content }>>
}

export function apiPage(): string {
  const { paths, components } = createOpenApi(routes, '') as unknown as {
    readonly paths: Readonly<Record<string, Readonly<Record<string, Described>>>>
    readonly components: { readonly schemas: Readonly<Record<string, TSchema>> }
  }
  const parts = Object.entries(paths).map(([path, methods]) => ({
    group: path.split('/').find((part) => !/^(v\d+)?$/.test(part)) ?? '',
    texts: Object.entries(methods).map(([method, route]) => routePart(method.toUpperCase(), path, route))
  }))
  return sections(
    '# HTTP API of the scheduler',
    'Made from the declarations of the routes by `node scripts/generate-reference.ts`; `GET /openapi.json` of a running scheduler is the same as OpenAPI 3.1. How calls are authenticated, repeated and limited, and what the codes of errors mean, is in [protocol.md](../protocol.md). Every call that fails answers with [ApiError](#apierror).',
    ...[...Map.groupBy(parts, ({ group }) => group)].flatMap(([group, members]) => [
      `## ${group}`,
      ...members.flatMap(({ texts }) => texts)
    ]),
    '## Schemas',
    ...Object.entries(components.schemas).flatMap(([name, schema]) => [`### ${name}`, fields(schema)])
  )
}

function routePart(method: string, path: string, route: Described): string {
  const { summary, parameters, requestBody, responses } = route
  const [status = '', answer] = Object.entries(responses)[0] ?? []
  const rows = parameters.map(({ name, in: place, required, description, schema }) => [
    `\`${name}\`${required ? '' : ' (optional)'}`,
    place,
    typeOf(schema),
    [bounds(schema), cell(description ?? '')].filter((text) => text !== '').join('; ')
  ])
  return sections(
    `### \`${method} ${path}\``,
    `${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`,
    rows.length === 0 ? '' : table(['parameter', 'in', 'type', 'bounds'], rows),
    ...(requestBody === undefined ? [] : contentPart('Body', requestBody.content)),
    ...(answer === undefined ? [] : contentPart(`Answer ${status}`, answer.content))
  ).trim()
}

function contentPart(label: string, content: Content): string[] {
  const { schema } = content['application/json']
  const name = schema.$ref?.split('/').at(-1)
  if (name !== undefined) return [`${label}: [${name}](#${name.toLowerCase()})`]
  const rows = fields(schema)
  return rows === 'None.' ? [`${label}: any JSON object`] : [`${label}:`, rows]
}
