// ComfyStream in ComfyUI's editor: the button Go live, the panel, and every edit on its way to the stream while it is made.
// The server that it starts is asked through ComfyUI's own address; pictures and edits then go by WebRTC.
import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'

const LIVE_ICON = 'pi pi-video', TAB = 'comfystream', BUTTON = 'comfystream-go-live'
// After the last change, and at most after the first: a value goes nearly at once, a graph when its events are over.
const VALUE_MS = 4, GRAPH_MS = 40, MOST_WAIT_MS = 100
const MOST_CHANNEL_BYTES = 60000  // of one message; larger ones go by HTTP
const PICTURE_EVERY_MS = 2000
const REST_MS = 150  // without an edit of ours, before it is looked at what others have changed
const TRIES_MS = [0, 1000, 2000, 4000, 8000, 15000], LOST_MS = 3000, SETTLE_MS = 60000
const link = document.createElement('link')
link.rel = 'stylesheet'; link.href = new URL('./comfystream.css', import.meta.url).href
document.head.append(link)

const live = {
  state: 'off', pc: null, channel: null, session: null, source: null, picture: null, stats: null, revision: 0,
  server: { state: 'unknown' }, settings: null, flushes: 0,
  // What the editor has sent, as it serialises it; what is in force, as the server describes it, at revision `seen`; the newest
  // revision that we have heard of; another workflow in force that somebody else has set, until it is decided about.
  sent: null, inForce: null, seen: 0, newest: 0, foreign: null,
}
window.comfystream = live

const graph = () => app.rootGraph ?? app.graph
const wait = ms => new Promise(done => setTimeout(done, ms))
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
    case 'rolled_back':
      Object.assign(live, { sent: null, inForce: null, seen: message.revision, newest: message.revision })
      toast('warn', 'The workflow before runs on', data.reason)
      break
    case 'shutdown': toast('warn', 'The server is ending'); break
    case 'progress': panel.say(`${data.phase} ${data.done}/${data.total}`); break
    case 'revision':
      live.newest = message.revision
      live.by = data.who
      if (live.newest !== live.seen) syncSoon()
      // falls through
    case 'activated': live.revision = message.revision || live.revision; panel.say(''); break
    case 'prepare_failed': panel.say(''); break
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

let timer = null, quiet = 0, dirtySince = 0, sending = false, again = false, muted = 0
const held = new Map()  // values that wait for the reply to those before

const isTaken = () => live.state === 'live' && !live.foreign && !muted

function dirty(waits = GRAPH_MS) {
  if (!isTaken()) return
  const now = performance.now()
  if (timer === null) { dirtySince = now; quiet = 0 }
  quiet = Math.max(quiet, waits)
  clearTimeout(timer)
  timer = setTimeout(flush, Math.max(0, Math.min(quiet, dirtySince + MOST_WAIT_MS - now)))
}

// A widget was changed. Its value leaves at once, without the graph being looked at; that follows, for what else changed.
function touched(node, widget) {
  if (!isTaken()) return
  const patch = patchOf(node, widget)
  if (!patch) return dirty(VALUE_MS)
  held.set(`${patch.node} ${patch.input}`, patch)
  if (!sending) exclusively(sendHeld)
  dirty()
}

function patchOf(node, widget) {
  const before = live.sent?.[node.id], { name, value } = widget
  if (before?.class_type !== node.comfyClass || node.graph !== graph() || widget.serializeValue) return null
  return typeof value !== 'object' && typeof value === typeof before.inputs[name] ? { node: String(node.id), input: name, value } : null
}

// One edit at a time is under way; what comes meanwhile follows.
async function exclusively(work) {
  sending = true
  try {
    await work()
  } catch (error) {
    if (live.state === 'live') complain('The edit was not taken', error)
  }
  sending = false
  if (held.size && isTaken()) exclusively(sendHeld)
  else if (again) { again = false; dirty(VALUE_MS) }
}

async function flush() {
  timer = null
  if (sending) { again = true; return }
  if (isTaken() && isGraphReady()) await exclusively(async () => send(await serialised()))
}

const serialised = async () => bare((await app.graphToPrompt()).output)

async function send(prompt) {
  const before = live.sent
  const patches = before && shapeOf(before) === shapeOf(prompt) ? patchesBetween(before, prompt) : null
  if (!patches) return sendWhole(prompt)
  if (patches.length) return sendPatches(patches)
  if (marked.size && live.refused) { live.refused = false; fine() }
}

function sendHeld() {
  const patches = [...held.values()]
  held.clear()
  return sendPatches(patches)
}

async function sendPatches(patches) {
  try {
    await ask({ type: 'patch', patches })
  } catch (error) {
    if (error.node == null) live.sent = null  // somebody else changed the workflow: the next goes as a whole
    if (patches.length === 1) error.node ??= patches[0].node
    error.input = patches.find(one => one.node === String(error.node))?.input
    throw refused(error)
  }
  for (const { node, input, value } of patches) {
    for (const prompt of [live.sent, live.inForce]) if (prompt?.[node]) prompt[node].inputs[input] = value
  }
  taken()
}

// A whole workflow replaces what others have done only where we have seen it.
async function sendWhole(prompt) {
  if (live.seen && live.newest !== live.seen) {
    await sync()
    if (live.foreign) return
    prompt = await serialised()
  }
  try {
    const { info } = await ask({ type: 'set_workflow', workflow: prompt, ...(live.seen && { base_revision: live.seen }) })
    saw(info)
  } catch (error) {
    if (error.code !== 'stale_revision') throw refused(error)
    live.newest = live.revision
    again = true
    return
  }
  live.sent = prompt
  taken()
}

function taken() {
  live.flushes += 1
  live.refused = false
  fine()
}

function refused(error) {
  live.refused = true
  return error
}

// --- edits of others: the server's own page, another editor, a program

let syncTimer = null

function syncSoon() {
  syncTimer ??= setTimeout(() => {
    syncTimer = null
    if (live.state !== 'live') return
    if (sending || timer !== null || held.size) syncSoon()
    else if (live.newest !== live.seen) exclusively(sync)
  }, REST_MS)
}

function saw({ revision, workflow }) {
  Object.assign(live, { seen: revision, inForce: bare(workflow) })
  if (revision > live.newest) live.newest = revision
}

async function sync() {
  const { info } = await ask({ type: 'describe' })
  if (!info.workflow) return
  const before = live.inForce, now = bare(info.workflow)
  live.newest = info.revision
  if (before && shapeOf(before) !== shapeOf(now)) return anotherWorkflow(info)
  decided()
  const changed = before ? patchesBetween(before, now).filter(showValue) : []
  saw(info)
  if (!changed.length) return
  const prompt = await serialised()
  for (const { node, input } of changed) if (live.sent?.[node] && prompt[node]) live.sent[node].inputs[input] = prompt[node].inputs[input]
  app.canvas?.setDirty(true, true)
}

// Show what somebody else has set, without sending it back. False where no widget holds the value.
function showValue({ node: id, input, value }) {
  const node = nodeOf(id), widget = node && widgetOf(node, input)
  if (!widget) return false
  muted += 1
  try {
    widget.value = value
    widget.callback?.(value, app.canvas, node)
  } finally {
    muted -= 1
  }
  return true
}

function widgetOf(node, name) {
  const slot = node.inputs?.findIndex(one => one.name === name && one.link != null)
  const origin = slot >= 0 ? node.getInputNode?.(slot) : null
  return origin?.isVirtualNode ? origin.widgets?.[0] : node.widgets?.find(one => one.name === name)
}

function anotherWorkflow({ revision, workflow }) {
  const isNew = !live.foreign
  live.foreign = { revision, workflow }
  held.clear()
  if (!isNew) return
  const who = !live.by || live.by === 'REST' ? 'A program' : live.by
  toast('warn', 'Another workflow is running', `${who} has set it. Nothing here was changed, and nothing goes live until you choose`)
  const choose = (words, work) => make('button', { type: 'button', textContent: words, onclick: () => work().catch(error => complain('That did not work', error)) })
  live.choice = make('div', { className: 'comfystream-choice', role: 'alertdialog' },
    make('b', { textContent: 'Another workflow is running' }), ` ${who} has set it while yours was live. `,
    choose('Open it here', takeTheirs), choose('Run mine again', keepMine))
  document.body.append(live.choice)
}

function decided() {
  live.foreign = null
  live.choice?.remove()
}

async function takeTheirs() {
  const info = live.foreign
  muted += 1
  try {
    await app.loadApiJson(structuredClone(info.workflow), 'live')
  } finally {
    muted -= 1
  }
  saw(info)
  live.sent = await serialised()
  decided()
}

async function keepMine() {
  Object.assign(live, { seen: live.foreign.revision, newest: live.foreign.revision, sent: null })
  decided()
  await flush()
}

// What tells of a change. No single source is enough: bypass shows only in graphChanged, a drag only in the callbacks.
const hooked = new WeakSet()
const wrapped = Symbol('comfystream')

function hookNode(node) {
  for (const widget of node.widgets || []) {
    if (widget.callback?.[wrapped]) continue
    const before = widget.callback
    widget.callback = function (...values) { const answer = before?.apply(this, values); touched(node, widget); return answer }
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
  const isLost = () => pc !== live.pc
  const channel = live.channel = pc.createDataChannel('comfystream')
  channel.onmessage = event => { if (!isLost()) heard(JSON.parse(event.data)) }
  channel.onclose = () => { if (!isLost()) comeBack() }
  const opened = new Promise((resolve, reject) => {
    channel.onopen = resolve
    setTimeout(() => reject(new Error('no connection came about; a firewall may be in between, then set a TURN server')), 20000)
  })
  opened.catch(() => {})
  for (const track of live.source.stream.getTracks()) pc.addTrack(track, live.source.stream)
  pc.ontrack = event => {
    event.receiver.jitterBufferTarget = 0  // what is live is shown when it comes
    live.picture = event.streams[0] || new MediaStream([event.track])
    showPicture()
  }
  pc.onconnectionstatechange = () => {
    clearTimeout(pc.lost)
    if (pc.connectionState === 'failed') comeBack()
    if (pc.connectionState === 'disconnected') pc.lost = setTimeout(comeBack, LOST_MS)
  }
  await pc.setLocalDescription(await pc.createOffer())
  await gathered(pc)
  const answer = await offer(pc.localDescription)
  if (isLost()) throw new Error('not wanted any more')
  if (answer.session !== live.session) Object.assign(live, { session: answer.session, inForce: null, seen: 0, newest: 0 })
  await pc.setRemoteDescription({ sdp: answer.sdp, type: answer.type })
  await opened
  live.sent = null
  change('live')
  panel.say('loading the workflow')
  await flush()
}

// Back to the session that we had, if it is still there.
async function offer({ sdp, type }) {
  const send = session => call('offer', { prompts: null, offer: { sdp, type }, ...(session && { session }) })
  try {
    return await send(live.session)
  } catch (error) {
    if (!live.session || ![404, 410].includes(error.status)) throw error
    return send(null)
  }
}

// The connection is lost, or the server is started again: the camera stays open, and the workflow is sent anew.
async function comeBack() {
  if (live.state !== 'live') return
  change('returning')
  hangUp()
  let why = new Error('the server did not come back')
  for (const pause of TRIES_MS) {
    panel.say('the connection was lost; connecting again')
    await wait(pause)
    await serverSettled()
    if (live.state !== 'returning') return
    if (live.server.state !== 'running') break
    try {
      return await connect()
    } catch (error) {
      why = error
      hangUp()
    }
  }
  if (live.state !== 'returning') return
  stopLive()
  complain('The connection was lost', Object.assign(why, { hint: 'Press Go live to connect again' }))
}

async function serverSettled() {
  const end = performance.now() + SETTLE_MS
  do {
    await lookAtServer()
    if (!['restarting', 'starting', 'unknown'].includes(live.server.state)) return
    await wait(250)
  } while (performance.now() < end && live.state === 'returning')
}

const gathered = pc => new Promise(done => {
  if (pc.iceGatheringState === 'complete') return done()
  pc.addEventListener('icegatheringstatechange', () => pc.iceGatheringState === 'complete' && done())
  setTimeout(done, 3000)
})

function hangUp() {
  const { pc } = live
  clearTimeout(pc?.lost)
  Object.assign(live, { pc: null, channel: null, picture: null, stats: null, sent: null, refused: false })
  held.clear()
  decided()
  pc?.close()
  for (const { reject } of waiting.values()) reject(new Error('not connected'))
  waiting.clear()
  panel.figures(null)
  showPicture()
}

function stopLive() {
  const { source } = live
  change('off')
  hangUp()
  Object.assign(live, { session: null, source: null, inForce: null, seen: 0, newest: 0 })
  source?.stop()
  unmark()
  panel.say('')
}

function change(state) {
  live.state = state
  const words = { off: 'Go live', connecting: 'Connecting', live: 'Stop live', returning: 'Reconnecting' }[state]
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
  show(video)
  return video
}

function show(video) {
  video.srcObject = live.picture
  video.classList.toggle('on', Boolean(live.picture))
}

function showPicture() {
  for (const reference of screens) {
    const video = reference.deref()
    if (!video) screens.delete(reference)
    else show(video)
  }
}

function previewNode(node) {
  const box = make('div', { className: 'comfystream-preview' }, screen(),
    make('span', { className: 'hint', textContent: 'The live picture is shown here after Go live' }))
  node.addDOMWidget?.('live', 'comfystream_live', box, { serialize: false, hideOnZoom: false })
  node.setSize?.([Math.max(node.size[0], 360), Math.max(node.size[1], 320)])
}

// A line of text on a node, which is not saved with the workflow.
function sayOn(node, words, hasPicture) {
  let widget = node.widgets?.find(one => one.name === 'note')
  if (!widget) {
    const element = make('div', { className: 'comfystream-note' })
    widget = node.addDOMWidget('note', 'comfystream_note', element, { serialize: false, getMinHeight: () => 36, getMaxHeight: () => 60 })
    widget.serialize = false
    node.setSize?.([Math.max(node.size[0], 260), Math.max(node.size[1], hasPicture ? 340 : node.computeSize?.()[1] ?? 0)])
  }
  widget.element.textContent = words
  app.canvas?.setDirty(true, true)
}

// What LoadTensor and SaveTensor say when ComfyUI runs them without a stream.
function noteOf(node) {
  const before = node.onExecuted
  node.onExecuted = function (output) {
    const answer = before?.apply(this, arguments)
    const note = output?.comfystream_note?.[0]
    if (note) sayOn(this, note, Boolean(output.images?.length))
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
    const label = this.getAttribute(`${state}-label`) || { running: 'Running', stopped: 'Stopped', starting: 'Starting', stopping: 'Stopping', restarting: 'Restarting', failed: 'Failed' }[state] || ''
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
  if (before === status.state) return
  if (status.state === 'restarting') {
    toast('warn', 'The server has ended and is started again', status.reason)
    comeBack()
  }
  if (status.state === 'failed') {
    if (live.state !== 'connecting') stopLive()
    if (['running', 'restarting', 'starting'].includes(before) && live.state !== 'connecting') complain('The server has ended', new Error(status.reason))
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
  part.restarts = make('p', { className: 'restarts', hidden: true })
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
    part.restarts, part.settings, part.logs)

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
      part.start.disabled = ['running', 'starting', 'restarting'].includes(status.state)
      part.stop.disabled = !['running', 'starting', 'restarting'].includes(status.state)
      part.restart.disabled = ['starting', 'stopping'].includes(status.state)
      if (status.settings_trouble) part.say.textContent = status.settings_trouble
      if (['failed', 'restarting'].includes(status.state)) {
        this.trouble(status.state === 'failed' ? 'The server has ended' : 'The server has ended and is started again', status.reason)
        part.log.textContent = (status.lines || []).join('\n')
        part.logs.open = true
      }
      const { restarts, last_end: end } = status
      part.restarts.hidden = !restarts || !end
      part.restarts.textContent = restarts ? `Started again ${restarts === 1 ? 'once' : `${restarts} times`}. It had ended: ${end?.reason}` : ''
    },
  }
}

function buildSettings(told) {
  const fields = {
    host: ['Host', 'text'], port: ['Port', 'number'], size: ['Size', 'text'], size_mode: ['Sizing', ['follow', 'fit', 'fill']],
    turn_url: ['TURN server', 'text'], turn_username: ['TURN user', 'text'], turn_credential: ['TURN password', 'password'], token: ['Token', 'password'],
    restart: ['Start it again when it dies', 'checkbox'],
  }
  const element = make('form', { className: 'settings', autocomplete: 'off' })
  const inputs = {}
  for (const [name, [label, kind]] of Object.entries(fields)) {
    const input = inputs[name] = Array.isArray(kind) ? make('select', { name }, ...kind.map(one => new Option(one, one)))
      : make('input', { name, type: kind, autocomplete: 'off', placeholder: name === 'token' ? 'made up at each start' : '' })
    if (kind === 'number') Object.assign(input, { min: 1024, max: 65535 })
    element.append(make('label', { className: kind }, label, input))
  }
  const kept = make('select', { ariaLabel: 'Saved configurations' }), name = make('input', { placeholder: 'Name', ariaLabel: 'Name of the configuration' })
  const configuration = body => told(call('settings/configuration', body).then(answer => show(answer.settings)))
  kept.onchange = () => configuration({ action: 'select', index: Number(kept.value) })
  const add = make('button', { type: 'button', textContent: 'Keep', onclick: () => configuration({ action: 'add', name: name.value, host: inputs.host.value, port: Number(inputs.port.value) }) })
  const remove = make('button', { type: 'button', textContent: 'Delete', onclick: () => configuration({ action: 'remove', index: Number(kept.value) }) })
  element.append(make('div', { className: 'row' }, kept, remove), make('div', { className: 'row' }, name, add), make('button', { textContent: 'Save' }))
  element.onsubmit = event => {
    event.preventDefault()
    const values = Object.fromEntries(Object.entries(inputs).map(([key, input]) => [key, valueOf(input)]))
    told(call('settings', values).then(answer => { show(answer.settings); toast('success', 'Saved', 'Restart the server to use it') }))
  }
  function show(values) {
    live.settings = values
    window.comfyStreamSettings = values
    for (const [key, input] of Object.entries(inputs)) input[input.type === 'checkbox' ? 'checked' : 'value'] = values[key]
    kept.replaceChildren(new Option('Custom (unsaved)', '-1'), ...values.configurations.map((one, i) => new Option(`${one.name} (${one.host}:${one.port})`, i)))
    kept.value = String(values.selectedConfigIndex)
  }
  return { element, show }
}

const valueOf = input => ({ checkbox: input.checked, number: Number(input.value) }[input.type] ?? input.value)

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
