// The API page: renders /openapi.json without help from elsewhere.
const $ = id => document.getElementById(id)

function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties)
  element.append(...children.filter(child => child !== null && child !== undefined))
  return element
}

// `code` in a text becomes code; everything else stays text.
function words(text) {
  return text.split('`').map((part, index) => (index % 2 ? make('code', { textContent: part }) : part))
}

const nameOf = reference => reference.split('/').pop()

// --- schemas

// A type as a person writes it; schemas with a name are links to it.
function typeOf(schema) {
  if (schema.$ref) return [make('a', { href: `#schema-${nameOf(schema.$ref)}`, textContent: nameOf(schema.$ref) })]
  if (schema.const !== undefined) return [JSON.stringify(schema.const)]
  if (schema.enum) return [schema.enum.map(value => JSON.stringify(value)).join(' | ')]
  const union = schema.anyOf || schema.oneOf
  if (union) return union.flatMap((one, index) => (index ? [' | ', ...typeOf(one)] : typeOf(one)))
  if (schema.type === 'array') return [...(schema.items ? typeOf(schema.items) : ['anything']), '[]']
  if (schema.type === 'object' && schema.additionalProperties?.constructor === Object)
    return ['object of ', ...typeOf(schema.additionalProperties)]
  return [schema.type || 'anything']
}

function limits(schema) {
  const found = []
  const say = (key, sign) => { if (schema[key] !== undefined) found.push(`${sign} ${schema[key]}`) }
  say('minimum', '≥'); say('exclusiveMinimum', '>'); say('maximum', '≤'); say('exclusiveMaximum', '<')
  say('minLength', 'length ≥'); say('maxLength', 'length ≤'); say('minItems', 'items ≥'); say('maxItems', 'items ≤')
  if (schema.pattern) found.push(schema.pattern)
  if (schema.default !== undefined && schema.default !== null) found.push(`default ${JSON.stringify(schema.default)}`)
  return found.join(', ')
}

function fields(schema) {
  const required = new Set(schema.required || [])
  const rows = Object.entries(schema.properties || {}).map(([name, one]) => make('tr', {},
    make('td', {}, make('code', { textContent: name }), required.has(name) ? ' ' : make('small', { textContent: ' may be left out' })),
    make('td', {}, make('code', {}, ...typeOf(one)), ' ', make('small', {}, limits(one)), one.description ? make('div', {}, ...words(one.description)) : null)))
  return rows.length ? make('table', {}, ...rows) : make('p', {}, make('code', {}, ...typeOf(schema)))
}

// An example that fits the schema, for routes that bring none.
function example(schema, all, depth = 0) {
  if (schema.$ref) return depth > 5 ? {} : example(all[nameOf(schema.$ref)] || {}, all, depth + 1)
  if (schema.const !== undefined) return schema.const
  if (schema.default !== undefined) return schema.default
  if (schema.enum) return schema.enum[0]
  const union = schema.anyOf || schema.oneOf
  if (union) return example(union[0], all, depth + 1)
  switch (schema.type) {
    case 'string': return 'text'
    case 'integer': case 'number': return schema.minimum ?? 0
    case 'boolean': return false
    case 'array': return schema.items ? [example(schema.items, all, depth + 1)] : []
    case 'object': return Object.fromEntries(Object.entries(schema.properties || {}).map(([name, one]) => [name, example(one, all, depth + 1)]))
    default: return null
  }
}

const json = value => make('pre', { textContent: JSON.stringify(value, null, 2) })

// --- routes

function content(title, given, all, isExampleWanted) {
  return Object.entries(given || {}).flatMap(([media, { schema, example: shown }]) => [
    make('h3', { textContent: title }),
    make('p', {}, make('code', { textContent: media }), media === 'application/json' ? ' ' : '', ...(media === 'application/json' ? typeOf(schema) : [])),
    media === 'application/json' && isExampleWanted ? json(shown ?? example(schema, all)) : null,
  ])
}

function route(method, path, operation, all) {
  const id = `route-${operation.operationId}`
  const good = Object.entries(operation.responses).filter(([status]) => status < 400)
  const bad = Object.entries(operation.responses).filter(([status]) => !(status < 400))
  const parameters = operation.parameters || []
  return make('details', { id },
    make('summary', {}, make('span', { className: `method ${method}`, textContent: method.toUpperCase() }), make('code', { textContent: path }), make('span', {}, ...words(operation.summary))),
    operation.description ? make('p', {}, ...words(operation.description)) : null,
    parameters.length ? make('h3', { textContent: 'Parameters' }) : null,
    parameters.length ? make('table', {}, ...parameters.map(one => make('tr', {}, make('td', {}, make('code', { textContent: one.name })), make('td', {}, `in the ${one.in}, `, ...typeOf(one.schema), one.description ? make('div', {}, ...words(one.description)) : null)))) : null,
    ...content('Body', operation.requestBody?.content, all, true),
    ...good.flatMap(([status, one]) => one.content ? content(`Answer ${status}`, one.content, all, true) : [make('h3', { textContent: `Answer ${status}` })]),
    make('h3', { textContent: 'Errors' }),
    make('table', {}, ...bad.map(([status, one]) => make('tr', {}, make('td', { textContent: status }), make('td', {}, ...words(one.description))))),
    operation.security ? make('p', {}, make('small', { textContent: 'No token needed.' })) : null)
}

function show(api) {
  const all = api.components.schemas
  $('version').textContent = api.info.version
  $('about').textContent = api.info.description
  const routes = Object.entries(api.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => ({ path, method, operation })))
  for (const { name, description } of api.tags) {
    const ours = routes.filter(one => one.operation.tags.includes(name) && !one.path.startsWith('/live/'))
    $('api').append(make('section', {}, make('h2', { textContent: name }), make('p', { textContent: description }), ...ours.map(one => route(one.method, one.path, one.operation, all))))
    $('contents').append(make('b', { textContent: name }), ...ours.map(one => make('a', { href: `#route-${one.operation.operationId}`, textContent: `${one.method.toUpperCase()} ${one.path}` })))
  }
  const schemas = Object.entries(all).sort(([a], [b]) => a.localeCompare(b))
  $('api').append(make('section', {}, make('h2', { textContent: 'Schemas' }), make('p', {}, 'The control protocol is ', ...typeOf({ $ref: 'x/Notice' }), ', ', ...typeOf({ $ref: 'x/Reply' }), ' and the bodies of the control route; as JSON Schema also at ', make('code', { textContent: '/api/v1/protocol' }), '.'),
    ...schemas.map(([name, schema]) => make('details', { id: `schema-${name}` }, make('summary', {}, make('code', { textContent: name })), schema.description ? make('p', {}, ...words(schema.description)) : null, fields(schema)))))
  $('contents').append(make('b', { textContent: 'Schemas' }), ...schemas.map(([name]) => make('a', { href: `#schema-${name}`, textContent: name })))
  addEventListener('hashchange', unfold)
  unfold()
  document.body.dataset.shown = routes.length
}

function unfold() {
  const wanted = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)))
  if (!wanted) return
  wanted.open = true
  wanted.scrollIntoView()
}

$('find').oninput = () => {
  const wanted = $('find').value.trim().toLowerCase()
  for (const one of document.querySelectorAll('details')) one.hidden = !one.querySelector('summary').textContent.toLowerCase().includes(wanted)
  for (const one of document.querySelectorAll('nav a')) one.hidden = !one.textContent.toLowerCase().includes(wanted)
}

const response = await fetch('/openapi.json')
show(await response.json())
