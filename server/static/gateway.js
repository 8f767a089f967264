// The gateway's page: the calls that an app makes, in the order that an app makes them.
import { startSource } from './source.js'

const $ = id => document.getElementById(id)
const key = new URLSearchParams(location.hash.slice(1)).get('key') || sessionStorage.getItem('comfystream-key') || ''
if (key) sessionStorage.setItem('comfystream-key', key)

const page = { stream: null, source: null, pcs: [], events: null, data: [], workflows: [], ready: false, state: 'no stream' }
window.comfystreamGateway = page
const MOST_LINES = 500

async function call(url, options = {}) {
  const response = await fetch(url, { ...options, headers: { ...(key && { Authorization: `Bearer ${key}` }), ...options.headers } })
  const text = await response.text()
  let body = null
  try { body = JSON.parse(text) } catch { /* what is no JSON is shown as it is */ }
  if (!response.ok) {
    const error = body?.error || {}
    throw Object.assign(new Error(error.message || body?.message || text || response.statusText), { hint: error.hint, status: response.status })
  }
  return body
}

// The job of a request: base64 of JSON, in which two fields are JSON as text.
const job = (request, parameters) => ({ Livepeer: btoa(JSON.stringify({
  request: JSON.stringify(request), parameters: JSON.stringify(parameters), capability: $('capability').value, timeout_seconds: 120,
})) })
const ways = () => ({
  enable_video_ingress: true, enable_audio_ingress: $('sound').checked, enable_video_egress: true,
  enable_audio_egress: $('sound').checked, enable_data_output: true,
})

// --- what people see

function card(title, text, hint = '') {
  const element = document.createElement('div')
  element.className = 'card'
  const words = document.createElement('p')
  const [head, line, small] = ['b', 'span', 'small'].map(name => document.createElement(name))
  head.textContent = title; line.textContent = text; small.textContent = hint || ''
  words.append(head, line, ' ', small)
  const close = document.createElement('button')
  close.textContent = '×'; close.title = 'Close'
  close.onclick = () => element.remove()
  element.append(words, close)
  $('cards').prepend(element)
  while ($('cards').children.length > 4) $('cards').lastChild.remove()
}

function show(state) {
  page.state = state
  $('state').textContent = state
  $('state').className = `state ${state === 'running' ? 'running' : ''}`
}

function log(text, kind = '') {
  const line = document.createElement('div')
  line.className = kind
  line.textContent = `${new Date().toLocaleTimeString()}  ${text}`
  $('log').append(line)
  while ($('log').children.length > MOST_LINES) $('log').firstChild.remove()
  $('log').scrollTop = $('log').scrollHeight
}

function params() {
  let given
  try { given = JSON.parse($('params').value || '{}') } catch (error) {
    throw Object.assign(new Error(`the parameters are not JSON: ${error.message}`), { hint: 'look at quotes and commas' })
  }
  if (!given || typeof given !== 'object' || Array.isArray(given)) throw new Error('the parameters have to be a JSON object')
  return given
}

const chosen = () => page.workflows.find(one => one.name === $('workflow').value)
const prompts = () => chosen() ? { prompts: chosen().prompts } : {}

// --- a stream

async function start() {
  $('start').disabled = true
  $('cards').replaceChildren()
  show('starting')
  try {
    const size = { width: Number($('width').value), height: Number($('height').value) }
    const wanted = { ...size, ...prompts(), ...params() }
    const isFromObs = $('source').value === 'rtmp'
    if (!isFromObs) {
      page.source = await startSource($('source').value, $('sound').checked)
      $('input').srcObject = page.source.stream
      $('input').className = 'on'
    }
    page.stream = await call('/process/stream/start', {
      method: 'POST', headers: { 'Content-Type': 'application/json', ...job({}, ways()) },
      body: JSON.stringify({ stream_name: 'page', params: JSON.stringify(wanted), stream_id: '', rtmp_output: $('rtmp_output').value.trim() }),
    })
    listen()
    if (isFromObs) sayWhereToSend()
    else await publish()
    await watch()
    $('start').textContent = 'Stop'
    $('send').disabled = false
    show('running')
  } catch (error) {
    await stop()
    card('It could not start', error.message, error.hint || hintFor(error))
  }
  $('start').disabled = false
}

function sayWhereToSend() {
  const { rtmp_url: url, stream_id: id } = page.stream
  if (!url) throw Object.assign(new Error('this gateway takes no RTMP'), { hint: 'start it with --rtmp-port 1935' })
  card('Send to', url, `in OBS: server ${url.slice(0, url.lastIndexOf('/'))}, stream key ${id}; key frame interval 1 s`)
}

function hintFor(error) {
  if (error.name === 'NotAllowedError') return 'allow the camera for this page, or choose the test picture'
  if (error.name === 'NotFoundError') return 'there is no camera; choose the test picture'
  if (error.status === 401) return 'open this page with #key=KEY'
  return ''
}

const gathered = pc => new Promise(done => {
  if (pc.iceGatheringState === 'complete') return done()
  pc.addEventListener('icegatheringstatechange', () => pc.iceGatheringState === 'complete' && done())
  setTimeout(done, 3000)
})

async function connect(url, pc) {
  page.pcs.push(pc)
  await pc.setLocalDescription(await pc.createOffer())
  await gathered(pc)
  const response = await fetch(url, { method: 'POST', headers: { 'Content-Type': 'application/sdp' }, body: pc.localDescription.sdp })
  const answer = await response.text()
  if (response.status !== 201) {
    let error = {}
    try { error = JSON.parse(answer).error } catch { error = { message: answer } }
    throw Object.assign(new Error(error.message), { hint: error.hint })
  }
  await pc.setRemoteDescription({ type: 'answer', sdp: answer })
}

async function publish() {
  const pc = new RTCPeerConnection()
  for (const track of page.source.stream.getTracks()) pc.addTransceiver(track, { direction: 'sendonly', streams: [page.source.stream] })
  await connect(page.stream.whip_url, pc)
}

async function watch() {
  const pc = new RTCPeerConnection()
  pc.addTransceiver('video', { direction: 'recvonly' })
  pc.addTransceiver('audio', { direction: 'recvonly' })
  const shown = new MediaStream()
  pc.ontrack = event => {
    shown.addTrack(event.track)
    $('output').srcObject = shown
    $('output').muted = !$('sound').checked
    $('empty').hidden = true
  }
  page.viewer = pc
  await connect(page.stream.whep_url, pc)
}

function listen() {
  const events = page.events = new EventSource(page.stream.data_url)
  events.onmessage = event => { page.data.push(event.data); log(event.data) }
  events.addEventListener('status', event => {
    const said = JSON.parse(event.data)
    if (page.stream) show(said.state)
    log(said.reason ? `${said.state}: ${said.reason}` : `${said.state} at ${said.worker}`, 'told')
    if (said.reason) card('The worker was lost', said.reason, 'another one takes over, if there is one')
  })
  events.addEventListener('rtmp_output', event => {
    const { target, state, reason } = JSON.parse(event.data)
    log(`${target} is ${state}${reason && `: ${reason}`}`, 'told')
  })
  events.addEventListener('end', event => {
    const { reason } = JSON.parse(event.data)
    log(`end: ${reason}`, 'told')
    if (page.stream) { card('The stream has ended', reason); stop() }
    events.close()
  })
}

async function stop() {
  const stream = page.stream
  page.stream = null
  if (stream) await call(stream.stop_url, { method: 'POST' }).catch(error => error.status !== 404 && card('It could not be stopped', error.message))
  for (const pc of page.pcs.splice(0)) pc.close()
  page.viewer = null
  page.events?.close()
  page.source?.stop()
  page.source = null
  $('output').srcObject = $('input').srcObject = null
  $('input').className = ''
  $('empty').hidden = false
  $('start').textContent = 'Start'
  $('send').disabled = true
  $('stats').textContent = '\u00a0'
  show('no stream')
}

async function update(change) {
  if (!page.stream) return
  $('sent').textContent = 'sending'
  try {
    await call(page.stream.update_url, {
      method: 'POST', headers: { 'Content-Type': 'application/json', ...job({ stream_id: page.stream.stream_id }, {}) },
      body: JSON.stringify(change()),
    })
    $('sent').textContent = 'taken'
  } catch (error) {
    $('sent').textContent = ''
    card('It was not taken', error.message, error.hint)
  }
}

async function figures() {
  if (!page.stream) return
  const said = page.status = await call(page.stream.status_url).catch(() => null)
  const shown = await page.viewer?.getStats()
  const inbound = [...(shown?.values() || [])].find(one => one.type === 'inbound-rtp' && one.kind === 'video')
  if (!said || !page.stream) return
  const rates = said.inference_status, took = said.input_status
  $('stats').textContent = [
    took && `worker in ${took.fps.toFixed(0)} fps`, rates && `out ${rates.fps.toFixed(0)} fps`,
    inbound?.frameWidth && `${inbound.frameWidth}×${inbound.frameHeight} shown at ${(inbound.framesPerSecond || 0).toFixed(0)} fps`,
    `${said.swaps} swaps`, said.worker, rates?.last_error,
  ].filter(Boolean).join('  ·  ')
}

// --- what there is

async function offered() {
  const list = await call('/api/v1/capabilities').catch(() => null)
  if (!list) return
  const before = $('capability').value
  const names = list.map(one => one.name)
  if (names.join() !== [...$('capability').options].map(one => one.value).join()) {
    $('capability').replaceChildren(...names.map(name => new Option(name, name)))
    if (names.includes(before)) $('capability').value = before
  }
  const one = list.find(each => each.name === $('capability').value)
  $('workers').textContent = one
    ? one.workers.map(worker => `${worker.url}: ${worker.health}, ${worker.load} of ${worker.capacity} taken`).join('; ')
    : 'no worker has registered yet'
  page.offered = list
}

async function begin() {
  $('start').onclick = () => page.stream ? stop() : start()
  $('send').onclick = () => update(params)
  $('workflow').onchange = () => { $('about').textContent = chosen()?.description || ''; if (chosen()) update(prompts) }
  $('source').value = navigator.mediaDevices ? 'camera' : 'pattern'
  page.workflows = await call('/workflows/')
  $('workflow').append(new Option('none: what the worker has', ''), ...page.workflows.map(one => new Option(one.title, one.name)))
  addEventListener('pagehide', () => { if (page.stream) navigator.sendBeacon(page.stream.stop_url) })
  await offered()
  setInterval(offered, 2000)
  setInterval(figures, 1000)
  page.loaded = true
}

begin().catch(error => card('The gateway cannot be asked', error.message, error.hint || hintFor(error)))
