// ComfyStream in ComfyUI's editor: the button Go live, the panel, and every edit on its way to the stream while it is made.
// The server that it starts is asked through ComfyUI's own address; pictures and edits then go by WebRTC.
import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'

const LIVE_ICON = 'pi pi-video', TAB = 'comfystream', BUTTON = 'comfystream-go-live'
// After the last change, and at most after the first: a value goes nearly at once, a graph when its events are over.
const VALUE_MS = 4, GRAPH_MS = 40, MOST_WAIT_MS = 100
const MOST_CHANNEL_BYTES = 60000  // of one message; larger ones go by HTTP
const PICTURE_EVERY_MS = 2000
const link = document.createElement('link')
link.rel = 'stylesheet'; link.href = new URL('./comfystream.css', import.meta.url).href
document.head.append(link)

const live = {
  state: 'off', pc: null, channel: null, session: null, source: null, picture: null, stats: null, revision: 0,
  server: { state: 'unknown' }, settings: null, sent: null, flushes: 0,
}
window.comfystream = live

const graph = () => app.rootGraph ?? app.graph
const isGraphReady = () => Boolean(app.isGraphReady ?? app.vueAppReady ?? true)

function make(tag, properties = {}, ...children) {
  const { data, ...rest } = properties
  const element = Object.assign(document.createElement(tag), rest)
  Object.assign(element.dataset, data)
  element.append(...children)
  return element
}

// --- our routes in ComfyUI

let token = null

async function call(path, body, method = body === undefined ? 'GET' : 'POST') {
  token ??= (await read(await api.fetchApi('/comfystream/extension_info'))).token
  const options = { method, headers: { 'X-ComfyStream-Token': token } }
  if (body instanceof Blob) options.body = body
  else if (body !== undefined) { options.body = JSON.stringify(body); options.headers['Content-Type'] = 'application/json' }
  const response = await api.fetchApi(`/comfystream/${path}`, options)
  if (response.status === 401) token = null  // ComfyUI was started again
  return read(response)
}

async function read(response) {
  const body = await response.json().catch(() => null)
  if (response.ok) return body
  const said = body?.error?.message ? body.error : { message: body?.error || `${response.status} ${response.statusText}` }
  throw Object.assign(new Error(said.message), said, { status: response.status, body })
}

function toast(severity, summary, detail = '') {
  const life = severity === 'error' ? 8000 : 4000
  app.extensionManager?.toast?.add({ severity, summary, detail, life })
}

// --- errors on nodes: ComfyUI's own red frame

const marked = new Map()

function nodeOf(id) {
  let found = null, place = graph()
  for (const part of String(id).split(':')) {
    found = place?.getNodeById?.(Number(part)) ?? place?.getNodeById?.(part)
    place = found?.subgraph
  }
  return found
}

function mark(id, input) {
  const node = nodeOf(id)
  if (!node) return
  node.has_errors = true
  const slot = input && node.inputs?.find(one => one.name === input)
  if (slot) slot.hasErrors = true
  marked.set(String(id), node)
  app.canvas?.setDirty(true, true)
}

function unmark() {
  for (const node of marked.values()) {
    node.has_errors = false
    for (const slot of node.inputs || []) slot.hasErrors = false
  }
  if (marked.size) app.canvas?.setDirty(true, true)
  marked.clear()
}

let lastSaid = ''
function complain(title, error) {
  const id = error.node ?? error.node_id
  if (id != null) mark(id, error.input)
  const node = id != null && nodeOf(id)
  const words = [error.message, error.hint].filter(Boolean).join('. ')
  panel.trouble(title, words)
  const said = `${title}\n${words}`
  if (said !== lastSaid) toast('error', node ? `${title}: ${node.title || node.type}` : title, words)
  lastSaid = said
}

function fine() {
  unmark()
  lastSaid = ''
  panel.trouble('')
}

// --- the control protocol, over the data channel

const waiting = new Map()
let nextId = 1

async function ask(message) {
  if (live.channel?.readyState !== 'open') throw new Error('not connected')
  const id = nextId++, text = JSON.stringify({ v: 1, id, ...message })
  if (text.length > MOST_CHANNEL_BYTES / 3 && new Blob([text]).size > MOST_CHANNEL_BYTES) return askByHttp(text)
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject })
    live.channel.send(text)
  })
}

async function askByHttp(text) {
  try {
    return await call(`sessions/${encodeURIComponent(live.session)}/control`, JSON.parse(text))
  } catch (error) {
    throw Object.assign(error, error.body?.error)
  }
}

function heard(message) {
  if (message.type === 'reply') {
    const { resolve, reject } = waiting.get(message.id) || {}
    waiting.delete(message.id)
    live.revision = message.revision
    if (message.ok) resolve?.(message)
    else reject?.(Object.assign(new Error(message.error.message), message.error))
    return
  }
  const data = message.data
  switch (message.event) {
    case 'stats': live.stats = data; panel.figures(data); break
    case 'node_failed': complain('A node failed', data); break
    case 'engine_restarted': toast('warn', 'The engine was started again', data.reason); break
    case 'rolled_back': toast('warn', 'The workflow before runs on', data.reason); break
    case 'shutdown': toast('warn', 'The server is ending'); break
    case 'progress': panel.say(`${data.phase} ${data.done}/${data.total}`); break
    case 'activated': case 'revision': live.revision = message.revision || live.revision; panel.say(''); break
    case 'state': panel.say(data.state === 'running' ? '' : [data.state, data.reason].filter(Boolean).join(': ')); break
  }
}

// --- edits

const isLink = value => Array.isArray(value) && value.length === 2 && typeof value[1] === 'number'
const bare = prompt => Object.fromEntries(Object.entries(prompt).map(([id, { class_type, inputs }]) => [id, { class_type, inputs }]))
const shapeOf = prompt => JSON.stringify(Object.entries(prompt).map(([id, node]) =>
  [id, node.class_type, Object.entries(node.inputs).map(([name, value]) => [name, isLink(value) ? value : null])]))

function patchesBetween(before, after) {
  const patches = []
  for (const [node, { inputs }] of Object.entries(after)) {
    for (const [input, value] of Object.entries(inputs)) {
      if (JSON.stringify(value) !== JSON.stringify(before[node].inputs[input])) patches.push({ node, input, value })
    }
  }
  return patches
}

let timer = null, quiet = 0, dirtySince = 0, flushing = false, again = false

function dirty(waits = GRAPH_MS) {
  if (live.state !== 'live') return
  const now = performance.now()
  if (timer === null) { dirtySince = now; quiet = 0 }
  quiet = Math.max(quiet, waits)
  clearTimeout(timer)
  timer = setTimeout(flush, Math.max(0, Math.min(quiet, dirtySince + MOST_WAIT_MS - now)))
}

async function flush() {
  timer = null
  if (flushing) { again = true; return }
  if (live.state !== 'live' || !isGraphReady()) return
  flushing = true
  try {
    await send(bare((await app.graphToPrompt()).output))
  } catch (error) {
    complain('The edit was not taken', error)
  }
  flushing = false
  if (again) { again = false; dirty(VALUE_MS) }
}

async function send(prompt) {
  const before = live.sent
  const patches = before && shapeOf(before) === shapeOf(prompt) ? patchesBetween(before, prompt) : null
  if (patches?.length === 0) { if (marked.size && live.refused) { live.refused = false; fine() } return }
  try {
    await ask(patches ? { type: 'patch', patches } : { type: 'set_workflow', workflow: prompt })
    live.sent = prompt
    live.flushes += 1
    live.refused = false
    fine()
  } catch (error) {
    live.refused = true
    if (patches && error.node == null) live.sent = null  // somebody else changed the workflow: the next goes as a whole
    if (patches?.length === 1 && error.node == null) error.node = patches[0].node
    if (patches) error.input = patches.find(one => one.node === String(error.node))?.input
    throw error
  }
}

// What tells of a change. No single source is enough: bypass shows only in graphChanged, a drag only in the callbacks.
const hooked = new WeakSet()
const wrapped = Symbol('comfystream')

function hookNode(node) {
  for (const widget of node.widgets || []) {
    if (widget.callback?.[wrapped]) continue
    const before = widget.callback
    widget.callback = function (...values) { const answer = before?.apply(this, values); dirty(VALUE_MS); return answer }
    widget.callback[wrapped] = true
  }
  if (hooked.has(node)) return
  hooked.add(node)
  const before = node.onConnectionsChange
  node.onConnectionsChange = function (...values) { const answer = before?.apply(this, values); dirty(); return answer }
}

function hookGraph() {
  const root = graph()
  if (!root || hooked.has(root)) return
  hooked.add(root)
  for (const name of ['onNodeAdded', 'onNodeRemoved']) {
    const before = root[name]
    root[name] = function (...values) { const answer = before?.apply(this, values); dirty(); return answer }
  }
}

// --- going live

async function startServer(action = 'start') {
  showServer({ ...live.server, state: action === 'stop' ? 'stopping' : 'starting' })
  try {
    showServer((await call('control', { action })).status)
  } catch (error) {
    showServer(error.body?.status || { state: 'failed', reason: error.message })
    throw error
  }
}

async function goLive() {
  if (live.state !== 'off') return stopLive()
  change('connecting')
  fine()
  try {
    await startServer()
    live.source = await openSource(panel.source())
    await connect()
  } catch (error) {
    stopLive()
    complain('Going live did not work', Object.assign(error, { hint: error.hint || hintFor(error) }))
  }
}

function hintFor(error) {
  if (error.name === 'NotAllowedError') return 'Allow the camera for this page, or choose the pattern'
  if (error.name === 'NotFoundError') return 'There is no camera; choose the pattern'
  return ''
}

async function openSource(kind) {
  if (kind === 'pattern') return pattern()
  if (!navigator.mediaDevices) throw new Error('the browser gives the camera only to pages from localhost or https; choose the pattern')
  const id = kind.startsWith('camera:') ? kind.slice(7) : ''
  const video = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 }, ...(id && { deviceId: { exact: id } }) }
  const stream = kind === 'screen' ? await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { ideal: 30 } } })
    : await navigator.mediaDevices.getUserMedia({ video })
  const [track] = stream.getVideoTracks()
  track.addEventListener('ended', () => { if (live.source?.stream === stream) { stopLive(); toast('warn', 'The camera or screen has ended') } })
  panel.listCameras()
  return { stream, stop: () => stream.getTracks().forEach(one => one.stop()) }
}

function pattern() {
  const canvas = make('canvas', { width: 640, height: 480 }), paint = canvas.getContext('2d')
  let number = 0
  const draw = () => {
    ['#888', '#b8a23a', '#3aa2b8', '#3ab85c', '#a23ab8', '#b83a3a', '#3a4cb8'].forEach((colour, i) => {
      paint.fillStyle = colour
      paint.fillRect(i * 92, 0, 92, 480)
    })
    paint.fillStyle = '#fff'
    paint.fillRect((number * 6) % 640, 200, 60, 80)
    paint.fillStyle = '#000'
    paint.font = '30px monospace'
    paint.fillText(String(number++), 24, 450)
  }
  draw()
  const clock = setInterval(draw, 1000 / 30), stream = canvas.captureStream(30)
  return { stream, stop: () => { clearInterval(clock); stream.getTracks().forEach(one => one.stop()) } }
}

async function connect() {
  const { ice_servers: iceServers } = await call('config')
  const pc = live.pc = new RTCPeerConnection({ iceServers })
  live.channel = pc.createDataChannel('comfystream')
  live.channel.onmessage = event => heard(JSON.parse(event.data))
  const opened = new Promise((resolve, reject) => {
    live.channel.onopen = resolve
    setTimeout(() => reject(new Error('no connection came about; a firewall may be in between, then set a TURN server')), 20000)
  })
  opened.catch(() => {})
  for (const track of live.source.stream.getTracks()) pc.addTrack(track, live.source.stream)
  pc.ontrack = event => {
    live.picture = event.streams[0] || new MediaStream([event.track])
    showPicture()
  }
  pc.onconnectionstatechange = () => {
    if (pc === live.pc && ['failed', 'closed'].includes(pc.connectionState)) { stopLive(); complain('The connection was lost', new Error('press Go live to connect again')) }
  }
  await pc.setLocalDescription(await pc.createOffer())
  await gathered(pc)
  const { sdp, type } = pc.localDescription
  const answer = await call('offer', { prompts: null, offer: { sdp, type } })
  live.session = answer.session
  await pc.setRemoteDescription({ sdp: answer.sdp, type: answer.type })
  await opened
  live.sent = null
  change('live')
  panel.say('loading the workflow')
  await flush()
}

const gathered = pc => new Promise(done => {
  if (pc.iceGatheringState === 'complete') return done()
  pc.addEventListener('icegatheringstatechange', () => pc.iceGatheringState === 'complete' && done())
  setTimeout(done, 3000)
})

function stopLive() {
  const { pc, source } = live
  Object.assign(live, { pc: null, channel: null, session: null, source: null, picture: null, stats: null, sent: null, refused: false })
  pc?.close()
  source?.stop()
  for (const { reject } of waiting.values()) reject(new Error('not connected'))
  waiting.clear()
  unmark()
  panel.say('')
  panel.figures(null)
  showPicture()
  change('off')
}

function change(state) {
  live.state = state
  const words = { off: 'Go live', connecting: 'Connecting', live: 'Stop live' }[state]
  for (const button of document.querySelectorAll(`.${BUTTON}`)) {
    button.classList.toggle('live', state === 'live')
    button.querySelector('.words').textContent = words
    button.title = state === 'off' ? 'Run this workflow on the camera' : 'End the stream'
  }
  panel.state(state, words)
}

// The newest picture of the camera, for LoadTensor where the graph is run by ComfyUI.
const still = { canvas: document.createElement('canvas'), video: make('video', { muted: true, playsInline: true, autoplay: true }) }
setInterval(() => {
  if (live.state !== 'live' || document.hidden) return
  if (still.video.srcObject !== live.source.stream) { still.video.srcObject = live.source.stream; still.video.play().catch(() => {}) }
  const { videoWidth: width, videoHeight: height } = still.video
  if (!width) return
  Object.assign(still.canvas, { width, height })
  still.canvas.getContext('2d').drawImage(still.video, 0, 0)
  still.canvas.toBlob(blob => { if (blob) call('last_picture', blob).catch(() => {}) }, 'image/jpeg', 0.85)
}, PICTURE_EVERY_MS)

// --- where the picture is shown: the panel, and preview nodes

const screens = new Set()

function screen() {
  const video = make('video', { autoplay: true, muted: true, playsInline: true, className: 'comfystream-picture' })
  screens.add(new WeakRef(video))
  video.srcObject = live.picture
  return video
}

function showPicture() {
  for (const reference of screens) {
    const video = reference.deref()
    if (!video) screens.delete(reference)
    else video.srcObject = live.picture
  }
}

function previewNode(node) {
  const box = make('div', { className: 'comfystream-preview' }, screen(),
    make('span', { className: 'hint', textContent: 'The live picture is shown here after Go live' }))
  node.addDOMWidget?.('live', 'comfystream_live', box, { serialize: false, hideOnZoom: false })
  node.setSize?.([Math.max(node.size[0], 360), Math.max(node.size[1], 320)])
}

// What LoadTensor and SaveTensor say when ComfyUI runs them without a stream.
function noteOf(node) {
  const before = node.onExecuted
  node.onExecuted = function (output) {
    const answer = before?.apply(this, arguments)
    const note = output?.comfystream_note?.[0]
    if (note) {
      let widget = this.widgets?.find(one => one.name === 'note')
      if (!widget) widget = this.addWidget('text', 'note', '', () => {}, { serialize: false })
      Object.assign(widget, { serialize: false, disabled: true, value: note })
      app.canvas?.setDirty(true, true)
    }
    return answer
  }
}

// --- the status light, as an element of its own

class StatusIndicator extends HTMLElement {
  static observedAttributes = ['show-label', 'running-label', 'stopped-label', 'starting-label', 'stopping-label', 'failed-label']
  connectedCallback() { lights.add(this); this.show() }
  disconnectedCallback() { lights.delete(this) }
  attributeChangedCallback() { this.show() }
  show() {
    const { state, host, port, reason } = live.server
    const label = this.getAttribute(`${state}-label`) || { running: 'Running', stopped: 'Stopped', starting: 'Starting', stopping: 'Stopping', failed: 'Failed' }[state] || ''
    this.className = state
    this.title = `ComfyStream server: ${label.toLowerCase() || state}${port ? `, ${host}:${port}` : ''}${reason ? `. ${reason}` : ''}`
    this.replaceChildren(make('i'), ...(this.hasAttribute('show-label') ? [make('span', { textContent: label })] : []))
    this.setAttribute('role', 'status')
  }
}
const lights = new Set()
if (!customElements.get('comfystream-status-indicator')) customElements.define('comfystream-status-indicator', StatusIndicator)

function showServer(status) {
  const before = live.server.state
  live.server = status
  for (const light of lights) light.show()
  panel.server(status)
  if (before !== status.state) document.dispatchEvent(new CustomEvent('status-changed', { detail: status }))
  if (status.state === 'failed' && before !== 'failed') {
    if (live.state === 'live') stopLive()
    if (before === 'running') complain('The server has ended', new Error(status.reason))
  }
}

async function lookAtServer() {
  try {
    showServer((await call('control', { action: 'status' })).status)
  } catch (error) {
    showServer({ state: 'unknown', reason: error.message })
  }
}

// --- the panel

const panel = buildPanel()

function buildPanel() {
  const element = make('div', { className: 'comfystream-panel' })
  const part = {}
  const button = (name, words, click) => (part[name] = make('button', { type: 'button', textContent: words, onclick: click, data: { name } }))
  const told = work => work.catch(error => complain('That did not work', error))
  part.source = make('select', { ariaLabel: 'Camera' }, new Option('Camera', 'camera'), new Option('Screen', 'screen'), new Option('Test pattern', 'pattern'))
  part.source.onchange = () => {
    told(call('settings', { source: part.source.value.split(':')[0] }))
    if (live.state === 'live') told(otherSource())
  }
  part.figures = make('p', { className: 'figures', textContent: '\u00a0' })
  part.say = make('p', { className: 'say' })
  part.trouble = make('div', { className: 'trouble', role: 'alert', hidden: true })
  part.light = make('comfystream-status-indicator')
  part.light.setAttribute('show-label', '')
  part.log = make('pre', { className: 'log' })
  part.logs = make('details', {}, make('summary', { textContent: 'Log of the server' }), part.log)
  part.logs.ontoggle = () => { if (part.logs.open) told(showLog()) }
  part.form = buildSettings(told)
  part.settings = make('details', { data: { name: 'settings' } }, make('summary', { textContent: 'Server settings' }), part.form.element)
  element.append(
    make('div', { className: 'row' }, part.source, button('live', 'Go live', goLive)),
    screen(), part.figures, part.say, part.trouble,
    make('div', { className: 'row' }, part.light, button('start', 'Start', () => told(startServer('start'))),
      button('stop', 'Stop', () => { stopLive(); told(startServer('stop')) }),
      button('restart', 'Restart', () => { stopLive(); told(startServer('restart')) })),
    part.settings, part.logs)

  async function showLog() {
    part.log.textContent = (await call('log')).lines.join('\n') || 'nothing yet'
    part.log.scrollTop = part.log.scrollHeight
  }
  setInterval(() => { if (part.logs.open && element.isConnected) showLog().catch(() => {}) }, 2000)

  return {
    element,
    source: () => part.source.value,
    async listCameras() {
      const devices = await navigator.mediaDevices?.enumerateDevices() ?? []
      const cameras = devices.filter(one => one.kind === 'videoinput' && one.deviceId)
      const chosen = part.source.value
      for (const option of [...part.source.options]) if (option.value.startsWith('camera:')) option.remove()
      cameras.forEach((one, i) => part.source.add(new Option(one.label || `Camera ${i + 1}`, `camera:${one.deviceId}`)))
      part.source.value = [...part.source.options].some(one => one.value === chosen) ? chosen : 'camera'
    },
    settings(values) { part.source.value = values.source; part.form.show(values) },
    openSettings() { part.settings.open = true },
    state(state, words) { part.live.textContent = words; part.live.classList.toggle('live', state === 'live') },
    say(words) { part.say.textContent = words },
    trouble(title, words = '') {
      part.trouble.hidden = !title
      part.trouble.replaceChildren(make('b', { textContent: title }), ' ', words)
    },
    figures(data) {
      if (!data) { part.figures.textContent = '\u00a0'; return }
      const whole = data.stages?.total?.p50 ?? data.latency_ms
      part.figures.textContent = `in ${data.fps_in.toFixed(0)} fps · out ${data.fps_out.toFixed(0)} fps · ${whole.toFixed(0)} ms`
    },
    server(status) {
      part.start.disabled = ['running', 'starting'].includes(status.state)
      part.stop.disabled = !['running', 'starting'].includes(status.state)
      part.restart.disabled = ['starting', 'stopping'].includes(status.state)
      if (status.settings_trouble) part.say.textContent = status.settings_trouble
      if (status.state === 'failed') {
        this.trouble('The server has ended', status.reason)
        part.log.textContent = (status.lines || []).join('\n')
        part.logs.open = true
      }
    },
  }
}

function buildSettings(told) {
  const fields = {
    host: ['Host', 'text'], port: ['Port', 'number'], size: ['Size', 'text'], size_mode: ['Sizing', ['follow', 'fit', 'fill']],
    turn_url: ['TURN server', 'text'], turn_username: ['TURN user', 'text'], turn_credential: ['TURN password', 'password'], token: ['Token', 'password'],
  }
  const element = make('form', { className: 'settings', autocomplete: 'off' })
  const inputs = {}
  for (const [name, [label, kind]] of Object.entries(fields)) {
    const input = inputs[name] = Array.isArray(kind) ? make('select', { name }, ...kind.map(one => new Option(one, one)))
      : make('input', { name, type: kind, autocomplete: 'off', placeholder: name === 'token' ? 'made up at each start' : '' })
    if (kind === 'number') Object.assign(input, { min: 1024, max: 65535 })
    element.append(make('label', {}, label, input))
  }
  const kept = make('select', { ariaLabel: 'Saved configurations' }), name = make('input', { placeholder: 'Name', ariaLabel: 'Name of the configuration' })
  const configuration = body => told(call('settings/configuration', body).then(answer => show(answer.settings)))
  kept.onchange = () => configuration({ action: 'select', index: Number(kept.value) })
  const add = make('button', { type: 'button', textContent: 'Keep', onclick: () => configuration({ action: 'add', name: name.value, host: inputs.host.value, port: Number(inputs.port.value) }) })
  const remove = make('button', { type: 'button', textContent: 'Delete', onclick: () => configuration({ action: 'remove', index: Number(kept.value) }) })
  element.append(make('div', { className: 'row' }, kept, remove), make('div', { className: 'row' }, name, add), make('button', { textContent: 'Save' }))
  element.onsubmit = event => {
    event.preventDefault()
    const values = Object.fromEntries(Object.entries(inputs).map(([key, input]) => [key, key === 'port' ? Number(input.value) : input.value]))
    told(call('settings', values).then(answer => { show(answer.settings); toast('success', 'Saved', 'Restart the server to use it') }))
  }
  function show(values) {
    live.settings = values
    window.comfyStreamSettings = values
    for (const [key, input] of Object.entries(inputs)) input.value = values[key]
    kept.replaceChildren(new Option('Custom (unsaved)', '-1'), ...values.configurations.map((one, i) => new Option(`${one.name} (${one.host}:${one.port})`, i)))
    kept.value = String(values.selectedConfigIndex)
  }
  return { element, show }
}

async function otherSource() {
  const source = await openSource(panel.source())
  const [track] = source.stream.getVideoTracks()
  await live.pc.getSenders().find(one => one.track?.kind === 'video').replaceTrack(track)
  const before = live.source
  live.source = source
  before.stop()
}

// --- into the editor

function placeButton() {
  if (document.querySelector(`.${BUTTON}`)) return true
  const place = app.menu?.settingsGroup?.element ?? document.querySelector('.comfyui-menu, [data-testid="action-bar-buttons"], .actionbar-container')
  if (!place?.isConnected) return false
  place.before(make('button', { type: 'button', className: BUTTON, onclick: goLive, title: 'Run this workflow on the camera' },
    make('comfystream-status-indicator'), make('span', { className: 'words', textContent: 'Go live' })))
  return true
}

const openPanel = () => app.extensionManager?.sidebarTab?.toggleSidebarTab?.(TAB)
const command = (id, label, icon, work) => ({ id: `ComfyStream.${id}`, label, icon, function: work })
const tried = work => () => work().catch(error => complain('That did not work', error))

app.registerExtension({
  name: 'ComfyStream.Menu',
  commands: [
    command('GoLive', 'Go live', LIVE_ICON, goLive),
    command('OpenUI', 'Open ComfyStream', 'pi pi-external-link', tried(async () => {
      await startServer()
      window.open(live.server.ui_url, '_blank', 'noopener')
    })),
    command('StartServer', 'Start Server', 'pi pi-play', tried(() => startServer('start'))),
    command('StopServer', 'Stop Server', 'pi pi-stop', tried(() => { stopLive(); return startServer('stop') })),
    command('RestartServer', 'Restart Server', 'pi pi-refresh', tried(() => { stopLive(); return startServer('restart') })),
    command('Settings', 'Server Settings', 'pi pi-cog', () => { openPanel(); panel.openSettings() }),
  ],
  menuCommands: [{ path: ['ComfyStream'], commands: ['GoLive', 'OpenUI', 'StartServer', 'StopServer', 'RestartServer', 'Settings'].map(id => `ComfyStream.${id}`) }],
  nodeCreated(node) {
    hookNode(node)
    if (node.comfyClass === 'ComfyStreamUIPreview') previewNode(node)
    if (['LoadTensor', 'SaveTensor'].includes(node.comfyClass)) noteOf(node)
    setTimeout(() => hookNode(node))  // widgets that other extensions add
  },
  loadedGraphNode(node) { hookNode(node); dirty() },
  afterConfigureGraph() { hookGraph(); dirty() },
  async setup() {
    app.extensionManager?.registerSidebarTab({
      id: TAB, icon: LIVE_ICON, title: 'Live', tooltip: 'ComfyStream: live video through this workflow', type: 'custom',
      render: place => { place.replaceChildren(panel.element); panel.listCameras() },
      destroy: () => panel.element.remove(),
    })
    hookGraph()
    api.addEventListener('graphChanged', () => { hookGraph(); for (const node of graph()?.nodes || []) hookNode(node); dirty() })
    api.addEventListener('comfystream.status', lookAtServer)
    const keep = () => { placeButton(); setTimeout(keep, 1000) }  // the menu is drawn anew when its settings change
    keep()
    addEventListener('pagehide', () => live.pc?.close())
    setInterval(() => { if (!document.hidden) lookAtServer() }, 5000)
    await lookAtServer()
    await call('settings').then(panel.settings, () => {})
    live.ready = true
  },
})
