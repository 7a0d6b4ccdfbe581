// The same service on Node.js: fastify, undici, ioredis and pg, a process for each worker, the same two caches.
import cluster from 'node:cluster'
import { readFileSync } from 'node:fs'
import Fastify from 'fastify'
import Redis from 'ioredis'
import pg from 'pg'
import { Pool } from 'undici'

const { env } = process
const POSTS = 100
const TTL = 60
const HOT = 1000 // milliseconds in memory
const secret = name => readFileSync(`${env.CREDENTIALS_DIRECTORY}/${name}`, 'utf8').trim()
const QUERY = {
  name: 'items',
  text: 'SELECT id::int, name, description, price_cents, created_at, version FROM items WHERE id IN ($1, $2)'
}

async function serve () {
  const upstream = new Pool(env.UPSTREAM_URL, { connections: 1000, headersTimeout: 5000, bodyTimeout: 5000 })
  const redis = new Redis(env.NODE_CACHE_URL, { username: 'app', password: secret('cache_password') })
  const database = new pg.Pool({
    host: env.NODE_DATABASE_HOST,
    user: 'app',
    database: 'app',
    password: secret('database_password'),
    max: Number(env.DATABASE_POOL_SIZE)
  })
  const hot = new Map()

  async function post (id) {
    const answer = await upstream.request({ method: 'GET', path: `/posts/${(id - 1) % POSTS + 1}` })
    if (answer.statusCode >= 400) {
      await answer.body.dump()
      return { error: `External service returned status ${answer.statusCode}` }
    }
    return answer.body.json()
  }

  const app = Fastify({ logger: false, keepAliveTimeout: 75000 })
  app.get('/readyz', async () => ({ status: 'ok' }))
  app.get('/livez', async () => ({ status: 'ok' }))
  app.get('/items/:id', async (request, reply) => {
    const id = Number(request.params.id)
    const shared = request.query.source === undefined
    const key = `cache:fastify:${id}`
    reply.type('application/json')
    if (shared) {
      const kept = hot.get(id)
      if (kept && kept.until > performance.now()) return kept.body
      const cached = await redis.get(key)
      if (cached) {
        hot.set(id, { until: performance.now() + HOT, body: cached })
        return cached
      }
    }
    const [found, main, related] = await Promise.all([
      database.query({ ...QUERY, values: [id, id + 1] }), post(id), post(id + 1)
    ])
    const rows = new Map(found.rows.map(row => [row.id, row]))
    if (!rows.has(id)) return reply.code(404).send({ error: 'not found' })
    const second = rows.get(id + 1)
    const body = JSON.stringify({
      main_item: { ...rows.get(id), details: main },
      related_item: second ? { ...second, details: related } : null
    })
    if (shared) await redis.set(key, body, 'EX', TTL)
    return body
  })
  await app.listen({ host: env.BIND, port: Number(env.PORT), backlog: 4096 })
}

if (cluster.isPrimary) {
  for (let worker = 0; worker < Number(env.WORKERS); worker++) cluster.fork()
} else {
  await serve()
}
