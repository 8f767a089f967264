// Tries what a connection needs, one step after the other, and says what each step found.
import { startSource } from './source.js'

const $ = id => document.getElementById(id)
const token = new URLSearchParams(location.hash.slice(1)).get('token') || sessionStorage.getItem('comfystream-token') || ''
if (token) sessionStorage.setItem('comfystream-token', token)
const WAIT_MS = 15000, GATHER_MS = 5000
const results = window.connectivity = { steps: {}, done: false }

function step(name, title) {
  const item = document.createElement('li')
  const [head, line, hint] = ['b', 'span', 'small'].map(kind => document.createElement(kind))
  head.textContent = title; line.textContent = 'testing …'
  item.id = `step-${name}`
  item.append(head, line, hint)
  $('steps').append(item)
  return (verdict, words, help = '') => {
    item.className = verdict; line.textContent = words; hint.textContent = help
    results.steps[name] = { verdict, words, help }
    return verdict !== 'bad'
  }
}

function within(promise, what, ms = WAIT_MS) {
  let timer
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`${what} took longer than ${ms / 1000} s`)), ms) })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

async function call(path, options = {}) {
  const headers = { ...(token && { Authorization: `Bearer ${token}` }), ...options.headers }
  const response = await within(fetch(path, { ...options, headers }), 'the answer')
  const body = response.status === 204 ? null : await response.json().catch(() => null)
  if (!response.ok) throw Object.assign(new Error(body?.error?.message || response.statusText), body?.error)
  return body
}

async function http(test) {
  const say = step('http', 'HTTP: the server answers')
  try {
    const began = performance.now()
    test.config = await call('/api/v1/config')
    return say('good', `answered in ${Math.round(performance.now() - began)} ms`)
  } catch (error) {
    return say('bad', error.message, error.hint || 'open this page under the address that the server printed')
  }
}

async function candidates(test) {
  const say = step('candidates', 'ICE: addresses that this browser can be reached at')
  const pc = new RTCPeerConnection({ iceServers: test.config.ice_servers })
  try {
    const kinds = {}
    pc.onicecandidate = event => { if (event.candidate?.type) kinds[event.candidate.type] = (kinds[event.candidate.type] || 0) + 1 }
    const done = new Promise(resolve => { pc.onicegatheringstatechange = () => pc.iceGatheringState === 'complete' && resolve() })
    pc.createDataChannel('test')
    await pc.setLocalDescription()
    await within(done, 'gathering', GATHER_MS).catch(() => null)
    const urls = test.config.ice_servers.flatMap(server => server.urls)
    const words = { host: 'own addresses (host)', srflx: 'seen through STUN (srflx)', relay: 'through TURN (relay)' }
    const found = Object.entries(words).map(([kind, word]) => `${word}: ${kinds[kind] || 'none'}`).join(' · ')
    if (urls.some(url => /^turns?:/.test(url)) && !kinds.relay) return say('note', found, 'A TURN server is configured and gave no address: is it up, is its password right, are its ports open?')
    if (urls.some(url => /^stun:/.test(url)) && !kinds.srflx && !kinds.relay) return say('note', found, 'A STUN server is configured and did not answer: UDP may be blocked on the way to it.')
    if (!Object.keys(kinds).length) return say('bad', found, 'This browser hides all its addresses: look at its settings or extensions for WebRTC.')
    const help = kinds.relay ? '' : 'Without TURN a connection works where UDP goes both ways: on one machine, in one network, in most homes.'
    return say('good', found, help)
  } catch (error) {
    return say('bad', error.message, 'this browser has no WebRTC, or it is switched off')
  } finally {
    pc.close()
  }
}

async function connect(test) {
  const say = step('connection', 'WebRTC: a connection to the server')
  try {
    test.source = await startSource('pattern', false)
    test.pc = new RTCPeerConnection({ iceServers: test.config.ice_servers })
    test.channel = test.pc.createDataChannel('comfystream')
    test.pc.ontrack = event => { $('back').srcObject = new MediaStream([event.track]) }
    for (const track of test.source.stream.getTracks()) test.pc.addTrack(track, test.source.stream)
    const gathered = new Promise(resolve => { test.pc.onicegatheringstatechange = () => test.pc.iceGatheringState === 'complete' && resolve() })
    await test.pc.setLocalDescription()
    await within(gathered, 'gathering', GATHER_MS).catch(() => null)
    const began = performance.now()
    const offer = { sdp: test.pc.localDescription.sdp, type: 'offer' }
    const answer = await call('/offer', { method: 'POST', body: JSON.stringify({ offer }), headers: { 'Content-Type': 'application/json' } })
    test.session = answer.session
    await test.pc.setRemoteDescription(answer)
    await within(new Promise((resolve, reject) => {
      const look = () => {
        if (test.pc.connectionState === 'connected') resolve()
        if (test.pc.connectionState === 'failed') reject(new Error('no way between this browser and the server was found'))
      }
      test.pc.onconnectionstatechange = look
      look()
    }), 'the connection')
    return say('good', `connected in ${Math.round(performance.now() - began)} ms by ${await route(test.pc)}`)
  } catch (error) {
    return say('bad', error.message, error.hint || 'UDP does not come through: open the media ports (--media-ports) on the server, or set up TURN (docs/server.md).')
  }
}

async function route(pc) {
  const stats = await pc.getStats()
  let words = 'an unknown way'
  stats.forEach(one => {
    if (one.type !== 'candidate-pair' || !one.nominated || one.state !== 'succeeded') return
    const [here, there] = [stats.get(one.localCandidateId), stats.get(one.remoteCandidateId)]
    if (here && there) words = `${here.protocol}, ${here.candidateType} to ${there.candidateType}`
  })
  return words
}

async function channel(test) {
  const say = step('channel', 'Data channel: a message there and back')
  try {
    const { channel } = test
    if (channel.readyState !== 'open') await within(new Promise(resolve => { channel.onopen = resolve }), 'the data channel')
    const times = []
    for (let id = 1; id <= 5; id++) {
      const began = performance.now()
      await within(new Promise(resolve => {
        channel.onmessage = event => JSON.parse(event.data).id === id && resolve()
        channel.send(JSON.stringify({ v: 1, id, type: 'describe' }))
      }), 'the reply')
      times.push(performance.now() - began)
    }
    const median = times.sort((a, b) => a - b)[2]
    return say(median < 150 ? 'good' : 'note', `${median.toFixed(0)} ms there and back`, median < 150 ? '' : 'Controls will feel slow: the way to the server is long.')
  } catch (error) {
    return say('bad', error.message, 'The connection is there, but SCTP does not come through: a firewall may look into packets.')
  }
}

async function webSocket(test) {
  const say = step('websocket', 'WebSocket: a second way for controls')
  const query = token ? `?token=${encodeURIComponent(token)}` : ''
  const socket = new WebSocket(`${location.origin.replace(/^http/, 'ws')}/api/v1/sessions/${encodeURIComponent(test.session)}/control${query}`)
  try {
    await within(new Promise((resolve, reject) => {
      socket.onmessage = resolve
      socket.onerror = socket.onclose = () => reject(new Error('the socket was closed'))
    }), 'the first message')
    return say('good', 'open')
  } catch (error) {
    return say('bad', error.message, 'A proxy in between does not pass WebSockets on (Upgrade header).')
  } finally {
    socket.onclose = null
    socket.close()
  }
}

async function media(test) {
  const say = step('media', 'Pictures there and back')
  try {
    const count = async (kind, field) => {
      let found = 0
      for (const one of (await test.pc.getStats()).values()) if (one.type === kind && one.kind === 'video') found += one[field] || 0
      return found
    }
    const began = performance.now()
    let sent = 0, came = 0
    while (performance.now() - began < WAIT_MS && came < 10) {
      await new Promise(resolve => setTimeout(resolve, 200))
      sent = await count('outbound-rtp', 'framesSent'); came = await count('inbound-rtp', 'framesDecoded')
    }
    const words = `${sent} sent, ${came} came back`
    if (came >= 10) return say('good', words)
    if (!sent) return say('bad', words, 'This browser encodes nothing: is H.264 or VP8 switched off?')
    return say(came ? 'note' : 'bad', words, came ? 'Pictures come slowly: the network or the server is busy.' : 'Pictures go out and none comes back: look at /health and the log of the server.')
  } catch (error) {
    return say('bad', error.message)
  }
}

async function run() {
  $('start').disabled = true
  $('steps').replaceChildren()
  results.steps = {}; results.done = false
  $('state').textContent = 'testing'
  const test = {}
  try {
    if (await http(test) && await candidates(test) && await connect(test)) {
      await channel(test)
      await webSocket(test)
      await media(test)
    }
  } finally {
    test.pc?.close()
    test.source?.stop()
    if (test.session) await call(`/api/v1/sessions/${encodeURIComponent(test.session)}`, { method: 'DELETE' }).catch(() => null)
    const verdicts = Object.values(results.steps).map(one => one.verdict)
    $('state').textContent = verdicts.includes('bad') ? 'does not work' : verdicts.includes('note') ? 'works, with a note' : 'works'
    $('state').className = `state ${verdicts.includes('bad') ? 'failed' : 'running'}`
    $('start').disabled = false
    results.done = true
  }
}

$('start').onclick = run
run()
