// The first page: connect, show, turn knobs. The protocol's messages are described at /api/v1/protocol.
import { api, token, withToken } from './api.js'
import { card, clearCards, errorCard, note, removeCard, tokenCard } from './cards.js'
import { clearFigures, showFigures } from './figures.js'
import { Link, hasSession } from './link.js'
import { presetRow } from './presets.js'
import { sinkPanel } from './sinks.js'
import { sizePanel } from './size.js'
import { sourcePanel } from './sources.js'
import { stagePanel } from './stage.js'
import { valuePanel } from './values.js'
import { workflowPanel } from './workflows.js'

const $ = id => document.getElementById(id)
const WAS_ON = 'comfystream-on', LOST = 'The connection was lost', SILENCE_MS = 3500
const joined = new URLSearchParams(location.search).get('session')

const link = new Link({ opened, event: happened, track: showTrack, moving, moved, retrying, ended: lost })
const page = window.comfystream = {
  link, ready: false, loaded: false, stands: false, last: null, info: null, state: '',
  get pc() { return link.pc }, get session() { return link.session }, get revision() { return link.revision },
}

const told = (title, work) => work.catch(error => {
  if (error.code === 'cancelled') note('Cancelled', title, error.hint)
  else errorCard(title, error)
  refresh()
})
const say = (title, message) => told(title, link.ask(message))

const sources = sourcePanel($, link, errorCard)
const stage = stagePanel($)
const size = sizePanel($, message => say('The size was not set', message))
const sinks = sinkPanel($, link, told)
const workflows = workflowPanel($, choose, errorCard)
const showPresets = presetRow($, message => link.ask(message), told, describe)
const values = valuePanel($('parameters'), link, told, touched)

// --- what the session says

function show(state, extra, isStale = false) {
  stage.show(state, extra, isStale)
  page.isSilent = false
  $('pause').textContent = state === 'paused' ? 'Resume' : 'Pause'
  page.state = state
}

function happened({ event, data, revision }) {
  heard()
  HEARD[event]?.(data, revision)
}

// Figures come once a second: without them the server hangs or is gone, before the browser's WebRTC notices.
function heard() {
  clearTimeout(page.silence)
  page.silence = setTimeout(silent, SILENCE_MS)
}

function silent() {
  if (!page.ready || link.isMoving) return
  show(page.state, 'the server does not answer', true)
  page.isSilent = true
}

const HEARD = {
  state(data) {
    show(data.state, data.reason || undefined)
    if (data.state === 'failed') card('The engine gave up', data.reason, 'choose the workflow again, or another one')
    if (data.state === 'ended' && !page.isEnding) { disconnect(); note('The session has ended', data.reason, 'press Start for a new one') }
  },
  revision(data, revision) { link.revision = revision; stage.done(); if (!values.isBusy) refresh() },
  presets: refresh,
  source(data) { sources.told(data.chosen) },
  size(data) { size.show(data.mode, data.width, data.height) },
  sink: data => sinks.changed(data),
  progress(data) {
    if (page.state === 'preparing' || data.phase === 'load' || data.message) stage.progress(page.state, workflows.title, data)
    else if (page.isTold) { stage.done(); show(page.state) }
    page.isTold = Boolean(data.message)
  },
  activated() { settled() },
  prepare_failed() { settled() },
  node_failed(data) {
    const again = data.count > 1 ? ` (${data.count} times)` : ''
    card(`${nodeName(data)} failed`, data.message, `${data.hint || ''}${again}`)
    values.mark(data.node_id)
  },
  node_blocked(data) { note(`${nodeName(data)} did not run`, data.message) },
  rolled_back(data) { note('Went back to the revision before', data.reason) },
  engine_lost(data) {
    note('The engine has ended', data.reason, 'it is being started again; the last picture stays meanwhile')
    show(page.state, 'the engine is started again', true)
  },
  engine_restarted(data) {
    removeCard('The engine has ended')
    note('The engine was started again', data.reason, 'the workflow goes on')
    show(page.state)
  },
  pack_broken(data) { note(`The node pack ${data.pack} cannot be used`, data.message, data.hint) },
  shutdown(data) { page.isEnding = true; note('The server is ending', data.seconds ? `in ${data.seconds} s at the latest` : '', 'the page comes back when the server does') },
  text(data) { note('Text', data.text) },
  stats(data) {
    page.last = data
    if (page.isSilent) show(page.state)
    const stands = data.state === 'running' && data.fps_in > 0 && data.fps_out === 0  // the engine is being started again, or hangs
    if (stands !== page.stands) { page.stands = stands; show(page.state, stands ? 'no picture comes out yet' : undefined, stands) }
    showFigures($, data, link.revision)
    sinks.figures(data.sinks)
  },
}

function nodeName({ node_id: id, class_type: type }) {
  const title = page.info?.workflow?.[id]?._meta?.title
  return title && title !== type ? `Node ${id} "${title}" (${type})` : `Node ${id} "${type}"`
}

function describe(info, words) {
  page.info = info
  link.revision = info.revision
  if (info.progress) HEARD.progress(info.progress)
  else stage.done()
  show(info.state)
  $('undo').disabled = !info.can_undo
  $('redo').disabled = !info.can_redo
  $('policy').value = info.fail_policy
  if (!page.choosing) workflows.show(info.name, Boolean(info.workflow), words)
  showPresets(info.presets, Boolean(info.workflow))
  sources.told(info.source)
  size.show(info.size_mode, info.width, info.height)
  sinks.figures(info.sinks)
  values.show(info.parameters)
}

async function refresh() {
  const reply = link.isOpen && await link.ask({ type: 'describe' }).catch(() => null)
  if (reply && !values.isBusy) describe(reply.info)
}

function settled() {
  stage.done()
  show(page.state)
}

// --- what a person does

async function choose(message, words) {
  const wanted = page.wanted = { message, words }
  workflows.show(message.name || '', Boolean(message.workflow), words)
  if (!link.isOpen) return
  page.choosing = wanted
  page.isCancelled = false
  const reply = await say('The workflow was not loaded', { type: 'set_workflow', ...message })
  if (page.choosing !== wanted) return  // another one was chosen meanwhile
  page.choosing = null
  settled()
  if (reply) { clearCards(); describe(reply.info, words) } else if (page.isCancelled) { page.wanted = null; refresh() }
}

async function connect() {
  $('connect').disabled = true
  clearCards()
  page.isEnding = false
  show('connecting')
  try {
    const stream = await sources.start()
    await link.open(stream, { hasSound: $('sound').checked, session: joined })
    $('connect').textContent = 'Stop'
  } catch (error) {
    disconnect()
    errorCard('It could not start', error)
  }
  $('connect').disabled = false
}

async function opened() {
  removeCard(LOST)
  sessionStorage.setItem(WAS_ON, sources.kind)
  const { info } = await link.ask({ type: 'describe' })
  describe(info)
  enable(true)
  if (!info.workflow) await choose(...first())
  if (!joined || sources.isOurs || sources.kind !== 'watch') await sources.apply()
  page.isEnding = false
  page.ready = true
}

// What is set where no workflow runs yet: what was chosen here, else one that shows at once that something happens.
const first = () => page.wanted ? [page.wanted.message, page.wanted.words] : [{ name: workflows.chosen || workflows.preferred }]

function touched() {
  $('preset').value = ''  // these are no longer its values
  $('forget').disabled = true
  $('undo').disabled = false
}

function moving() {
  page.isSilent = false  // what is shown from here on stays until it has moved
  stage.show('reconnecting', '', true)
}

function moved() {
  show(page.state)
  refresh()
}

function retrying(attempt) {
  page.ready = false
  enable(false)
  clearFigures($)
  stage.done()
  show('reconnecting', attempt > 1 ? `try ${attempt}` : '', true)
  if (attempt > 1) note(LOST, 'it is tried again', 'press Stop to give up')
}

function lost(error) {
  disconnect()
  removeCard(LOST)
  errorCard(LOST, error)
}

function disconnect() {
  link.close()
  sources.letGo()
  page.ready = false
  sessionStorage.removeItem(WAS_ON)
  $('output').srcObject = null
  $('frame').classList.remove('live')
  $('connect').textContent = 'Start'
  enable(false)
  values.clear()
  showPresets([], false)
  clearFigures($)
  stage.done()
  show('not connected')
}

function enable(can) {
  for (const id of ['pause', 'policy', 'share', 'full']) $(id).disabled = !can
  if (!can) for (const id of ['undo', 'redo']) $(id).disabled = true
  size.enable(can)
  values.enable(can)
  sinks.enable(can)
}

function showTrack(track) {
  const old = $('output').srcObject?.getTracks().filter(one => one.kind !== track.kind && one.readyState === 'live') || []
  $('output').srcObject = new MediaStream([...old, track])
  $('output').muted = !$('sound').checked
}

async function share() {
  const address = new URL(withToken(`/?session=${encodeURIComponent(link.session)}`), location.href).href
  const done = await navigator.clipboard?.writeText(address).then(() => true, () => false)
  if (done) note('The link is copied', '', token() ? 'it has the token in it: whoever gets it may change everything' : '')
  else note('Another browser sees this session at', address)
}

async function changeSound() {
  if (!link.isOpen) return
  sources.letGo()
  await link.open(await sources.start(), { hasSound: $('sound').checked })
}

// --- the beginning

function wire() {
  $('connect').onclick = () => link.isWanted ? disconnect() : connect()
  $('undo').onclick = () => say('Undo did not work', { type: 'undo' }).then(refresh)
  $('redo').onclick = () => say('Redo did not work', { type: 'redo' }).then(refresh)
  $('cancel').onclick = () => { page.isCancelled = true; say('It was not cancelled', { type: 'cancel' }) }
  $('pause').onclick = () => say('That did not work', { type: page.state === 'paused' ? 'resume' : 'pause' })
  $('policy').onchange = () => say('That did not work', { type: 'fail_policy', policy: $('policy').value })
  $('full').onclick = () => $('frame').requestFullscreen?.()
  $('share').onclick = share
  $('sound').onchange = () => told('The sound was not changed', changeSound())
  $('output').onplaying = () => $('frame').classList.add('live')
  $('output').onresize = ({ target }) => { if (target.videoWidth) $('frame').style.aspectRatio = `${target.videoWidth} / ${target.videoHeight}` }
  $('to-connectivity').href = withToken('/connectivity')
  addEventListener('pagehide', () => link.pc?.close())  // the server knows at once, not after half a minute
}

async function start() {
  wire()
  const before = sessionStorage.getItem(WAS_ON)
  sources.choose(before || (joined ? 'watch' : navigator.mediaDevices ? 'camera' : 'pattern'))
  const [config] = await Promise.all([api('/api/v1/config'), workflows.load(), sources.load()])
  sinks.allow(config)
  page.loaded = true
  if (joined || (before && before !== 'screen' && hasSession())) await connect()
}

start().catch(error => error.status === 401 ? tokenCard() : errorCard('The server cannot be asked', error))
