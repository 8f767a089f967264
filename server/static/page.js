// The first page: connect, show, turn knobs. The protocol's messages are described at /api/v1/protocol.
import { buildParameters, showValues } from './parameters.js'
import { presetRow } from './presets.js'
import { startSource } from './source.js'

const $ = id => document.getElementById(id)
const token = new URLSearchParams(location.hash.slice(1)).get('token') || sessionStorage.getItem('comfystream-token') || ''
if (token) sessionStorage.setItem('comfystream-token', token)

const page = { pc: null, channel: null, session: null, source: null, revision: 0, ready: false, stands: false, last: null }
window.comfystream = page
const waiting = new Map()
let nextId = 1

async function api(path, options = {}) {
  const headers = { ...(token && { Authorization: `Bearer ${token}` }), ...options.headers }
  const response = await fetch(path, { ...options, headers })
  const body = await response.json().catch(() => null)
  if (!response.ok) throw Object.assign(new Error(body?.error?.message || response.statusText), body?.error, { status: response.status })
  return body
}

// --- cards, state, figures

function card(title, text, hint = '', kind = '') {
  const key = title + text
  const same = [...$('cards').children].find(one => one.dataset.key === key)
  if (same) { same.querySelector('small').textContent = hint; return }
  const element = document.createElement('div')
  element.className = `card ${kind}`
  element.dataset.key = key
  const words = document.createElement('p')
  const [head, line, small] = ['b', 'span', 'small'].map(name => document.createElement(name))
  head.textContent = title; line.textContent = text; small.textContent = hint
  words.append(head, line, ' ', small)
  const close = document.createElement('button')
  close.textContent = '×'; close.title = 'Close'
  close.onclick = () => element.remove()
  element.append(words, close)
  $('cards').prepend(element)
  while ($('cards').children.length > 4) $('cards').lastChild.remove()
}

function show(state, extra = '') {
  $('state').textContent = extra ? `${state} · ${extra}` : state
  $('state').className = `state ${state}`
  $('pause').textContent = state === 'paused' ? 'Go on' : 'Pause'
  page.state = state
}

function figures(data) {
  const tick = data.tick_ms?.video || data.tick_ms?.clock
  const dropped = Object.values(data.dropped || {}).reduce((a, b) => a + b, 0)
  const out = data.connection?.video_out || {}, whole = data.stages?.total, gpu = data.gpu?.[0]
  const stands = data.state === 'running' && data.fps_in > 0 && data.fps_out === 0  // the engine is being started again, or hangs
  if (stands !== page.stands) { page.stands = stands; show(page.state, stands ? 'no picture comes out' : '') }
  $('stats').textContent = [
    `in ${data.fps_in.toFixed(0)} fps`, `out ${data.fps_out.toFixed(0)} fps`,
    tick && `graph ${tick.p50.toFixed(1)} ms (p95 ${tick.p95.toFixed(1)})`, whole ? `whole way ${whole.p50.toFixed(0)} ms (p95 ${whole.p95.toFixed(0)})` : `through the server ${data.latency_ms.toFixed(0)} ms`,
    `dropped ${dropped}`, out.width && `${out.codec} ${out.width}×${out.height} ${(data.connection.bitrate / 1e6).toFixed(1)} Mbit/s`,
    gpu?.memory_used_bytes != null && `GPU ${gpu.utilisation ?? '?'} % ${(gpu.memory_used_bytes / 2 ** 30).toFixed(1)} GiB`, `revision ${page.revision}`,
  ].filter(Boolean).join('  ·  ')
}

// --- the control protocol over the data channel

export function ask(message) {
  if (page.channel?.readyState !== 'open') return Promise.reject(new Error('not connected'))
  const id = nextId++
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject })
    page.channel.send(JSON.stringify({ v: 1, id, ...message }))
  })
}

function heard(message) {
  if (message.type === 'reply') {
    const { resolve, reject } = waiting.get(message.id) || {}
    waiting.delete(message.id)
    page.revision = message.revision
    if (message.ok) resolve?.(message)
    else reject?.(Object.assign(new Error(message.error.message), message.error))
    return
  }
  const data = message.data
  switch (message.event) {
    case 'state': show(data.state, data.reason); if (data.state === 'failed') card('The engine gave up', data.reason); break
    case 'revision': page.revision = message.revision; if (!changing.size && !sending) refresh(); break
    case 'presets': refresh(); break
    case 'progress': if (page.state === 'preparing' || data.phase === 'load') show(page.state, `${data.phase} ${data.done}/${data.total}`); break
    case 'activated': show(page.state); break
    case 'node_failed': card(`Node ${data.node_id} "${data.class_type}" failed`, data.message, data.count > 1 ? `${data.hint} (${data.count} times)` : data.hint); break
    case 'node_blocked': card(`Node ${data.node_id} "${data.class_type}" did not run`, data.message, '', 'note'); break
    case 'rolled_back': card('Went back to the revision before', data.reason, '', 'note'); break
    case 'engine_restarted': card('The engine was started again', data.reason, 'the workflow goes on', 'note'); break
    case 'shutdown': card('The server is ending', data.seconds ? `in ${data.seconds} s at the latest` : '', 'start again when it is back', 'note'); break
    case 'text': card('Text', data.text, '', 'note'); break
    case 'stats': page.last = data; figures(data); break
  }
}

const told = (title, work) => work.catch(error => { card(title, error.message, error.hint); refresh() })

const showPresets = presetRow($, ask, told, info => describe(info))

// While a knob is turned only the newest value of each parameter is sent, one message at a time.
const changing = new Map()
let sending = false
async function changed(parameter, value) {
  $('preset').value = ''  // these are no longer its values
  $('forget').disabled = true
  changing.set(`${parameter.node}\n${parameter.input}`, { node: parameter.node, input: parameter.input, value })
  if (sending) return
  sending = true
  while (changing.size) {
    const patches = [...changing.values()]
    changing.clear()
    await told('The value was not taken', ask({ type: 'patch', patches }))
  }
  sending = false
  $('undo').disabled = false
}

function describe(info) {
  page.revision = info.revision
  show(info.state)
  $('undo').disabled = !info.can_undo
  $('redo').disabled = !info.can_redo
  $('pause').disabled = $('policy').disabled = false
  $('policy').value = info.fail_policy
  $('workflow').value = info.name || ''
  about()
  showPresets(info.presets, Boolean(info.workflow))
  if (!showValues($('parameters'), info.parameters)) buildParameters($('parameters'), info.parameters, changed)
}

async function refresh() {
  if (page.channel?.readyState !== 'open') return
  const reply = await ask({ type: 'describe' }).catch(() => null)
  if (reply && !changing.size && !sending) describe(reply.info)
}

// --- connecting

async function connect() {
  $('connect').disabled = true
  $('cards').replaceChildren()
  try {
    page.source = await startSource($('source').value, $('sound').checked)
    $('input').srcObject = page.source.stream
    $('input').className = 'on'
    await open()
    $('connect').textContent = 'Stop'
  } catch (error) {
    disconnect()
    card('It could not start', error.message, error.hint || hintFor(error))
  }
  $('connect').disabled = false
}

function hintFor(error) {
  if (error.name === 'NotAllowedError') return 'allow the camera for this page, or choose the test picture'
  if (error.name === 'NotFoundError') return 'there is no camera; choose the test picture'
  if (error.status === 401) return 'open the address with the token that the server printed'
  return ''
}

async function open() {
  const { ice_servers: iceServers } = await api('/api/v1/config')
  const pc = page.pc = new RTCPeerConnection({ iceServers })
  page.channel = pc.createDataChannel('comfystream')
  page.channel.onmessage = event => heard(JSON.parse(event.data))
  page.channel.onopen = begin
  for (const track of page.source.stream.getTracks()) pc.addTrack(track, page.source.stream)
  pc.ontrack = event => {
    $('output').srcObject = event.streams[0] || new MediaStream([...($('output').srcObject?.getTracks() || []), event.track])
    $('output').muted = !$('sound').checked
    $('empty').hidden = true
  }
  pc.onconnectionstatechange = () => { if (pc === page.pc && pc.connectionState === 'failed') again() }
  await pc.setLocalDescription(await pc.createOffer())
  await gathered(pc)
  const answer = await offer(pc.localDescription)
  page.session = answer.session
  await pc.setRemoteDescription({ sdp: answer.sdp, type: answer.type })
}

const gathered = pc => new Promise(done => {
  if (pc.iceGatheringState === 'complete') return done()
  pc.addEventListener('icegatheringstatechange', () => pc.iceGatheringState === 'complete' && done())
  setTimeout(done, 3000)
})

async function offer(description) {
  const send = session => api('/offer', {
    method: 'POST', headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ prompts: null, session, offer: { sdp: description.sdp, type: description.type } }),
  })
  const session = sessionStorage.getItem('comfystream-session')
  const answer = await (session ? send(session).catch(error => {
    if (error.status !== 404 && error.status !== 410) throw error
    return send(undefined)
  }) : send(undefined))
  sessionStorage.setItem('comfystream-session', answer.session)
  return answer
}

async function begin() {
  const { info } = await ask({ type: 'describe' })
  describe(info)
  if (!info.workflow) await choose($('workflow').options[1]?.value && preferred())
  page.ready = true
}

const preferred = () => ['edges', 'cartoon'].find(name => page.workflows?.some(one => one.name === name)) || page.workflows?.[0]?.name

async function choose(name) {
  if (!name) return
  $('workflow').value = name
  about()
  if (page.channel?.readyState !== 'open') return
  const before = page.revision
  const reply = await told('The workflow was not loaded', ask({ type: 'set_workflow', name }))
  if (reply) { $('cards').replaceChildren(); describe(reply.info); page.changedAt = { before, revision: reply.revision } }
}

async function again() {
  show('reconnecting')
  page.pc?.close()
  await open().catch(error => { disconnect(); card('The connection was lost', error.message) })
}

function disconnect() {
  page.pc?.close()
  page.source?.stop()
  Object.assign(page, { pc: null, channel: null, source: null, ready: false })
  for (const { reject } of waiting.values()) reject(new Error('not connected'))
  waiting.clear()
  $('output').srcObject = $('input').srcObject = null
  $('input').className = ''
  $('empty').hidden = false
  $('connect').textContent = 'Start'
  for (const id of ['undo', 'redo', 'pause', 'policy']) $(id).disabled = true
  $('parameters').replaceChildren()
  showPresets([], false)
  $('stats').textContent = '\u00a0'
  show('not connected')
}

const about = () => { $('about').textContent = page.workflows?.find(one => one.name === $('workflow').value)?.description || '' }

async function start() {
  $('connect').onclick = () => page.pc ? disconnect() : connect()
  $('workflow').onchange = () => choose($('workflow').value)
  $('undo').onclick = () => told('Undo did not work', ask({ type: 'undo' }).then(refresh))
  $('redo').onclick = () => told('Redo did not work', ask({ type: 'redo' }).then(refresh))
  $('pause').onclick = () => told('That did not work', ask({ type: page.state === 'paused' ? 'resume' : 'pause' }))
  $('policy').onchange = () => told('That did not work', ask({ type: 'fail_policy', policy: $('policy').value }))
  $('source').value = navigator.mediaDevices ? 'camera' : 'pattern'
  page.workflows = await api('/api/v1/workflows')
  $('workflow').append(new Option('none: the picture as it is', ''), ...page.workflows.map(one => new Option(one.title, one.name)))
  $('workflow').options[0].disabled = true
  addEventListener('pagehide', () => page.pc?.close())  // the server knows at once, not after half a minute
  page.loaded = true
}

start().catch(error => card('The server cannot be asked', error.message, error.hint || hintFor(error)))
